"""Labels that are one file per class -> class indices: `x_cup.png` and `x_disc.png`.

A CSV lists them in columns `label:cup`, `label:disc`; the classes are numbered in the order of the
columns. Where files overlap, the smaller structure lies on top, in whatever order they are listed:
a lesion within its organ, the cup within the disc. In a nested set (`data.nested`, which scores the
disc with its cup) the earlier column does: part k is all that the columns 1..k have drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synfoc.errors import UserError

COLUMN = "label:"
STARTS = ("label", "labels", "mask", "masks", "seg", "segmentation")
"""Of such a column's name, before the colon."""
OVERLAP = "files of several classes overlap, where the smaller structure is on top"
ONE_CLASS = (
    "several label files of one image hold the same code, so they are one class; if each is a "
    "class, list them in a CSV with columns label:NAME"
)


def class_of_column(name: str) -> str | None:
    """`cup` of the column `label:cup`; None of any other."""
    start, _, rest = name.partition(":")
    return rest.strip() if start.strip().lower() in STARTS and rest.strip() else None


def drawn(codes: NDArray[Any], path: Path) -> NDArray[np.bool_]:
    """Where a file of one class has anything drawn.

    Args:
        codes: (n, h, w), 0 where there is nothing.
        path: for the error.

    Raises:
        UserError: it is in colors, or holds more than one code beside 0.
    """
    there = codes != 0
    found = "colors" if codes.ndim == 4 else ""
    if not found and len(several := np.unique(codes[there])) > 1:
        found = f"the codes {', '.join(map(str, several[:6]))}{' ...' * (len(several) > 6)}"
    if found:
        raise UserError(
            f"mask {path} is not the file of one class",
            found=found,
            expected="0, and one other code where the class is",
            fix="save it in black and white as PNG or NIfTI; a file that holds codes of several "
            "classes belongs into the column `label`",
        )
    return np.asarray(there, bool)


def join_classes(
    masks: Mapping[int, NDArray[np.bool_]], shape: tuple[int, ...], *, nested: bool = False
) -> tuple[NDArray[np.uint8], bool]:
    """Class indices of masks of single classes.

    Args:
        masks: class index 1..C -> (n, h, w).
        shape: (n, h, w).
        nested: the earlier class lies on top, not the smaller one.

    Returns:
        (n, h, w), 0 where no class is; whether any pixel is of several classes.
    """
    sizes = {k: int(np.count_nonzero(mask)) for k, mask in masks.items()}
    label = np.zeros(shape, np.uint8)
    # What is drawn last lies on top; of equal ones the earlier class.
    for k in sorted(masks, key=lambda k: (0 if nested else sizes[k], k), reverse=True):
        label[masks[k]] = k
    return label, sum(sizes.values()) > int(np.count_nonzero(label))


def refuse_outside_in(
    masks: Mapping[int, NDArray[np.bool_]], classes: Sequence[str], image: Path
) -> None:
    """Stop at the classes of a nested set that go from the outside to the inside.

    Raises:
        UserError: a class lies within an earlier one, so that its part would be the outer one.
    """
    for earlier, later in combinations(sorted(masks), 2):
        outer, inner = masks[earlier], masks[later]
        if inner.any() and not (inner & ~outer).any() and (outer & ~inner).any():
            one, other = classes[later - 1], classes[earlier - 1]
            raise UserError(
                "the classes of a nested set go from the inside to the outside",
                found=f"{one} within {other}, which is before it, in the label of {image}",
                expected=f"{one} before {other}",
                fix=f"put the column {COLUMN}{one} before {COLUMN}{other}, or {one} before {other} "
                "in data.classes",
            )


def refuse_unnamed(parts: Iterable[str], classes: Iterable[str]) -> None:
    """Stop at a column of a class that the settings do not name.

    Raises:
        UserError: there is one.
    """
    known = tuple(classes)
    unknown = [part for part in parts if part not in known]
    if unknown:
        raise UserError(
            f"the column {COLUMN}{unknown[0]} is of no class",
            found=f"data.classes = [{', '.join(known)}]",
            expected="a column per class, called label: and the name of the class",
            fix="correct the column, or data.classes",
        )
