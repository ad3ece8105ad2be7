"""Cine volumes of four vendors: two phases of each patient, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from synfoc.config import Data
from synfoc.errors import UserError
from synfoc.images.cases import load_cases, load_image, load_label
from synfoc.images.imports.dataset import import_data

CLASSES = ("lv", "myo", "rv")
CSV = "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv"


def test_the_papers_split_is_in_slices_that_show_all_classes(mnms: Path, tmp_path: Path) -> None:
    """2, 2, 1, 1 labeled patients; round(4/5 of them) train: all of 1 and, as of 2, round(1.6)."""
    made = import_data("mnms", mnms, tmp_path / "new")
    assert [made.count("train", domain) for domain in made.known.domains] == [4, 4, 2, 2]
    assert made.count("test") == 0
    table = load_cases(Data(path=tmp_path / "new", classes=CLASSES))
    assert [case.id for case in table.cases[:3]] == [
        "vendorA/train/A0S9V9_ED_s002",
        "vendorA/train/A0S9V9_ES_s002",
        "vendorA/train/A1D0Q7_ED_s002",
    ]
    assert (table.cases[0].patient, table.cases[0].domain) == ("A0S9V9", "vendorA")
    assert table.cases[0].spacing == (0.0, 0.625, 0.5)
    label = load_label(table.cases[0], table).pixels[0]
    assert label.shape == (6, 7)
    assert label[2].tolist() == [0, 1, 2, 3, 0, 0, 0]
    assert not np.delete(label, 2, axis=0).any()


def test_patients_without_labels(mnms: Path, tmp_path: Path) -> None:
    """The paper leaves them out; by patient they train without a label."""
    made = import_data("mnms", mnms, tmp_path / "paper")
    assert "patients without labels, left out as in the paper: 1" in made.notices
    import_data("mnms", mnms, tmp_path / "patient", split="patient")
    cases = load_cases(Data(path=tmp_path / "patient")).cases
    bare = [(case.patient, case.split, case.image.name) for case in cases if not case.labels]
    assert bare == [
        ("C4E9I1", "train", "C4E9I1_ED.nii.gz"),
        ("C4E9I1", "train", "C4E9I1_ES.nii.gz"),
    ]


def test_by_patient_both_phases_are_on_one_side(mnms: Path, tmp_path: Path) -> None:
    made = import_data("mnms", mnms, tmp_path / "new", split="patient", seed=5)
    assert [made.count("test", domain) for domain in made.known.domains] == [2, 2, 0, 0]
    table = load_cases(Data(path=tmp_path / "new", classes=CLASSES))
    by_patient: dict[str | None, set[str | None]] = {}
    for case in table.cases:
        by_patient.setdefault(case.patient, set()).add(case.split)
    assert len(by_patient) == 7
    assert all(len(both) == 1 for both in by_patient.values())


def test_the_frames_are_those_of_the_csv(mnms: Path, tmp_path: Path) -> None:
    """A1D0Q7: ED is frame 1, ES is frame 0."""
    import_data("mnms", mnms, tmp_path / "new", split="patient")
    table = load_cases(Data(path=tmp_path / "new", classes=CLASSES))
    cine = nib.load(mnms / "Training/Labeled/A1D0Q7/A1D0Q7_sa.nii.gz")
    for phase, frame in (("ED", 1), ("ES", 0)):
        case = next(c for c in table.cases if c.image.name == f"A1D0Q7_{phase}.nii.gz")
        new = nib.load(case.image)
        assert new.shape == (7, 6, 3)
        assert np.array_equal(new.dataobj, np.asarray(cine.dataobj)[..., frame])
        assert np.array_equal(new.affine, cine.affine)
        assert load_image(case).spacing == (3.0, 0.625, 0.5)
        counts = np.bincount(load_label(case, table).pixels.ravel())
        assert counts.tolist() == [7 * 6 * 3 - 5, 2, 2, 1]


def test_the_older_csv_and_flat_folders(mnms: Path, tmp_path: Path) -> None:
    """Semicolons, another order of columns, no letters; all files of a part in one folder."""
    lines = [line.split(",") for line in (mnms / CSV).read_text().splitlines()]
    rows = [";".join(("", row[0], row[4] or "0", row[5], row[1])) for row in lines]
    (mnms / CSV).unlink()
    (mnms / "201014_M&Ms_Dataset_Information_-_opendataset.csv").write_text("\n".join(rows))
    for path in sorted(mnms.rglob("B9H8N8_*")):
        path.rename(mnms / "Testing" / path.name)
    made = import_data("mnms", mnms, tmp_path / "new")
    assert [made.count("train", domain) for domain in made.known.domains] == [4, 4, 2, 2]


def test_numbers_are_of_patients(mnms: Path, tmp_path: Path) -> None:
    made = import_data("mnms", mnms, tmp_path / "new")
    assert any("labeled patients" in n and "vendorA 2 (95)" in n for n in made.notices)
    assert any("vendorA 4 (1030)" in n for n in made.notices)


def test_a_missing_vendor_is_refused_and_by_patient_told(mnms: Path, tmp_path: Path) -> None:
    """A vendor whose patients have no labels is missing, too: the paper leaves these out."""
    shutil.rmtree(mnms / "Testing/D3P9U9")
    shutil.rmtree(mnms / "Testing/C8J7L5")
    with pytest.raises(UserError, match="split of the mnms set needs all") as caught:
        import_data("mnms", mnms, tmp_path / "new")
    assert caught.value.found == (
        "no labeled original of vendorC, vendorD; labeled patients: vendorA 2, vendorB 2"
    )
    made = import_data("mnms", mnms, tmp_path / "new", split="patient")
    assert any("vendorC 0 (50), vendorD 0 (50)" in notice for notice in made.notices)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("Testing/B9H8N8/B9H8N8_sa_gt.nii.gz", "no B9H8N8_sa_gt.nii.gz"),
        ("Testing/B9H8N8/B9H8N8_sa.nii.gz", "no B9H8N8_sa.nii.gz"),
    ],
)
def test_missing_files_are_refused(mnms: Path, tmp_path: Path, path: str, found: str) -> None:
    (mnms / path).unlink()
    with pytest.raises(UserError, match="files of the mnms set are missing") as caught:
        import_data("mnms", mnms, tmp_path / "new")
    assert caught.value.found == found


@pytest.mark.parametrize(
    ("old", "new", "what", "found"),
    [
        ("B9H8N8", "B9H8N7", "files of the mnms set are missing", "no row B9H8N8 in the CSV"),
        ("Canon,D", "Cannon,", "the row of D3P9U9 in the CSV cannot be used", "vendor Cannon"),
        ("Canon,D,1,0,1", "Canon,D,1,,1", "the row of D3P9U9", "ED (empty)"),
        ("Canon,D,1,0,1", "Canon,D,1,nan,1", "the row of D3P9U9", "ED nan"),
        ("Canon,D,1,0,1", "Canon,D,1,0,inf", "the row of D3P9U9", "ES inf"),
        ("Canon,D,1,0,1", "Canon,D,1,0,7", "cannot read volume", "4 axes: 7 x 6 x 3 x 3"),
        ("Canon,D,1,0,1", "Canon,D,1,0,2", "no label in its frame ES", "an empty frame 2"),
        ("External code", "Code", "not the mnms set", "Testing, Training, Validation"),
    ],
)
def test_a_csv_that_does_not_fit(
    mnms: Path, tmp_path: Path, old: str, new: str, what: str, found: str
) -> None:
    (mnms / CSV).write_text((mnms / CSV).read_text().replace(old, new))
    with pytest.raises(UserError, match=what) as caught:
        import_data("mnms", mnms, tmp_path / "new")
    assert found in caught.value.found
    assert sorted(path.name for path in tmp_path.iterdir()) == [mnms.name]


def test_patients_of_the_csv_without_files_are_told(mnms: Path, tmp_path: Path) -> None:
    """The CSV may list more patients than are handed out."""
    with (mnms / CSV).open("a") as file:
        file.write("Z9Z9Z9,Canon,D,1,0,1,50.0,NOR\n")
    made = import_data("mnms", mnms, tmp_path / "new")
    assert "patients of the CSV without files: 1, e.g. Z9Z9Z9" in made.notices
