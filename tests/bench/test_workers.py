"""Cells in processes of their own: several at a time, one that dies, one that is stopped."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from synfoc.bench import workers as module
from synfoc.bench.folder import CellFolder, SuiteFolder
from synfoc.bench.suite import load_suite
from synfoc.bench.watch import Forecast, Watch
from synfoc.bench.workers import run_here
from synfoc.engine.progress import clock
from synfoc.storage import write_json

SuiteFile = Callable[..., Path]


@pytest.fixture
def folder(suite_file: SuiteFile, squares: Path, tmp_path: Path) -> SuiteFolder:
    return SuiteFolder.begin(tmp_path / "out", load_suite(suite_file()), squares)


def scripted(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Let every cell be this program instead; its arguments are the suite's folder and the name."""
    popen = subprocess.Popen

    def start(command: list[str], **given: object) -> object:
        return popen([sys.executable, "-c", program, *command[3:]], **given)  # type: ignore[call-overload]

    monkeypatch.setattr(module.subprocess, "Popen", start)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)


FINISH = """
import json, pathlib, sys, time
time.sleep(0.2)
done = pathlib.Path(sys.argv[1], "cells", sys.argv[2], "bench", "cell.json")
done.parent.mkdir(parents=True)
for name in ("honest.csv", "honest.json", "paper.csv", "paper.json"):
    done.with_name(name).touch()
done.write_text(json.dumps({"settings": {}, "seconds": 1}))
"""


def run(folder: SuiteFolder, workers: int = 2) -> bool:
    return run_here(folder, workers=workers, device="cpu", gpus=(), console=None)


def test_every_cell_is_run_once_and_not_again(
    folder: SuiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, FINISH)  # a second run of a cell would fail: its folder exists
    assert run(folder)
    assert {cell.state for cell in folder.cells} == {"done"}
    assert run(folder)
    assert folder.failures() == {}


@pytest.mark.parametrize(
    ("gpus", "held", "count", "dealt"),
    [
        (("3", "5"), [], 1, ("3",)),
        (("3", "5"), [("3",)], 1, ("5",)),
        (("3", "5"), [("3",), ("5",)], 1, ("3",)),
        (("3", "5"), [("3", "5")], 2, ("3", "5")),
        (("0", "1", "2", "3"), [("0", "1"), ("2",)], 1, ("3",)),
        (("0", "1", "2", "3"), [("2",)], 2, ("0", "1")),
        (("0", "1"), [], 3, ("0", "1")),
        ((), [()], 1, ()),
    ],
)
def test_gpus_are_dealt_that_fewest_cells_have(
    gpus: tuple[str, ...], held: list[tuple[str, ...]], count: int, dealt: tuple[str, ...]
) -> None:
    assert module.deal(gpus, held, count) == dealt


@pytest.mark.parametrize(
    ("gpus", "devices", "seen"),
    [(("3", "5"), 2, "3,5 2"), (("GPU-ab",), 1, "GPU-ab 4"), ((), 1, "7 4")],
)
def test_a_cell_sees_its_gpus_and_its_part_of_the_cores(
    suite_file: SuiteFile,
    squares: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gpus: tuple[str, ...],
    devices: int,
    seen: str,
) -> None:
    """Of twelve cores and three workers; GPUs by the names that this process was given."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(12), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    told = tmp_path / "told"
    names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
    said = f"' '.join(os.environ[name] for name in {names})"
    scripted(monkeypatch, f"import os; open({str(told)!r}, 'w').write({said})")
    suite = load_suite(suite_file(), (f"train.devices={devices}",))
    folder = SuiteFolder.begin(tmp_path / "out", suite, squares)
    worker = module._start(folder, folder.cells[0], 3, "cpu", gpus)
    worker.process.wait()
    worker.stop()
    worker.log.close()
    assert told.read_text() == seen


def test_a_cell_that_dies_ends_alone(folder: SuiteFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    dying = "import os, sys; print('too much'); sys.stdout.flush()\n"
    dying += "if 'beta' in sys.argv[2]: os.kill(os.getpid(), 9)\n"
    scripted(monkeypatch, dying + FINISH)
    assert run(folder)
    failures = folder.failures()
    assert set(failures) == {"squares/beta-4/supervised/seed1", "squares/beta-4/synfoc/seed1"}
    assert all("signal 9 (out of memory?)" in error for error in failures.values())
    failed = folder.find("squares/beta-4/synfoc/seed1")
    assert "too much" in failed.failure.read_text()


def test_ctrl_c_lets_cells_save_and_starts_no_more(
    folder: SuiteFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The cells see the end of their input, as `--with-parent` has it."""
    mark = tmp_path / "saved"
    scripted(monkeypatch, f"import sys; sys.stdin.read(); open({str(mark)!r}, 'a').write('x')")
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    assert not run(folder)
    assert mark.read_text() == "xx", "both workers saved, no third cell was begun"
    assert folder.failures() == {}


def test_a_real_cell_stops_when_its_parent_is_killed(folder: SuiteFolder) -> None:
    """The parent dies by SIGKILL while a cell trains; the cell saves and can be gone on with."""
    cell: CellFolder = folder.find("squares/alpha-4/synfoc/seed1")
    long = load_suite(folder.path / "suite.yaml", ("train.steps=100000",))
    SuiteFolder.begin(folder.path, long, folder.root)
    program = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-m', 'synfoc.bench.cell', *sys.argv[1:], "
        "'--device', 'cpu', '--with-parent'], stdin=subprocess.PIPE, start_new_session=True)\n"
        "time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(folder.path), cell.name])
    _wait(lambda: cell.step() >= 2, 60)
    parent.kill()
    parent.wait()
    _wait(lambda: not _locked(cell), 60)
    assert cell.state == "begun"


def test_a_real_cell_ends_by_itself_and_without_a_word(folder: SuiteFolder) -> None:
    """The thread that watches its input must not keep the interpreter from ending."""
    cell = folder.cells[0]
    command = [sys.executable, "-m", "synfoc.bench.cell", str(folder.path), cell.name]
    process = subprocess.Popen(
        [*command, "--device", "cpu", "--with-parent"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    _wait(lambda: process.poll() is not None, 120)  # its input stays open all the while
    words, _ = process.communicate()
    assert (process.returncode, words) == (0, b"")
    assert cell.state == "done"


def test_a_forecast_is_the_mean_of_what_was_seen(folder: SuiteFolder) -> None:
    """One supervised cell took 10 s; the other three are taken for as long, two at a time."""
    settings = folder.cells[0].config.model_dump(mode="json")
    write_json(folder.cells[0].done, {"settings": settings, "seconds": 10})
    forecast = Forecast(folder.cells)
    assert forecast.left(folder.cells[1:], 2) == pytest.approx(15)
    assert Forecast(folder.cells[1:]).left(folder.cells[1:], 2) is None


def test_a_cell_that_went_on_teaches_all_its_time(folder: SuiteFolder) -> None:
    """Its last part was seen to take no time at all, but its file says 100 s: 300 s for three."""
    said = StringIO()
    watch = Watch(folder, 1, Console(file=said))
    cell = folder.cells[0]
    watch.update([cell])
    settings = cell.config.model_dump(mode="json")
    write_json(cell.done, {"settings": settings, "seconds": 100})
    for protocol in folder.suite.protocols:
        cell.scores(protocol).touch()
        cell.metrics(protocol).touch()
    watch.ended(cell)
    assert f"1/4  ETA {clock(300)}  {cell.name} done after {clock(0)}" in said.getvalue()


def _locked(cell: CellFolder) -> bool:
    from filelock import FileLock, Timeout

    try:
        with FileLock(cell.lock, timeout=0):
            return False
    except Timeout:
        return True


def _wait(ready: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)
