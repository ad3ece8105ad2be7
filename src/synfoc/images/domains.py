"""What is worth a note about the domains of a data set, by the list of its cases alone."""

from __future__ import annotations

from collections.abc import Sequence

from synfoc.images.case import Case, CaseGroup
from synfoc.images.codes import some


def alike(cases: Sequence[Case]) -> list[str]:
    """Return notes on domains whose names differ only by case: one scanner, written in two ways?"""
    names: dict[str, list[str]] = {}
    for domain in dict.fromkeys(case.domain for case in cases if case.domain):
        names.setdefault(domain.casefold(), []).append(domain)
    return [
        f"domains that differ only by upper and lower case: {', '.join(same)}; they count as "
        f"{len(same)} domains"
        for same in names.values()
        if len(same) > 1
    ]


def untested(cases: Sequence[Case], fraction: float) -> list[str]:
    """Return a note on domains of which a share of the labeled patients cannot be held out.

    Args:
        cases: all of a data set; where one has a split, nothing is held out.
        fraction: `data.test_fraction`.
    """
    if not fraction or any(case.split for case in cases):
        return []
    groups: dict[str, set[CaseGroup]] = {}
    for case in cases:
        if case.labels:
            groups.setdefault(case.domain or "", set()).add(case.group)
    alone = [domain for domain, patients in groups.items() if len(patients) == 1]
    if not alone:
        return []
    where = f" of {some(alone)}" if all(alone) else ""
    return [
        f"no test image is held out{where}: all labels there are of one patient, or one image, "
        "which trains"
    ]
