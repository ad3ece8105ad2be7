"""Cells as jobs: options, what is submitted and what is not, jobs that die, signals. No Slurm here.

squeue, sbatch, srun and scontrol are small scripts that say what a test wrote down for them. A
real Slurm: test_slurm_real.py.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from synfoc.bench import cell as cell_module
from synfoc.bench import slurm as module
from synfoc.bench.cell import DONE, FAILED, STOPPED, run_cell
from synfoc.bench.folder import SuiteFolder
from synfoc.bench.slurm import run_on_slurm
from synfoc.bench.slurm_job import CellJob
from synfoc.bench.slurm_options import parameters_of, parse_slurm_options
from synfoc.bench.slurm_queue import PREFIX, queued
from synfoc.bench.suite import load_suite
from synfoc.engine.progress import Interruption, interruptible
from synfoc.errors import Interrupted, UserError
from synfoc.storage import write_json

SuiteFile = Callable[..., Path]
SCRIPTS = {
    "sbatch": """
        test -f refuse && { cat refuse >&2; exit 1; }
        number=$(($(cat count) + 1)); echo $number > count
        cp "$1" script-$number; echo Submitted batch job $number""",
    "squeue": "test -f queue && cat queue",
    "scontrol": "cat state",
    "srun": "exit 1",
}


class Cluster:
    """A Slurm of shell scripts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "count").write_text("100")
        (path / "state").write_text("")
        self.queue()
        for name, script in SCRIPTS.items():
            file = path / name
            file.write_text(f"#!/bin/sh\ncd '{path}'\n{script}\n")
            file.chmod(0o755)

    @property
    def arrays(self) -> int:
        """How many job arrays were submitted."""
        return int((self.path / "count").read_text()) - 100

    def queue(self, *lines: str) -> None:
        (self.path / "queue").write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", f"{path}:{os.environ['PATH']}")
    return Cluster(path)


@pytest.fixture
def folder(suite_file: SuiteFile, squares: Path, tmp_path: Path) -> SuiteFolder:
    return SuiteFolder.begin(tmp_path / "out", load_suite(suite_file()), squares)


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What happens in each pause between two looks at the queue; after the last comes Ctrl-C."""

    def plan(*events: Callable[[], object]) -> None:
        left = list(events)

        def pause(interruption: Interruption) -> None:
            if left:
                left.pop(0)()
            else:
                interruption.signal = "SIGINT"

        monkeypatch.setattr(module, "_pause", pause)

    return plan


def run(folder: SuiteFolder, **options: object) -> None:
    run_on_slurm(folder, device="cpu", options=options, console=None)


def finish(folder: SuiteFolder, *numbers: int) -> None:
    for number in numbers or range(len(folder.cells)):
        cell = folder.cells[number]
        write_json(cell.done, {"settings": {}, "seconds": 1})
        for protocol in folder.suite.protocols:
            cell.scores(protocol).touch()
            cell.metrics(protocol).touch()


def array_name(folder: SuiteFolder) -> str:
    return next(iter(json.loads((folder.path / "jobs" / "submitted.json").read_text())))


def test_options_of_the_command_line() -> None:
    given = ["partition=gpu", "time=90", "mem-gb=7.5", "exclusive=true", "gres=gpu:a100:2"]
    setup = ["setup=module load cuda", "setup=export A=b"]
    assert parse_slurm_options([*given, *setup]) == {
        "partition": "gpu",
        "time": 90,
        "mem": "7680M",
        "exclusive": True,
        "gres": "gpu:a100:2",
        "setup": ["module load cuda", "export A=b"],
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["partition"], "expected  key=value"),
        (["partition="], "expected  key=value"),
        (["time=1:30:00"], "expected  a whole number, minutes"),
        (["nodes=0"], "expected  a whole number, 1 or more"),
        (["mem_gb=lots"], "expected  a number of GiB"),
        (["mem_gb=nan"], "expected  a number of GiB above 0"),
        (["mem_gb=-4"], "expected  a number of GiB above 0"),
        (["job_name=mine"], "does not set itself"),
        (["qos=low", "qos=high"], "drop one of the two qos"),
    ],
)
def test_options_that_cannot_be_used(given: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_slurm_options(given)


def test_every_process_of_a_cell_is_a_task_with_a_gpu() -> None:
    """Eight processes on two nodes: four tasks and four GPUs on each."""
    eight = parameters_of({"nodes": 2, "cpus_per_task": 3}, 8, "cuda")
    assert {k: eight[k] for k in ("nodes", "ntasks_per_node", "gpus_per_node")} == {
        "nodes": 2,
        "ntasks_per_node": 4,
        "gpus_per_node": 4,
    }
    assert eight["srun_args"] == ["--kill-on-bad-exit=1", "--cpus-per-task=3"]
    assert eight["setup"] == ["export OMP_NUM_THREADS=3"]
    one = parameters_of({"nodes": 2, "gres": "gpu:1"}, 1, "cuda")
    assert (one["nodes"], one["ntasks_per_node"], "gpus_per_node" in one) == (1, 1, False)
    with pytest.raises(UserError, match=r"train.devices=4"):
        parameters_of({"nodes": 2}, 5, "cpu")


def test_without_submitit_or_slurm(
    folder: SuiteFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no command sbatch, squeue, srun"):
        run(folder)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match="pip install submitit"):
        run(folder)


def test_a_wrong_option_submits_nothing(folder: SuiteFolder, cluster: Cluster) -> None:
    with pytest.raises(UserError, match=r"(?s)found +\['partitoin'\].*partition, qos"):
        run(folder, partitoin="gpu")
    assert cluster.arrays == 0


def test_what_slurm_refuses(
    folder: SuiteFolder, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    (cluster.path / "refuse").write_text("sbatch: error: invalid partition specified: gpu\n")
    with pytest.raises(UserError, match=r"found +sbatch: error: invalid partition specified: gpu"):
        run(folder, partition="gpu")
    assert capsys.readouterr().err == ""


def test_one_array_holds_a_job_for_every_cell_that_is_not_done(
    folder: SuiteFolder, cluster: Cluster, meanwhile: Callable[..., None]
) -> None:
    """Of four cells one is done: three jobs, two at a time, half an hour each."""
    finish(folder, 1)
    meanwhile(lambda: finish(folder))
    run(folder, time=30, array_parallelism=2)
    assert cluster.arrays == 1
    script = (cluster.path / "script-101").read_text()
    for flag in ("array=0-2%2", "time=30", "ntasks-per-node=1", "signal=USR2@90"):
        assert f"#SBATCH --{flag}\n" in script
    names = [cell.name for cell in folder.cells]
    record = json.loads((folder.path / "jobs" / "submitted.json").read_text())
    assert list(record.values()) == [[names[0], names[2], names[3]]]


def test_a_cell_whose_job_lives_is_not_submitted_again(
    folder: SuiteFolder, cluster: Cluster, meanwhile: Callable[..., None]
) -> None:
    """Ctrl-C, and the command once more while jobs 101_1 and 101_3 are left: two new jobs."""
    meanwhile()
    with pytest.raises(Interrupted, match=r"scancel 101 ends them"):
        run(folder)
    name = array_name(folder)
    alive = [f"101_1|RUNNING|None|{name}", f"101_3|PENDING|Resources|{name}", "7|RUNNING|None|x_y"]
    cluster.queue(*alive)
    meanwhile(lambda: finish(folder))
    run(folder)
    assert cluster.arrays == 2
    assert "#SBATCH --array=0-1%2\n" in (cluster.path / "script-102").read_text()
    record = json.loads((folder.path / "jobs" / "submitted.json").read_text())
    cells = [cell.name for cell in folder.cells]
    assert list(record.values()) == [cells, [cells[0], cells[2]]]


def test_a_reason_that_slurm_does_not_know_yet_is_not_a_reason(cluster: Cluster) -> None:
    name = f"{PREFIX}squares-1"
    cluster.queue(f"5_0|PENDING|None|{name}", f"5_1|PENDING|Resources|{name}")
    assert [job.reason for job in queued().values()] == ["", "Resources"]


def test_names_of_jobs_that_never_came_to_be_are_forgotten(
    folder: SuiteFolder, cluster: Cluster, meanwhile: Callable[..., None]
) -> None:
    """Killed after the name was written down, before sbatch."""
    (folder.path / "jobs").mkdir()
    lost = {"synfoc-squares-lost": [cell.name for cell in folder.cells]}
    write_json(folder.path / "jobs" / "submitted.json", lost)
    meanwhile(lambda: finish(folder))
    run(folder)
    assert cluster.arrays == 1
    assert array_name(folder) != "synfoc-squares-lost"


def test_a_job_that_dies_is_written_down_with_its_last_words(
    folder: SuiteFolder,
    cluster: Cluster,
    meanwhile: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def die() -> None:
        finish(folder, 0, 1, 2)
        (folder.path / "jobs" / "101_3_0_log.err").write_text("step 5\noom-kill event\n")

    (cluster.path / "state").write_text("JobId=9 JobState=OUT_OF_MEMORY Reason=OutOfMemory X=1\n")
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.01)
    meanwhile(die, lambda: time.sleep(0.02))
    run(folder)
    (error,) = folder.failures().values()
    assert error.startswith(
        "Slurm job 101_3 ended before its cell: OUT_OF_MEMORY (OutOfMemory); see "
    )
    assert json.loads(folder.cells[3].failure.read_text())["log"] == ["step 5", "oom-kill event"]


def test_a_cell_that_failed_keeps_its_own_words(
    folder: SuiteFolder, cluster: Cluster, meanwhile: Callable[..., None]
) -> None:
    def end() -> None:
        finish(folder, 0, 1, 2)
        write_json(folder.cells[3].failure, {"error": "shapes differ"})

    write_json(folder.cells[2].failure, {"error": "of an earlier start"})
    meanwhile(end)
    run(folder)
    assert folder.failures() == {folder.cells[3].name: "shapes differ"}


def test_nobody_is_dead_while_slurm_does_not_answer(
    folder: SuiteFolder,
    cluster: Cluster,
    meanwhile: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = cluster.path / "queue"
    monkeypatch.setattr(module, "GRACE_SECONDS", 0)
    squeue = cluster.path / "squeue"
    answer = squeue.read_text()

    def silence() -> None:
        squeue.write_text("#!/bin/sh\necho Unable to contact slurm controller >&2; exit 1\n")

    def alive() -> None:
        squeue.write_text(answer)
        queue.write_text("".join(f"101_{i}|RUNNING|None|{array_name(folder)}\n" for i in range(4)))

    old = module._submit

    def submit(*given: object) -> object:
        jobs = old(*given)  # type: ignore[arg-type]
        silence()
        return jobs

    monkeypatch.setattr(module, "_submit", submit)
    meanwhile(lambda: None, alive, lambda: None)
    with pytest.raises(Interrupted):
        run(folder)
    assert folder.failures() == {}
    silence()
    with pytest.raises(UserError, match="Unable to contact slurm controller"):
        run(folder)


@pytest.fixture
def requeued() -> Iterator[list[int]]:
    """Signals that reached what submitit would do with them; handlers are put back."""
    seen: list[int] = []
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR2)}

    def queue_again(number: int, frame: object) -> None:
        seen.append(number)
        os.kill(os.getpid(), signal.SIGTERM)  # as Slurm does then

    signal.signal(signal.SIGUSR2, queue_again)
    yield seen
    for number, handler in before.items():
        signal.signal(number, handler)


def training(*signals: int) -> Callable[..., int]:
    """A cell that trains while these signals come."""

    def run(*_: object, **__: object) -> int:
        with interruptible() as interruption:
            for number in signals:
                os.kill(os.getpid(), number)
            return STOPPED if interruption else DONE

    return run


def scoring(*signals: int) -> Callable[..., int]:
    """A cell that is scored while they come."""

    def run(*_: object, **__: object) -> int:
        try:
            for number in signals:
                os.kill(os.getpid(), number)
            time.sleep(5)
        except Interrupted:
            return STOPPED
        return DONE

    return run


@pytest.mark.parametrize(
    ("cell", "again"),
    [
        (training(signal.SIGUSR2), True),
        (training(signal.SIGTERM, signal.SIGUSR2), True),
        (training(signal.SIGTERM), False),
        (training(), False),
        (scoring(signal.SIGUSR2), True),
        (scoring(signal.SIGTERM), False),
    ],
)
def test_a_cell_is_queued_again_when_its_time_is_up(
    cell: Callable[..., int], again: bool, requeued: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """USR2 is Slurm's warning; TERM alone is scancel, or Slurm queues the job again itself."""
    monkeypatch.setattr(cell_module, "run_cell", cell)
    job = CellJob(Path("out"), "name", "cpu")
    job()
    assert requeued == ([signal.SIGUSR2] if again else [])
    assert job.checkpoint().function == job


def test_slurm_learns_that_a_cell_failed(
    requeued: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell_module, "run_cell", lambda *_, **__: FAILED)
    with pytest.raises(RuntimeError, match="cell name failed"):
        CellJob(Path("out"), "name", "cpu")()


def test_the_other_processes_of_a_cell_follow_the_first(
    suite_file: SuiteFile, squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 1 of job 5 waits for the word of its own launch, takes no lock and writes nothing."""
    suite = load_suite(suite_file(), ("train.devices=2",))
    folder = SuiteFolder.begin(tmp_path / "out", suite, squares)
    cell = folder.cells[0]
    for name, value in {"STEP_NUM_TASKS": "2", "PROCID": "1", "JOB_ID": "5"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    trained: list[bool] = []
    monkeypatch.setattr(cell_module, "train", lambda *_, resume: trained.append(resume))
    monkeypatch.setattr(cell_module, "LOCK_SECONDS", 0.2)
    write_json(cell.lock.with_suffix(".start.json"), {"launch": "4.0", "resume": False})
    with FileLock(cell.lock):
        assert run_cell(folder.path, cell.name) == FAILED
        write_json(cell.lock.with_suffix(".start.json"), {"launch": "5.0", "resume": True})
        assert run_cell(folder.path, cell.name) == DONE
    assert trained == [True]
    assert cell.state == "open"


@pytest.mark.slow
def test_processes_that_a_cell_starts_itself_train_along(
    suite_file: SuiteFile, squares: Path, tmp_path: Path
) -> None:
    """Without Slurm Fabric starts the second process with the command of the first."""
    suite = load_suite(suite_file(), ("train.devices=2",))
    folder = SuiteFolder.begin(tmp_path / "out", suite, squares)
    cell = folder.cells[0]
    command = [sys.executable, "-m", "synfoc.bench.cell", folder.path, cell.name]
    done = subprocess.run(
        [*command, "--device", "cpu"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == DONE, done.stderr
    assert cell.state == "done"
    assert json.loads(cell.run.environment.read_text())["processes"] == 2
