"""A bad file is left out before training, and told; a labeled image must be whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synfoc.batches.readable import without_unreadable
from synfoc.batches.split import Split
from synfoc.errors import UserError
from synfoc.images.cases import Case


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """Two labeled, three unlabeled and two test images, all whole."""
    cases = []
    for number in range(7):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(path)
        cases.append(Case(str(number), path))
    return Split(tuple(cases[:2]), tuple(cases[2:5]), tuple(cases[5:]), monitor=(cases[3],))


def cut(case: Case) -> None:
    case.image.write_bytes(case.image.read_bytes()[:40])


def test_whole_files_leave_the_split_as_it_is(split: Split) -> None:
    seen: list[tuple[int, int]] = []
    assert without_unreadable(split, None, lambda *done: seen.append(done)) == (split, [])
    assert seen == [(k, 7) for k in range(1, 8)]


def test_a_bad_file_is_left_out_of_every_role_and_named(split: Split) -> None:
    cut(split.unlabeled[1])
    cut(split.test[0])
    left, notices = without_unreadable(split, None)
    others = split.unlabeled[0], split.unlabeled[2]
    assert left == replace(split, unlabeled=others, test=split.test[1:], monitor=())
    assert len(notices) == 1
    assert notices[0].startswith("2 of 7 images are left out, since they cannot be read")
    assert "3.png" in notices[0] and "5.png" in notices[0]


def test_a_labeled_image_must_be_whole(split: Split) -> None:
    cut(split.labeled[1])
    with pytest.raises(UserError, match=r"cannot read image .*1\.png"):
        without_unreadable(split, None)


@pytest.mark.parametrize("role", ["unlabeled", "test"])
def test_a_role_of_which_nothing_is_left_is_refused(split: Split, role: str) -> None:
    """Else a run of ten unlabeled images in an unknown format would be a supervised one."""
    for case in getattr(split, role):
        cut(case)
    with pytest.raises(UserError, match="cannot read image"):
        without_unreadable(split, None)
