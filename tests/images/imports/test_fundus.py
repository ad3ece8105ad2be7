"""Four cameras: regions are copied, full-field pictures cropped, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synfoc.config import Data
from synfoc.errors import UserError
from synfoc.images.cases import load_cases, load_image, load_label
from synfoc.images.imports.dataset import import_data
from synfoc.images.imports.fundus import region


def test_regions_keep_their_bytes_and_their_split(fundus: Path, tmp_path: Path) -> None:
    made = import_data("fundus", fundus, tmp_path / "new")
    assert [made.count("train", domain) for domain in made.known.domains] == [2] * 4
    assert [made.count("test", domain) for domain in made.known.domains] == [1] * 4
    table = load_cases(Data(path=tmp_path / "new", classes=("cup", "disc"), nested=True))
    assert [case.id for case in table.cases[:3]] == [
        "Domain1/train/gdrishtiGS_002",
        "Domain1/train/ndrishtiGS_004",
        "Domain1/test/gdrishtiGS_001",
    ]
    old = fundus / "Domain1/train/ROIs/image/gdrishtiGS_002.png"
    assert table.cases[0].image.read_bytes() == old.read_bytes()
    assert {case.patient for case in table.cases} == {None}


def test_codes_become_cup_and_rim(fundus: Path, tmp_path: Path) -> None:
    """A rim of 5 x 5 with a cup of 3 x 3: 9 pixels of class 1, 16 of class 2."""
    import_data("fundus", fundus, tmp_path / "new")
    table = load_cases(Data(path=tmp_path / "new", classes=("cup", "disc"), nested=True))
    label = load_label(table.cases[0], table).pixels[0]
    assert np.bincount(label.ravel()).tolist() == [144 - 25, 9, 16]
    assert label[5].tolist() == [0, 0, 0, 0, 2, 1, 1, 1, 2, 0, 0, 0]


@pytest.mark.parametrize("inner", [".", "image"])
def test_full_field_pictures_are_cropped_around_the_disc(
    fundus: Path, tmp_path: Path, inner: str
) -> None:
    """1000 x 900, disc in row 500, column 80: rows 100 to 900, columns 0 to 800."""
    half = fundus / "Domain4/test"
    shutil.rmtree(half)
    pixels = np.zeros((1000, 900, 3), np.uint8)
    pixels[500, 80], pixels[100, 0], pixels[99, 0] = 200, 50, 60
    codes = np.full((1000, 900), 255, np.uint8)
    codes[490:511, 70:91], codes[500, 80] = 128, 0
    for folder, array, name in (("image", pixels, "V0002.bmp"), ("mask", codes, "V0002.png")):
        (half / inner / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(half / inner / folder / name)
    import_data("fundus", fundus, tmp_path / "new")
    table = load_cases(Data(path=tmp_path / "new", classes=("cup", "disc"), nested=True))
    case = table.cases[-1]
    assert case.image.name == "V0002.png"
    image, label = load_image(case).pixels[0], load_label(case, table).pixels[0]
    assert image.shape == (800, 800, 3)
    assert (image[400, 80, 0], image[0, 0, 0], image.max()) == (200, 50, 200)
    assert (label[400, 80], label[400, 70], label[400, 69]) == (1, 2, 0)


def test_the_region_stays_inside_and_shrinks_to_a_small_side() -> None:
    """Disc in rows 0 and 1, columns 1198 and 1199 of 700 x 1200: all rows, the last 700 columns."""
    classes = np.zeros((700, 1200), np.uint8)
    classes[:2, 1198:] = 1
    assert region(classes, Path("x.png")) == (slice(0, 700), slice(500, 1200))


def test_by_patient_the_folders_do_not_count(fundus: Path, tmp_path: Path) -> None:
    """Over a few seeds a picture of a folder `train` tests."""
    tested = set()
    for seed in range(4):
        out = tmp_path / str(seed)
        made = import_data("fundus", fundus, out, split="patient", seed=seed)
        assert [made.count("test", domain) for domain in made.known.domains] == [1] * 4
        assert any("each counts as a patient of its own" in notice for notice in made.notices)
        tested |= {Path(row.image).stem for row in made.rows if row.split == "test"}
    assert tested & {"gdrishtiGS_002", "N-5-L", "g0003", "V0001"}


def test_resampled_masks_are_taken_as_the_authors_do(fundus: Path, tmp_path: Path) -> None:
    """0 cup, up to 128 rim, above background; told once."""
    path = fundus / "Domain1/train/ROIs/mask/gdrishtiGS_002.png"
    codes = np.full((12, 12), 255, np.uint8)
    codes[4, 3:9] = (200, 129, 128, 1, 0, 60)
    Image.fromarray(codes).save(path)
    made = import_data("fundus", fundus, tmp_path / "new")
    assert "masks with other codes than 0, 128, 255, taken as the authors do: 1" in made.notices
    table = load_cases(Data(path=tmp_path / "new", classes=("cup", "disc"), nested=True))
    assert load_label(table.cases[0], table).pixels[0, 4, 3:9].tolist() == [0, 0, 2, 2, 1, 2]


def test_regions_go_before_full_field_pictures(fundus: Path, tmp_path: Path) -> None:
    half = fundus / "Domain4/train"
    for folder in ("image", "mask"):
        (half / folder).mkdir()
        (half / folder / "V0009.png").write_bytes(b"never read")
    assert import_data("fundus", fundus, tmp_path / "new").count("train", "Domain4") == 2


def test_names_of_the_data_sets_are_understood(fundus: Path, tmp_path: Path) -> None:
    (fundus / "Domain1").rename(fundus / "Drishti-GS")
    (fundus / "Domain2").rename(fundus / "RIM-ONE_r3")
    made = import_data("fundus", fundus, tmp_path / "new")
    assert made.count("train", "Domain1") == made.count("train", "Domain2") == 2


@pytest.mark.parametrize("split", ["paper", "patient"])
def test_one_name_on_both_sides_is_two_pictures(fundus: Path, tmp_path: Path, split: str) -> None:
    """All three pictures of Domain1 are kept, whichever of them test."""
    for kind in ("image", "mask"):
        test = fundus / f"Domain1/test/ROIs/{kind}/gdrishtiGS_001.png"
        test.rename(test.with_name("gdrishtiGS_002.png"))
    other = fundus / "Domain1/test/ROIs/image/gdrishtiGS_002.png"
    Image.fromarray(np.full((12, 12, 3), (9, 8, 7), np.uint8)).save(other)
    made = import_data("fundus", fundus, tmp_path / "new", split=split)  # type: ignore[arg-type]
    files = [made.out / row.image for row in made.rows if row.domain == "Domain1"]
    assert sorted(file.stem for file in files) == [
        "ndrishtiGS_004", "test_gdrishtiGS_002", "train_gdrishtiGS_002",
    ]  # fmt: skip
    (copy,) = [file for file in files if file.stem.startswith("test_")]
    assert copy.read_bytes() == other.read_bytes()


def test_two_folders_of_one_domain_are_refused(fundus: Path, tmp_path: Path) -> None:
    (fundus / "Domain2").rename(fundus / "Drishti-GS")
    with pytest.raises(UserError, match="two folders of the domain Domain1") as caught:
        import_data("fundus", fundus, tmp_path / "new")
    assert caught.value.found == f"{fundus / 'Domain1'} and {fundus / 'Drishti-GS'}"


def test_a_missing_domain_is_refused_and_by_patient_told(fundus: Path, tmp_path: Path) -> None:
    shutil.rmtree(fundus / "Domain3")
    with pytest.raises(UserError, match="needs all of its domains") as caught:
        import_data("fundus", fundus, tmp_path / "new")
    assert caught.value.found == (
        f"no labeled original of Domain3; folders in {fundus}: Domain1, Domain2, Domain4"
    )
    assert [path.name for path in tmp_path.iterdir()] == [fundus.name]
    made = import_data("fundus", fundus, tmp_path / "new", split="patient")
    assert any("Domain3 0 (400)" in notice for notice in made.notices)


def test_half_a_domain_is_not_the_papers(fundus: Path, tmp_path: Path) -> None:
    shutil.rmtree(fundus / "Domain3/test")
    with pytest.raises(UserError, match="needs all of its domains") as caught:
        import_data("fundus", fundus, tmp_path / "new")
    assert str(caught.value.found).startswith("no labeled original of Domain3/test; ")


def test_missing_files_are_refused(fundus: Path, tmp_path: Path) -> None:
    (fundus / "Domain2/test/ROIs/mask/G-2-R.png").unlink()
    (fundus / "Domain3/train/ROIs/image/n0002.png").unlink()
    with pytest.raises(UserError, match="files of the fundus set are missing") as caught:
        import_data("fundus", fundus, tmp_path / "new")
    assert caught.value.found == (
        "Domain2/test: no mask of G-2-R; Domain3/train: no image of n0002"
    )


@pytest.mark.parametrize(
    ("codes", "what", "found"),
    [
        (np.zeros((9, 12), np.uint8), "another size than its image", "9 x 12; V0001.png has 12"),
        (np.full((12, 12), 7, np.uint8), "codes that the original does not have", "values 7"),
        (np.full((12, 12, 3), (255, 0, 0), np.uint8), "is in colors", "channels that differ"),
    ],
)
def test_masks_that_cannot_be_used(
    fundus: Path, tmp_path: Path, codes: np.ndarray, what: str, found: str
) -> None:
    Image.fromarray(codes).save(fundus / "Domain4/train/ROIs/mask/V0001.png")
    with pytest.raises(UserError, match=what) as caught:
        import_data("fundus", fundus, tmp_path / "new")
    assert found in caught.value.found
    assert sorted(path.name for path in tmp_path.iterdir()) == [fundus.name]


def test_a_large_picture_of_floats_is_refused(fundus: Path, tmp_path: Path) -> None:
    """Nobody says which of its numbers is white."""
    half = fundus / "Domain4/test/ROIs"
    codes = np.full((900, 900), 255, np.uint8)
    codes[490:511, 70:91] = 128
    Image.fromarray(codes).save(half / "mask/V0002.png")
    (half / "image/V0002.png").unlink()
    Image.fromarray(codes.astype(np.float32)).save(half / "image/V0002.tif")
    with pytest.raises(UserError, match="cannot be cropped") as caught:
        import_data("fundus", fundus, tmp_path / "new")
    assert caught.value.found == "values of type float32"


def test_a_picture_that_cannot_be_cropped() -> None:
    for side, found in ((0, "no disc"), (801, "a disc of 801 x 801 pixels")):
        classes = np.zeros((900, 900), np.uint8)
        classes[:side, :side] = 1
        with pytest.raises(UserError, match="cannot be cropped") as caught:
            region(classes, Path("x.png"))
        assert caught.value.found == found


def test_a_domain_without_train_and_test(fundus: Path, tmp_path: Path) -> None:
    for half in ("train", "test"):
        (fundus / "Domain1" / half).rename(fundus / "Domain1" / f"{half} set")
    with pytest.raises(UserError, match="is not the fundus set") as caught:
        import_data("fundus", fundus, tmp_path / "new")
    assert caught.value.found == "test set, test_file_list.txt, train set"


def test_the_published_samples(shared_data: Path, tmp_path: Path) -> None:
    """One pair per side and domain; the labels are those that the published layout gives."""
    source = shared_data / "paper_layout" / "Fundus"
    made = import_data("fundus", source, tmp_path / "new")
    assert (made.count("train"), made.count("test")) == (4, 4)
    published = load_cases(Data(path=source, set="fundus"))
    table = load_cases(Data(path=tmp_path / "new", classes=("cup", "disc"), nested=True))
    assert [case.id for case in table.cases] == [case.id for case in published.cases]
    for ours, theirs in zip(table.cases, published.cases, strict=True):
        assert np.array_equal(load_image(ours).pixels, load_image(theirs).pixels)
        assert np.array_equal(load_label(ours, table).pixels, load_label(theirs, published).pixels)
