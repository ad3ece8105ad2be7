"""NIfTI volumes of three and four axes: one 3-D frame of a file, and a frame as a file."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from synfoc.errors import UserError
from synfoc.images.files import nifti_bytes
from synfoc.images.formats import Source
from synfoc.images.nifti import is_packed, load_nifti
from synfoc.images.nifti_header import stated_places, voxel_size

DAMAGED = (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError)


def read_frame(path: Path, frame: int | None = None) -> tuple[NDArray[Any], Source]:
    """One volume of a NIfTI file, integers as they are, fractions in 32 bits.

    Args:
        path: .nii or .nii.gz.
        frame: index along the fourth axis; None: the file has three (or a fourth of length 1).

    Returns:
        (x, y, z), and what the header says of these three axes.

    Raises:
        UserError: damaged, another number of axes, no such frame, values that are not finite.
    """
    try:
        image = load_nifti(path, packed=is_packed(path))
        shape = image.shape
        if frame is None and shape[3:] == (1,):
            frame = 0
        fits = len(shape) == 3 if frame is None else len(shape) == 4 and frame < shape[3]
        if fits:
            data = np.asarray(image.dataobj if frame is None else image.dataobj[..., frame])
            header, zooms = voxel_size(image.header, 3)
            places = stated_places(header)
    except UserError as error:
        raise _refused(path, error.found, "a whole NIfTI file") from error
    except DAMAGED as error:
        reason = " ".join(str(error).replace(str(path), path.name).split())[:200]
        raise _refused(path, f"damaged or cut short ({reason})", "a whole NIfTI file") from error
    said = " x ".join(map(str, shape))
    if not fits:
        wanted = "three axes" if frame is None else f"four axes, and a frame {frame} (from 0)"
        raise _refused(path, f"{len(shape)} axes: {said}", wanted)
    if data.dtype.kind == "f":
        data = data.astype(np.float32)
    if data.dtype.kind not in "iuf" or not np.isfinite(data).all():
        raise _refused(path, f"{data.dtype} with values that are no finite numbers", "numbers")
    return data, Source("nifti", data.shape, False, zooms, places, header)


def write_volume(path: Path, data: NDArray[Any], source: Source) -> None:
    """Write (x, y, z) as .nii.gz with the affine and units of `source`; the same data, same bytes.

    Raises:
        OSError: the disk does not take it.
    """
    path.write_bytes(nifti_bytes(data, source, packed=True))


def _refused(path: Path, found: str, expected: str) -> UserError:
    return UserError(
        f"cannot read volume {path}", found=found, expected=expected, fix="fetch the file again"
    )
