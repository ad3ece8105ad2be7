"""Cells as jobs of Slurm, through submitit; no torch here.

    OUT/jobs/submitted.json      name of a job array -> its cells, in the order of the array
    OUT/jobs/ID_submission.sh    what submitit writes: the script of an array,
    OUT/jobs/ID_TASK_log.err     and the output of every job

The folder of the suite is all that jobs and the waiting process share. A name is written down
before its jobs exist, so that a process that is killed at any moment and begun again finds its jobs
in the queue by name and submits no cell twice; should it happen, the lock of the cell holds.

Tested on a real Slurm of one machine (tests/slurm): single tasks, and two tasks of a cell on the
CPU, also on two nodes that share the machine. Not tested: GPUs, several machines, accounting.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from synfoc.bench.folder import CellFolder, SuiteFolder, unfinished, write_failure
from synfoc.bench.slurm_job import CellJob
from synfoc.bench.slurm_options import parameters_of
from synfoc.bench.slurm_queue import PREFIX, Queued, ended_as, queued
from synfoc.bench.watch import Watch
from synfoc.engine.progress import Interruption, interruptible
from synfoc.errors import Interrupted, UserError
from synfoc.storage import read_json, told, write_json

ARRAY = 1000
"""Jobs of one array; Slurm allows 1001 unless it is told otherwise."""
REQUEUES = 100
"""Times that a cell may reach its time limit; each time it has come further."""
POLL_SECONDS = 15.0
GRACE_SECONDS = 60.0
"""So long a network file system may hide what a job wrote last."""
NEWS_SECONDS = 60.0


@dataclass
class CellJobs:
    """A cell and the job that it has."""

    cell: CellFolder
    key: tuple[str, int]
    """Name of the array, place in it."""
    job: str = ""
    queued: Queued | None = None
    gone: float | None = None
    """When the job was first missed in the queue."""


def run_on_slurm(
    folder: SuiteFolder, *, device: str, options: Mapping[str, Any], console: Console | None
) -> None:
    """Submit a job for every cell that is not done and has none, then wait for all.

    Args:
        folder: a suite that was begun, on a file system that the nodes see too.
        device: auto, cpu or cuda; with cuda a job asks for a GPU per process by itself.
        options: of the jobs, as `parse_slurm_options` returns them.
        console: where progress is shown; None is silent.

    Raises:
        UserError: no submitit, no Slurm, or Slurm refuses the jobs.
        Interrupted: Ctrl-C or SIGTERM; the jobs go on.
    """
    submitit = _submitit()
    jobs = folder.path / "jobs"
    waiting = _submitted_before(folder, jobs)
    busy = {job.cell.name for job in waiting}
    left = [cell for cell in unfinished(folder.cells) if cell.name not in busy]
    waiting += _submit(submitit, folder, jobs, left, device, options)
    _wait(folder, jobs, waiting, console)


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise UserError(
            "--engine slurm needs submitit",
            found="it is not installed",
            expected='the extra `slurm`: pip install ".[slurm]" in the clone',
            fix="pip install submitit",
        ) from None
    missing = [name for name in ("sbatch", "squeue", "srun") if shutil.which(name) is None]
    if missing:
        raise UserError(
            "no Slurm here",
            found=f"no command {', '.join(missing)}",
            expected="a machine from which jobs can be submitted",
            fix="log in to the cluster, or leave out --engine slurm",
        )
    return submitit


def _record(jobs: Path) -> dict[str, list[str]]:
    path = jobs / "submitted.json"
    return read_json(path, "cells of job arrays") if path.is_file() else {}


def _submitted_before(folder: SuiteFolder, jobs: Path) -> list[CellJobs]:
    """Cells whose jobs of an earlier start still wait or run; what ended is forgotten."""
    alive, before = queued(), _record(jobs)
    record = {name: cells for name, cells in before.items() if any(name == n for n, _ in alive)}
    if record != before:
        write_json(jobs / "submitted.json", record)
    cells = {cell.name: cell for cell in folder.cells}
    return [
        CellJobs(cells[cell], (name, place), alive[name, place].job)
        for name, members in record.items()
        for place, cell in enumerate(members)
        if (name, place) in alive and cell in cells and cells[cell].state != "done"
    ]


def _submit(
    submitit: Any,
    folder: SuiteFolder,
    jobs: Path,
    cells: Sequence[CellFolder],
    device: str,
    options: Mapping[str, Any],
) -> list[CellJobs]:
    with told(jobs):
        jobs.mkdir(exist_ok=True)
    arrays = []
    for devices in sorted({cell.config.train.devices for cell in cells}):
        same = [cell for cell in cells if cell.config.train.devices == devices]
        for start in range(0, len(same), ARRAY):
            name = f"{PREFIX}{folder.suite.name}-{secrets.token_hex(4)}"
            executor = submitit.SlurmExecutor(jobs, max_num_timeout=REQUEUES)
            _configure(executor, parameters_of(options, devices, device) | {"job_name": name})
            arrays.append((name, executor, same[start : start + ARRAY]))
    submitted = []
    for name, executor, members in arrays:
        names = [cell.name for cell in members]
        for cell in members:
            cell.failure.unlink(missing_ok=True)
        write_json(jobs / "submitted.json", {**_record(jobs), name: names})
        ids = _submit_array(executor, [CellJob(folder.path.resolve(), n, device) for n in names])
        submitted += [
            CellJobs(cell, (name, place), job)
            for place, (cell, job) in enumerate(zip(members, ids, strict=True))
        ]
    return submitted


def _configure(executor: Any, parameters: Mapping[str, Any]) -> None:
    try:
        executor.update_parameters(**parameters)
    except ValueError as error:
        wrong, _, known = str(error).partition("\n")
        names = [line.split()[1] for line in known.splitlines() if line.startswith("  - ")]
        raise UserError(
            "--slurm has an option that submitit does not know",
            found=wrong.partition(": ")[2],
            expected=", ".join(names),
            fix="correct its name; for other flags of sbatch set its variables, SBATCH_...",
        ) from None


def _submit_array(executor: Any, cells: Sequence[CellJob]) -> list[str]:
    try:
        with _outside_of_jobs(), redirect_stderr(StringIO()):  # the error carries what it says
            return [job.job_id for job in executor.submit_array(cells)]
    except RuntimeError as error:
        raise UserError(
            "Slurm refuses the jobs",
            found=(str(error).strip().splitlines() or ["no reason"])[-1],
            expected="options that sbatch accepts",
            fix="correct --slurm key=value; sinfo lists partitions and their limits",
        ) from None


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Hide from sbatch that we are a job ourselves: the new jobs would inherit its sizes."""
    inside = "SLURM_JOB_ID" in os.environ
    names = [k for k in os.environ if inside and k.startswith("SLURM_") and k != "SLURM_CONF"]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _wait(
    folder: SuiteFolder, jobs: Path, waiting: list[CellJobs], console: Console | None
) -> None:
    """Look at the queue until every job has ended.

    Raises:
        Interrupted: asked to stop waiting.
    """
    news, told_at = "", -NEWS_SECONDS
    with interruptible() as interruption, Watch(folder, 1, console) as watch:
        while waiting:
            _look(waiting)
            for job in [job for job in waiting if _has_ended(job, jobs)]:
                waiting.remove(job)
                watch.ended(job.cell)
            running = [j.cell for j in waiting if j.queued and j.queued.state == "RUNNING"]
            watch.workers = max(1, len(running))
            watch.update(running)
            if _news(waiting) != news and time.monotonic() - told_at >= NEWS_SECONDS:
                news, told_at = _news(waiting), time.monotonic()
                watch.say(news)
            if waiting:
                _pause(interruption)
            if waiting and interruption:
                arrays = sorted({job.job.partition("_")[0] for job in waiting})
                raise Interrupted(
                    "stopped waiting, the jobs go on; the same command waits for them again, "
                    f"scancel {' '.join(arrays)} ends them"
                )


def _look(waiting: Sequence[CellJobs]) -> None:
    """Note what the queue says; nothing where it does not answer, for jobs go on without it."""
    try:
        alive = queued()
    except UserError:
        return
    now = time.monotonic()
    for job in waiting:
        job.queued = alive.get(job.key)
        job.job = job.queued.job if job.queued else job.job
        job.gone = None if job.queued else job.gone or now


def _has_ended(job: CellJobs, jobs: Path) -> bool:
    """Whether a cell is done or failed; a job that died without a word is written down."""
    if job.cell.state == "done":
        return True
    if job.gone is None:
        return False
    if job.cell.failure.is_file():
        return True
    if time.monotonic() - job.gone < GRACE_SECONDS:
        return False
    logs = sorted(jobs.glob(f"{job.job}_*_log.err"), key=lambda path: path.stat().st_mtime)
    where = f"see {logs[-1]}" if logs else f"it wrote nothing to {jobs}"
    error = f"Slurm job {job.job} ended before its cell: {ended_as(job.job)}; {where}"
    write_failure(job.cell, error, log=logs[-1] if logs else None)
    return True


def _news(waiting: Sequence[CellJobs]) -> str:
    """`2 running, 4 pending (Resources)`."""
    counts = Counter(
        f"{q.state.lower()} ({q.reason})" if q.state == "PENDING" and q.reason else q.state.lower()
        for q in (job.queued for job in waiting)
        if q
    )
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items(), reverse=True))


def _pause(interruption: Interruption) -> None:
    end = time.monotonic() + POLL_SECONDS
    while time.monotonic() < end and not interruption:
        time.sleep(min(0.5, POLL_SECONDS))
