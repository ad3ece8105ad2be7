"""Numbers that change over a run."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

Schedule: TypeAlias = Literal["constant", "cosine", "late"]

LATE = 0.7
"""Share of the run after which the schedule `late` lets the learning rates fall."""


def ramp_up(step: int, steps: int) -> float:
    """Weight lambda of everything learned from unlabeled images, in (0.0067, 0.99988).

        lambda = exp(-5 (1 - t/200)^2),  t = floor(step / (steps / 200))

    Args:
        step: steps done, 0..steps-1.
        steps: t_max, the length of the run.

    Source: Eq. 2. The 200 plateaus and the square follow the authors' code; the paper prints the
    exponent without the square (docs/departures.md, D5).
    """
    t = math.floor(step / (steps / 200))
    return math.exp(-5 * (1 - min(t / 200, 1)) ** 2)


def ema_decay(step: int, limit: float = 0.99) -> float:
    """Share of the teacher that survives the step: min(1 - 1/(step + 1), limit).

    Args:
        step: steps done before this one; at 0 the teacher becomes a copy of the student.
        limit: the long-run decay.

    Source: authors' code.
    """
    return min(1 - 1 / (step + 1), limit)


def learning_rate_factor(schedule: Schedule, step: int, steps: int) -> float:
    """Factor on the learning rates.

    Args:
        schedule: constant is 1 throughout [authors' code]; cosine falls from 1 to 0 over the whole
            run; late stays 1 until `LATE` of the run is done and falls to 0 from there, so that
            rates are still high when lambda lets the unlabeled images count.
        step: steps done, 0..steps.
        steps: length of the run.
    """
    if schedule == "constant":
        return 1.0
    start = 0.0 if schedule == "cosine" else LATE
    return 0.5 * (1 + math.cos(math.pi * max(0.0, step / steps - start) / (1 - start)))
