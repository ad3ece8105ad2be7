"""Dice without a label: what a mask is expected to score, corrected by how wrong that has been.

The expected Dice (expected.py) takes probabilities for true. Networks believe themselves too much,
most of all on scanners whose labels they never saw. Strong views of the labeled images stand in for
those: there the truth is known, and tells how many times larger the loss is than expected, and
what it means that a mask is empty.

    factor = max(1, (1 - mean Dice) / (1 - mean expected Dice)), over parts with a mask
    a part with a mask:   max(0, 1 - factor (1 - expected Dice))
    an empty mask:        empty = (how many were rightly empty) / (how many were empty + 1)
    estimated Dice        mean over parts

Where no empty mask was seen, `empty` is 0: a missed organ is the safer guess. An estimate, not a
measurement: how far off it was on real images stands in docs/trust.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synfoc.batches.augment import strong_views
from synfoc.engine.expected import expected_dice, tally
from synfoc.methods.confidence import dice_of_parts
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
    """Mean expected Dice of the parts that have a mask, in [0, 1]."""
    dice: float
    """Their mean Dice, in [0, 1]."""
    empty: float = 0.0
    """Dice of a part without a mask, in [0, 1]."""
    overall: float = 0.0
    """Mean Dice of all parts on these views; takes no part in an estimate."""

    @property
    def factor(self) -> float:
        """How many times larger a loss of Dice is than expected; at least 1."""
        return max(1.0, (1 - self.dice) / max(SURE, 1 - self.expected))

    def estimate(self, tallies: NDArray[np.float64]) -> NDArray[np.float64]:
        """Estimated Dice in [0, 1], mean over parts: (..., C, 3) from `expected.tally` -> (...)."""
        expected = expected_dice(tallies)
        each = np.where(np.isnan(expected), self.empty, 1 - self.factor * (1 - expected))
        found: NDArray[np.float64] = each.clip(0, 1).mean(-1)
        return found

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
    tallies: dict[Answer, list[Tensor]] = {a: [] for a in answers}
    dice: dict[Answer, list[Tensor]] = {a: [] for a in answers}
    for _ in range(VIEWS):
        strong = strong_views(plain, augment, generator).movedim(1, -1).numpy()
        for start in range(0, len(strong), segmenter.batch):
            some = slice(start, start + segmenter.batch)
            P = segmenter.probabilities(strong[some], answers)
            for a in answers:
                Q, Y = most_probable(P[a]).cpu(), nearest(truth[some], P[a].shape[-1])
                dice[a].append(dice_of_parts(Q, Y, segmenter.classes, nested=segmenter.nested))
                tallies[a].append(tally(P[a], segmenter.classes, nested=segmenter.nested).cpu())
    return {a: _compare(torch.cat(tallies[a]).numpy(), torch.cat(dice[a]).numpy()) for a in answers}


def _compare(tallies: NDArray[np.float64], dice: NDArray[np.float64]) -> Calibration:
    """Expectations (n, C, 3) against the Dice that was found, (n, C)."""
    expected = expected_dice(tallies)
    empty = np.isnan(expected)
    drawn = ~empty
    some = bool(drawn.any())
    return Calibration(
        expected=float(expected[drawn].mean()) if some else 0.0,
        dice=float(dice[drawn].mean()) if some else 0.0,
        empty=float((dice[empty] == 1).sum() / (empty.sum() + 1)),
        overall=float(dice.mean()),
    )


def read_calibration(summary: Mapping[str, Any], step: int) -> dict[Answer, Calibration]:
    """The calibrations in summary.json of the networks as they were at a step.

    None for a run that wrote none, nor for a step other than its best: those are other networks.
    """
    if step != summary.get("best_step"):
        return {}
    return {
        (branch, role): Calibration(**{f.name: found[f.name] for f in fields(Calibration)})
        for branch, roles in summary.get("calibration", {}).items()
        for role, found in roles.items()
    }


def plain_calibration(found: Mapping[Answer, Calibration]) -> dict[str, dict[str, Any]]:
    """{branch: {role: {expected, dice, empty, overall, factor}}}, as summary.json has it."""
    branches: dict[str, dict[str, Any]] = {}
    for (branch, role), calibration in found.items():
        branches.setdefault(branch, {})[role] = calibration.plain()
    return branches
