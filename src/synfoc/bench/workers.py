"""Cells on this machine: each in a process of its own, so many at a time; no torch here.

A cell that runs out of memory or crashes ends alone. Cores are divided among the processes, and a
cell gets the GPUs that fewest others have. When this process ends, however it ends, the cells save
themselves and stop.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from rich.console import Console

from synfoc.bench.folder import CellFolder, SuiteFolder, unfinished, write_failure
from synfoc.bench.watch import Watch
from synfoc.engine.progress import Interruption, interruptible
from synfoc.storage import told

LOOK_SECONDS = 0.5


@dataclass
class Worker:
    """A cell that is running."""

    cell: CellFolder
    gpus: tuple[str, ...]
    process: subprocess.Popen[bytes]
    log: IO[bytes]

    def stop(self) -> None:
        """End its input, which tells the cell to save and stop."""
        assert self.process.stdin is not None
        self.process.stdin.close()


def run_here(
    folder: SuiteFolder,
    *,
    workers: int,
    device: str,
    gpus: Sequence[str],
    console: Console | None,
) -> bool:
    """Run every cell that is not done.

    Args:
        folder: a suite that was begun.
        workers: cells at a time.
        device: auto, cpu or cuda.
        gpus: names for CUDA_VISIBLE_DEVICES; each worker sees as many as its cell has devices.
            Without any, workers see what we see.
        console: where progress is shown; None is silent.

    Returns:
        False where Ctrl-C or SIGTERM came first; all cells are saved then.
    """
    waiting = unfinished(folder.cells)
    for cell in waiting:
        cell.failure.unlink(missing_ok=True)
    running: list[Worker] = []
    with interruptible() as interruption, Watch(folder, workers, console) as watch:
        while waiting or running:
            if interruption and waiting:
                watch.say("stopping: the cells that are running save themselves")
                waiting = []
            if interruption:
                _stop(running)
            while waiting and len(running) < workers:
                cell = waiting.pop(0)
                dealt = deal(gpus, [w.gpus for w in running], cell.config.train.devices)
                running.append(_start(folder, cell, workers, device, dealt))
            time.sleep(LOOK_SECONDS)
            for worker in [w for w in running if w.process.poll() is not None]:
                running.remove(worker)
                _finish(worker, interruption)
                watch.ended(worker.cell)
            watch.update([w.cell for w in running])
    return not interruption


def deal(gpus: Sequence[str], held: Sequence[Sequence[str]], count: int) -> tuple[str, ...]:
    """So many GPUs, those first that fewest of the running cells have."""
    taken = [name for names in held for name in names]
    return tuple(sorted(gpus, key=taken.count)[:count])


def _start(
    folder: SuiteFolder,
    cell: CellFolder,
    workers: int,
    device: str,
    gpus: tuple[str, ...],
) -> Worker:
    command = [sys.executable, "-m", "synfoc.bench.cell", str(folder.path), cell.name]
    environment = dict(os.environ)
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    processes = workers * cell.config.train.devices
    environment.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    with told(cell.log):
        cell.log.parent.mkdir(parents=True, exist_ok=True)
        log = cell.log.open("ab")
    process = subprocess.Popen(  # noqa: S603  (our own interpreter and names from the suite)
        [*command, "--device", device, "--with-parent"],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,  # Ctrl-C is for us; cells are told to stop once
    )
    return Worker(cell, gpus, process, log)


def _finish(worker: Worker, interruption: Interruption) -> None:
    """Close what belongs to a process that ended; note what it could not note itself."""
    worker.stop()
    worker.log.close()
    cell, status = worker.cell, worker.process.returncode
    if cell.state in ("done", "failed") or interruption:
        return
    how = f"by signal {-status}" if status < 0 else f"with status {status}"
    hint = " (out of memory?)" if status == -9 else ""
    write_failure(cell, f"its process ended {how}{hint}", log=cell.log)


def _stop(running: Sequence[Worker]) -> None:
    for worker in running:
        worker.stop()
