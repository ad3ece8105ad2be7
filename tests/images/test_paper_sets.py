"""The paper's four data sets: numbers of its tables, and the codes of the published files."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synfoc.config import Data
from synfoc.errors import UserError
from synfoc.images.cases import Case, load_cases, load_image, load_label, published_codes
from synfoc.images.paper_sets import BUSI, FUNDUS, MNMS, PAPER_SETS, PROSTATE, Decode, paper_set


@pytest.fixture(scope="session")
def published(shared_data: Path) -> Path:
    """Sample files of the paper's repository, byte for byte."""
    return shared_data / "paper_layout"


def test_the_numbers_of_the_paper() -> None:
    assert [known.name for known in PAPER_SETS] == ["prostate", "fundus", "mnms", "busi"]
    assert [sum(known.training) for known in PAPER_SETS] == [1510, 789, 3447, 518]
    assert [known.side for known in PAPER_SETS] == [384, 256, 288, 256]
    assert [known.channels for known in PAPER_SETS] == [1, 3, 1, 1]
    assert [known.steps for known in PAPER_SETS] == [60_000, 30_000, 60_000, 30_000]
    assert all(len(known.domains) == len(known.training) for known in PAPER_SETS)
    assert paper_set("busi") is BUSI


def test_fundus_codes_by_hand() -> None:
    """0 cup, up to 128 rim, above background: as the authors compare."""
    codes = np.array([[[0, 1, 128, 129, 255]]], np.uint8)
    assert FUNDUS.decode(codes).tolist() == [[[1, 2, 2, 0, 0]]]


def test_prostate_is_dark_and_a_lesion_is_bright() -> None:
    codes = np.array([[[0, 1, 255]]], np.uint8)
    assert PROSTATE.decode(codes).tolist() == [[[1, 0, 0]]]
    assert BUSI.decode(codes).tolist() == [[[0, 1, 1]]]


def test_each_mnms_channel_is_a_class() -> None:
    red, green, blue, black = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)
    codes = np.array([[[red, green, blue, black]]], np.uint8)
    assert MNMS.decode(codes).tolist() == [[[1, 2, 3, 0]]]
    assert not MNMS.decode(np.zeros((1, 2, 2), np.uint8)).any()
    with pytest.raises(UserError, match="gray"):
        MNMS.decode(np.full((1, 2, 2), 255, np.uint8))


def test_a_remap_replaces_all_codes_at_once() -> None:
    """Swapping 1 and 2 must not fold them together."""
    codes = np.array([[[0, 1, 2, 3]]], np.uint8)
    assert Decode(((1, 2), (2, 1)))(codes).tolist() == [[[0, 2, 1, 3]]]


@pytest.mark.parametrize(
    ("folder", "name", "labeled", "bare"),
    [
        ("Fundus", "fundus", 8, 0),
        # The image 00_01 of I2CVB/train lies beside the mask of 00_00.
        ("ProstateSlice", "prostate", 11, 1),
        ("mnms", "mnms", 24, 0),
        ("Dataset_BUSI_with_GT", "busi", 11, 0),
    ],
)
def test_published_layouts_are_recognized(
    published: Path, folder: str, name: str, labeled: int, bare: int
) -> None:
    table = load_cases(Data(path=published / folder))
    assert table.paper == paper_set(name)
    assert table.domains == paper_set(name).domains
    assert table.classes == paper_set(name).classes
    assert Counter(bool(case.labels) for case in table.cases) == Counter(
        {True: labeled} | ({False: bare} if bare else {})
    )
    for case in table.cases:
        if case.labels:
            image = load_image(case)
            label = load_label(case, table, like=image).pixels
            # Codes read the wrong way round would make most of the picture foreground.
            assert 0 < (label > 0).mean() < 0.5
            assert set(np.unique(label)) == set(range(len(paper_set(name).classes) + 1))


@pytest.mark.parametrize(
    ("name", "folder", "files"),
    [
        ("prostate", "BIDMC", {"train/00_01": "train 00", "train/00_02": "train 00"}),
        ("prostate", "BIDMC", {"train/00_01": "train 00", "test/00_01": "test 00"}),
        ("mnms", "vendorA", {"train/000003": "000", "train/000004": "000", "test/076001": "076"}),
        ("mnms", "vendorA", {"train/slice1": None}),
    ],
)
def test_published_names_hold_the_patient(
    tmp_path: Path, name: str, folder: str, files: dict[str, str | None]
) -> None:
    """Slices of one patient are one sample of an interval, and stay on one side of a split."""
    for file in files:
        split, stem = file.split("/")
        for what, mode in (("image", "L"), ("mask", "RGB" if name == "mnms" else "L")):
            path = tmp_path / folder / split / what / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new(mode, (4, 4)).save(path)
    table = load_cases(Data(path=tmp_path, set=name))
    found = {f"{case.split}/{case.image.stem}": case.patient for case in table.cases}
    assert found == files


def test_two_folders_of_one_domain_are_refused(published: Path, tmp_path: Path) -> None:
    """HCRUDB is the paper's name of I2CVB."""
    shutil.copytree(published / "ProstateSlice", tmp_path / "set")
    shutil.copytree(tmp_path / "set/I2CVB", tmp_path / "set/HCRUDB")
    for name in (None, "prostate"):
        with pytest.raises(UserError, match="two folders of the domain I2CVB") as caught:
            load_cases(Data(path=tmp_path / "set", set=name))
        assert caught.value.found == f"{tmp_path / 'set/HCRUDB'} and {tmp_path / 'set/I2CVB'}"


def test_the_oddity_of_i2cvb_is_a_notice(published: Path) -> None:
    table = load_cases(Data(path=published / "ProstateSlice"))
    (notice,) = [notice for notice in table.notices if "without an image" in notice]
    assert "00_00.png" in notice
    assert next(c for c in table.cases if c.id == "I2CVB/train/00_01").labels == ()


def test_the_second_lesion_of_benign_4_is_merged(published: Path) -> None:
    """benign (4) has two label files; the merged label is their union."""
    table = load_cases(Data(path=published / "Dataset_BUSI_with_GT"))
    case = next(c for c in table.cases if c.id.endswith("benign (4)"))
    assert [path.name for path in case.labels] == ["benign (4)_mask.png", "benign (4)_mask_1.png"]
    each = [
        load_label(type(case)(case.id, case.image, (path,)), table).pixels for path in case.labels
    ]
    merged = load_label(case, table).pixels
    assert merged.sum() == (each[0] | each[1]).sum() > each[0].sum()


def test_a_csv_of_published_files_names_the_remap_of_their_codes(
    published: Path, tmp_path: Path
) -> None:
    """A CSV holds class indices; what closes the gap best, 255 as 1, would invert the prostate."""
    source = published / "ProstateSlice"
    for path in (source / "RUNMC/train/image").glob("*.png"):
        rows = f"image,label\n{path},{path.parent.parent / 'mask' / path.name}\n"
    (tmp_path / "cases.csv").write_text(rows)
    table = load_cases(Data(path=tmp_path, set="prostate"))
    with pytest.raises(UserError, match="does not fit the classes") as caught:
        load_label(table.cases[0], table)
    assert caught.value.fix.endswith("add --set 'data.remap={0: 1, 255: 0}'")
    remapped = load_cases(Data(path=tmp_path, set="prostate", remap={0: 1, 255: 0}))
    assert 0 < (load_label(table.cases[0], remapped).pixels > 0).mean() < 0.5


@pytest.mark.parametrize(
    ("border", "middle", "published"),
    [(255, 0, True), (0, 255, False), (0, 0, False), (0, 1, False)],
    ids=["published", "white on black", "nothing drawn", "class indices"],
)
def test_only_codes_that_leave_the_border_bright_are_the_published_ones(
    tmp_path: Path, border: int, middle: int, published: bool
) -> None:
    """There 0 is the prostate: read so, a mask of another making would be the organ all over."""
    codes = np.full((4, 4), border, np.uint8)
    codes[1:3, 1:3] = middle
    Image.fromarray(codes).save(tmp_path / "m.png")
    case = Case("x", tmp_path / "x.png", (tmp_path / "m.png",))
    assert published_codes([case], PROSTATE) is published
