"""Which slices a volume is cut into: those of the patient, however a tool stored the voxels."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from synfoc.errors import UserError
from synfoc.images.files import read_geometry, read_image, write_label
from synfoc.images.geometry import SliceAxis

ORDERS = [
    "".join(letters)
    for axes in permutations(("LR", "PA", "SI"))
    for letters in product(*axes)
]  # fmt: skip
SHAPE = (5, 4, 6)


def turn(degrees: float, axis: int) -> np.ndarray:
    """A rotation of the world about one of its axes."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(4)
    first, second = (a for a in range(3) if a != axis)
    matrix[[first, first, second, second], [first, second, first, second]] = (c, -s, s, c)
    return matrix


def stored(path: Path, affine: np.ndarray, order: str) -> Path:
    """One body of numbers, saved with its axes in another order."""
    body = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    image = nib.Nifti1Image(body, affine)
    now = nib.orientations.ornt_transform(
        nib.io_orientation(np.eye(4)), nib.orientations.axcodes2ornt(tuple(order))
    )
    nib.save(image.as_reoriented(now), path)
    return path


def test_there_are_48_orders() -> None:
    assert len(set(ORDERS)) == 48


@pytest.mark.parametrize(
    ("name", "affine", "slices"),
    [
        ("isotropic", np.eye(4), 6),
        ("thick slices", np.diag([1, 3, 1, 1]), 4),
        ("thin slices", np.diag([0.5, 1, 1, 1]), 5),
        ("40 degrees off", turn(40, 2) @ np.diag([1, 1, 3, 1]), 6),
        ("45 degrees off, isotropic", turn(45, 2), 6),
        ("twice oblique, isotropic", turn(35, 0) @ turn(38, 1), 6),
        ("halfway between two planes", turn(45, 0), None),
    ],
)
def test_one_body_gives_the_same_slices_in_all_48_orders(
    tmp_path: Path, name: str, affine: np.ndarray, slices: int | None
) -> None:
    """The order of the slices may be reversed; what is in each of them may not differ."""
    first = read_image(stored(tmp_path / "first.nii", affine, "RAS")).pixels
    assert slices is None or len(first) == slices
    for order in ORDERS:
        pixels = read_image(stored(tmp_path / "other.nii", affine, order)).pixels
        alike = np.array_equal(pixels, first) or np.array_equal(pixels[::-1], first)
        assert alike, f"{name}, stored as {order}"


@pytest.mark.parametrize("order", ORDERS[::5])
def test_a_mask_goes_back_into_every_order(tmp_path: Path, order: str) -> None:
    path = stored(tmp_path / "a.nii", np.eye(4), order)
    stack = read_image(path)
    mask = nib.load(write_label(tmp_path / "m.nii", stack.pixels.astype(np.uint8), stack))
    assert np.array_equal(np.asarray(mask.dataobj), np.asarray(nib.load(path).dataobj))


@pytest.mark.parametrize(
    ("plane", "size"), [("axial", (6, 4, 5)), ("coronal", (4, 6, 5)), ("sagittal", (5, 6, 4))]
)
def test_a_plane_of_the_patient_can_be_asked_for(
    tmp_path: Path, plane: SliceAxis, size: tuple[int, int, int]
) -> None:
    """5 voxels from left to right, 4 from back to front, 6 from feet to head, in any order."""
    for order in ("RAS", "PSR", "ILA"):
        path = stored(tmp_path / f"{order}.nii", np.diag([1, 1, 4, 1]), order)
        assert read_geometry(path, slice_axis=plane).size == size


def test_rows_and_columns_run_as_on_a_screen(tmp_path: Path) -> None:
    """The voxel at the patient's right, front and top comes first in each plane."""
    path = stored(tmp_path / "a.nii", np.eye(4), "RAS")
    body = np.asarray(nib.load(path).dataobj)
    corner = body[-1, -1, -1]
    assert read_image(path, slice_axis="axial").pixels[-1, 0, 0] == corner
    assert read_image(path, slice_axis="coronal").pixels[-1, 0, 0] == corner
    assert read_image(path, slice_axis="sagittal").pixels[-1, 0, 0] == corner


def test_npy_states_no_plane(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.zeros((4, 5, 6), np.uint8))
    with pytest.raises(UserError, match="states no directions") as caught:
        read_image(tmp_path / "v.npy", slice_axis="axial")
    assert "0, 1 or 2" in caught.value.expected
    assert len(read_image(tmp_path / "v.npy", slice_axis=2).pixels) == 6


def test_a_file_without_a_place_is_read_as_stored(tmp_path: Path) -> None:
    """ITK takes its first axis to the left and its second to posterior: rows and columns."""
    image = nib.Nifti1Image(np.arange(120, dtype=np.int16).reshape(5, 4, 6), None)
    nib.save(image, tmp_path / "a.nii")
    expected = np.asarray(image.dataobj).transpose(2, 1, 0)
    assert np.array_equal(read_image(tmp_path / "a.nii").pixels, expected)
