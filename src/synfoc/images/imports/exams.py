"""What a source hands out: exams, each of which can be loaded; and how missing files are refused.

source folder -> Found (exams, nothing opened) -> side of each -> loaded, written one by one
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synfoc.images.case import Side
from synfoc.images.formats import Source
from synfoc.images.paper_sets import PaperSet

Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """A 2-D image and its label."""

    image: Path | NDArray[Any]
    """A file that is copied as it is, or pixels (h, w) or (h, w, 3) of 8 bits."""
    label: Labels
    """Class indices (h, w)."""
    note: str = ""
    """What was odd; equal notes are counted and told once."""


@dataclass(frozen=True)
class Volume:
    """A 3-D image and its label, in the axes of the file."""

    pixels: NDArray[Any]
    """(x, y, z), in the file's own number type."""
    label: Labels | None
    """Class indices of the same shape; None: nobody labeled it."""
    source: Source
    """Shape, voxel size in mm, affine and header."""
    note: str = ""
    """As in `Picture`."""


@dataclass(frozen=True)
class Exam:
    """One scan or picture."""

    domain: str
    name: str
    """Of its files in the new folder, without suffix; unique in the domain."""
    load: Callable[[], Picture | Volume]
    """Raises UserError where its files cannot be used."""
    patient: str | None = None
    """None where the source names none."""
    side: Side | None = None
    """Where the source itself says train or test."""
    labeled: bool = True


@dataclass(frozen=True)
class Found:
    """All exams of a source."""

    known: PaperSet
    exams: tuple[Exam, ...]
    handed_out: Mapping[str, int]
    """Labeled patients (where they are known, else images) per domain of the whole original."""
    there: str
    """What the source was seen to hold, for an error: its folders, or vendors."""
    notices: tuple[str, ...] = ()
