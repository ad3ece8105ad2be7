"""Miniature downloads, file for file as their owners hand them out, with tiny arrays."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

SITES = {"BIDMC": 2, "BMC": 3, "HK": 2, "I2CVB": 3, "RUNMC": 5, "UCL": 2}
"""Volumes per site: the first round(4/5 of them) train: 2, 2, 2, 2, 4, 2."""
SPACING = (0.5, 0.625, 3.0)
"""mm along x, y, z of every volume."""


def nifti(path: Path, data: NDArray[np.generic], flip: bool = False) -> Path:
    """A volume with SPACING whose axes run to the left, to the back and up."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
    affine[0, 0] *= -1 if flip else 1
    volume = nib.Nifti1Image(data, affine)
    volume.header.set_xyzt_units("mm", "sec")
    nib.save(volume, path)
    return path


def picture(path: Path, pixels: NDArray[np.generic]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def prostate(tmp_path: Path) -> Path:
    """6 x 5 pixels, 4 slices; the prostate in slices 2 (code 1) and 3 (codes 1 and 2)."""
    root = tmp_path / "original prostate"
    rng = np.random.default_rng(0)
    for site, count in SITES.items():
        word = "Segmentation" if site == "BMC" else "segmentation"
        for k in range(count):
            volume = rng.integers(0, 900, (6, 5, 4)).astype(np.int16)
            codes = np.zeros((6, 5, 4), np.uint8)
            codes[1:4, 2, 1] = 1
            codes[1:3, 2, 2], codes[3, 2, 2] = 1, 2
            nifti(root / site / f"Case{k:02d}.nii.gz", volume)
            nifti(root / site / f"Case{k:02d}_{word}.nii.gz", codes)
    return root


PATIENTS = {
    "A0S9V9": ("Siemens", "A", 0, 2, "Training/Labeled"),
    "A1D0Q7": ("Siemens", "A", 1, 0, "Training/Labeled"),
    "B2F4K5": ("Philips", "B", 0, 1, "Validation"),
    "B9H8N8": ("Philips", "B", 0, 2, "Testing"),
    "C4E9I1": ("GE", "C", 0, 1, "Training/Unlabeled"),
    "C8J7L5": ("GE", "C", 2, 0, "Testing"),
    "D3P9U9": ("Canon", "D", 0, 1, "Testing"),
}
"""Code: vendor, its letter, ED, ES, folder."""


@pytest.fixture
def mnms(tmp_path: Path) -> Path:
    """7 x 6 pixels, 3 slices, 3 frames; slice 2 shows 1, 2, 3 along x, slice 3 only 1 and 2."""
    root = tmp_path / "original mnms"
    rng = np.random.default_rng(1)
    rows = ["External code,VendorName,Vendor,Centre,ED,ES,Age,Pathology"]
    for code, (name, letter, ed, es, folder) in PATIENTS.items():
        rows.append(f"{code},{name},{letter},1,{ed},{es},50.0,NOR")
        place = root / folder / code
        cine = rng.integers(0, 500, (7, 6, 3, 3)).astype(np.int16)
        nifti(place / f"{code}_sa.nii.gz", cine)
        codes = np.zeros(cine.shape, np.uint8)
        for frame in (ed, es):
            codes[1:4, 2, 1, frame] = (1, 2, 3)
            codes[1:3, 2, 2, frame] = (1, 2)
        if not folder.endswith("Unlabeled"):
            nifti(place / f"{code}_sa_gt.nii.gz", codes)
    text = "\n".join(rows) + "\n"
    (root / "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv").write_text(text)
    return root


def eye(side: int, row: int, column: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A picture and its mask: a rim of 5 x 5 around a cup of 3 x 3, whose middle is given."""
    codes = np.full((side, side), 255, np.uint8)
    codes[row - 2 : row + 3, column - 2 : column + 3] = 128
    codes[row - 1 : row + 2, column - 1 : column + 2] = 0
    pixels = np.stack([255 - codes // 2, codes // 3, np.full_like(codes, 7)], axis=-1)
    return pixels, np.repeat(codes[..., None], 3, axis=-1)


NAMES = {
    1: ("gdrishtiGS_002", "ndrishtiGS_004", "gdrishtiGS_001"),
    2: ("G-1-L", "N-5-L", "G-2-R"),
    3: ("g0003", "n0002", "g0001"),
    4: ("V0001", "V0003", "V0002"),
}
"""Two that train and one that tests, per domain."""


@pytest.fixture
def fundus(tmp_path: Path) -> Path:
    """ROIs of 12 x 12 pixels, disc in the middle of row 5, column 6."""
    root = tmp_path / "original fundus"
    pixels, codes = eye(12, 5, 6)
    for domain, names in NAMES.items():
        for name in names:
            half = root / f"Domain{domain}" / ("test" if name == names[2] else "train") / "ROIs"
            picture(half / "image" / f"{name}.png", pixels)
            picture(half / "mask" / f"{name}.png", codes)
        (root / f"Domain{domain}" / "test_file_list.txt").write_text("whatever\n")
    return root


@pytest.fixture
def busi(tmp_path: Path) -> Path:
    """11 benign and 6 malignant pictures; benign (4) has a second lesion; one normal one."""
    root = tmp_path / "original busi"
    folder = root / "Dataset_BUSI_with_GT"
    rng = np.random.default_rng(2)
    for name, count in (("benign", 11), ("malignant", 6), ("normal", 1)):
        for k in range(1, count + 1):
            place = folder / name / f"{name} ({k}).png"
            picture(place, rng.integers(0, 255, (6, 8, 3)).astype(np.uint8))
            mask = np.zeros((6, 8), bool)
            mask[1:3, 1:3] = name != "normal"
            picture(place.with_name(f"{name} ({k})_mask.png"), mask)
    second = np.zeros((6, 8, 4), np.uint8)
    second[..., 3] = 255
    second[4, 6, :3] = 255
    picture(folder / "benign" / "benign (4)_mask_1.png", second)
    return folder
