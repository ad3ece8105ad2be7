"""NPY and NIfTI: which axis is color, and which numbers are a label."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from synfoc.config import Data
from synfoc.errors import UserError
from synfoc.images.cases import Case, CaseTable, load_cases, load_image, load_label
from synfoc.images.check import check_data
from synfoc.images.files import read_codes, read_geometry, read_image

RGB = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
LABEL = np.zeros((6, 8), np.uint8)
LABEL[2:4, 3:6] = 1
LABEL[4:, 5:] = 2


def save(path: Path, data: np.ndarray) -> Path:
    np.save(path, data, allow_pickle=True)
    return path


def test_channels_first_in_8_bits_is_color_and_told(tmp_path: Path) -> None:
    """(3, 6, 8) is one picture of 6 x 8, by its header alone, too; a label of it has slices."""
    path = save(tmp_path / "a.npy", RGB.transpose(2, 0, 1))
    stack = read_image(path)
    assert np.array_equal(stack.pixels[0], RGB)
    assert read_geometry(path).size == (1, 6, 8)
    assert read_codes(path).pixels.shape == (3, 6, 8)
    assert check_data(Data(path=tmp_path)).notes[0] == (
        "NPY of 8 bits with 3 on the first axis: read as color, channels first: 1, e.g. a"
    )


def test_who_names_the_axis_of_slices_has_volumes(tmp_path: Path) -> None:
    """(3, 6, 8) with a label of (3, 6, 8): the message names the setting that reads it."""
    label = np.zeros((3, 6, 8), np.uint8)
    label[1] = 1
    case, table = beside(tmp_path, RGB.transpose(2, 0, 1), label)
    with pytest.raises(UserError, match="of another size") as caught:
        load_label(case, table)
    assert caught.value.fix.endswith("if both are volumes of slices, add --set data.slice_axis=0")
    assert np.array_equal(load_image(case, slice_axis=0).pixels, RGB.transpose(2, 0, 1))
    assert read_geometry(case.image, slice_axis=0).size == (3, 6, 8)
    assert np.array_equal(load_label(case, table, slice_axis=0).pixels, label)


@pytest.mark.parametrize(("first", "dtype"), [(3, "f4"), (3, "u2"), (4, "u1")])
def test_what_may_be_channels_first_is_a_volume_and_told(
    tmp_path: Path, first: int, dtype: str
) -> None:
    path = save(tmp_path / "a.npy", np.arange(first * 48).reshape(first, 6, 8).astype(dtype))
    assert read_image(path).pixels.shape == (first, 6, 8)
    notes = check_data(Data(path=tmp_path)).notes
    assert f"volumes with {first} slices on the first axis" in notes[0]
    assert "channels" in notes[0]


def test_axes_of_one_are_no_channels_and_a_fourth_says_volume(tmp_path: Path) -> None:
    for shape, slices in (
        ((1, 6, 8), (1, 6, 8)),
        ((6, 8, 1), (1, 6, 8)),
        ((3, 6, 8, 1), (3, 6, 8)),
        ((6, 8, 3, 1), (3, 6, 8)),
    ):
        stack = read_image(save(tmp_path / "a.npy", np.zeros(shape, np.uint8)))
        assert stack.pixels.shape == slices, shape
        assert stack.remark == ""


def beside(folder: Path, image: np.ndarray, label: np.ndarray) -> tuple[Case, CaseTable]:
    """An image with a label, both NPY."""
    save(folder / "a.npy", image)
    save(folder / "a_mask.npy", label)
    table = load_cases(Data(path=folder))
    return table.cases[0], table


@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize("dtype", ["u1", "?", "f4"])
@pytest.mark.parametrize("first", [0, 1])
def test_a_one_hot_label_is_told_with_the_line_that_mends_it(
    tmp_path: Path, axis: int, dtype: str, first: int
) -> None:
    """Background and two classes, or the classes alone; also where they look like colors."""
    one_hot = np.stack([k == LABEL for k in range(first, 3)], axis).astype(dtype)
    case, table = beside(tmp_path, RGB, one_hot)
    with pytest.raises(UserError) as caught:
        load_label(case, table)
    kind = "one-hot, no channel for the background" if first else "one-hot"
    assert caught.value.found == f"{3 - first} channels on axis {axis} ({kind})"
    line = caught.value.fix.removeprefix("save the class of each pixel: ")
    exec(line, {"np": np, "path": case.labels[0]})
    assert np.array_equal(load_label(case, table).pixels[0], LABEL)


def test_channels_that_overlap_are_told_as_files_per_class(tmp_path: Path) -> None:
    """Cup (4 pixels) within disc: 4 pixels are drawn in both."""
    nested = np.zeros((2, 6, 8), np.uint8)
    nested[0, 2:4, 3:5] = nested[1, 1:5, 2:6] = 255
    case, table = beside(tmp_path, RGB, nested)
    with pytest.raises(UserError) as caught:
        load_label(case, table)
    assert caught.value.found == "2 channels on axis 0 (4 pixels are drawn in several)"
    assert "columns label:NAME" in caught.value.fix


def test_slices_of_a_volume_are_never_channels(tmp_path: Path) -> None:
    """Three slices in which each pixel is drawn once; and none at all."""
    image = np.arange(3 * 64, dtype=np.uint16).reshape(3, 8, 8)
    slices = np.zeros((3, 8, 8), np.uint8)
    slices[0, :3] = slices[1, 3:5] = slices[2, 5:] = 1
    for label in (slices, np.zeros_like(slices)):
        case, table = beside(tmp_path, image, label)
        assert np.array_equal(load_label(case, table).pixels, label)


def test_a_stack_that_is_empty_or_holds_codes_is_of_another_size_than_a_picture(
    tmp_path: Path,
) -> None:
    for value in (0, np.arange(3)[:, None, None]):
        label = np.zeros((3, 6, 8), np.uint8) + np.uint8(value)
        case, table = beside(tmp_path, RGB, label)
        with pytest.raises(UserError, match="of another size than its image"):
            load_label(case, table)


def test_slices_of_which_one_is_all_of_a_class_are_a_volume(tmp_path: Path) -> None:
    """Every voxel column holds one 1, as in a one-hot mask, but none tells two classes apart."""
    volume = np.zeros((5, 6, 8), np.uint8)
    volume[2] = 1
    assert np.array_equal(read_codes(save(tmp_path / "a.npy", volume)).pixels, volume)


def test_number_types_and_orders_of_npy(tmp_path: Path) -> None:
    """Big-endian, Fortran order, booleans, whole floats: the same label."""
    for data in (
        LABEL.astype(">i4"),
        np.asfortranarray(LABEL),
        LABEL.astype("f8"),
        LABEL.astype("f2"),
        np.asfortranarray(LABEL.astype(">u2")),
    ):
        assert np.array_equal(read_codes(save(tmp_path / "a.npy", data)).pixels[0], LABEL)
    path = save(tmp_path / "a.npy", LABEL > 0)
    assert np.array_equal(read_codes(path).pixels[0], LABEL > 0)
    assert read_image(path).pixels.max() == 255


def test_what_is_no_array_of_numbers_is_told(tmp_path: Path) -> None:
    """A pickle is not opened: it could run anything."""
    pair = np.zeros((6, 8), [("a", "u1"), ("b", "u1")])
    for data, found in (
        (np.array([{"a": 1}, None], object), "Python objects (a pickle), which are not opened"),
        (pair, "values of type [('a', 'u1'), ('b', 'u1')]"),
        (LABEL * 1j, "values of type complex128"),
        (np.full((6, 8), 1e300), "values up to 1e+300"),
    ):
        with pytest.raises(UserError) as caught:
            read_image(save(tmp_path / "a.npy", data))
        assert caught.value.found == found
        assert "damaged" not in str(caught.value)


def color_nifti(fields: str) -> np.ndarray:
    data = np.zeros((6, 8, 2), [(name, "u1") for name in fields])
    for k, name in enumerate("RGB"):
        data[name] = RGB[..., k, None]
    if "A" in fields:
        data["A"] = 255
    return data


def test_color_nifti_in_both_forms_is_color(tmp_path: Path) -> None:
    """RGB24, RGBA32, and three or four 8-bit numbers on the fifth axis."""
    fifth = np.repeat(RGB[:, :, None, None], 2, axis=2)
    clear = np.concatenate([fifth, np.full_like(fifth[..., :1], 255)], axis=-1)
    for data in (color_nifti("RGB"), color_nifti("RGBA"), fifth, clear):
        nib.save(nib.Nifti1Image(data, np.diag([-1.0, -1, 5, 1])), tmp_path / "a.nii.gz")
        stack = read_image(tmp_path / "a.nii.gz")
        assert stack.pixels.shape == (2, 8, 6, 3)
        assert np.array_equal(stack.pixels[0], RGB.transpose(1, 0, 2))
        assert read_geometry(tmp_path / "a.nii.gz").size == (2, 8, 6)


def test_a_vector_field_is_no_color(tmp_path: Path) -> None:
    data = np.zeros((6, 8, 2, 1, 3), np.float32)
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(UserError, match="3 numbers of type float32 per voxel"):
        read_image(tmp_path / "a.nii")


def test_a_nifti_of_single_bits_is_not_called_damaged(tmp_path: Path) -> None:
    content = bytearray(nib.Nifti1Image(LABEL[..., None], np.eye(4)).to_bytes())
    content[70:74] = bytes([1, 0, 1, 0])  # datatype and bitpix
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_image(tmp_path / "a.nii")
    assert caught.value.found == "numbers of 1 bit"


def test_channels_on_the_third_axis_of_a_nifti_are_told(tmp_path: Path) -> None:
    """Viewers show three slices, and so do we, but not without a word."""
    nib.save(nib.Nifti1Image(RGB, np.eye(4)), tmp_path / "a.nii")
    assert read_image(tmp_path / "a.nii").pixels.shape == (3, 8, 6)
    assert (
        "8-bit NIfTI with 3 slices: if these are color channels"
        in (check_data(Data(path=tmp_path)).notes[0])
    )
    nib.save(nib.Nifti1Image(RGB.astype(np.int16), np.eye(4)), tmp_path / "a.nii")
    assert read_image(tmp_path / "a.nii").remark == "", "a scan of three slices"


def test_a_label_drawn_in_the_transparency_of_arrays_is_refused(tmp_path: Path) -> None:
    white = color_nifti("RGBA")
    for name in "RGB":
        white[name] = 255
    white["A"] = LABEL[..., None]
    nib.save(nib.Nifti1Image(white, np.eye(4)), tmp_path / "a.nii")
    rgba = np.dstack([np.full((6, 8, 3), 255, np.uint8), LABEL])
    for path in (tmp_path / "a.nii", save(tmp_path / "a.npy", rgba)):
        with pytest.raises(UserError, match="its transparency says what its colors do not"):
            read_codes(path)


def test_a_class_that_fills_labels_all_over_is_noted(tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    (tmp_path / "mask").mkdir()
    Image.fromarray(RGB).save(tmp_path / "image/a.png")
    Image.fromarray(np.ones_like(LABEL)).save(tmp_path / "mask/a.png")
    assert any(
        note.startswith("labels that one class fills all over: 1, e.g. a")
        for note in check_data(Data(path=tmp_path)).notes
    )
