"""Six sites of volumes: slices by the paper's rule, volumes by patient, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from synfoc.config import Data
from synfoc.errors import UserError
from synfoc.images.cases import load_cases, load_image, load_label
from synfoc.images.check import check_data
from synfoc.images.imports.dataset import import_data


def test_the_papers_split_is_in_slices(prostate: Path, tmp_path: Path) -> None:
    """2, 3, 2, 3, 5, 2 volumes, of which 2, 2, 2, 2, 4, 2 train; 2 of 4 slices show a prostate."""
    made = import_data("prostate", prostate, tmp_path / "new")
    training = [made.count("train", domain) for domain in made.known.domains]
    assert training == [4, 4, 4, 4, 8, 4]
    assert [made.count("test", domain) for domain in made.known.domains] == [0, 2, 0, 2, 2, 0]
    table = load_cases(Data(path=tmp_path / "new", classes=("prostate",)))
    assert [case.id for case in table.cases if case.domain == "BMC"] == [
        "BMC/train/Case00_s002",
        "BMC/train/Case00_s003",
        "BMC/train/Case01_s002",
        "BMC/train/Case01_s003",
        "BMC/test/Case02_s002",
        "BMC/test/Case02_s003",
    ]
    case = table.cases[0]
    assert (case.domain, case.split, case.patient) == ("BIDMC", "train", "Case00")
    assert case.spacing == (0.0, 0.625, 0.5)  # rows are y, columns are x
    assert load_image(case).pixels.shape == (1, 5, 6)
    assert load_image(case).pixels.dtype == np.uint8


def test_the_two_zones_become_one_class(prostate: Path, tmp_path: Path) -> None:
    """Codes 1, 1, 2 along x at y = 2: three pixels of row 2."""
    import_data("prostate", prostate, tmp_path / "new")
    table = load_cases(Data(path=tmp_path / "new", classes=("prostate",)))
    label = load_label(table.cases[1], table).pixels[0]
    assert label.tolist() == [[0] * 6, [0] * 6, [0, 1, 1, 1, 0, 0], [0] * 6, [0] * 6]


def test_slices_are_windowed_over_their_volume(prostate: Path, tmp_path: Path) -> None:
    """120 values: the percentiles 0.5 and 99.5 are the least and the largest."""
    import_data("prostate", prostate, tmp_path / "new")
    volume = np.asarray(nib.load(prostate / "BIDMC/Case00.nii.gz").dataobj, np.float64)
    unit = (volume - volume.min()) / (volume.max() - volume.min())
    table = load_cases(Data(path=tmp_path / "new"))
    pixels = load_image(table.cases[0]).pixels[0]
    assert np.abs(pixels - 255 * unit[:, :, 1].T).max() < 0.51


def test_by_patient_volumes_stay_volumes(prostate: Path, tmp_path: Path) -> None:
    """A fifth of 2, 3, 2, 3, 5, 2 patients, at least one, tests."""
    made = import_data("prostate", prostate, tmp_path / "new", split="patient", seed=3)
    assert [made.count("test", domain) for domain in made.known.domains] == [1] * 6
    assert [made.count("train", domain) for domain in made.known.domains] == [1, 2, 1, 2, 4, 1]
    table = load_cases(Data(path=tmp_path / "new", classes=("prostate",)))
    case = next(case for case in table.cases if case.domain == "BMC")
    image, name = load_image(case), case.image.name
    assert image.volume
    assert image.pixels.shape == (4, 5, 6)
    assert image.spacing == (3.0, 0.625, 0.5)
    assert load_image(case, slice_axis=0).spacing == (0.5, 3.0, 0.625)
    old, new = (nib.load(path) for path in (prostate / "BMC" / name, case.image))
    assert np.array_equal(old.dataobj, new.dataobj)
    assert np.array_equal(old.affine, new.affine)
    assert old.get_data_dtype() == new.get_data_dtype()
    assert np.bincount(load_label(case, table).pixels.ravel()).tolist() == [114, 6]


def test_a_seed_gives_the_same_bytes_and_another_one_another_split(
    prostate: Path, tmp_path: Path
) -> None:
    texts = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2), ("d", 3)):
        made = import_data("prostate", prostate, tmp_path / name, split="patient", seed=seed)
        texts.append((made.out / "cases.csv").read_bytes())
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.nii.gz")]
    assert len(files) == 34
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_numbers_that_are_not_the_papers_are_told(prostate: Path, tmp_path: Path) -> None:
    made = import_data("prostate", prostate, tmp_path / "new")
    assert any("RUNMC 5 (30)" in notice for notice in made.notices)
    assert any("RUNMC 8 (338)" in notice for notice in made.notices)
    assert "RUNMC 8 (338)" in (tmp_path / "new/README.md").read_text()


def test_other_names_of_sites_and_files(prostate: Path, tmp_path: Path) -> None:
    (prostate / "I2CVB").rename(prostate / "HCRUDB")
    volume = prostate / "UCL/Case01.nii.gz"
    nib.save(nib.load(volume), prostate / "UCL/Case01.nii")
    volume.unlink()
    (prostate / "UCL/._Case01.nii").write_bytes(b"of a mac")
    (prostate / "__MACOSX").mkdir()
    made = import_data("prostate", prostate.parent, tmp_path / "new")
    assert made.count("train", "I2CVB") == made.count("train", "UCL") == 4


def test_a_segmentation_takes_the_header_of_its_volume(prostate: Path, tmp_path: Path) -> None:
    path = prostate / "UCL/Case00_segmentation.nii.gz"
    codes = np.asarray(nib.load(path).dataobj)
    nib.save(nib.Nifti1Image(codes, np.eye(4)), path)
    made = import_data("prostate", prostate, tmp_path / "new", split="patient")
    assert any(notice.endswith("it is now: 1") for notice in made.notices)
    assert not check_data(Data(path=tmp_path / "new")).unusable_labels


def test_published_slices_are_no_originals(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing of the prostate set") as caught:
        import_data("prostate", shared_data / "paper_layout/ProstateSlice", tmp_path / "new")
    assert "need no import" in caught.value.fix
    assert not any(tmp_path.iterdir())


def test_no_slice_with_a_prostate(prostate: Path, tmp_path: Path) -> None:
    for path in prostate.rglob("*egmentation.nii.gz"):
        nib.save(nib.Nifti1Image(np.zeros((6, 5, 4), np.uint8), np.eye(4)), path)
    with pytest.raises(UserError, match="nothing of the prostate set") as caught:
        import_data("prostate", prostate, tmp_path / "new")
    assert caught.value.found == "no slice that shows every class"
    assert [path.name for path in tmp_path.iterdir()] == [prostate.name]


def test_missing_sites_are_refused_and_by_patient_told(prostate: Path, tmp_path: Path) -> None:
    """One is not there, the folder of the other is empty."""
    shutil.rmtree(prostate / "HK")
    for path in (prostate / "UCL").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="split of the prostate set needs all") as caught:
        import_data("prostate", prostate, tmp_path / "new")
    assert caught.value.found == (
        f"no labeled original of HK, UCL; folders in {prostate}: BIDMC, BMC, I2CVB, RUNMC, UCL"
    )
    made = import_data("prostate", prostate, tmp_path / "new", split="patient")
    assert any("HK 0 (12)" in notice and "UCL 0 (13)" in notice for notice in made.notices)
    assert made.count("train", "RUNMC") == 4


def test_missing_files_are_refused(prostate: Path, tmp_path: Path) -> None:
    (prostate / "BMC/Case01_Segmentation.nii.gz").unlink()
    (prostate / "UCL/Case00.nii.gz").unlink()
    with pytest.raises(UserError, match="files of the prostate set are missing") as caught:
        import_data("prostate", prostate, tmp_path / "new")
    assert caught.value.found == "BMC: no segmentation of Case01; UCL: no volume of Case00"


@pytest.mark.parametrize(
    ("codes", "what", "found"),
    [
        (np.full((6, 5, 4), 3, np.uint8), "codes that the original does not have", "values 3"),
        (np.zeros((6, 5, 3), np.uint8), "another size than its image", "6 x 5 x 3; Case00.nii.gz"),
        (np.zeros((6, 5, 4, 2), np.uint8), "cannot read volume", "4 axes: 6 x 5 x 4 x 2"),
    ],
)
def test_labels_that_cannot_be_used(
    prostate: Path, tmp_path: Path, codes: np.ndarray, what: str, found: str
) -> None:
    nib.save(nib.Nifti1Image(codes, np.eye(4)), prostate / "HK/Case00_segmentation.nii.gz")
    with pytest.raises(UserError, match=what) as caught:
        import_data("prostate", prostate, tmp_path / "new")
    assert found in caught.value.found
    assert sorted(path.name for path in tmp_path.iterdir()) == [prostate.name]


def test_a_file_cut_short(prostate: Path, tmp_path: Path) -> None:
    path = prostate / "RUNMC/Case03.nii.gz"
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(UserError, match=r"cannot read volume .*Case03") as caught:
        import_data("prostate", prostate, tmp_path / "new")
    assert caught.value.found.startswith("damaged or cut short")
    assert sorted(path.name for path in tmp_path.iterdir()) == [prostate.name]
