"""The phantom data set: labels, determinism, files, and errors."""

import csv
import hashlib
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from synfoc.errors import UserError
from synfoc.phantom.anatomy import Condition, Heart, draw_patient
from synfoc.phantom.data_set import write_phantom
from synfoc.phantom.render import render
from synfoc.phantom.scanner import SCANNERS

A = SCANNERS[0]


def digest(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }


def test_a_round_heart_by_hand() -> None:
    """Radius 20 and wall 10 mm at the base: pi 20^2 = 1257 and pi (30^2 - 20^2) = 1571 mm^2."""
    patient = draw_patient(np.random.default_rng(0))
    patient = replace(
        patient,
        condition=Condition.HEALTHY,
        radius=20.0,
        wall=10.0,
        outline=0 * patient.outline,
        uneven=0 * patient.uneven,
        warp=patient.warp * [0, 1, 1],
    )
    axis = np.arange(-60, 60, 0.5, dtype=np.float32)
    plane = patient.plane(axis[:, None], axis[None])
    label = Heart(patient, plane).paint(np.zeros(plane.u.shape, np.uint8), 1.0)
    assert (label == 1).sum() * 0.25 == pytest.approx(1257, rel=0.01)
    assert (label == 2).sum() * 0.25 == pytest.approx(1571, rel=0.01)


@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda s: s.name)
def test_every_slice_has_both_classes_and_the_cavity_lies_inside_the_muscle(scanner) -> None:
    """No cavity pixel has background among its 4 neighbors; the ring is one piece."""
    for seed in range(6):
        image, label, spacing = render(scanner, seed, seed % 4)
        assert image.shape == label.shape == scanner.matrix
        assert set(np.unique(label)) == {0, 1, 2}
        assert not (ndimage.binary_dilation(label == 1) & (label == 0)).any()
        assert ndimage.label(label > 0)[1] == 1
        assert spacing[1:] == pytest.approx(np.divide(scanner.fov, scanner.matrix))


def test_the_cavity_grows_from_apex_to_base() -> None:
    for seed in range(5):
        areas = [(render(A, seed, i)[1] == 1).sum() for i in range(4)]
        assert areas == sorted(areas)
        assert areas[0] > 60


def test_one_patient_has_the_same_heart_on_all_scanners() -> None:
    """Cavity area in mm^2 agrees within 3 %, whatever the pixel size."""
    for seed in range(4):
        areas = []
        for scanner in SCANNERS:
            _, label, (_, row, column) = render(scanner, seed, 2)
            areas.append((label == 1).sum() * row * column)
        assert np.ptp(areas) < 0.03 * np.mean(areas)


def test_patients_slices_and_scanners_differ_and_repeat() -> None:
    first = render(A, 1, 0)
    assert all(np.array_equal(x, y) for x, y in zip(first, render(A, 1, 0), strict=True))
    assert not np.array_equal(first.image, render(A, 2, 0).image)
    assert not np.array_equal(first.image, render(A, 1, 1).image)


def test_a_dark_cavity_on_d_and_a_bright_one_on_a() -> None:
    for seed in range(5):
        for scanner, sign in ((A, 1), (SCANNERS[3], -1)):
            image, label, _ = render(scanner, seed, 2, bits=12)
            inside, wall = (np.median(image[label == k]) for k in (1, 2))
            assert sign * (inside - wall) > 0


def test_files_of_a_png_set(tmp_path: Path) -> None:
    """2 training and 1 test patients of 2 slices on four scanners: 24 images, 24 masks."""
    out = write_phantom(
        tmp_path / "a b", train_patients=2, test_patients=1, slices_per_patient=2, side=64
    )
    rows = list(csv.DictReader((out / "cases.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 24
    assert list(rows[0]) == ["image", "label", "domain", "split", "patient", "spacing"]
    assert rows[0]["image"] == "scanner_a/train/image/patient0001_s01.png"
    assert rows[0]["label"] == "scanner_a/train/mask/patient0001_s01.png"
    assert len({row["patient"] for row in rows}) == 12
    for row in rows:
        with Image.open(out / row["image"]) as image, Image.open(out / row["label"]) as label:
            assert image.mode == label.mode == "L"
            assert image.size == label.size
            assert max(image.size) == 64
    assert "seed 0" in (out / "README.md").read_text(encoding="utf-8")
    assert len(list(out.rglob("*.png"))) == 48
    assert [p.name for p in tmp_path.iterdir()] == ["a b"]


def test_a_nifti_volume_keeps_spacing(tmp_path: Path) -> None:
    """Scanner a: 320 mm / 64 pixels = 5 mm; the slices are 3/4 of the ventricle / 3 apart."""
    out = write_phantom(
        str(tmp_path / "n"),
        train_patients={"scanner_a": 1},
        test_patients=0,
        slices_per_patient=3,
        side=64,
        image_format="nifti",
    )
    image, label = (
        nib.load(out / f"scanner_a/train/{kind}/patient0001.nii.gz") for kind in ("image", "mask")
    )
    assert image.shape == label.shape == (64, 64, 3)
    across, down, gap = image.header.get_zooms()
    assert (across, down) == pytest.approx((5, 5))
    assert 15 < gap < 30
    assert np.asarray(image.dataobj).max() > 255
    assert set(np.unique(np.asarray(label.dataobj))) == {0, 1, 2}


@pytest.mark.parametrize("image_format", ["png", "nifti"])
def test_the_same_seed_gives_the_same_bytes_and_more_patients_change_none(
    tmp_path: Path, image_format
) -> None:
    def write(name: str, train: int, test: int, seed: int = 5) -> dict[str, str]:
        folder = write_phantom(
            tmp_path / name,
            train_patients={"scanner_b": train},
            test_patients={"scanner_b": test},
            slices_per_patient=2,
            seed=seed,
            image_format=image_format,
            side=48,
        )
        return digest(folder)

    few = write("few", 1, 1)
    assert write("again", 1, 1) == few
    many = write("many", 3, 2)
    pictures = {name: value for name, value in few.items() if name.startswith("scanner")}
    assert pictures.items() <= many.items()
    assert pictures != {k: v for k, v in write("other", 1, 1, seed=6).items() if k in pictures}


def test_progress_counts_patients_and_a_failure_leaves_nothing(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def full_disk(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 2:
            raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left"):
        write_phantom(
            tmp_path / "x",
            train_patients=1,
            test_patients=0,
            slices_per_patient=1,
            side=32,
            progress=full_disk,
        )
    assert seen == [(1, 4), (2, 4)]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"train_patients": {"scanner_z": 1}}, "scanner_a, scanner_b"),
        ({"train_patients": -1}, "negative"),
        ({"train_patients": 0, "test_patients": 0}, "at least one"),
        ({"slices_per_patient": 0}, "1 to 100"),
        ({"seed": -1}, "0 or more"),
        ({"side": 8}, "32 to 1024"),
        ({"image_format": "jpeg"}, "png or nifti"),
    ],
)
def test_a_wrong_value_is_a_user_error_before_anything_is_written(
    tmp_path: Path, given: dict, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        write_phantom(tmp_path / "x", **given)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="in the way"):
        write_phantom(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
