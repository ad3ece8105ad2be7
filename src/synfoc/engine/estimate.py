"""Dice without a label: what a mask is expected to score, corrected by how wrong that has been.

The expected Dice (expected.py) takes probabilities for true. Networks believe themselves too much,
most of all on scanners whose labels they never saw. Strong views of the labeled images stand in for
those: there the truth is known, and tells how many times larger the loss is than expected.

    factor = max(1, (1 - mean Dice) / (1 - mean expected Dice))
    estimated Dice = max(0, 1 - factor (1 - expected Dice))

An estimate, not a measurement: how far off it was on real images stands in docs/trust.md. An image
that does not show the organ at all is estimated at 0, because a missed organ looks the same.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from synfoc.batches.augment import strong_views
from synfoc.engine.expected import expected_dice, tally
from synfoc.methods.confidence import dice_agreement
from synfoc.methods.mixing import most_probable, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synfoc.config import Augment
    from synfoc.engine.inference import Answer, Segmenter

VIEWS = 4
"""Strong views of every labeled image."""
SURE = 1e-3
"""Where networks expect to lose less than this, the factor is no larger than loss / SURE."""


@dataclass(frozen=True)
class Calibration:
    """How far one answer overestimates itself, as seen on strong views of labeled images."""

    expected: float
    """Mean expected Dice, in [0, 1]."""
    dice: float
    """Mean Dice, in [0, 1]."""

    @property
    def factor(self) -> float:
        """How many times larger a loss of Dice is than expected; at least 1."""
        return max(1.0, (1 - self.dice) / max(SURE, 1 - self.expected))

    def estimate(self, expected: float) -> float:
        """Estimated Dice in [0, 1], from the expected one."""
        return max(0.0, 1 - self.factor * (1 - expected))

    def plain(self) -> dict[str, float]:
        """As summary.json has it."""
        return {**asdict(self), "factor": self.factor}


def calibrate(
    segmenter: Segmenter,
    images: NDArray[np.float32],
    labels: NDArray[np.uint8],
    augment: Augment,
    *,
    seed: int,
) -> dict[Answer, Calibration]:
    """Hold every answer's expectation against the truth, on strong views of the labeled images.

    Args:
        segmenter: the networks.
        images: (m, R, R, c) in [0, 1], at the working side.
        labels: (m, R, R), class indices 0..C.
        augment: strengths of the strong view.
        seed: of the views.

    Returns:
        One per answer; none where there are no images.
    """
    if len(images) == 0:
        return {}
    answers = segmenter.answers()
    generator = torch.Generator().manual_seed(seed)
    plain, truth = torch.from_numpy(images).movedim(-1, 1), torch.from_numpy(labels).long()
    expected: dict[Answer, list[float]] = {a: [] for a in answers}
    true: dict[Answer, list[float]] = {a: [] for a in answers}
    for _ in range(VIEWS):
        strong = strong_views(plain, augment, generator).movedim(1, -1).numpy()
        for start in range(0, len(strong), segmenter.batch):
            some = slice(start, start + segmenter.batch)
            P = segmenter.probabilities(strong[some], answers)
            for a in answers:
                Q, Y = most_probable(P[a]).cpu(), nearest(truth[some], P[a].shape[-1])
                dice = dice_agreement(Q, Y, segmenter.classes, nested=segmenter.nested)
                tallies = tally(P[a], segmenter.classes, nested=segmenter.nested)
                expected[a] += expected_dice(tallies.cpu().numpy()).tolist()
                true[a] += dice.tolist()
    return {a: Calibration(float(np.mean(expected[a])), float(np.mean(true[a]))) for a in answers}


def read_calibration(summary: Mapping[str, Any], step: int) -> dict[Answer, Calibration]:
    """The calibrations in summary.json of the networks as they were at a step.

    None for a run that wrote none, nor for a step other than its best: those are other networks.
    """
    if step != summary.get("best_step"):
        return {}
    return {
        (branch, role): Calibration(found["expected"], found["dice"])
        for branch, roles in summary.get("calibration", {}).items()
        for role, found in roles.items()
    }


def plain_calibration(found: Mapping[Answer, Calibration]) -> dict[str, dict[str, Any]]:
    """{branch: {role: {expected, dice, factor}}}, as summary.json has it."""
    branches: dict[str, dict[str, Any]] = {}
    for (branch, role), calibration in found.items():
        branches.setdefault(branch, {})[role] = calibration.plain()
    return branches
