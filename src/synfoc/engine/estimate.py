"""Dice without a label: what masks with the same evidence scored on labeled images.

Two numbers are known of every part of a mask (evidence.py): its expected Dice e, which takes
probabilities for true, and the agreement a of two networks. What they are worth is learned from
views of the labeled images, from plain ones to the strong views of training, which stand in for
other scanners. They are also turned upside down, which training never does: the networks have
memorized the labeled images, and would look surer on them than on any other image.

    Dice of a part   ~  w_0 + w_e e + w_a a,   w_e, w_a >= 0, least squares
    an empty mask    :  (how many were rightly empty) / (how many were empty + 1)
    estimated Dice   =  mean over parts, each within [0, 1]

Two points are always added: full evidence scores 1, none scores 0. The fitted line decides, not the
mean over views, so it matters little how hard the views are. If no empty mask was seen, an empty
mask is estimated at 0: a missed organ is the safer guess. An estimate, not a measurement: how far
off it was on real images stands in docs/trust.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import lsq_linear
from torch import Tensor

from synfoc.batches.augment import strong_views
from synfoc.batches.resize import resize_labels
from synfoc.engine.evidence import agreement, compared, expected_dice
from synfoc.methods.confidence import dice_of_parts
from synfoc.methods.maps import argmax_classes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synfoc.answers import Answer
    from synfoc.config import Augment, Interval
    from synfoc.engine.inference import Segmenter

STRENGTHS = (0.0, 0.5, 1.0)
"""Of the views of every labeled image, as shares of the strong view of training."""
ANCHOR = 0.1
"""Weight of each of the two added points, as a share of all parts that were seen."""


@dataclass(frozen=True)
class Calibration:
    """What the evidence of one answer is worth, learned from views of labeled images."""

    base: float
    """w_0."""
    expected: float
    """w_e, at least 0."""
    agreement: float
    """w_a, at least 0; 0 where nothing is compared."""
    empty: float = 0.0
    """Dice of a part without a mask, in [0, 1]."""
    views: float = 0.0
    """Mean Dice of all parts on these views, in [0, 1]; takes no part in an estimate."""

    def estimate_parts(self, tallies: NDArray[np.float64]) -> NDArray[np.float64]:
        """Estimated Dice of each part in [0, 1]: (..., C, 5) from `evidence.tally` -> (..., C)."""
        e, a = expected_dice(tallies), agreement(tallies)
        drawn = self.base + self.expected * e + self.agreement * a
        found: NDArray[np.float64] = np.where(np.isnan(e), self.empty, drawn).clip(0, 1)
        return found

    def estimate(self, tallies: NDArray[np.float64]) -> NDArray[np.float64]:
        """As `estimate_parts`, mean over parts: (..., C, 5) -> (...)."""
        found: NDArray[np.float64] = self.estimate_parts(tallies).mean(-1)
        return found


def calibrate(
    segmenter: Segmenter,
    images: NDArray[np.float32],
    labels: NDArray[np.uint8],
    augment: Augment,
    *,
    seed: int,
    looked: Callable[[int], None] | None = None,
) -> dict[Answer, Calibration]:
    """Hold the evidence of every answer against the truth, on views of the labeled images.

    Args:
        segmenter: the networks.
        images: (m, R, R, c) in [0, 1], at the working side.
        labels: (m, R, R), class indices 0..C.
        augment: the strong view of training.
        seed: of the views.
        looked: is told after each forward how many images it was of; in all len(STRENGTHS) * m.

    Returns:
        One per answer; none where there are no images.
    """
    if len(images) == 0:
        return {}
    answers = segmenter.answers()
    generator = torch.Generator().manual_seed(seed)
    plain = torch.from_numpy(images).movedim(-1, 1).flip(-2, -1)
    truth = torch.from_numpy(labels).long().flip(-2, -1)
    tallies: dict[Answer, list[Tensor]] = {a: [] for a in answers}
    dice: dict[Answer, list[Tensor]] = {a: [] for a in answers}
    for strength in STRENGTHS:
        views = strong_views(plain, _weakened(augment, strength), generator)
        for start in range(0, len(views), segmenter.batch):
            some = slice(start, start + segmenter.batch)
            P = segmenter.probabilities(views[some].movedim(1, -1).numpy(), answers)
            for a in answers:
                Q, Y = argmax_classes(P[a]).cpu(), resize_labels(truth[some], P[a].shape[-1])
                dice[a].append(dice_of_parts(Q, Y, segmenter.classes, nested=segmenter.nested))
                tallies[a].append(segmenter.tally(P, a).cpu())
            if looked:
                looked(len(views[some]))
    return {a: fit(torch.cat(tallies[a]).numpy(), torch.cat(dice[a]).numpy()) for a in answers}


def fit(tallies: NDArray[np.float64], dice: NDArray[np.floating]) -> Calibration:
    """Learn from evidence (n, C, 5) and the Dice that was found, (n, C)."""
    e, a = expected_dice(tallies), agreement(tallies)
    empty = np.isnan(e)
    evidence = np.stack([np.ones_like(e), e, a], -1)[~empty]
    # All parts without a mask: nothing but the two points is left.
    weight = np.sqrt(ANCHOR * max(1, len(evidence)))
    anchors = weight * np.array([[1, 1, compared(tallies)], [1, 0, 0]])
    line = lsq_linear(
        np.concatenate([evidence, anchors]),
        np.concatenate([dice[~empty], [weight, 0]]),
        bounds=([-np.inf, 0, 0], np.inf),
        method="bvls",  # a weight that is 0 is 0, not nearly so
    )
    base, of_expected, of_agreement = map(float, line.x)
    return Calibration(
        base,
        of_expected,
        of_agreement,
        empty=float((dice[empty] == 1).sum() / (empty.sum() + 1)),
        views=float(dice.mean()),
    )


def _weakened(augment: Augment, strength: float) -> Augment:
    """Draw a strong view that is nearer to the image as it is."""

    def toward(interval: Interval, still: float) -> Interval:
        low, high = (still + strength * (end - still) for end in interval)
        return low, high

    return augment.model_copy(
        update={
            "brightness": toward(augment.brightness, 1),
            "contrast": toward(augment.contrast, 1),
            "blur": toward(augment.blur, 0),
        }
    )


def read_calibration(summary: Mapping[str, Any], step: int) -> dict[Answer, Calibration]:
    """Return the calibrations in summary.json of the networks as they were at a step.

    None for a run that wrote none, nor for a step other than its best: those are other networks.
    """
    if step != summary.get("best_step"):
        return {}
    return {
        (branch, role): Calibration(**found)
        for branch, roles in summary.get("calibration", {}).items()
        for role, found in roles.items()
    }


def plain_calibration(found: Mapping[Answer, Calibration]) -> dict[str, dict[str, Any]]:
    """{branch: {role: {base, expected, agreement, empty, views}}}, as summary.json has it."""
    branches: dict[str, dict[str, Any]] = {}
    for (branch, role), calibration in found.items():
        branches.setdefault(branch, {})[role] = asdict(calibration)
    return branches
