"""Ultrasound pictures with one or several masks, and what is refused."""

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


def test_the_last_fifth_of_the_sorted_list_tests(busi: Path, tmp_path: Path) -> None:
    """Sorted as text 11 benign pictures end with 8, 9; 6 malignant ones with 6."""
    made = import_data("busi", busi, tmp_path / "new")
    assert (made.count("train"), made.count("test")) == (14, 3)
    table = load_cases(Data(path=tmp_path / "new", classes=("lesion",)))
    assert [case.id for case in table.cases if case.split == "test"] == [
        "benign/test/benign (8)",
        "benign/test/benign (9)",
        "malignant/test/malignant (6)",
    ]
    assert [case.image.stem for case in table.cases[:3]] == [
        "benign (1)",
        "benign (10)",
        "benign (11)",
    ]
    assert table.domains == ("benign", "malignant")


def test_lesions_are_merged(busi: Path, tmp_path: Path) -> None:
    """4 pixels of the first lesion and 1 of the second."""
    import_data("busi", busi.parent, tmp_path / "new")
    table = load_cases(Data(path=tmp_path / "new", classes=("lesion",)))
    case = next(case for case in table.cases if case.image.stem == "benign (4)")
    label = load_label(case, table).pixels[0]
    assert label.sum() == 5
    assert label[4, 6] == label[1, 1] == 1
    old = (busi / "benign" / "benign (4).png").read_bytes()
    assert case.image.read_bytes() == old


def test_resampled_masks_are_taken_as_the_authors_do(busi: Path, tmp_path: Path) -> None:
    codes = np.zeros((6, 8), np.uint8)
    codes[2, 2:5] = (1, 90, 255)
    Image.fromarray(codes).save(busi / "benign/benign (1)_mask.png")
    made = import_data("busi", busi, tmp_path / "new")
    assert "masks with other codes than 0, 1, 255, taken as the authors do: 1" in made.notices
    table = load_cases(Data(path=tmp_path / "new", classes=("lesion",)))
    assert load_label(table.cases[0], table).pixels.sum() == 3


def test_by_patient_each_picture_is_one(busi: Path, tmp_path: Path) -> None:
    """round(11 / 5) and round(6 / 5)."""
    made = import_data("busi", busi, tmp_path / "new", split="patient", seed=2)
    assert [made.count("test", domain) for domain in made.known.domains] == [2, 1]
    assert any("one person may be on both sides" in notice for notice in made.notices)


def test_numbers_that_are_not_the_papers_are_told(busi: Path, tmp_path: Path) -> None:
    made = import_data("busi", busi, tmp_path / "new")
    assert any("labeled images" in n and "benign 11 (437)" in n for n in made.notices)
    assert any("benign 9 (350), malignant 5 (168)" in n for n in made.notices)


def test_a_missing_class_is_refused_and_by_patient_told(busi: Path, tmp_path: Path) -> None:
    """Found one folder further down, beside the one that is not used."""
    shutil.rmtree(busi / "malignant")
    with pytest.raises(UserError, match="split of the busi set needs all") as caught:
        import_data("busi", busi.parent, tmp_path / "new")
    assert caught.value.found == (
        f"no labeled original of malignant; folders in {busi}: benign, normal"
    )
    made = import_data("busi", busi.parent, tmp_path / "new", split="patient")
    assert any("malignant 0 (210)" in notice for notice in made.notices)


def test_missing_files_are_refused(busi: Path, tmp_path: Path) -> None:
    (busi / "benign/benign (2)_mask.png").unlink()
    (busi / "malignant/malignant (3).png").unlink()
    with pytest.raises(UserError, match="files of the busi set are missing") as caught:
        import_data("busi", busi, tmp_path / "new")
    assert caught.value.found == (
        "benign: no mask of benign (2); malignant: no image of malignant (3)"
    )


@pytest.mark.parametrize(
    ("codes", "what", "found"),
    [
        (np.zeros((6, 9), np.uint8), "another size than its image", "6 x 9; benign (3).png has 6"),
        (np.full((6, 8), 90, np.uint8), "codes that the original does not have", "values 90"),
        (np.full((6, 8, 3), (0, 255, 0), np.uint8), "is in colors", "channels that differ"),
    ],
)
def test_masks_that_cannot_be_used(
    busi: Path, tmp_path: Path, codes: np.ndarray, what: str, found: str
) -> None:
    Image.fromarray(codes).save(busi / "benign/benign (3)_mask.png")
    with pytest.raises(UserError, match=what) as caught:
        import_data("busi", busi, tmp_path / "new")
    assert found in caught.value.found
    assert [path.name for path in tmp_path.iterdir()] == [busi.parent.name]


def test_another_folder(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    with pytest.raises(UserError, match="is not the busi set") as caught:
        import_data("busi", tmp_path, tmp_path / "new")
    assert caught.value.found == "holiday"
    with pytest.raises(UserError, match="no folder"):
        import_data("busi", tmp_path / "nowhere", tmp_path / "new")


def test_the_published_samples(shared_data: Path, tmp_path: Path) -> None:
    """5 benign and 6 malignant pictures; ids, sides and labels as the published layout gives."""
    source = shared_data / "paper_layout" / "Dataset_BUSI_with_GT"
    made = import_data("busi", source, tmp_path / "new")
    assert (made.count("train"), made.count("test")) == (9, 2)
    published = load_cases(Data(path=source, set="busi"))
    table = load_cases(Data(path=tmp_path / "new", classes=("lesion",)))
    assert [case.id for case in table.cases] == [case.id for case in published.cases]
    for ours, theirs in zip(table.cases, published.cases, strict=True):
        assert np.array_equal(load_image(ours).pixels, load_image(theirs).pixels)
        assert np.array_equal(load_label(ours, table).pixels, load_label(theirs, published).pixels)
