"""The same on a real Slurm of one machine: tests/slurm/start.sh. Needs root and slurm-wlm."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from synfoc.bench import slurm as module
from synfoc.bench.cell import DONE, run_cell
from synfoc.bench.folder import CellFolder, SuiteFolder
from synfoc.bench.slurm import run_on_slurm
from synfoc.bench.suite import load_suite
from synfoc.storage import read_lines

pytestmark = pytest.mark.slow
SuiteFile = Callable[..., Path]
SCRIPTS = Path(__file__).parents[1] / "slurm"
METHODS = {
    "supervised": {"title": "Supervised", "settings": {"method": {"name": "supervised"}}},
    "unet": {"title": "U-Net alone", "settings": {"method": {"branches": "unet"}}},
    "synfoc": {"title": "SynFoC", "settings": {"method": {"branches": "both"}}},
}


class Cluster:
    """A Slurm in a folder."""

    def __init__(self, path: Path, nodes: int) -> None:
        self.path = path
        started = subprocess.run(
            [SCRIPTS / "start.sh", path, str(nodes)], capture_output=True, text=True, check=False
        )
        assert started.returncode == 0, started.stderr

    def stop(self) -> None:
        subprocess.run([SCRIPTS / "stop.sh", self.path], check=True)

    def ended(self) -> list[dict[str, str]]:
        """The jobs that ended, as jobcomp/filetxt wrote them down."""
        lines = (self.path / "jobcomp.txt").read_text().splitlines()
        return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines]


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def show(*texts: str) -> None:
    """For pytest -s."""
    sys.stdout.write("\n".join(("", *texts)))


def a_cluster(path: Path, nodes: int) -> Iterator[Cluster]:
    missing = [
        name
        for name in ("slurmctld", "slurmd", "munged", "sbatch", "srun")
        if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None
    ]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("slurmd needs root")
    cluster = Cluster(path, nodes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(path / "slurm.conf"))
        try:
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    yield from a_cluster(tmp_path_factory.mktemp("slurm"), 1)


@pytest.fixture
def two_nodes(tmp_path: Path) -> Iterator[Cluster]:
    yield from a_cluster(tmp_path / "slurm", 2)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.5)
    monkeypatch.setattr(module, "GRACE_SECONDS", 3.0)


@pytest.fixture
def begin(suite_file: SuiteFile, squares: Path, tmp_path: Path) -> Callable[..., SuiteFolder]:
    """The suite with some settings changed: begin("out", "train.steps=9", methods={...})."""

    def make(out: str, *changes: str, **keys: object) -> SuiteFolder:
        small = ("medsam.weights=random:vit-tiny", "medsam.side=32")
        suite = load_suite(suite_file(**keys), (*small, *changes))
        return SuiteFolder.begin(tmp_path / out, suite, squares)

    return make


Begin = Callable[..., SuiteFolder]


def run(folder: SuiteFolder, **options: object) -> None:
    run_on_slurm(folder, device="cpu", options={"cpus_per_task": 1, **options}, console=None)


def waiting_for(ready: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"waited too long\n{ask('squeue')}"
        time.sleep(0.2)


def scores(folder: SuiteFolder) -> dict[str, str]:
    return {
        f"{cell.name} {protocol}": cell.scores(protocol).read_text()
        for cell in folder.cells
        for protocol in folder.suite.protocols
    }


def test_six_cells_have_the_scores_that_they_have_without_slurm(
    cluster: Cluster, begin: Begin
) -> None:
    """Two labeled domains, three methods, one core each: six jobs of one array, all completed."""
    folder = begin("out", methods=METHODS)
    seen: list[str] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(1):
            seen.append(ask("squeue", "--array"))

    watcher = threading.Thread(target=look)
    watcher.start()
    run(folder)
    stop.set()
    watcher.join()
    assert [cell.state for cell in folder.cells] == ["done"] * 6
    waiting_for(lambda: len(cluster.ended()) == 6)
    show(max(seen, key=len), (cluster.path / "jobcomp.txt").read_text())
    assert {job["JobState"] for job in cluster.ended()} == {"COMPLETED"}

    local = begin("local", methods=METHODS)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for cell in local.cells:
            assert run_cell(local.path, cell.name, device="cpu") == DONE
    finally:
        torch.set_num_threads(threads)
    assert scores(folder) == scores(local)


def test_cells_that_fail_and_jobs_that_die(cluster: Cluster, begin: Begin) -> None:
    """Nobody is labeled in `gamma`: two cells fail with their reason, the other two are done. A
    setup that fails ends a job before there is a cell to say anything."""
    folder = begin("out", data={"squares": _labeled("alpha", "gamma")})
    run(folder)
    failures = folder.failures()
    assert sorted(failures) == [f"squares/gamma-4/{m}/seed1" for m in ("supervised", "synfoc")]
    assert all("gamma" in error for error in failures.values())
    run(folder, setup=["echo no such module >&2", "exit 7"])
    for name, error in folder.failures().items():
        assert "ended before its cell: FAILED (NonZeroExitCode)" in error
        last = json.loads(folder.find(name).failure.read_text())["log"]
        assert last == ["no such module"]


def test_a_warned_cell_is_saved_and_queued_again(cluster: Cluster, begin: Begin) -> None:
    """USR2, as Slurm sends it before the time limit. Only this stop writes a checkpoint, so that
    the cell, begun again, goes on exactly after the step at which it stopped."""
    folder = begin("out", "train.steps=100000", "train.checkpoint_every=100000", **_one_cell())
    (cell,) = folder.cells
    waiting = threading.Thread(target=run, args=(folder,))
    waiting.start()
    waiting_for(lambda: cell.step() >= 20)
    job = ask("squeue", "--noheader", "--format=%i").strip()
    ask("scancel", "--signal=USR2", job)
    waiting_for(lambda: "Restarts=1" in ask("scontrol", "show", "job", job))
    stopped = cell.step()
    show(ask("squeue"), ask("scontrol", "show", "job", job))
    waiting_for(lambda: cell.step() > stopped)
    steps = [line["step"] for line in read_lines(cell.run.log) if "loss" in line]
    assert stopped >= 20
    assert steps == list(range(2, steps[-1] + 1, 2)), "each logged step once, in order"
    assert cell.state == "begun"
    before = cell.step()
    ask("scancel", job)  # TERM: saved, not queued again
    waiting.join(timeout=60)
    assert not waiting.is_alive()
    assert "CANCELLED" in folder.failures()[cell.name]
    assert cell.step() >= before


def test_a_waiting_process_that_is_killed_finds_its_jobs_again(
    cluster: Cluster, begin: Begin
) -> None:
    """SIGKILL while jobs run; the same command then waits for them: four cells, four jobs."""
    folder = begin("out", "train.steps=300")
    before = len(cluster.ended())
    program = (
        "import sys; from pathlib import Path; from synfoc.bench.folder import SuiteFolder\n"
        "from synfoc.bench.slurm import run_on_slurm\n"
        "folder = SuiteFolder.open(Path(sys.argv[1]))\n"
        "run_on_slurm(folder, device='cpu', options={'cpus_per_task': 1}, console=None)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(folder.path)])
    waiting_for(lambda: any(cell.step() for cell in folder.cells))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    run(folder)
    assert [cell.state for cell in folder.cells] == ["done"] * 4
    waiting_for(lambda: len(cluster.ended()) - before == 4)


def test_two_tasks_of_a_cell_learn_what_one_learns(cluster: Cluster, begin: Begin) -> None:
    """The losses of two processes on the CPU are those of one to 1e-4; the first one scores."""
    one, two = begin("one", **_one_cell()), begin("two", "train.devices=2", **_one_cell())
    run(one)
    run(two)
    _compare(one.cells[0], two.cells[0])


def test_two_nodes_learn_what_one_learns(two_nodes: Cluster, begin: Begin) -> None:
    """Two daemons on this machine, a task of the cell on each."""
    one, two = begin("one", **_one_cell()), begin("two", "train.devices=2", **_one_cell())
    run(one)
    # The names of these nodes are known to Slurm alone.
    run(two, nodes=2, setup=["export MASTER_ADDR=127.0.0.1"])
    _compare(one.cells[0], two.cells[0])
    waiting_for(lambda: len(two_nodes.ended()) == 2)
    assert [job["NodeCnt"] for job in two_nodes.ended()] == ["1", "2"]


def _labeled(*domains: str) -> dict[str, object]:
    return {"path": ".", "labeled": [{"domain": name, "count": 4} for name in domains]}


def _one_cell() -> dict[str, object]:
    return {"methods": {"synfoc": METHODS["synfoc"]}, "data": {"squares": _labeled("alpha")}}


def _compare(one: CellFolder, two: CellFolder) -> None:
    assert (one.state, two.state) == ("done", "done"), (
        two.failure.read_text() if two.failure.is_file() else ""
    )
    about = json.loads(two.run.environment.read_text())
    assert about["processes"] == 2
    losses = [
        [line["loss"] for line in read_lines(cell.run.log) if "loss" in line] for cell in (one, two)
    ]
    assert len(losses[0]) == 3
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert two.metrics("honest").is_file()
