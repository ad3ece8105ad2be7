"""One command in a forked child: what it printed, how it ended, how long and how large it was.

The parent has imported everything and has run nothing, so that a fork is cheap and holds no lock.
A crash, a hang or a full memory ends the child alone.
"""

from __future__ import annotations

import faulthandler
import io
import json
import os
import resource
import select
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

LIMIT_SECONDS = 60.0
"""A command that takes longer hangs."""
LIMIT_BYTES = 2 * 2**30
"""Most memory of one case; addresses may be had as many more as the process already has."""
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int | None
    """Of SystemExit; None where something else ended it."""
    escaped: str
    """The exception that escaped and its last lines in our code; "" where none did."""
    out: str
    err: str
    seconds: float
    peak: int
    """Largest resident memory in bytes."""


def run_in_child(
    command: Callable[[], object],
    folder: Path,
    *,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    stop_after: float | None = None,
    limit: float = LIMIT_SECONDS,
) -> Ended:
    """Run a command that ends with SystemExit.

    Args:
        command: called in the child.
        folder: where the child's two streams and its report go.
        cwd: working directory of the child.
        environment: added to that of this process.
        stop_after: seconds until the child is sent SIGINT, as a user stops long training.
        limit: seconds until the child is killed.
    """
    start = time.monotonic()
    watched, held = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pytest's threads hold no lock of ours
        child = os.fork()
    if child == 0:
        os.close(watched)
        _be_child(command, folder, cwd, environment or {}, limit)
    os.close(held)
    hung = not _wait(watched, child, stop_after, limit)
    os.close(watched)
    _, status, usage = os.wait4(child, 0)
    seconds = time.monotonic() - start
    report = _report(folder / "report.json")
    escaped = str(report.get("escaped", ""))
    if hung:
        escaped = f"hang: no end after {limit:g} s"
    elif os.WIFSIGNALED(status):
        escaped = f"crash: {signal.Signals(os.WTERMSIG(status)).name}"
    return Ended(
        status=report.get("status"),
        escaped=escaped,
        out=_text(folder / "stdout"),
        err=_text(folder / "stderr"),
        seconds=seconds,
        peak=1024 * usage.ru_maxrss,
    )


def arguments_of(words: Sequence[str]) -> Callable[[], object]:
    """The real command line with these arguments, as a command for `run_in_child`."""

    def command() -> None:
        from synfoc import cli

        sys.argv = [str(Path(sys.executable).with_name("synfoc")), *words]
        # With --devices 2 it is started once more: the program, not the harness.
        sys.modules["__main__"].__spec__ = None
        cli.main()

    return command


def _wait(watched: int, child: int, stop_after: float | None, limit: float) -> bool:
    """Whether the child ended by itself: the end of its pipe closes with it."""
    begun = time.monotonic()
    if stop_after is not None:
        if select.select([watched], [], [], stop_after)[0]:
            return True
        os.kill(child, signal.SIGINT)
    left = max(0.0, limit - (time.monotonic() - begun))
    if select.select([watched], [], [], left)[0]:
        return True
    os.killpg(child, signal.SIGKILL)
    return False


def _be_child(
    command: Callable[[], object],
    folder: Path,
    cwd: Path,
    environment: Mapping[str, str],
    limit: float,
) -> NoReturn:
    report: dict[str, Any] = {}
    try:
        os.setsid()
        threading.excepthook = threading.__excepthook__  # not pytest's
        _take_streams(folder)
        faulthandler.enable(sys.stderr)
        faulthandler.dump_traceback_later(max(1.0, limit - 2), file=sys.stderr)
        os.environ.update(environment)
        os.chdir(cwd)
        addresses = PAGE * int(Path("/proc/self/statm").read_text().split()[0])
        bound = addresses + LIMIT_BYTES
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (bound, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        command()
    except SystemExit as ended:
        report["status"] = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except BaseException as error:
        report["escaped"] = _told(error)
        traceback.print_exc()
    finally:
        # Room to report even where the command has used up all of it.
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        (folder / "report.json").write_text(json.dumps(report))
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(0)


def _take_streams(folder: Path) -> None:
    """Send both streams to files, those of libraries in C, too; as strict as in a real process."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, number)
        os.close(file)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", 0), "utf-8", "strict", write_through=True)
    sys.stderr = io.TextIOWrapper(
        os.fdopen(2, "wb", 0), "utf-8", "backslashreplace", write_through=True
    )


def _told(error: BaseException) -> str:
    """`ZeroDivisionError: division by zero at images/formats.py:120 in _nifti`, our frame last."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/synfoc/" in frame.filename]
    last = ours[-1] if ours else frames[-1]
    place = last.filename.rpartition("/synfoc/")[2]
    message = " ".join(str(error).split())[:120]
    return f"{type(error).__name__}: {message} at {place}:{last.lineno} in {last.name}"


def _report(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found


def _text(path: Path) -> str:
    """What was printed; a byte that is no UTF-8 stays visible."""
    return path.read_bytes().decode("utf-8", "backslashreplace") if path.exists() else ""
