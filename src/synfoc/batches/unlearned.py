"""Which cases of any data set a run may be scored on: not those it learned by their labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synfoc.images.cases import Case
from synfoc.storage import read_json, sha256


@dataclass(frozen=True)
class Unlearned:
    """Cases of any data set, seen from a run."""

    cases: tuple[Case, ...]
    """Those whose label, and whose patient's labels, the run was not trained with."""
    labeled: int
    """How many cases are not among them."""
    seen: int
    """How many of them were in training without a label."""


def without_labeled(cases: Iterable[Case], path: Path) -> Unlearned:
    """Tell cases that a run has not learned by their labels from the others.

    Images are known by their content, wherever they lie now; patients by domain and name.

    Args:
        cases: of any data set. Only files of the size of a training image are read.
        path: split.json of the run.
    """
    value = read_json(path, "a split written by synfoc train")
    root = Path(value["root"])
    learned = _Known.of(value, "labeled", root)
    unlabeled = _Known.of(value, "unlabeled", root)
    patients = {
        (entry["domain"], entry["patient"]) for entry in value["labeled"] if entry["patient"]
    }
    kept, dropped, seen = [], 0, 0
    for case in cases:
        if (case.domain, case.patient) in patients or learned.holds(case.image):
            dropped += 1
            continue
        kept.append(case)
        seen += unlabeled.holds(case.image)
    return Unlearned(tuple(kept), dropped, seen)


@dataclass(frozen=True)
class _Known:
    """Images of one role of a split, by place and by content."""

    paths: set[Path]
    sizes: set[int]
    contents: set[str]

    @classmethod
    def of(cls, value: dict[str, Any], role: str, root: Path) -> _Known:
        # As the run named them: how its CSV writes paths need not fit its folder.
        prints = [value["files"][entry["image"]] for entry in value[role]]
        return cls(
            {(root / entry["image"]).resolve() for entry in value[role]},
            {p["size"] for p in prints},
            {p["sha256"] for p in prints},
        )

    def holds(self, image: Path) -> bool:
        if image.resolve() in self.paths:
            return True
        return image.stat().st_size in self.sizes and sha256(image) in self.contents
