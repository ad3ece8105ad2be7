"""Questions that names raise: slices of one volume, folders of patients, classes of one side."""

from __future__ import annotations

from pathlib import Path

import pytest

from synfoc.images.case import Case, Side
from synfoc.images.patients import domains_like_patients, unknown_patients, volume_of


@pytest.mark.parametrize(
    ("name", "volume"),
    [
        ("case00_slice03", "case00"),
        ("P01_s05", "P01"),
        ("P01-z5", "P01"),
        ("volume-3_slice_12", "volume-3"),
        ("ACDC_patient001_frame01_slice_1", "ACDC_patient001"),
        ("case_0001_0005", "case_0001"),
        ("video1_frame_000120", "video1"),
        ("0012_left", "0012"),
        ("0012_OD", "0012"),
        ("17_aug2", "17"),
        ("17_flip", "17"),
        ("smith_slice_2", "smith"),
        ("left_0012", "0012"),
        ("slice_003_case_01", "case_01"),
        ("case1_sag_12", "case1"),
        ("17-hflip", "17"),
        ("17_flip_h", "17"),
        ("17_rot90_blur", "17"),
        ("slice_003", "slice_003"),
        ("frame_000120", "frame_000120"),
        # One running number is no volume.
        ("img_0001", "img_0001"),
        ("0001", "0001"),
        ("benign (12)", "benign (12)"),
        ("scan", "scan"),
    ],
)
def test_a_name_tells_what_it_is_a_part_of(name: str, volume: str) -> None:
    assert volume_of(name) == volume


def cases(*names: str, domain: str | None = None, split: Side | None = None) -> list[Case]:
    label = (Path("label.png"),)
    return [Case(name, Path(f"{name}.png"), label, domain=domain, split=split) for name in names]


SLICES = cases(*(f"case{v}_slice{s}" for v in range(3) for s in range(6)))


def test_slices_of_a_volume_are_told_where_a_test_set_is_drawn() -> None:
    (note,) = unknown_patients(SLICES, 0.2)
    assert "look like 3 volumes or patients of up to 6 images" in note
    assert "a column `patient`" in note
    assert unknown_patients(SLICES, 0) == []


def test_images_of_unknown_patients_are_told_without_a_pattern_too() -> None:
    (note,) = unknown_patients(cases("img_1", "img_2"), 0.2)
    assert "each image counts as one of its own (2)" in note
    assert "look like" not in note
    known = [Case("a", Path("a.png"), (Path("label.png"),), patient="p1")]
    bare = [Case("a", Path("a.png"))]
    assert unknown_patients(known, 0.2) == unknown_patients(bare, 0.2) == []


def test_a_given_split_is_told_only_if_names_are_on_both_sides() -> None:
    train = cases("case0_slice1", "case1_slice1", split="train")
    assert unknown_patients(train + cases("case2_slice1", split="test"), 0.2) == []
    (note,) = unknown_patients(train + cases("case0_slice2", split="test"), 0.2)
    assert note.endswith("1, e.g. case0_slice1, case0_slice2; scores are too high if they are")


def of_domains(counts: dict[str, int]) -> list[Case]:
    return [c for domain, n in counts.items() for c in cases(*map(str, range(n)), domain=domain)]


@pytest.mark.parametrize(
    ("counts", "asked"),
    [
        ({f"case_{k:05d}": 1 for k in range(4)}, True),
        ({"s0011": 1, "s0012": 1, "s0058": 1}, True),
        ({f"BraTS20_Training_{k:03d}": 4 for k in range(1, 9)}, True),
        ({"anna": 1, "ben": 1, "carl": 1, "dora": 1}, True),
        ({"GE": 1, "Siemens": 1, "Philips": 1}, False),
        ({"site1": 40, "site2": 30, "site3": 20}, False),
        ({"GE": 4, "Siemens": 4, "Philips": 4}, False),
        ({"a": 1, "b": 1}, False),
    ],
)
def test_folders_of_patients_are_asked_about(counts: dict[str, int], asked: bool) -> None:
    notes = domains_like_patients(of_domains(counts))
    assert bool(notes) == asked
    assert all("are these folders patients?" in note for note in notes)
