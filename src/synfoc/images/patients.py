"""Questions about patients that names raise: they are asked, and nothing is grouped by a guess.

A held-out slice beside a slice of the same volume in training is no test; scores come out too high.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from synfoc.images.case import Case
from synfoc.images.formats import stem

_PART = (
    r"slices?|slc|sl|s|z|frames?|fr|f|layer|patch|tile|crop|view|axial|coronal|sagittal|"
    r"ax|cor|sag|aug(?:mented)?|copy|[hv]?flip(?:ped)?|[hv]|mirror(?:ed)?|rot(?:ated)?|"
    r"noise|blur|bright(?:ness)?|contrast|elastic"
)
_OF_PART = re.compile(rf"[_\-. ](?:{_PART})[_\-. ]?\d*$|(?<=\d)(?:{_PART})\d+$", re.IGNORECASE)
"""`case00_slice03`, `P01-s5`, `vol2_z014`, `a_frame_12`, `x_flip`, `12s3`."""
_IN_FRONT = re.compile(
    r"^(?:(?:slice|frame)[_\-. ]?\d+|(?:aug|flip|rot)\d*|left|right|od|os)[_\-. ]+(?=.*\d)",
    re.IGNORECASE,
)
"""`slice_003_case_01`, `left_0012`."""
_OF_SIDE = re.compile(r"(?<=\d)[_\-. ]?(?:left|right|od|os|l|r)$", re.IGNORECASE)
"""`0012_left`: the two eyes of a person."""
_NUMBER = re.compile(r"(?<=\d)[_\-. ]\d+$")
"""`P01_005`: a number behind a name that holds one itself."""
FEW, MOST = 3, 10
"""So many domains, of at most so many images each, may be patients."""


def volume_of(name: str) -> str:
    """Return what a name is a slice, a frame, a side or a copy of, as far as names tell.

    Return the name itself where they tell nothing.
    """
    rest = name
    for pattern in (_IN_FRONT, _OF_PART, _OF_PART, _OF_SIDE):
        rest = pattern.sub("", rest) or rest
    return rest if rest != name else _NUMBER.sub("", rest)


def unknown_patients(cases: Sequence[Case], fraction: float) -> list[str]:
    """Return notes on images whose patient is not known, where some are to be tested on.

    Args:
        cases: all of a data set.
        fraction: `data.test_fraction`, which is held out where no case has a split.
    """
    unknown = [case for case in cases if not case.patient]
    split = any(case.split for case in cases)
    if not any(case.labels for case in unknown) or not (split or fraction):
        return []
    volumes: dict[tuple[str | None, str], list[Case]] = defaultdict(list)
    for case in unknown:
        volumes[case.domain, volume_of(stem(case.image))].append(case)
    several = [same for same in volumes.values() if len(same) > 1]
    if not split:
        return [_drawn(len(unknown), volumes.values(), several)]
    both = [same for same in several if len({case.split == "test" for case in same}) > 1]
    if not both:
        return []
    names = ", ".join(stem(case.image) for case in (both[0][0], both[0][-1]))
    return [
        f"patients are not known, and names on both sides of the split look like one volume or "
        f"patient: {len(both)}, e.g. {names}; scores are too high if they are"
    ]


def _drawn(unknown: int, volumes: Iterable[list[Case]], several: Sequence[list[Case]]) -> str:
    note = (
        f"patients are not known: each image counts as one of its own ({unknown}), and test images "
        "are drawn from all"
    )
    cure = "a CSV with a column `patient` keeps images of one on one side of the split"
    if not several:
        return f"{note}; {cure}"
    count, most = len(list(volumes)), max(map(len, several))
    names = ", ".join(stem(case.image) for case in several[0][:2])
    return (
        f"{note}, though their names look like {count} volumes or patients of up to {most} images "
        f"({names}, ...): scores are too high if slices of one are on both sides; {cure}"
    )


def domains_like_patients(cases: Sequence[Case]) -> list[str]:
    """Return a note on domains that look like a folder per patient, as KiTS and BraTS come."""
    images: dict[str, int] = defaultdict(int)
    for case in cases:
        images[case.domain or ""] += 1
    if len(images) < FEW or max(images.values()) > MOST:
        return []
    alone = max(images.values()) == 1
    numbered = len({re.sub(r"\d+", "0", domain) for domain in images}) == 1
    if not numbered and (not alone or len(images) == FEW):
        return []
    first = next(iter(images))
    each = "one image" if alone else f"at most {max(images.values())} images"
    return [
        f"the domains hold {each} each ({len(images)}, e.g. {first}): are these folders "
        "patients? Then rename them to patient1, patient2, ..., or list the images in a CSV with "
        "columns `patient` and `domain` (the scanner), so that test patients are held out and "
        "means are over scanners"
    ]
