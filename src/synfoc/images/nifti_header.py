"""What a NIfTI header says of size and place: voxel size, units, qform and sform.

A header may state two places: the qform (the scanner's) and the sform (often another, aligned
space). Tools choose differently: nibabel and FSL take the sform, ITK (3D Slicer, ITK-SNAP,
SimpleITK) the qform unless the sform's code is 1. Both are kept here; alignment.py compares them.
"""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

MILLIMETERS = {1: 1000.0, 2: 1.0, 3: 0.001}
"""Code of the spatial unit -> mm: meter, millimeter, micron. Other codes state no unit."""
UNIT_BITS = 8
"""The spatial unit is the field `xyzt_units` modulo this; the rest is the unit of time."""
LONGEST = 1.001
"""Squared length of a quaternion that rounding explains; it turns by 0.03 degrees then."""
Affine = NDArray[np.float64]


class _Quaternion:
    """Reads a quaternion that rounding made a hair longer than 1, as ITK and FSL do."""

    def get_qform_quaternion(self) -> NDArray[np.float64]:
        """Return (w, x, y, z) of length 1.

        Raises:
            ValueError: longer than rounding explains, or no numbers.
        """
        x, y, z = (float(self[f"quatern_{letter}"]) for letter in "bcd")  # type: ignore[index]
        length = x * x + y * y + z * z
        if not length < LONGEST:
            raise ValueError(f"a quaternion of squared length {length:g}, where 1 is the most")
        if length > 1:
            return np.array([0.0, x, y, z]) / float(np.sqrt(length))
        return np.array([np.sqrt(1 - length), x, y, z])


class NiftiHeader(_Quaternion, nib.Nifti1Header):  # type: ignore[misc]
    """A NIfTI-1 header."""


class Nifti2Header(_Quaternion, nib.Nifti2Header):  # type: ignore[misc]
    """A NIfTI-2 header."""


class NiftiImage(nib.Nifti1Image):  # type: ignore[misc]
    """A NIfTI-1 file with `NiftiHeader`."""

    header_class = NiftiHeader


class Nifti2Image(nib.Nifti2Image):  # type: ignore[misc]
    """A NIfTI-2 file with `Nifti2Header`."""

    header_class = Nifti2Header


def image_class(header: Any) -> type[NiftiImage | Nifti2Image]:
    """Return the class that writes a file with this header unchanged."""
    return Nifti2Image if isinstance(header, nib.Nifti2Header) else NiftiImage


def stated_places(header: Any) -> tuple[Affine, ...]:
    """Return the affines that a header states, the one that nibabel prefers first.

    Args:
        header: of a NIfTI file.

    Returns:
        Sform and qform, those with a code above 0 that can be inverted; one where both agree.

    Raises:
        ValueError: a stated affine holds NaN or infinite numbers, and no other one is stated.
    """
    found: list[Affine] = []
    unusable = False
    for code, read in (("sform_code", header.get_sform), ("qform_code", header.get_qform)):
        if int(header[code]) <= 0:
            continue
        try:
            stated = read()
        except (ValueError, HeaderDataError):  # a quaternion of no rotation
            continue
        affine = _whole(np.asarray(stated, np.float64), len(header.get_data_shape()))
        if not np.isfinite(affine).all():
            unusable = True
        elif np.linalg.matrix_rank(affine[:3, :3]) == 3 and not _is_near(affine, found):
            found.append(affine)
    if unusable and not found:
        raise ValueError("an affine with NaN or infinite numbers")
    return tuple(found)


def _whole(affine: Affine, axes: int) -> Affine:
    """Give a flat image, whose third axis may have no size, a third direction."""
    if axes < 3 and not affine[:3, 2].any():
        affine = affine.copy()
        affine[:3, 2] = np.cross(affine[:3, 0], affine[:3, 1])
    return affine


def _is_near(affine: Affine, others: list[Affine]) -> bool:
    return any(np.allclose(affine, other, atol=1e-3) for other in others)


def default_place(sizes: tuple[float, ...] | None) -> Affine:
    """Return the place that ITK gives a file that states none: as stored, the origin at 0.

    Its first axis runs to the patient's left, its second to posterior, its third upward.
    """
    x, y, z = (*(sizes or ()), 1.0, 1.0, 1.0)[:3]
    return np.diag([-x, -y, z, 1.0])


def unit_in_mm(header: Any) -> float | None:
    """Return the millimeters per unit of the affine; None where the header states no known unit."""
    return MILLIMETERS.get(int(header["xyzt_units"]) % UNIT_BITS)


def voxel_size(header: Any, axes: int) -> tuple[Any, tuple[float, ...] | None]:
    """Return a header with a usable voxel size, and that size in mm; None where it has none.

    Args:
        header: as nibabel read it; a copy is mended.
        axes: so many sizes are given.
    """
    header = _mended(header)
    to_mm = unit_in_mm(header) or 1.0
    zooms = tuple(round(float(z) * to_mm, 6) for z in header.get_zooms()[:axes])
    known = all(np.isfinite(z) and z > 0 for z in zooms)
    return header, zooms if known else None


def _mended(header: Any) -> Any:
    """Return the header, with the voxel size of its sform where its own is no size.

    nibabel reports 1 for a stored 0, and the absolute value for a negative size. So a size is
    replaced if it is not finite, or is 1 while the sform says otherwise.
    """
    if not header["sform_code"]:
        return header
    stated = header["pixdim"][1:4]
    sizes = np.linalg.norm(header.get_sform()[:3, :3], axis=0)
    unusable = ~np.isfinite(stated) | ((stated == 1) & ~np.isclose(sizes, 1, rtol=0.01))
    unusable &= sizes > 0
    if unusable.any():
        header = header.copy()
        header["pixdim"][1:4] = np.where(unusable, sizes, stated)
    return header
