"""Pictures, NIfTI and NPY: what is read, how volumes are cut, what comes back, what is refused."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from synfoc.errors import UserError
from synfoc.images.files import (
    Stack,
    decode,
    read_codes,
    read_geometry,
    read_image,
    slice_count,
    to_unit,
    write_label,
    write_probabilities,
)
from synfoc.images.paper_sets import Decode

GRAY = np.arange(20, dtype=np.uint8).reshape(4, 5)
GRAY16 = GRAY.astype(np.uint16) * 3000
COLOR = np.stack([GRAY, GRAY + 100, GRAY * 2], axis=-1)


def save_nifti(path: Path, data: np.ndarray, affine: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def gray_png(width: int, height: int, bits: int, rows: bytes) -> bytes:
    """A gray PNG by hand: Pillow would write 2 and 4 bits with a palette."""
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        body = kind + data
        file += struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    return file


@pytest.mark.parametrize("ending", ["png", "tif", "tiff", "bmp"])
def test_gray_pictures_are_read_exactly(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"Müller, linkes Auge.{ending}"
    Image.fromarray(GRAY).save(path)
    stack = read_image(path)
    assert np.array_equal(stack.pixels, GRAY[None])
    assert (stack.pixels.dtype, stack.spacing, stack.axis, stack.volume) == (
        np.uint8, None, None, False,
    )  # fmt: skip


def test_a_jpeg_is_read_nearly(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 77, np.uint8)).save(tmp_path / "a.JPG")
    assert np.abs(read_image(tmp_path / "a.JPG").pixels.astype(int) - 77).max() <= 1


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bits_survive_in_gray_and_in_color(tmp_path: Path, ending: str) -> None:
    """Pillow would keep only the upper byte of 16-bit colors."""
    color = np.stack([GRAY16, GRAY16 + 1, GRAY16 + 2], axis=-1)
    Image.fromarray(GRAY16).save(tmp_path / f"gray.{ending}")
    sitk.WriteImage(sitk.GetImageFromArray(color, isVector=True), tmp_path / f"color.{ending}")
    assert np.array_equal(read_image(tmp_path / f"gray.{ending}").pixels[0], GRAY16)
    assert np.array_equal(read_image(tmp_path / f"color.{ending}").pixels[0], color)


def test_transparency_is_dropped(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([COLOR, 255 - GRAY])).save(tmp_path / "a.png")
    Image.fromarray(np.dstack([GRAY, 255 - GRAY])).save(tmp_path / "la.png")
    assert np.array_equal(read_image(tmp_path / "a.png").pixels[0], COLOR)
    assert np.array_equal(read_image(tmp_path / "la.png").pixels[0], GRAY)


def test_a_palette_is_colors_in_an_image_and_codes_in_a_label(tmp_path: Path) -> None:
    codes = np.array([[0, 1], [2, 1]], np.uint8)
    picture = Image.fromarray(codes).convert("P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    picture.save(tmp_path / "a.png")
    assert np.array_equal(read_codes(tmp_path / "a.png").pixels[0], codes)
    assert read_image(tmp_path / "a.png").pixels[0, 0, 1].tolist() == [255, 0, 0]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_are_spread_in_an_image_and_kept_in_a_label(tmp_path: Path, bits: int) -> None:
    """Code 1 of 1, 3 or 15 is the gray 255, 85 or 17."""
    codes = np.array([[0, 1], [1, 0]], np.uint8)
    path = tmp_path / "a.png"
    if bits == 1:
        Image.fromarray(codes.astype(bool)).save(path)
    else:
        packed = (codes.astype(int) << np.array([8 - bits, 8 - 2 * bits])).sum(1)
        path.write_bytes(gray_png(2, 2, bits, b"".join(bytes([0, row]) for row in packed)))
    assert np.array_equal(read_codes(path).pixels[0], codes)
    assert read_image(path).pixels.max() == 255 // (2**bits - 1)


def test_booleans_are_black_and_white_in_an_image_and_0_and_1_in_a_label(tmp_path: Path) -> None:
    codes = np.array([[False, True], [True, False]])
    np.save(tmp_path / "a.npy", codes)
    assert np.array_equal(to_unit(read_image(tmp_path / "a.npy"))[0, ..., 0], codes)
    assert np.array_equal(read_codes(tmp_path / "a.npy").pixels[0], codes)


def test_three_equal_channels_are_one_in_a_label(tmp_path: Path) -> None:
    Image.fromarray(np.stack([GRAY] * 3, axis=-1)).save(tmp_path / "a.png")
    assert np.array_equal(read_codes(tmp_path / "a.png").pixels, GRAY[None])


def test_remap_changes_only_the_codes_it_names(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1], [128, 255]], np.uint8)).save(tmp_path / "a.png")
    codes = read_codes(tmp_path / "a.png").pixels
    label = decode(codes, Decode(((255, 0), (128, 2))), tmp_path / "a.png")
    assert label.tolist() == [[[0, 1], [2, 0]]]
    assert label.dtype == np.uint8


def test_whole_floats_are_labels_and_fractions_are_not(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[0.0, 2.0], [1.0, 0.0]]))
    assert read_codes(tmp_path / "a.npy").pixels.tolist() == [[[0, 2], [1, 0]]]
    np.save(tmp_path / "b.npy", np.array([[0.0, 0.5], [1.0, 0.0]]))
    with pytest.raises(UserError, match=r"0\.5 and other fractions"):
        read_codes(tmp_path / "b.npy")


def test_a_volume_is_cut_along_its_thickest_spacing_unless_told(tmp_path: Path) -> None:
    """Spacing 1, 4, 2 mm: the 5 columns of axis 1 become slices."""
    path = save_nifti(tmp_path / "v.nii.gz", np.zeros((4, 5, 6), np.int16), np.diag([1, 4, 2, 1]))
    stack = read_image(path)
    assert (stack.axis, stack.volume, stack.pixels.shape) == (1, True, (5, 6, 4))
    assert stack.spacing == (4.0, 2.0, 1.0)
    assert slice_count(path) == 5
    assert slice_count(path, slice_axis=0) == 4
    assert read_image(path, slice_axis=2).axis == 2


def test_upright_slices_do_not_depend_on_how_a_tool_stored_them(tmp_path: Path) -> None:
    """The same body stored in three axis orders gives the same slices."""
    rng = np.random.default_rng(0)
    first = nib.Nifti1Image(rng.integers(0, 99, (4, 5, 3)).astype(np.int16), np.diag([1, 1, 3, 1]))
    seen = []
    for code in ("RAS", "LPS", "PRS"):
        target = nib.orientations.axcodes2ornt(tuple(code))
        turned = first.as_reoriented(
            nib.orientations.ornt_transform(nib.io_orientation(first.affine), target)
        )
        nib.save(turned, tmp_path / f"{code}.nii")
        seen.append(read_image(tmp_path / f"{code}.nii").pixels)
    assert np.array_equal(seen[0], seen[1])
    assert np.array_equal(seen[0], seen[2])
    # LPS is how scanners show an axial slice: rows to the back, columns to the patient's left.
    stored = np.asarray(nib.load(tmp_path / "LPS.nii").dataobj)
    assert np.array_equal(seen[0], stored.transpose(2, 1, 0))


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(*[st.integers(2, 5)] * 3),
    zooms=st.tuples(*[st.sampled_from([0.5, 1.0, 3.0])] * 3),
    turn=st.permutations([0, 1, 2]),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    axis=st.sampled_from([None, 0, 1, 2]),
)
def test_a_mask_of_a_volume_has_its_shape_axes_and_affine(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int],
    zooms: tuple[float, float, float],
    turn: list[int],
    signs: tuple[int, int, int],
    axis: int | None,
) -> None:
    """Whatever the storage order, writing what was read gives the stored array back."""
    folder = tmp_path_factory.mktemp("v")
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3)[:, turn] * signs) * zooms
    affine[:3, 3] = (10, -20, 5)
    data = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    path = save_nifti(folder / "image.nii.gz", data, affine)
    stack = read_image(path, slice_axis=axis)
    written = write_label(folder / "mask.png", stack.pixels, stack)
    assert written == folder / "mask.nii.gz"
    image, mask = nib.load(path), nib.load(written)
    assert np.array_equal(np.asarray(mask.dataobj), data)
    assert np.array_equal(mask.affine, image.affine)
    assert mask.header.get_zooms() == image.header.get_zooms()
    assert mask.get_data_dtype() == np.uint8


def test_a_mask_keeps_units_and_codes_of_the_header_and_drops_scaling(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.linspace(0, 1, 60).reshape(4, 5, 3), np.diag([1, 1, 2, 1]))
    image.header.set_xyzt_units("mm")
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    image.header.set_slope_inter(0.25, 7)
    image.header["cal_max"] = 800
    nib.save(image, tmp_path / "a.nii")
    stack = read_image(tmp_path / "a.nii")
    label = np.ones(stack.pixels.shape, np.uint8)
    mask = nib.load(write_label(tmp_path / "m.nii", label, stack))
    assert mask.header.get_xyzt_units()[0] == "mm"
    assert (int(mask.header["sform_code"]), int(mask.header["qform_code"])) == (1, 1)
    assert np.unique(np.asarray(mask.dataobj)).tolist() == [1]
    assert float(mask.header["cal_max"]) == 0


def test_2d_and_single_slice_nifti_come_back_in_their_own_shape(tmp_path: Path) -> None:
    for shape in ((4, 5), (4, 5, 1), (4, 1, 5), (4, 5, 3, 1)):
        data = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        path = save_nifti(tmp_path / "a.nii.gz", data, np.diag([0.5, 0.5, 3, 1]))
        stack = read_image(path)
        mask = nib.load(write_label(tmp_path / "m.nii.gz", stack.pixels, stack))
        assert np.array_equal(np.squeeze(mask.dataobj), np.squeeze(data))
        assert mask.shape == (shape[:3] if len(shape) == 4 else shape)
    flat = read_image(save_nifti(tmp_path / "b.nii", np.zeros((4, 5), "i2"), np.diag([2, 3, 1, 1])))
    assert flat.spacing == (0.0, 3.0, 2.0)


def test_one_time_point_of_a_4d_nifti_is_a_volume_and_so_is_its_mask(tmp_path: Path) -> None:
    """What docs/data.md says of the shape (5, 4, 3, 1): the mask has no fourth axis."""
    path = save_nifti(tmp_path / "a.nii", np.zeros((5, 4, 3, 1), np.int16), np.eye(4))
    stack = read_image(path)
    written = write_label(tmp_path / "m.nii", np.zeros(stack.pixels.shape, np.uint8), stack)
    assert nib.load(written).shape == (5, 4, 3)


def test_micrometers_become_millimeters(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((4, 5, 3), np.int16), np.diag([500, 500, 2000, 1]))
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "a.nii")
    assert read_image(tmp_path / "a.nii").spacing == (2.0, 0.5, 0.5)


def spoiled(path: Path, at: int, *numbers: float) -> Path:
    """A NIfTI of 4 x 5 x 6 voxels, 1 x 1.5 x 8 mm, with 32-bit floats of its header changed."""
    data = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    content = bytearray(nib.Nifti1Image(data, np.diag([1, 1.5, 8, 1])).to_bytes())
    content[at : at + 4 * len(numbers)] = struct.pack(f"<{len(numbers)}f", *numbers)
    path.write_bytes(content)
    return path


PIXDIM_Z, SFORM = 88, 280
"""Bytes of the NIfTI-1 header."""


@pytest.mark.parametrize("stated", [0.0, -8.0, float("nan"), 1.0])
def test_spacing_is_that_of_the_sform_where_the_header_has_none(
    tmp_path: Path, stated: float, capfd: pytest.CaptureFixture[str]
) -> None:
    """The sform says 8 mm; a mask gets the spacing that was used, and nothing is printed."""
    stack = read_image(spoiled(tmp_path / "a.nii", PIXDIM_Z, stated))
    assert (stack.spacing, stack.axis) == ((8.0, 1.5, 1.0), 2)
    mask = nib.load(write_label(tmp_path / "m.nii", stack.pixels, stack))
    assert mask.header.get_zooms() == (1, 1.5, 8)
    assert mask.affine[2, 2] == 8
    assert capfd.readouterr() == ("", "")


def test_a_spacing_that_the_sform_contradicts_stays(tmp_path: Path) -> None:
    """6 mm between slices is a size: which of the two is right nobody knows."""
    stack = read_image(spoiled(tmp_path / "a.nii", PIXDIM_Z, 6.0))
    assert stack.spacing == (6.0, 1.5, 1.0)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_an_affine_that_is_no_number_is_refused(tmp_path: Path, number: float) -> None:
    """A mask could not be written with it."""
    with pytest.raises(UserError, match="NaN or infinite numbers") as caught:
        read_image(spoiled(tmp_path / "a.nii", SFORM, number))
    assert caught.value.found == "an affine with NaN or infinite numbers"


def test_npy_is_a_picture_a_color_picture_or_a_volume(tmp_path: Path) -> None:
    """A last axis of 3 is color, or of 4 in 8 bits, the last of which is transparency.

    Else three axes are a volume, cut along the shortest.
    """
    for name, shape, expected, axis in (
        ("flat", (4, 5), (1, 4, 5), None),
        ("color", (4, 5, 3), (1, 4, 5, 3), None),
        ("transparent", (4, 5, 4), (1, 4, 5, 3), None),
        ("first", (2, 4, 5), (2, 4, 5), 0),
        ("last", (6, 7, 5), (5, 6, 7), 2),
    ):
        data = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        np.save(tmp_path / f"{name}.npy", data)
        stack = read_image(tmp_path / f"{name}.npy")
        assert (stack.pixels.shape, stack.axis) == (expected, axis)
        if axis is not None:
            written = write_label(tmp_path / "m.npy", stack.pixels, stack)
            assert np.array_equal(np.load(written), data)
    np.save(tmp_path / "four.npy", np.zeros((6, 7, 4), np.float32))
    assert read_image(tmp_path / "four.npy").pixels.shape == (4, 6, 7)


def test_a_picture_gets_a_png_of_class_indices(tmp_path: Path) -> None:
    Image.fromarray(COLOR).save(tmp_path / "scan.v2.jpg")
    label = (GRAY % 3)[None]
    written = write_label(
        tmp_path / "out" / "scan.v2.jpg", label, read_image(tmp_path / "scan.v2.jpg")
    )
    assert written == tmp_path / "out" / "scan.v2.png"
    with Image.open(written) as picture:
        assert picture.mode == "L"
    assert np.array_equal(read_codes(written).pixels, label)
    assert [p.name for p in written.parent.iterdir()] == ["scan.v2.png"]


def test_probabilities_are_a_4d_nifti_beside_nifti_and_npy_beside_a_picture(tmp_path: Path) -> None:
    data = np.arange(60, dtype=np.int16).reshape(4, 5, 3)
    stack = read_image(save_nifti(tmp_path / "a.nii.gz", data, np.diag([1, 1, 3, 1])))
    soft = np.stack([stack.pixels / 60, 1 - stack.pixels / 60]).astype(np.float32)
    volume = nib.load(write_probabilities(tmp_path / "p.nii.gz", soft, stack))
    assert volume.shape == (4, 5, 3, 2)
    assert np.allclose(volume.dataobj[..., 0], data / 60)
    Image.fromarray(GRAY).save(tmp_path / "b.png")
    soft = np.zeros((2, 1, 4, 5), np.float32)
    path = write_probabilities(tmp_path / "b.png", soft, read_image(tmp_path / "b.png"))
    assert np.load(path).shape == (2, 1, 4, 5)


def test_8_bits_are_divided_by_255_and_the_rest_is_windowed() -> None:
    def stack(values: object, dtype: str) -> Stack:
        return Stack(np.array(values, dtype).reshape(1, 1, -1), None, None, None, False)

    assert to_unit(stack([0, 51, 255], "u1")).ravel().tolist() == pytest.approx([0, 0.2, 1])
    for dtype in ("i2", "u2", "i4", "f4"):
        unit = to_unit(stack(np.arange(1001) + 500, dtype))
        assert unit.shape == (1, 1, 1001, 1)
        # 0.5 % and 99.5 % of 0..1000 are 5 and 995: the middle stays the middle.
        assert unit[0, 0, 500, 0] == pytest.approx(0.5, abs=0.002)
        assert (unit.min(), unit.max()) == (0, 1)
        assert unit[0, 0, 5, 0] == pytest.approx(0, abs=0.002)
    assert to_unit(stack([7, 7, 7], "i2")).tolist() == [[[[0], [0], [0]]]]


def _text(path: Path) -> None:
    path.write_text("this is not an image, whatever its name says")


def _half(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    if path.suffix == ".npy":
        np.save(path, noise)
    elif ".nii" in path.name:
        nib.save(nib.Nifti1Image(noise, np.eye(4)), path)
    else:
        Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


ENDINGS = ("png", "jpg", "tif", "bmp", "nii", "nii.gz", "npy")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("spoil", [_text, _half, Path.touch])
def test_text_half_and_empty_files_are_refused(
    tmp_path: Path, ending: str, spoil: Callable[[Path], None]
) -> None:
    path = tmp_path / f"bad file.{ending}"
    spoil(path)
    with pytest.raises(UserError, match="cannot read image") as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    with pytest.raises(UserError, match="cannot read mask"):
        read_codes(path)
    if spoil is Path.touch:
        assert caught.value.found == "an empty file (0 bytes)"


def test_files_that_cannot_be_images_say_why(tmp_path: Path) -> None:
    Image.new("L", (1, 1)).save(tmp_path / "one.png")
    (tmp_path / "large.png").write_bytes(gray_png(8200, 8200, 8, b""))
    (tmp_path / "bomb.png").write_bytes(gray_png(60000, 60000, 8, b""))
    frames = [Image.new("L", (4, 4)), Image.new("L", (4, 4))]
    frames[0].save(tmp_path / "pages.tif", save_all=True, append_images=frames[1:])
    save_nifti(tmp_path / "time.nii", np.zeros((4, 4, 4, 2), np.int16), np.eye(4))
    nan = np.zeros((4, 4, 4), np.float32)
    nan[1, 2, 3] = np.nan
    save_nifti(tmp_path / "nan.nii.gz", nan, np.eye(4))
    np.save(tmp_path / "inf.npy", np.array([[1.0, np.inf], [0.0, 0.0]]))
    np.save(tmp_path / "complex.npy", np.ones((4, 4)) * 1j)
    np.save(tmp_path / "none.npy", np.zeros((0, 64, 64), np.uint8))
    (tmp_path / "scan.dcm").write_bytes(b"DICM")
    (tmp_path / "folder.png").mkdir()
    for name, found in {
        "one.png": "1 x 1 pixels",
        "large.png": "8200 x 8200 pixels",
        "bomb.png": "3,600,000,000 pixels",
        "pages.tif": "2 pages",
        "time.nii": "4 axes: 4 x 4 x 4 x 2",
        "nan.nii.gz": "1 values that are NaN or infinite",
        "inf.npy": "1 values that are NaN or infinite",
        "complex.npy": "values of type complex128",
        "none.npy": "0 x 64 x 64 pixels",
        "scan.dcm": "the ending .dcm",
        "folder.png": "a folder",
        "nowhere.png": "no such file",
    }.items():
        with pytest.raises(UserError) as caught:
            read_image(tmp_path / name)
        assert caught.value.found == found


@pytest.mark.parametrize("ending", ["tif", "jpg", "png"])
def test_a_picture_that_viewers_turn_is_refused(tmp_path: Path, ending: str) -> None:
    """6 is a quarter turn; 1 is none, and neither is 0, which no standard knows."""
    path = tmp_path / f"a.{ending}"
    for tag in (0, 1):
        Image.fromarray(GRAY).save(path, exif=orientation(tag))
        assert read_image(path).pixels.shape[:3] == (1, *GRAY.shape)
    Image.fromarray(GRAY).save(path, exif=orientation(6))
    for read in (read_image, read_codes, read_geometry):
        what = "mask" if read is read_codes else "image"
        with pytest.raises(UserError, match=f"cannot read {what}") as caught:
            read(path)
        kind = {"tif": "TIFF", "jpg": "JPEG", "png": "PNG"}[ending]
        assert caught.value.found == f"a {kind} with the orientation tag 6"


def test_damaged_tags_do_not_make_a_picture_unreadable(tmp_path: Path) -> None:
    Image.fromarray(GRAY).save(tmp_path / "a.jpg", exif=b"Exif\0\0not tags at all")
    assert read_image(tmp_path / "a.jpg").pixels.shape == (1, *GRAY.shape)


def orientation(tag: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = tag
    return exif


def test_a_label_in_colors_is_refused(tmp_path: Path) -> None:
    Image.fromarray(COLOR).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="in colors"):
        decode(read_codes(tmp_path / "a.png").pixels, Decode(), tmp_path / "a.png")


def test_an_axis_that_leaves_lines_is_refused(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", np.zeros((4, 5, 1), np.int16), np.eye(4))
    with pytest.raises(UserError, match="along axis 0"):
        read_image(path, slice_axis=0)


def test_a_volume_of_equal_spacing_is_cut_along_its_last_axis(tmp_path: Path) -> None:
    """Head to feet in most files; also where rounding makes another one the thickest."""
    for zooms in ((1, 1, 1), (1.001, 1, 1)):
        path = save_nifti(
            tmp_path / "v.nii.gz", np.zeros((4, 5, 6), np.int16), np.diag([*zooms, 1])
        )
        assert read_image(path).axis == 2
