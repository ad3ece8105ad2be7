"""One cell of a suite: train, or go on, then score under each protocol. Its own process.

    python -m synfoc.bench.cell OUT NAME [--device auto] [--with-parent]

Exit status: 0 done, 1 failed (the reason is in NAME.failed.json), 130 stopped and saved.

With `train.devices` above 1 every process of the run comes here. The first holds the lock, decides
whether to go on with a run, scores and writes; the others wait for its word and train along.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from synfoc.answers import BRANCHES
from synfoc.bench.folder import CellFolder, SuiteFolder, write_failure
from synfoc.bench.suite import Protocol
from synfoc.engine.checkpoint import on_test
from synfoc.engine.evaluate import score_run
from synfoc.engine.evaluation_files import Evaluation, write_evaluation
from synfoc.engine.parallel import rank_of_process
from synfoc.engine.prepare import stored_config
from synfoc.engine.train import train
from synfoc.errors import Interrupted, UserError
from synfoc.headers import read_header
from synfoc.runs import RunFolder, one_line
from synfoc.storage import read_json, replacing, write_json

LOCK_SECONDS = 120
"""So long a cell may still be busy saving itself after its parent was killed."""
DONE, FAILED, STOPPED = 0, 1, 130


def run_cell(out: Path, name: str, *, device: str = "auto") -> int:
    """Bring one cell to its end.

    What stops it is written down, not raised: a failed cell must not end the others.

    Args:
        out: folder of a suite that was begun.
        name: the cell.
        device: auto, cpu or cuda.

    Returns:
        DONE, FAILED or STOPPED.

    Raises:
        UserError: there is no such suite or cell.
    """
    suite = SuiteFolder.open(out)
    cell = suite.find(name)
    cell.lock.parent.mkdir(parents=True, exist_ok=True)
    if rank_of_process(cell.config.train.devices) > 0:
        return _train_along(cell, device)
    try:
        with FileLock(cell.lock, timeout=LOCK_SECONDS):
            if cell.state != "done":
                _work(cell, suite.suite.protocols, device)
    except Interrupted:
        return STOPPED
    except Timeout:
        write_failure(cell, "another process is running this cell")
        return FAILED
    except UserError as error:
        write_failure(cell, str(error))
        return FAILED
    except Exception as error:
        write_failure(cell, f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
        return FAILED
    cell.failure.unlink(missing_ok=True)
    return DONE


def _work(cell: CellFolder, protocols: tuple[Protocol, ...], device: str) -> None:
    run = cell.run
    config = cell.config.with_settings(train={"device": device})
    if not cell.ended():
        resume = bool(run.checkpoint_names())
        if not resume and run.path.exists():
            shutil.rmtree(run.path)  # killed before its first checkpoint
        if resume:
            _check_last(cell)
        if cell.config.train.devices > 1:
            write_json(_word(cell), {"launch": _launch(), "resume": resume})
        with _timed(cell):
            train(config, run.path, resume=resume)
    else:
        stored_config(run, config)  # refuses a run of other settings
    start = time.perf_counter()
    # Backwards, so that metrics.json of the run is of the protocol that is named first.
    for protocol in reversed(protocols):
        if protocol == "paper":
            found = _score_on_test(run, device)
        else:
            found = score_run(run.path, protocol=protocol, device=device)
        write_evaluation(run, found)
        with replacing(cell.scores(protocol)) as part:
            shutil.copyfile(run.cases, part)
        write_json(cell.metrics(protocol), found.metrics)
    settings = cell.config.model_dump(mode="json")
    # A part that was killed is in the run's own number alone, as far as a checkpoint knew of it.
    trained = max(cell.trained(), float(run.read_summary().get("seconds", 0)))
    seconds = trained + time.perf_counter() - start
    write_json(cell.done, {"settings": settings, "seconds": seconds})
    _word(cell).unlink(missing_ok=True)


def _check_last(cell: CellFolder) -> None:
    """Make sure that a cell can go on.

    Raises:
        UserError: its last checkpoint is missing or damaged.
    """
    last = cell.run.checkpoint("last")
    try:
        read_header(last, fix="")
    except UserError as error:
        raise UserError(
            f"{cell.run.path} cannot be gone on with",
            found=one_line(error),
            expected="its checkpoint `last`, whole",
            fix=f"restore {last} from a copy, or delete {cell.run.path}; then run the suite again",
        ) from None


@contextmanager
def _timed(cell: CellFolder) -> Iterator[None]:
    """Add the time of this part of the training to that of earlier parts, however it ends."""
    before, start = cell.trained(), time.perf_counter()
    try:
        yield
    finally:
        if cell.run.config.is_file():  # else nothing was begun
            write_json(cell.training, {"seconds": before + time.perf_counter() - start})


def _score_on_test(run: RunFolder, device: str) -> Evaluation:
    """Score every branch at the step at which it was best on the test set, as the authors do.

    Examples are those of the last branch, the fused one where there are two networks. Nothing is
    estimated: what was calibrated is the checkpoint `best`.
    """
    kept = [b for b in BRANCHES if run.checkpoint(on_test(b)).is_file()]
    if not kept:
        raise UserError(
            f"{run.path} has no checkpoint that was best on the test set",
            found="none of " + ", ".join(map(on_test, BRANCHES)),
            expected="one per network, as a run keeps them that watches its test set",
            fix=f"delete {run.path} and run the suite again",
        )
    found = [
        score_run(run.path, branches=b, protocol="paper", checkpoint=on_test(b), device=device)
        for b in kept
    ]
    metrics = found[-1].metrics | {
        "checkpoint": "best_on_test",
        "step": run.read_summary().get("test_step"),
        "branches": {b: roles for each in found for b, roles in each.metrics["branches"].items()},
        "estimate": None,
        "steps": {b: each.metrics["step"] for b, each in zip(kept, found, strict=True)},
    }
    rows = [row for each in found for row in each.rows]
    return Evaluation(metrics, rows, estimates=(), examples=found[-1].examples)


def _train_along(cell: CellFolder, device: str) -> int:
    """Be one of the other processes of a cell; its first process tells what went wrong."""
    end = time.monotonic() + 2 * LOCK_SECONDS
    while time.monotonic() < end:
        if cell.ended():
            return DONE
        word = read_json(_word(cell), "how a cell begins") if _word(cell).is_file() else {}
        if word.get("launch") == _launch():
            break
        time.sleep(0.2)
    else:
        return FAILED
    try:
        config = cell.config.with_settings(train={"device": device})
        train(config, cell.run.path, resume=bool(word["resume"]))
    except Interrupted:
        return STOPPED
    except Exception:
        traceback.print_exc()
        return FAILED
    return DONE


def _word(cell: CellFolder) -> Path:
    """Message of the first process to the others; the folder may be of an earlier launch."""
    return cell.lock.with_suffix(".start.json")


def _launch() -> str:
    """Return the same for all processes of one launch, another for a job that was requeued."""
    return ".".join(os.environ.get(f"SLURM_{key}", "0") for key in ("JOB_ID", "RESTART_COUNT"))


def _stop_with_parent() -> None:
    """When whoever began us is gone, our standard input ends: save and stop."""

    def watch() -> None:
        # Not sys.stdin: at its own end the interpreter wants the lock that a blocked read holds.
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Run one cell as a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("name")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--with-parent", action="store_true", help="stop when stdin ends")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    if given.with_parent:
        _stop_with_parent()
    sys.exit(run_cell(given.out, given.name, device=given.device))


if __name__ == "__main__":
    main()
