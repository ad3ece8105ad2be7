"""Who trains and who tests: the paper's rule, or whole patients at random from a seed."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

import numpy as np

from synfoc.images.case import Side
from synfoc.images.imports.exams import Exam
from synfoc.images.paper_sets import BUSI, PaperSet, busi_training

Rule = Literal["paper", "patient"]

TEST_SHARE = 0.2


def sides(exams: Sequence[Exam], known: PaperSet, rule: Rule, seed: int) -> list[Side]:
    """Return the side of each exam; those of one patient share it.

    `paper`: what the source says (fundus), else the first four fifths of the sorted list of each
    domain train: of images (BUSI, as in the authors' code), or of patients. The latter is read
    from the names and counts of the published slices; docs/data.md tells how.
    `patient`: a fifth of the labeled patients of each domain, at least one, tests.

    Args:
        exams: of all domains.
        known: the set.
        rule: see above.
        seed: of `patient`.
    """
    if rule == "paper" and all(exam.side for exam in exams):
        return [exam.side or "train" for exam in exams]
    members: dict[str, set[str]] = defaultdict(set)
    for exam in exams:
        if exam.labeled:
            members[exam.domain].add(_patient(exam))
    testing: set[tuple[str, str]] = set()
    for domain, patients in members.items():
        ordered = sorted(patients)
        if rule == "paper":
            held = ordered[_training(len(ordered), known) :]
        else:
            # A number of its own for each domain: another domain more does not change this one.
            generator = np.random.default_rng((seed, zlib.crc32(domain.encode())))
            shuffled = [ordered[i] for i in generator.permutation(len(ordered))]
            number = max(1, round(TEST_SHARE * len(ordered))) if len(ordered) > 1 else 0
            held = shuffled[:number]
        testing |= {(domain, patient) for patient in held}
    return ["test" if (exam.domain, _patient(exam)) in testing else "train" for exam in exams]


def _training(count: int, known: PaperSet) -> int:
    return busi_training(count) if known == BUSI else round((1 - TEST_SHARE) * count)


def _patient(exam: Exam) -> str:
    return exam.patient or exam.name
