"""Which label files lie on their images: held against what SimpleITK and nibabel make of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from synfoc.config import Data
from synfoc.errors import UserError
from synfoc.images.cases import load_cases, load_image, load_label
from synfoc.images.check import check_data
from synfoc.images.files import read_image, write_label

SCAN = np.array([[-0.8, 0, 0, 40], [0, -0.9, 0, 30], [0, 0, 5, -20], [0, 0, 0, 1.0]])
SHAPE = (9, 8, 4)
OBJECT = np.zeros(SHAPE, np.uint8)
OBJECT[5:8, 1:4, 1:3] = 1
"""Off center along every axis, so that any turn moves it."""


def moved(*mm: float) -> np.ndarray:
    """The place of the scan, moved in the world."""
    affine = SCAN.copy()
    affine[:3, 3] += mm
    return affine


def nifti(
    data: np.ndarray,
    *,
    sform: np.ndarray | None = None,
    qform: np.ndarray | None = None,
    codes: tuple[int, int] = (0, 0),
) -> Any:
    """A file with the codes of (sform, qform)."""
    image = nib.Nifti1Image(data, None)
    image.header.set_zooms((0.8, 0.9, 5.0)[: data.ndim])
    if qform is not None:
        image.set_qform(qform, codes[1])
    if sform is not None:
        image.set_sform(sform, codes[0])
    image.header["sform_code"], image.header["qform_code"] = codes
    return image


def by_itk(root: Path, data: np.ndarray = OBJECT) -> None:
    """A label as ITK-SNAP and SimpleITK save it: the geometry of the image as ITK reads it."""
    label = sitk.GetImageFromArray(data.transpose(*reversed(range(data.ndim))))
    label.CopyInformation(sitk.ReadImage(str(next((root / "image").iterdir()))))
    sitk.WriteImage(label, str(root / "mask/1.nii.gz"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set of one pair, still empty."""
    for part in ("image", "mask"):
        (tmp_path / part).mkdir()
    return tmp_path


def scan(root: Path, image: Any) -> None:
    """Save the image of the pair: bright where the object is."""
    nib.save(image, root / "image/1.nii.gz")


def on_object(root: Path) -> bool:
    """Whether the label covers exactly the bright pixels of its image."""
    table = load_cases(Data(path=root))
    image = load_image(table.cases[0])
    for like in (image, None):
        label = load_label(table.cases[0], table, like=like)
        assert label.pixels.shape == image.pixels.shape[:3]
        if not np.array_equal(label.pixels > 0, image.pixels > 150):
            return False
    return True


BRIGHT = (OBJECT * 180 + 20).astype(np.int16)


@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (1, 2), (3, 4), (4, 2)])
@pytest.mark.parametrize("label", ["itk", "nibabel", "copied header"])
def test_two_places_in_one_header_do_not_part_a_label_from_its_image(
    root: Path, codes: tuple[int, int], label: str
) -> None:
    """Qform and sform lie 12 mm apart; each tool writes the one that it goes by."""
    scan(root, nifti(BRIGHT, sform=SCAN, qform=moved(12, -7, 15), codes=codes))
    image = nib.load(root / "image/1.nii.gz")
    if label == "itk":
        by_itk(root)
    elif label == "nibabel":
        nib.save(nib.Nifti1Image(OBJECT, image.affine), root / "mask/1.nii.gz")
    else:
        header = image.header.copy()
        header.set_data_dtype(np.uint8)
        nib.save(nib.Nifti1Image(OBJECT, None, header), root / "mask/1.nii.gz")
    assert on_object(root)
    (note,) = (n for n in check_data(Data(path=root)).notes if "disagree" in n)
    assert "by up to 15 voxels: 1, e.g. 1;" in note  # 12 / 0.8; 7 / 0.9 and 15 / 5 are fewer


def test_a_label_stored_in_another_order_is_turned_with_its_affine(root: Path) -> None:
    """3D Slicer shows the two on top of each other: nothing has to be resampled."""
    scan(root, nib.Nifti1Image(BRIGHT, SCAN))
    stored = nib.Nifti1Image(OBJECT, SCAN)
    for order in ("RAS", "LPS", "PSR", "IAL", "SLP"):
        turn = nib.orientations.ornt_transform(
            nib.io_orientation(SCAN), nib.orientations.axcodes2ornt(tuple(order))
        )
        nib.save(stored.as_reoriented(turn), root / "mask/1.nii.gz")
        assert on_object(root), order


def test_a_label_that_the_two_forms_turn_otherwise_is_refused(root: Path) -> None:
    """By the sform the label is the image's mirror image, by the qform it is turned twice."""
    mirror = np.diag([-1.0, 1, 1, 1])
    mirror[0, 3] = SHAPE[0] - 1
    upside = np.diag([1.0, -1, 1, 1])
    upside[1, 3] = SHAPE[1] - 1
    scan(root, nifti(BRIGHT, sform=SCAN, qform=SCAN @ mirror @ upside, codes=(2, 1)))
    nib.save(nib.Nifti1Image(OBJECT, SCAN @ mirror), root / "mask/1.nii.gz")
    with pytest.raises(UserError, match="in several ways"):
        on_object(root)


@pytest.mark.parametrize("bare", ["image", "label", "both"])
def test_files_without_a_place_are_taken_voxel_by_voxel_and_told(root: Path, bare: str) -> None:
    """MATLAB's make_nii and nibabel without an affine write neither qform nor sform."""
    bare_scan = nifti(BRIGHT)
    scan(root, nib.Nifti1Image(BRIGHT, SCAN) if bare == "label" else bare_scan)
    if bare == "image":
        by_itk(root)
    else:
        nib.save(nib.Nifti1Image(OBJECT, None), root / "mask/1.nii.gz")
    assert on_object(root)
    notes = " ".join(check_data(Data(path=root)).notes)
    assert "a NIfTI file states no place" in notes
    assert ("NIfTI images without qform and sform: 1" in notes) == (bare != "label")


def test_a_mask_of_an_image_without_a_place_lies_on_it_in_itk(root: Path) -> None:
    scan(root, nifti(BRIGHT))
    stack = read_image(root / "image/1.nii.gz")
    path = write_label(root / "m.nii.gz", (stack.pixels > 150).astype(np.uint8), stack)
    image, mask = (sitk.ReadImage(str(p)) for p in (root / "image/1.nii.gz", path))
    assert (image.GetOrigin(), image.GetDirection()) == (mask.GetOrigin(), mask.GetDirection())
    assert np.array_equal(sitk.GetArrayFromImage(mask), OBJECT.transpose(2, 1, 0))
    header = nib.load(path).header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 0)


@pytest.mark.parametrize("codes", [(2, 1), (1, 1)])
def test_a_mask_gets_both_places_of_its_image(root: Path, codes: tuple[int, int]) -> None:
    """Whatever tool reads the two, it shows them on top of each other."""
    scan(root, nifti(BRIGHT, sform=SCAN, qform=moved(12, -7, 15), codes=codes))
    stack = read_image(root / "image/1.nii.gz")
    path = write_label(root / "m.nii.gz", np.zeros(stack.pixels.shape, np.uint8), stack)
    before, after = (nib.load(p).header for p in (root / "image/1.nii.gz", path))
    assert np.array_equal(before.get_sform(), after.get_sform())
    assert np.array_equal(before.get_qform(), after.get_qform())
    assert codes == (int(after["sform_code"]), int(after["qform_code"]))


@pytest.mark.parametrize("length", [1.000002, 1.0001, 0.9999, 0.99])
def test_a_quaternion_off_by_rounding_is_read_as_itk_reads_it(root: Path, length: float) -> None:
    """Its squares add up to a hair more than 1; sform_code is 0, as in the MICCAI 2012 atlas."""
    affine = np.array([[0.0, 1, 0, -10], [1, 0, 0, -20], [0, 0, -5, 30], [0, 0, 0, 1]])
    image = nifti(BRIGHT, qform=affine, codes=(0, 1))
    raw = bytearray(image.to_bytes())
    raw[256:264] = np.full(2, np.sqrt(length / 2), "<f4").tobytes()
    (root / "image/1.nii").write_bytes(raw)
    by_itk(root)
    assert on_object(root)
    stack = read_image(root / "image/1.nii")
    path = write_label(root / "m.nii.gz", np.zeros(stack.pixels.shape, np.uint8), stack)
    own, mask = (sitk.ReadImage(str(p)) for p in (root / "image/1.nii", path))
    assert np.allclose(own.GetDirection(), mask.GetDirection())
    assert np.allclose(own.GetOrigin(), mask.GetOrigin())


@pytest.mark.parametrize("unit", [4, 7, 5 + 8, 2 + 64])
def test_units_that_the_standard_does_not_have_are_millimeters(root: Path, unit: int) -> None:
    """Codes 4 to 7 of space and 56 and 64 of time stand in no table."""
    image = nib.Nifti1Image(BRIGHT, SCAN)
    raw = bytearray(image.to_bytes())
    raw[123] = unit
    (root / "image/1.nii").write_bytes(raw)
    assert read_image(root / "image/1.nii").spacing == (5.0, 0.9, 0.8)
    by_itk(root)
    assert on_object(root)


def test_an_sform_of_zeros_is_no_place(root: Path) -> None:
    """The qform counts then."""
    scan(root, nifti(BRIGHT, sform=np.diag([0, 0, 0, 1.0]), qform=SCAN, codes=(1, 1)))
    nib.save(nib.Nifti1Image(OBJECT, SCAN), root / "mask/1.nii.gz")
    assert on_object(root)


def test_no_message_advises_what_would_move_a_label(root: Path) -> None:
    """12 mm off: whether the affine or the mask is wrong only a person can see."""
    scan(root, nib.Nifti1Image(BRIGHT, SCAN))
    nib.save(nib.Nifti1Image(OBJECT, moved(0, 0, 12)), root / "mask/1.nii.gz")
    with pytest.raises(UserError, match="off its image") as caught:
        on_object(root)
    assert caught.value.fix.index("give it the affine") < caught.value.fix.index("resample")
    assert "open both in ITK-SNAP or 3D Slicer" in caught.value.fix


FLAT = OBJECT[:, :, 1]
Save = Callable[[Path], object]


def png(data: np.ndarray) -> Save:
    """Save rows and columns as a picture."""
    return lambda path: Image.fromarray(data.astype(np.uint8)).save(path)


def nii(data: np.ndarray, affine: np.ndarray | None) -> Save:
    """Save an array as it is."""
    return lambda path: nib.save(nib.Nifti1Image(data.astype(np.uint8), affine), path)


ITK_PLACE = np.diag([-0.3, -0.3, 1, 1])
GRAY = FLAT * 180 + 20


@pytest.mark.parametrize(
    ("image", "label", "fits"),
    [
        # (x, y) of NIfTI are columns and rows of the picture.
        (png(GRAY.T), nii(FLAT, ITK_PLACE), True),
        (png(GRAY.T), nii(FLAT[..., None], ITK_PLACE), True),
        (png(GRAY.T), nii(FLAT, None), True),
        (png(GRAY.T), nii(FLAT, np.eye(4)), False),
        (png(GRAY), nii(FLAT, np.eye(4)), False),
        (png(GRAY), nii(FLAT, None), False),
        (png(GRAY), nii(FLAT, ITK_PLACE), False),
        (png(GRAY.T), nii(FLAT, np.diag([-1.0, 1, 1, 1])), False),
        (nii(GRAY, ITK_PLACE), png(FLAT.T), True),
        (nii(GRAY, None), png(FLAT.T), True),
        (nii(GRAY, np.eye(4)), png(FLAT.T), False),
        (nii(GRAY, np.eye(4)), png(FLAT), False),
        (nii(GRAY, ITK_PLACE), png(FLAT), False),
    ],
)
def test_a_picture_and_a_nifti_lie_as_itk_places_pictures_or_are_refused(
    root: Path, image: Save, label: Save, fits: bool
) -> None:
    kinds = [".png" if "png" in each.__qualname__ else ".nii.gz" for each in (image, label)]
    image(root / f"image/1{kinds[0]}")
    label(root / f"mask/1{kinds[1]}")
    if fits:
        assert on_object(root)
    else:
        with pytest.raises(UserError, match=r"nobody can know|other size|other axes"):
            on_object(root)


def test_a_label_that_itk_saves_for_a_picture_fits(root: Path) -> None:
    Image.fromarray(GRAY.T.astype(np.uint8)).save(root / "image/1.png", dpi=(300, 300))
    by_itk(root, FLAT)
    assert on_object(root)


def test_planes_are_told(root: Path) -> None:
    """One site stores thick axial slices, the other thick sagittal ones; a third is isotropic."""
    for name, zooms in (("a", (1, 1, 5)), ("b", (5, 1, 1)), ("c", (1, 1, 1))):
        nib.save(nib.Nifti1Image(BRIGHT, np.diag([*zooms, 1])), root / f"image/{name}.nii.gz")
    notes = " ".join(check_data(Data(path=root)).notes)
    assert "different planes: 2 axial, 1 sagittal; data.slice_axis = axial" in notes
    assert "volumes of equal spacing: 1, e.g. c; cut in axial slices" in notes
    told = " ".join(check_data(Data(path=root, slice_axis="axial")).notes)
    assert "planes" not in told
    assert "equal spacing" not in told
