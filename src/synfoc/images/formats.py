"""One file of any format -> its array, in the file's own axes and numbers.

Pillow reads pictures, SimpleITK those that Pillow would cut to 8 bits, nibabel NIfTI, numpy NPY.
Whatever a decoder does on a bad file becomes a `UserError`. How a volume is cut into slices, and
what pixels mean, is decided in files.py.
"""

from __future__ import annotations

import logging
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synfoc.errors import UserError
from synfoc.images.nifti_header import default_place, load_nifti, stated_places, voxel_size

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
VOLUMES = (".nii.gz", ".nii", ".npy")
IMAGE_SUFFIXES = (*PICTURES, *VOLUMES)
MAX_PICTURE = 2**26
"""Most pixels of a 2-D picture: 8192 x 8192."""
MAX_VOLUME = 2**30
"""Most voxels of a volume: 1024 x 1024 x 1024."""
READABLE = "a whole picture (PNG, JPEG, TIFF, BMP) or a 2-D or 3-D NIfTI or NPY file"
ORIENTATION = 0x0112
"""Tag of EXIF and TIFF: 1 as stored, 2 to 8 mirrored or turned."""

Kind = Literal["picture", "nifti", "npy"]


@dataclass(frozen=True)
class Source:
    """What a file's header says."""

    kind: Kind
    shape: tuple[int, ...]
    """As stored, without the color axis: (h, w) of a picture, (x, y, z) of NIfTI."""
    color: bool
    zooms: tuple[float, ...] | None = None
    """Voxel size in mm along each axis of `shape`; None where the file states none."""
    places: tuple[NDArray[np.float64], ...] = ()
    """Affines that a NIfTI header states (nifti_header.py); none: the file states no place."""
    header: Any = None

    @property
    def affine(self) -> NDArray[np.float64] | None:
        """The affine by which a NIfTI is turned upright; None for files of other formats."""
        if self.kind != "nifti":
            return None
        return self.places[0] if self.places else default_place(self.zooms)


def suffix(path: Path) -> str:
    """The suffix in lower case; ".nii.gz" counts as one, and "" stands for an unknown one."""
    name = path.name.lower()
    return next((s for s in IMAGE_SUFFIXES if name.endswith(s)), "")


def stem(path: Path) -> str:
    """The name without its image suffix: "a.b" of "a.b.nii.gz"."""
    return path.name[: len(path.name) - len(suffix(path))]


def path_fix(path: Path, otherwise: str) -> str:
    """What to do about a path where no file is; `otherwise` where nothing is odd about it."""
    if "\\" in str(path):
        return "write paths with / instead of \\"
    if any(part.startswith("~") for part in path.parts):
        return "write out the home folder: ~ is taken as a name"
    return otherwise


def read_header(path: Path) -> Source:
    """Size and geometry, reading as little of the file as its format allows.

    Raises:
        UserError: missing, empty, of another type than its name says, too large or too small.
    """
    with _decoder_errors(path), _opened(path) as (source, _):
        return source


def read_array(path: Path, *, label: bool) -> tuple[Source, NDArray[Any]]:
    """The header and the numbers: shape `source.shape`, plus (3,) where `source.color`.

    Args:
        path: a file with one of IMAGE_SUFFIXES.
        label: read class codes: palette indices, and 1-bit and 4-bit values as they are. Else
            (booleans, too) read what a person sees: palette colors, black 0 and white 255.

    Raises:
        UserError: as `read_header`; also truncated, NaN or infinite, not numbers.
    """
    with _decoder_errors(path), _opened(path) as (header, opened):
        source = header
        if isinstance(opened, Image.Image):
            data = _picture(path, opened, label=label)
            source = Source("picture", data.shape[:2], data.ndim == 3)
        elif source.kind == "nifti":
            data = np.asarray(opened.dataobj)
            if source.color:
                data = np.stack([data[name] for name in ("R", "G", "B")], axis=-1)
            data = data.reshape(source.shape + data.shape[data.ndim - source.color :])
        else:
            data = np.array(opened[..., :3] if source.color else opened)
        if data.dtype == np.bool_:  # an image is black and white, a label 0 and 1
            data = data * np.uint8(1 if label else 255)
        return source, _numbers(path, data)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Source, Any]]:
    source, opened = _open(path)
    try:
        _check(path, source)
        yield source, opened
    finally:
        if isinstance(opened, Image.Image):
            opened.close()


def _open(path: Path) -> tuple[Source, Any]:
    """The header, and an open file from which the numbers can be read."""
    ending = suffix(path)
    if not ending:
        raise _refused(path, f"the ending {path.suffix or '(none)'}", "export it as PNG or NIfTI")
    if path.is_dir():
        raise _refused(path, "a folder", "name a file in it")
    if not path.exists():
        raise _refused(path, "no such file", path_fix(path, "check the path"))
    if path.stat().st_size == 0:
        raise _refused(path, "an empty file (0 bytes)", "export or copy it again")
    if ending in PICTURES:
        picture = Image.open(path)
        pages = getattr(picture, "n_frames", 1) if ending in (".tif", ".tiff") else 1
        if pages > 1:
            picture.close()
            raise _refused(path, f"{pages} pages", "save each page as a file, or all as NIfTI")
        _refuse_turned(path, picture)
        color = len(picture.getbands()) >= 3 or picture.mode in ("P", "PA")
        return Source("picture", (picture.height, picture.width), color), picture
    if ending == ".npy":
        with path.open("rb") as file:
            magic = file.read(6)
        if magic != b"\x93NUMPY":
            raise ValueError("it does not begin as an NPY file")
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        # Only 8-bit numbers have a transparency beside their colors; else 4 are slices.
        channels = (3, 4) if array.dtype == np.uint8 else (3,)
        color = array.ndim == 3 and array.shape[-1] in channels
        return Source("npy", array.shape[:2] if color else array.shape, color), array
    return _open_nifti(path)


def _refuse_turned(path: Path, picture: Image.Image) -> None:
    """Viewers turn a picture by its orientation tag, Pillow a TIFF; a label may be either way."""
    try:
        # Not the method of PNG, which decodes all pixels to find a tag behind them.
        tag = Image.Image.getexif(picture).get(ORIENTATION, 1)
    except Exception:  # no damage to its tags makes the pixels unusable
        return
    if tag in range(2, 9):
        picture.close()
        raise _refused(
            path,
            f"a {picture.format} with the orientation tag {tag}",
            "save it turned and without the tag (ImageMagick: -auto-orient), and see that its "
            "label is the same way up",
            "pixels as they are stored, upright: viewers turn this one, and labels drawn there",
        )


def _open_nifti(path: Path) -> tuple[Source, Any]:
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    # It prints a line for each field of a header that it mends; errors are told by us.
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
    try:
        image = load_nifti(path)
    except (ImageFileError, HeaderDataError) as error:
        raise ValueError(str(error)) from error
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    header, zooms = voxel_size(image.header, len(shape))
    try:
        places = stated_places(header)
    except ValueError as error:
        fix = "export it again, or give it the affine of the scan"
        raise _refused(path, str(error), fix, "finite numbers") from None
    color = image.get_data_dtype().fields is not None
    return Source("nifti", shape, color, zooms, places, header), image


def _check(path: Path, source: Source) -> None:
    shape, volume = source.shape, source.kind != "picture"
    size, limit = int(np.prod(shape, dtype=np.int64)), MAX_VOLUME if volume else MAX_PICTURE
    shown = " x ".join(map(str, shape))
    if len(shape) not in ((2, 3) if volume else (2,)):
        raise _refused(path, f"{len(shape)} axes: {shown}", "save one 3-D file per time point")
    if min(shape) < 1 or sorted(shape)[-2] < 2:
        raise _refused(path, f"{shown} pixels", "export it again", "at least 2 x 2 pixels")
    if size > limit:
        fix = "cut it into tiles" if limit == MAX_PICTURE else "crop or resample it"
        raise _refused(path, f"{shown} pixels", fix, f"at most {limit:,} pixels")


def _picture(path: Path, picture: Any, *, label: bool) -> NDArray[Any]:
    tile = picture.tile[0][3] if picture.tile else ""
    raw = str(tile[0] if isinstance(tile, tuple) and tile else tile)
    bands = len(picture.getbands())
    if bands > 1 and ";16" in raw:
        # Pillow keeps the upper byte of 16-bit colors; SimpleITK keeps both.
        import SimpleITK as sitk  # noqa: N813

        data: NDArray[Any] = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        return data[..., :3] if bands >= 3 else data[..., 0]
    if picture.mode in ("P", "PA") and not label:
        data = np.asarray(picture.convert("RGB"))
        return data[..., 0] if equal_channels(data) else data
    if picture.mode in ("P", "PA", "L", "LA", "La"):
        data = np.asarray(picture.getchannel(0))
        # Pillow spreads 2-bit and 4-bit gray over 0..255; a label wants the stored code.
        step = {"L;2": 85, "L;4": 17}.get(raw, 1) if label else 1
        return data // step if step > 1 else data
    if picture.mode == "1":
        picture = picture if label else picture.convert("L")
    elif bands > 1 and picture.mode != "RGB":
        picture = picture.convert("RGB")
    return np.asarray(picture)


def equal_channels(data: NDArray[Any]) -> bool:
    """Whether a (..., 3) array is gray: its three channels agree everywhere."""
    return bool(
        np.array_equal(data[..., 0], data[..., 1]) and np.array_equal(data[..., 0], data[..., 2])
    )


def _numbers(path: Path, data: NDArray[Any]) -> NDArray[Any]:
    """The data in native byte order; real, finite, at most 32 bits per float."""
    if data.dtype.kind not in "uif":
        raise _refused(
            path, f"values of type {data.dtype}", "save it as integers or floats", "numbers"
        )
    if data.dtype.kind == "f":
        bad = data.size - int(np.count_nonzero(np.isfinite(data)))
        if bad:
            found = f"{bad:,} values that are NaN or infinite"
            raise _refused(path, found, "replace them, e.g. by 0", "finite numbers")
        return data.astype(np.float32, copy=False)
    return data.astype(data.dtype.newbyteorder("="), copy=False)


@contextmanager
def _decoder_errors(path: Path) -> Iterator[None]:
    """Turn whatever a decoder throws at a bad file into a UserError."""
    damaged = (ValueError, SyntaxError, EOFError, IndexError, KeyError, struct.error, zlib.error)
    try:
        yield
    except PermissionError:
        raise _refused(path, "no permission to read it", "change its permissions") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        told = re.search(r"(\d+) pixels", str(error))
        found = f"{int(told[1]):,} pixels" if told else "far more pixels"
        expected = f"at most {MAX_PICTURE:,} pixels"
        raise _refused(path, found, "cut it into tiles", expected) from None
    except (OSError, RuntimeError, *damaged) as error:
        reason = " ".join(str(error).replace(str(path), path.name).split())[:200]
        raise _refused(
            path, f"damaged, cut short or of another type ({reason})", "export or copy it again"
        ) from error


def _refused(path: Path, found: str, fix: str, expected: str = READABLE) -> UserError:
    return UserError(f"cannot read image {path}", found=found, expected=expected, fix=fix)
