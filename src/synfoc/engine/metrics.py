"""Dice, Jaccard [0..1], HD95 and ASD [mm, or px where spacing is unknown] of binary masks.

A surface is the mask minus its erosion by one pixel along each axis; a pixel at the image's edge
is surface. All distances run from the surface pixels of one mask to the nearest surface pixel of
the other. numpy and scipy only; everything works on 2-D and 3-D arrays.

Empty masks have no distance, so each protocol has a stated rule (`EMPTY_POLICY`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from synfoc.runs import MIN_PATIENTS

Protocol: TypeAlias = Literal["honest", "paper"]
Mask: TypeAlias = NDArray[np.bool_]
Spacing: TypeAlias = Sequence[float] | None
Empty: TypeAlias = Literal["", "both", "prediction", "label"]

PAPER_DISTANCE = 100.0
SPARSE = 1 / 8
"""Share of a box that a surface fills at most where a search tree is quicker (masks of noise)."""
BLOCK = 64
"""Resamples of a bootstrap that are drawn at a time."""
EMPTY_POLICY: dict[Protocol, str] = {
    "honest": "both empty: Dice and Jaccard 1, distances 0; one empty: Dice and Jaccard 0, "
    "distances the diagonal of the image in its unit",
    "paper": "empty prediction: distances 100 px as in the authors' code; empty label with a "
    "prediction, which stops their code: Dice and Jaccard 0, distances 100 px; both empty: Dice "
    "and Jaccard 1, where their code has no number",
}


@dataclass(frozen=True)
class Scores:
    """Scores of one binary mask; hd95 and asd in the unit of the spacing; which mask is empty."""

    dice: float
    jaccard: float
    hd95: float
    asd: float
    empty: Empty = ""


def parts(label: NDArray[Any], classes: int, *, nested: bool = False) -> Mask:
    """Binary map of each foreground part, as `methods.confidence.parts` has it for tensors.

    Args:
        label: class indices 0..C, any shape.
        classes: C, the number of foreground classes.
        nested: part c is everything inside the outline of class c, 0 < label <= c (fundus: class
            1 is the cup, classes 1 and 2 together are the disc); else part c is label == c.

    Returns:
        (C, *label.shape).
    """
    label = np.asarray(label)
    c = np.arange(1, classes + 1).reshape(-1, *[1] * label.ndim)
    return ((label > 0) & (label <= c)) if nested else (label == c)


def dice(prediction: Mask, label: Mask) -> float:
    """2 |A & B| / (|A| + |B|) in [0, 1]; 1 where both are empty."""
    size = np.count_nonzero(prediction) + np.count_nonzero(label)
    return float(2 * np.count_nonzero(prediction & label) / size) if size else 1.0


def jaccard(prediction: Mask, label: Mask) -> float:
    """Return |A & B| / |A | B| in [0, 1]; 1 where both are empty."""
    union = np.count_nonzero(prediction | label)
    return float(np.count_nonzero(prediction & label) / union) if union else 1.0


def surface_distances(
    prediction: Mask, label: Mask, spacing: Spacing = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance of every surface pixel to the other mask's surface.

    Args:
        prediction: 2-D or 3-D mask, not empty.
        label: a mask of the same shape, not empty.
        spacing: pixel size per axis in mm; None: 1, so that distances are in pixels.

    Returns:
        From the prediction's surface to the label's, and the other way round; in the unit of
        spacing, in no particular order.

    Raises:
        ValueError: a mask is empty, or the shapes differ.

    Source: the definition of MedPy and MONAI. Both surfaces lie inside the bounding box of the
    union, so nothing outside of it is looked at.
    """
    if prediction.shape != label.shape:
        raise ValueError(f"shapes differ: {prediction.shape} and {label.shape}")
    if not prediction.any() or not label.any():
        raise ValueError("an empty mask has no surface")
    box = _bounding_box(prediction | label)
    surface_a, surface_b = _surface(prediction[box]), _surface(label[box])
    return _distances(surface_a, surface_b, spacing), _distances(surface_b, surface_a, spacing)


def hd95(prediction: Mask, label: Mask, spacing: Spacing = None) -> float:
    """95th percentile of the surface distances of both directions together.

    Arguments and errors as in `surface_distances`. Source: MedPy's hd95. MONAI takes the larger
    of the two directions' percentiles instead, which is at least as large.
    """
    return _hd95(*surface_distances(prediction, label, spacing))


def asd(prediction: Mask, label: Mask, spacing: Spacing = None) -> float:
    """Mean of the surface distances of both directions together: symmetric.

    Arguments and errors as in `surface_distances`. Source: the symmetric average surface distance
    of MONAI; MedPy's assd is the mean of the two directions' means.
    """
    return _asd(*surface_distances(prediction, label, spacing))


def asd_one_sided(prediction: Mask, label: Mask, spacing: Spacing = None) -> float:
    """Mean distance from the prediction's surface to the label's; false misses cost nothing.

    Arguments and errors as in `surface_distances`. Source: MedPy's asd, which the paper reports.
    """
    return _asd_one_sided(*surface_distances(prediction, label, spacing))


def score(
    prediction: Mask, label: Mask, spacing: Spacing = None, *, protocol: Protocol = "honest"
) -> Scores:
    """All four scores of one mask, with the protocol's rule for empty masks.

    Args:
        prediction: 2-D or 3-D mask.
        label: a mask of the same shape.
        spacing: pixel size per axis in mm; None: pixels.
        protocol: honest (symmetric ASD) or paper (one-sided ASD); rules in `EMPTY_POLICY`.
    """
    overlap = dice(prediction, label), jaccard(prediction, label)
    has_prediction, has_label = bool(prediction.any()), bool(label.any())
    if has_prediction and has_label:
        there, back = surface_distances(prediction, label, spacing)
        mean = _asd_one_sided if protocol == "paper" else _asd
        return Scores(*overlap, _hd95(there, back), mean(there, back))
    if protocol == "paper":
        worst = PAPER_DISTANCE
    elif has_prediction or has_label:
        worst = float(np.hypot.reduce(np.multiply(label.shape, spacing or 1.0)))
    else:
        worst = 0.0
    empty: Empty = "label" if has_prediction else "prediction" if has_label else "both"
    return Scores(*overlap, worst, worst, empty)


def bootstrap_means(
    values: NDArray[np.float64],
    groups: Sequence[Hashable] | None,
    *,
    random: np.random.Generator,
    resamples: int = 2000,
) -> NDArray[np.float64]:
    """Means of resampled cases, to read a confidence interval from.

    Cases of one patient resemble each other, so whole groups are drawn with replacement, as many
    as there are.

    Args:
        values: (cases,), or (cases, k): k numbers per case, seen through the same draws.
        groups: the patient of each case; None: every case stands for itself.
        random: where the draws come from.
        resamples: length of the result.

    Returns:
        (resamples,) or (resamples, k).
    """
    index = np.arange(len(values))
    if groups is not None:
        names = {name: i for i, name in enumerate(dict.fromkeys(groups))}
        index = np.array([names[name] for name in groups])
    columns = values.reshape(len(values), -1).T
    sums = np.stack([np.bincount(index, column) for column in columns], axis=1)
    sizes = np.bincount(index)
    count = len(sizes)
    chances = np.full(count, 1 / count)
    means = []
    # A few resamples at a time: all at once would be resamples x groups numbers.
    for start in range(0, resamples, BLOCK):
        drawn = random.multinomial(count, chances, size=min(BLOCK, resamples - start))
        means.append((drawn @ sums) / (drawn @ sizes)[:, None])
    return np.concatenate(means).reshape(resamples, *values.shape[1:])


def has_interval(patients: Iterable[Hashable]) -> bool:
    """Whether a domain with these test patients gets an interval: not with fewer than three.

    A mean that holds a domain without one has none either.
    """
    return len(set(patients)) >= MIN_PATIENTS


def interval95(means: NDArray[np.float64]) -> tuple[float, float]:
    """Return the middle 95 % of bootstrap means."""
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _hd95(there: NDArray[np.float64], back: NDArray[np.float64]) -> float:
    return float(np.percentile(np.concatenate([there, back]), 95))


def _asd(there: NDArray[np.float64], back: NDArray[np.float64]) -> float:
    return float(np.concatenate([there, back]).mean())


def _asd_one_sided(there: NDArray[np.float64], back: NDArray[np.float64]) -> float:
    return float(there.mean())


def _distances(surface: Mask, other: Mask, spacing: Spacing) -> NDArray[np.float64]:
    """Of each pixel of one surface to the nearest of the other."""
    if np.count_nonzero(other) > SPARSE * other.size:
        transform = ndimage.distance_transform_edt(~other, sampling=spacing)
        dense: NDArray[np.float64] = transform[surface]
        return dense
    # A surface is a thin curve: a search tree of its pixels is quicker than a map of distances.
    scale = np.ones(other.ndim) if spacing is None else np.asarray(spacing)
    tree = cKDTree(np.argwhere(other) * scale)
    return np.asarray(tree.query(np.argwhere(surface) * scale)[0])


def _surface(mask: Mask) -> Mask:
    """Pixels of which a neighbor along some axis is outside, or that lie at the edge."""
    inside = mask.copy()
    for axis in range(mask.ndim):
        # Views whose first axis is this one.
        into, of = np.moveaxis(inside, axis, 0), np.moveaxis(mask, axis, 0)
        into[1:] &= of[:-1]
        into[:-1] &= of[1:]
        into[[0, -1]] = False
    surface: Mask = mask & ~inside
    return surface


def _bounding_box(mask: Mask) -> tuple[slice, ...]:
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        used = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(box)
