"""Read and write one image or label map, with its pixel spacing in mm.

Every file becomes a `Stack` of 2-D slices, a picture a stack of one. Nothing is resized here.

How a volume is cut: geometry.py. A mask written for a stack has exactly the shape, axes, affine
and spacing of the file that the stack came from.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synfoc.errors import UserError
from synfoc.images.color_codes import UnknownColors
from synfoc.images.formats import (
    IMAGE_SUFFIXES,
    PICTURES,
    Source,
    equal_channels,
    read_array,
    read_header,
    stem,
    suffix,
)
from synfoc.images.geometry import Geometry, SliceAxis, cut, geometry_of, restack
from synfoc.images.nifti_header import image_class
from synfoc.images.paper_sets import Decode
from synfoc.storage import replacing

__all__ = [
    "IMAGE_SUFFIXES",
    "Geometry",
    "Stack",
    "is_image",
    "nifti_bytes",
    "read_codes",
    "read_geometry",
    "read_image",
    "slice_count",
    "stack_of",
    "stem",
    "to_unit",
    "write_label",
    "write_probabilities",
]

PERCENTILES = (0.5, 99.5)
SAMPLED = 2**22
"""Floats past this many are sampled evenly to find their percentiles."""


@dataclass(frozen=True)
class Stack:
    """One file as a stack of 2-D slices; a 2-D image is a stack of one."""

    pixels: NDArray[Any]
    """(n, h, w) gray or (n, h, w, 3) color, in the file's own number type."""
    spacing: tuple[float, float, float] | None
    """mm between slices, rows, columns; None where the file states none (a PNG). A single slice
    with known spacing has 0.0 between slices."""
    axis: int | None
    """Axis of the volume along which it was cut; None for a 2-D file."""
    origin: Geometry | None
    """What writing a mask of the same geometry needs."""
    volume: bool
    """A 3-D file of several slices: scored as one volume."""
    remark: str = ""
    """See `Source.remark`."""


def is_image(path: Path) -> bool:
    """Whether the name ends as an image does, and is not hidden (macOS leaves `._` files)."""
    return bool(suffix(path)) and not path.name.startswith(".")


def read_image(path: Path, *, slice_axis: SliceAxis = None) -> Stack:
    """Read an image as a person sees it: palettes as colors, transparency dropped.

    A picture that its orientation tag turns is refused: its label may be either way up.

    Args:
        path: a file with one of IMAGE_SUFFIXES.
        slice_axis: axis of a volume along which to cut; None: see geometry.py. Where it is given,
            three on the first axis of an NPY are slices, not colors.

    Raises:
        UserError: missing, empty, truncated, another type, turned, NaN, 1 pixel wide, huge, 4-D.
    """
    source, data = read_array(path, label=False, channels_first=slice_axis is None)
    return stack_of(source, data, path, slice_axis)


def read_codes(path: Path, *, slice_axis: SliceAxis = None, by_color: bool = False) -> Stack:
    """Read the raw codes of a label file: (n, h, w), or (n, h, w, 3) where channels differ.

    Palette indices stay indices; three equal channels are one; whole-valued floats are integers.

    Args:
        path: a file with one of IMAGE_SUFFIXES.
        slice_axis: as in `read_image`.
        by_color: the codes are colors, also those of a palette.

    Raises:
        UserError: as `read_image`; also values that are not whole numbers.
    """
    try:
        stack = stack_of(*read_array(path, label=True, by_color=by_color), path, slice_axis)
    except UserError as error:
        what = error.what.replace("cannot read image", "cannot read mask", 1)
        kind = type(error)
        raise kind(what, found=error.found, expected=error.expected, fix=error.fix) from error
    pixels = stack.pixels
    if pixels.ndim == 4 and equal_channels(pixels):
        pixels = pixels[..., 0]
    if pixels.dtype.kind == "f":
        whole = np.rint(pixels)
        if not np.array_equal(whole, pixels):
            raise UserError(
                f"mask {path} holds values between the classes",
                found=f"{pixels[whole != pixels][0]:g} and other fractions",
                expected="whole numbers: the class index of each pixel",
                fix="round it, or resample labels by nearest neighbor",
            )
        pixels = whole.astype(np.int32)
    return replace(stack, pixels=pixels)


def decode(codes: NDArray[Any], rule: Decode, path: Path) -> NDArray[Any]:
    """Class indices (n, h, w) of the raw codes of `path`; its name goes into a `UserError`."""
    try:
        return rule(codes)
    except UnknownColors as error:
        raise error.in_file(path) from None
    except UserError as error:
        raise UserError(
            f"mask {path}: {error.what}", found=error.found, expected=error.expected, fix=error.fix
        ) from None


def read_geometry(path: Path, *, slice_axis: SliceAxis = None) -> Geometry:
    """How a file will be cut, from its header alone; `.size` is (slices, rows, columns)."""
    # Who names the axis to cut says that an array is a volume.
    return geometry_of(read_header(path, channels_first=slice_axis is None), path, slice_axis)


def slice_count(path: Path, slice_axis: SliceAxis = None) -> int:
    """Slices of a file; a picture has one and is not opened."""
    return 1 if suffix(path) in PICTURES else read_geometry(path, slice_axis=slice_axis).size[0]


def stack_of(source: Source, data: NDArray[Any], path: Path, slice_axis: SliceAxis) -> Stack:
    """Cut an array in the axes of its file, `source.shape`, into slices; see geometry.py.

    Raises:
        UserError: as `geometry_of`.
    """
    geometry = geometry_of(source, path, slice_axis)
    full = (*source.shape, 1)[:3]
    pixels = cut(data.reshape(full + data.shape[len(source.shape) :]), geometry)
    spacing = None
    if source.zooms:
        zooms = (*source.zooms, 0.0)[:3]
        between, rows, columns = (zooms[axis] for axis in geometry.order)
        spacing = (between if len(pixels) > 1 else 0.0, rows, columns)
    axis = geometry.order[0] if len(source.shape) == 3 else None
    return Stack(
        np.ascontiguousarray(pixels), spacing, axis, geometry, len(pixels) > 1, source.remark
    )


def to_unit(stack: Stack) -> NDArray[np.float32]:
    """Pixels as (n, h, w, c) in [0, 1], c = 1 or 3.

    8-bit values are divided by 255. Every other type has no common scale (CT, MR, 12-bit X-ray):
    its 0.5th to 99.5th percentile over the whole file becomes 0..1, clipped.
    """
    pixels = stack.pixels if stack.pixels.ndim == 4 else stack.pixels[..., None]
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / np.float32(255)
    low, high = _window(pixels)
    unit = pixels.astype(np.float32)
    unit -= np.float32(low)
    unit /= np.float32(max(high - low, 1e-30))
    return np.clip(unit, 0, 1, out=unit)


def write_label(path: Path, label: NDArray[np.uint8], like: Stack) -> Path:
    """Write class indices with the geometry of `like`, atomically.

    NIfTI in, NIfTI out (same shape, affine, spacing); an NPY volume becomes NPY; anything else an
    8-bit PNG whose gray values are the class indices.

    Args:
        path: an image suffix of another format is replaced by the right one.
        label: (n, h, w), as `like`.
        like: the stack of the image.

    Returns:
        The path written.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    label = label.astype(np.uint8, copy=False)
    origin = like.origin
    if origin is None or origin.kind == "picture" or (origin.kind == "npy" and not like.volume):
        from PIL import Image

        path = path.with_name(stem(path) + ".png")
        with replacing(path) as part, part.open("wb") as file:
            Image.fromarray(label[0]).save(file, format="PNG")
        return path
    return _write_array(path, restack(label, origin).reshape(origin.shape), origin)


def write_probabilities(path: Path, probabilities: NDArray[np.float32], like: Stack) -> Path:
    """Write soft maps: 4-D NIfTI (x, y, z, K) beside NIfTI, else NPY of (K, n, h, w).

    Args:
        path: an image suffix is replaced by .nii.gz or .npy.
        probabilities: (K, n, h, w) in [0, 1].
        like: the stack of the image.

    Returns:
        The path written.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    origin = like.origin
    if origin is None or origin.kind != "nifti":
        return _write_array(path, probabilities, None)
    volumes = [restack(one, origin) for one in probabilities]
    return _write_array(path, np.stack(volumes, axis=-1), origin)


def _write_array(path: Path, data: NDArray[Any], origin: Geometry | None) -> Path:
    if origin is None or origin.kind == "npy":
        path = path.with_name(stem(path) + ".npy")
        with replacing(path) as part, part.open("wb") as file:
            np.save(file, data, allow_pickle=False)
        return path
    path = path.with_name(stem(path) + (".nii" if suffix(path) == ".nii" else ".nii.gz"))
    content = nifti_bytes(data, origin.source, packed=path.suffix != ".nii")
    with replacing(path) as part:
        part.write_bytes(content)
    return path


def nifti_bytes(data: NDArray[Any], like: Source, *, packed: bool) -> bytes:
    """Return a NIfTI file at the place of another one; the same data, the same bytes.

    Both forms (qform, sform), their codes and the units are copied as they are.

    Args:
        data: (x, y, z) or (x, y, z, K), stored as they are.
        like: what the header of the other file says.
        packed: as in .nii.gz.
    """
    header = like.header.copy()
    header.set_data_dtype(data.dtype)
    # The scale of the image would bend numbers, its window hide a label of 0..C in a viewer.
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["cal_min"] = header["cal_max"] = 0
    content: bytes = image_class(header)(data, None, header).to_bytes()
    # No clock in the gzip header.
    return gzip.compress(content, 6, mtime=0) if packed else content


def _window(pixels: NDArray[Any]) -> tuple[float, float]:
    """Return the percentiles PERCENTILES, exact for up to 16 bits.

    Where they are equal: the lowest and the highest of all.
    """
    least, most = float(pixels.min()), float(pixels.max())
    if pixels.dtype.kind in "iu" and most - least < 2**16:
        counts = _counts(pixels.ravel(), int(least), int(most))
        reached = np.searchsorted(counts.cumsum(), [p / 100 * pixels.size for p in PERCENTILES])
        low, high = (float(r) + least for r in reached)
    else:
        flat = pixels.ravel()[:: max(1, pixels.size // SAMPLED)]
        low, high = (float(v) for v in np.percentile(flat, PERCENTILES))
    return (low, high) if high > low else (least, most)


def _counts(flat: NDArray[Any], least: int, most: int) -> NDArray[np.int64]:
    """How often each whole number from least to most occurs; a part at a time, of 32 MiB."""
    counts = np.zeros(most - least + 1, np.int64)
    for start in range(0, len(flat), SAMPLED):
        part = flat[start : start + SAMPLED].astype(np.int64)
        counts += np.bincount(part - least, minlength=len(counts))
    return counts
