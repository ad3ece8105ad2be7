"""One file of any format -> its array, in the file's own axes and numbers.

The door to pictures.py, npy.py and, below, NIfTI. First a file is looked at (contents.py), so that
a refusal says what it is, whatever its name; whatever a decoder does on a bad file becomes a
`UserError` (source.py). How a volume is cut into slices is decided in geometry.py, and what codes
mean in paper_sets.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synfoc.images.contents import (
    NIFTI,
    NPY,
    PACKED_NIFTI,
    PICTURE_CONTENTS,
    contents,
    first_bytes,
    what_to_do,
)
from synfoc.images.nifti import close_nifti, load_nifti, nifti_axes, read_nifti
from synfoc.images.nifti_header import stated_places, voxel_size
from synfoc.images.npy import open_npy, read_npy
from synfoc.images.pictures import Picture, open_picture, read_picture
from synfoc.images.source import (
    MAX_PICTURE,
    MAX_VOLUME,
    Kind,
    Source,
    decoding,
    equal_channels,
    refused,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "PICTURES",
    "VOLUMES",
    "Kind",
    "Source",
    "equal_channels",
    "path_fix",
    "read_array",
    "read_header",
    "stem",
    "suffix",
]

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
VOLUMES = (".nii.gz", ".nii", ".npy")
IMAGE_SUFFIXES = (*PICTURES, *VOLUMES)


def suffix(path: Path) -> str:
    """Return the suffix in lower case.

    ".nii.gz" counts as one, and "" stands for an unknown one.
    """
    name = path.name.lower()
    return next((s for s in IMAGE_SUFFIXES if name.endswith(s)), "")


def stem(path: Path) -> str:
    """Return the name without its image suffix: "a.b" of "a.b.nii.gz"."""
    return path.name[: len(path.name) - len(suffix(path))]


def path_fix(path: Path, otherwise: str) -> str:
    """Return what to do about a path where no file is.

    `otherwise` where nothing is odd about it.
    """
    if "\\" in str(path):
        return "write paths with / instead of \\"
    if any(part.startswith("~") for part in path.parts):
        return "write out the home folder: ~ is taken as a name"
    return otherwise


def read_header(path: Path, *, channels_first: bool = True) -> Source:
    """Size and geometry, reading as little of the file as its format allows.

    Args:
        path: a file with one of IMAGE_SUFFIXES.
        channels_first: as in `open_npy`.

    Raises:
        UserError: missing, empty, of another type than its name says, too large or too small.
    """
    with _opened(path, channels_first=channels_first) as (source, _):
        return source


def read_array(
    path: Path, *, label: bool, by_color: bool = False, channels_first: bool = True
) -> tuple[Source, NDArray[Any]]:
    """Return the header and the numbers: shape `source.shape`, plus (3,) where `source.color`.

    Args:
        path: a file with one of IMAGE_SUFFIXES.
        label: read class codes: palette indices, and 1-bit and 4-bit values as they are. Else
            (booleans, too) read what a person sees: palette colors, black 0 and white 255.
        by_color: the codes of a label are colors, also those of a palette.
        channels_first: of an image, as in `open_npy`; of a label only where it is in colors.

    Raises:
        UserError: as `read_header`; also truncated, NaN or infinite, not numbers, drawn in the
            transparency.
    """
    with _opened(path, channels_first=channels_first and (not label or by_color)) as (
        header,
        opened,
    ):
        source = header
        if isinstance(opened, Picture):
            data = read_picture(path, opened, label=label, by_color=by_color)
            source = replace(header, shape=data.shape[:2], color=data.ndim == 3)
        elif source.kind == "npy":
            data = read_npy(path, source, opened, label=label)
        else:
            data = read_nifti(path, source, opened, label=label)
        if data.dtype == np.bool_:  # an image is black and white, a label 0 and 1
            data = data * np.uint8(1 if label else 255)
        return source, _numbers(path, data)


@contextmanager
def _opened(path: Path, *, channels_first: bool) -> Iterator[tuple[Source, Any]]:
    what = _look(path)
    source: Source
    opened: Any
    if suffix(path) in PICTURES:
        source, opened = open_picture(path, what)
    elif what == NPY:
        source, opened = open_npy(path, first=channels_first)
    else:
        source, opened = _open_nifti(path, packed=what == PACKED_NIFTI)
    try:
        _check(path, source)
        yield source, opened
    finally:
        if isinstance(opened, Picture):
            opened.close()
        elif source.kind == "nifti":
            close_nifti(opened)


def _look(path: Path) -> str:
    """Return what the file is, which its name agrees with."""
    ending = suffix(path)
    if not ending:
        raise refused(path, f"the ending {path.suffix or '(none)'}", "export it as PNG or NIfTI")
    with decoding(path):
        folder, there, whole = path.is_dir(), path.exists(), path.is_file()
        size = path.stat().st_size if there else 0
    if folder:
        raise refused(path, "a folder", "name a file in it")
    if not there and path.is_symlink():
        fix = "git annex get (or datalad get) it" if "annex" in str(path.readlink()) else "mend it"
        raise refused(path, "a link that leads nowhere", fix)
    if not there:
        raise refused(path, "no such file", path_fix(path, "check the path"))
    if not whole:
        raise refused(path, "a pipe or a device", "name a file")
    if size == 0:
        raise refused(path, "an empty file (0 bytes)", "export or copy it again")
    what = contents(path, first_bytes(path))
    kinds = {".npy": (NPY,), ".nii": (NIFTI, PACKED_NIFTI), ".nii.gz": (NIFTI, PACKED_NIFTI)}
    if what not in kinds.get(ending, PICTURE_CONTENTS):
        raise refused(path, what, what_to_do(what), f"what its ending {ending} says")
    return what


def _open_nifti(path: Path, *, packed: bool) -> tuple[Source, Any]:
    image = load_nifti(path, packed=packed)
    shape, remark, color = nifti_axes(path, image)
    with decoding(path):
        header, zooms = voxel_size(image.header, len(shape))
    try:
        places = stated_places(header)
    except ValueError as error:
        fix = "export it again, or give it the affine of the scan"
        raise refused(path, str(error), fix, "finite numbers") from None
    return Source("nifti", shape, color, zooms, places, header, remark), image


def _check(path: Path, source: Source) -> None:
    shape, volume = source.shape, source.kind != "picture"
    size, limit = int(np.prod(shape, dtype=np.int64)), MAX_VOLUME if volume else MAX_PICTURE
    shown = " x ".join(map(str, shape))
    if len(shape) not in ((2, 3) if volume else (2,)):
        raise refused(
            path, f"{len(shape)} axes: {shown}", "save one 3-D file per time point, or class"
        )
    if min(shape) < 1 or sorted(shape)[-2] < 2:
        raise refused(path, f"{shown} pixels", "export it again", "at least 2 x 2 pixels")
    if size > limit:
        fix = "cut it into tiles" if limit == MAX_PICTURE else "crop or resample it"
        raise refused(path, f"{shown} pixels", fix, f"at most {limit:,} pixels")


def _numbers(path: Path, data: NDArray[Any]) -> NDArray[Any]:
    """Return the data in native byte order; real, finite, at most 32 bits per float."""
    if data.dtype.kind not in "uif":
        raise refused(
            path, f"values of type {data.dtype}", "save it as integers or floats", "numbers"
        )
    if data.dtype.kind == "f":
        bad = data.size - int(np.count_nonzero(np.isfinite(data)))
        if bad:
            found = f"{bad:,} values that are NaN or infinite"
            raise refused(path, found, "replace them, e.g. by 0", "finite numbers")
        with np.errstate(over="ignore"):
            floats = data.astype(np.float32, copy=False)
        if not np.isfinite(floats).all():
            found = f"values up to {np.abs(data).max():g}"
            raise refused(path, found, "scale them", "numbers that fit 32-bit floats")
        return floats
    return data.astype(data.dtype.newbyteorder("="), copy=False)
