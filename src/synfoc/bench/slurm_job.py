"""One cell as a job of Slurm: what its signals do. Runs on the node, inside submitit.

    USR2, before the time limit or a preemption    save after the step, then queue the job again
    TERM, scancel or a preemption by requeue       save after the step, then end

While a cell is scored nothing needs saving: both end it at once, and scoring begins anew.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from synfoc.errors import Interrupted


@dataclass(frozen=True)
class CellJob:
    """A cell that submitit can call, and call again after the time limit."""

    out: Path
    name: str
    device: str

    def __call__(self) -> None:
        """Bring the cell to its end, or as far as the time goes.

        Raises:
            RuntimeError: the cell failed and said why; Slurm shall see it too.
        """
        from synfoc.bench.cell import FAILED, STOPPED, run_cell  # torch loads on the node only

        queue_again = signal.getsignal(signal.SIGUSR2)  # submitit's, which ends the process
        signals = Signals()
        signal.signal(signal.SIGTERM, signals.stop)
        signal.signal(signal.SIGUSR2, signals.warn)
        try:
            status = run_cell(self.out, self.name, device=self.device)
        except Interrupted:
            status = STOPPED
        # Slurm ends a job that is queued again by TERM, perhaps before submitit has left.
        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        if status == STOPPED and signals.warned and callable(queue_again):
            queue_again(signal.SIGUSR2, None)
        if status == FAILED:
            raise RuntimeError(f"cell {self.name} failed; {self.name}.failed.json says why")

    def checkpoint(self) -> Any:
        """Return what submitit queues again: the same cell, which goes on from its folder."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Signals:
    """Notes Slurm's warning and passes it on as SIGTERM, which training takes itself."""

    def __init__(self) -> None:
        self.warned = self._stopped = False

    def warn(self, number: int, frame: FrameType | None) -> None:
        """Stop, because the time is up."""
        self.warned = True
        signal.raise_signal(signal.SIGTERM)

    def stop(self, number: int, frame: FrameType | None) -> None:
        """End what is not training; a second signal must not disturb that."""
        if not self._stopped:
            self._stopped = True
            raise Interrupted("stopped by Slurm outside of training")
