"""PNG, JPEG, TIFF and BMP: in an image what a person sees, in a label the codes that are stored.

Pillow reads them; SimpleITK those that Pillow would cut to 8 bits or does not know.
"""

from __future__ import annotations

import ctypes
import logging
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, _imaging

from synfoc.errors import UserError
from synfoc.images.contents import TIFF
from synfoc.images.deep import (
    by_simpleitk,
    deep,
    read_deep,
    read_gray_and_transparency,
    too_deep,
    unread,
)
from synfoc.images.source import MAX_PICTURE, Source, decoding, equal_channels, refused
from synfoc.images.tiff import COMPRESSIONS, Form, read_pages
from synfoc.images.transparency import refuse_hidden

ORIENTATION = 0x0112
"""Tag of EXIF and TIFF: 1 as stored, 2 to 8 mirrored or turned."""
FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
SPREAD = {"L;2": 85, "L;4": 17}
"""Beginning of Pillow's name of a form -> factor by which it spreads 2 or 4 bits over 0..255."""
MORE_PICTURES = "files of several pictures (MPO, a stereo or phone camera): the first is read"


@dataclass(frozen=True)
class Picture:
    """An opened picture."""

    image: Image.Image | None
    """None: SimpleITK reads it."""
    raw: str
    """What Pillow calls the form of the stored numbers: "L;4", "RGB;16B"."""
    form: Form | None
    """Of a TIFF."""

    def close(self) -> None:
        """Close the file."""
        if self.image is not None:
            self.image.close()


def open_picture(path: Path, what: str) -> tuple[Source, Picture]:
    """Open a picture, reading its header.

    Args:
        path: the file.
        what: it is by its `contents`.

    Raises:
        UserError: damaged, several pages, turned by a tag, or numbers of a type that is not read.
    """
    pages = None
    if what == TIFF:
        _silence_pillow()
        with decoding(path):
            pages = read_pages(path)
        count = max(len(pages.full), pages.stacked)
        if count > 1:
            raise refused(path, f"{count} pages", "save each page as a file, or all as NIfTI")
        if pages.form.compression not in COMPRESSIONS:
            raise unread(path, pages.form)
    form = pages.form if pages else None
    image = _opened(path, form)
    if image is None:
        assert pages is not None
        assert form is not None
        if pages.full[0]:
            raise refused(path, f"{form}, behind other pages", "save this page alone, as PNG")
        return Source("picture", (form.height, form.width), form.samples > 1), Picture(
            None, "", form
        )
    try:
        if pages and pages.full[0]:
            with decoding(path):
                image.seek(pages.full[0])
        remark = _extras(path, image)
        _refuse_turned(path, image)
    except BaseException:
        image.close()
        raise
    color = len(image.getbands()) >= 3 or image.mode in ("P", "PA")
    source = Source("picture", (image.height, image.width), color, remark=remark)
    return source, Picture(image, _raw_mode(image), form)


def read_picture(path: Path, picture: Picture, *, label: bool, by_color: bool) -> NDArray[Any]:
    """Return the pixels of an opened picture: (h, w) or (h, w, 3).

    Args:
        path: the file.
        picture: from `open_picture`.
        label: read the codes that are stored, else what a person sees.
        by_color: read a palette of a label as its colors, not as its indices.

    Raises:
        UserError: damaged, or its transparency hides what is drawn, or its codes are not certain.
    """
    image, form = picture.image, picture.form
    if image is None:
        assert form is not None
        data = read_deep(path, form)
    elif image.format == "PNG" and ";16" in picture.raw and len(image.getbands()) > 1:
        # Pillow keeps the upper byte of 16-bit colors.
        two = picture.raw.startswith("LA")
        data = read_gray_and_transparency(path) if two else by_simpleitk(path)
    elif image.mode in ("P", "PA"):
        data = _palette(path, image, label=label, by_color=by_color)
    else:
        with decoding(path):
            data = _pixels(image, label=label)
        step = SPREAD.get(picture.raw[:3], 1) if label else 1
        data = data // np.uint8(step) if step > 1 else data
    if data.ndim == 3 and data.shape[-1] in (2, 4):
        alpha, data = data[..., -1], data[..., :-1]
        data = data[..., 0] if data.shape[-1] == 1 else data
        refuse_hidden(path, data, alpha, label=label)
        if label and form is not None and form.premultiplied and alpha.min() < 255:
            raise refused(path, str(form), "save it without transparency", "codes as they are")
    if form is not None and form.photometric == 0:
        return _white_is_zero(path, data, form, inverted=image is not None, label=label)
    return data


@cache
def _silence_pillow() -> None:
    """Keep Pillow's TIFF decoders from writing to stderr what their errors say, too."""
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    with suppress(OSError, AttributeError):  # built without it, or where it cannot be found
        quiet = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
        quiet.argtypes, quiet.restype = [ctypes.c_void_p], ctypes.c_void_p
        quiet(None)


def _opened(path: Path, form: Form | None) -> Image.Image | None:
    """Return the picture in Pillow; None where SimpleITK has to read it, which is a TIFF then."""
    if form and too_deep(form):
        return None
    try:
        with decoding(path):
            return Image.open(path, formats=FORMATS)
    except UserError as error:
        cause = error.__cause__
        if isinstance(cause, Image.DecompressionBombError | Image.DecompressionBombWarning):
            told = re.search(r"(\d+) pixels", str(cause))
            found = f"{int(told[1]):,} pixels" if told else "far more pixels"
            fix, expected = "cut it into tiles", f"at most {MAX_PICTURE:,} pixels"
            raise refused(path, found, fix, expected) from None
        if form and isinstance(cause, UnidentifiedImageError):
            if deep(form):
                return None
            raise unread(path, form) from None
        raise


def _extras(path: Path, image: Image.Image) -> str:
    """Refuse moving pictures; the remark on a file whose other pictures are passed over."""
    with decoding(path):
        count = 1 if image.format == "TIFF" else getattr(image, "n_frames", 1)
    if count < 2:
        return ""
    if image.format == "MPO":
        return MORE_PICTURES
    raise refused(path, f"a moving {image.format} of {count} pictures", "save each as a file")


def _refuse_turned(path: Path, image: Image.Image) -> None:
    """Viewers turn a picture by its orientation tag, Pillow a TIFF; a label may be either way."""
    try:
        # Not the method of PNG, which decodes all pixels to find a tag behind them.
        tag = Image.Image.getexif(image).get(ORIENTATION, 1)
    except Exception:  # no damage to its tags makes the pixels unusable
        return
    if tag in range(2, 9):
        raise refused(
            path,
            f"a {image.format} with the orientation tag {tag}",
            "save it turned and without the tag (ImageMagick: -auto-orient), and see that its "
            "label is the same way up",
            "pixels as they are stored, upright: viewers turn this one, and labels drawn there",
        )


def _pixels(image: Image.Image, *, label: bool) -> NDArray[Any]:
    """(h, w), or (h, w, c) with the transparency, if there is one, as the last of c."""
    mode = image.mode
    if mode == "1" and not label:
        image = image.convert("L")
    elif mode == "La":
        image = image.convert("LA")
    elif len(image.getbands()) > 2 and mode not in ("RGB", "RGBA"):
        image = image.convert("RGB")
    return np.asarray(image)


def _raw_mode(image: Any) -> str:
    told: Any = image.tile[0][3] if image.tile else ""
    return str(told[0] if isinstance(told, tuple) and told else told)


def _palette(path: Path, image: Image.Image, *, label: bool, by_color: bool) -> NDArray[Any]:
    transparent = image.mode == "PA" or "transparency" in image.info
    with decoding(path):
        codes = np.asarray(image.getchannel(0))
        if label and not by_color and not transparent:
            return codes
        seen = np.asarray(image.convert("RGBA" if transparent else "RGB"))
    if transparent:
        refuse_hidden(path, seen[..., :3], seen[..., 3], label=label)
        seen = seen[..., :3]
    if label and not by_color:
        return codes
    return seen[..., 0] if equal_channels(seen) else seen


def _white_is_zero(
    path: Path, data: NDArray[Any], form: Form, *, inverted: bool, label: bool
) -> NDArray[Any]:
    """Pixels of a TIFF whose smallest number is white (photometric rule 0).

    Args:
        path: named in errors.
        data: (h, w).
        form: of the page.
        inverted: Pillow inverts 1 to 8 bits, and nothing else does.
        label: the stored numbers are wanted.

    Raises:
        UserError: a label for which programs differ: some take what is stored for the code, others
            what is seen, and both would do here.
    """
    inverted = inverted and form.bits <= 8
    if not label:
        return data if inverted else _opposite(data)
    if data.dtype.kind == "f":
        return data
    if form.number == 2:
        return data
    most = 2**form.bits - 1
    stored: NDArray[Any] = most - data if inverted else data
    if int(stored.max()) <= most // 2:
        return stored
    if int(stored.min()) > most // 2:
        return np.asarray(most - stored)
    raise refused(
        path,
        f"a TIFF whose 0 is white, with numbers from {stored.min()} to {stored.max()}",
        "save it as PNG (ImageMagick: convert IN.tif OUT.png), and see that 0 is black there",
        "0 black: programs differ in whether the stored or the visible number is the code",
    )


def _opposite(data: NDArray[Any]) -> NDArray[Any]:
    if data.dtype.kind == "f":
        return np.asarray(data.min() + data.max() - data)
    return ~data
