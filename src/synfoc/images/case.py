"""One image of a data set, with its label files, and what must stay on one side of a split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Side = Literal["train", "test"]

CaseGroup: TypeAlias = tuple[str | None, str]
"""Domain, and the patient within it; the image by itself where its patient is unknown."""


def group_of(id: str, domain: str | None, patient: str | None) -> CaseGroup:
    """Return the group of a case, in memory or in a split.json."""
    return domain, patient or f"image {id}"


@dataclass(frozen=True)
class Case:
    """One image file, with its label files where it has any."""

    id: str
    """Unique in the set, path-like: "ACDC/train/patient003_f15_s02"."""
    image: Path
    labels: tuple[Path, ...] = ()
    """None, one, or several that are merged by the largest class index (BUSI's extra lesions)."""
    domain: str | None = None
    patient: str | None = None
    """Unique within the domain only: two hospitals may both have a patient 1."""
    split: Side | None = None
    spacing: tuple[float, float, float] | None = None
    """mm between slices, rows, columns, where a CSV states it; it goes before the file's own."""
    parts: tuple[str, ...] = ()
    """The class of each of `labels`, where each holds one class alone; none: they hold codes."""

    @property
    def group(self) -> CaseGroup:
        """What must stay on one side of a split."""
        return group_of(self.id, self.domain, self.patient)
