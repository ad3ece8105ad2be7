"""Pictures of more bits than Pillow keeps, or of numbers that it takes for others: by SimpleITK."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synfoc.errors import UserError
from synfoc.images.source import decoding, refused
from synfoc.images.tiff import Form

QUIET = threading.Lock()


def unread(path: Path, form: Form) -> UserError:
    """Return the error of a TIFF whose numbers no decoder here reads as they are."""
    return refused(path, str(form), "save it as PNG of 8 or 16 bits, or as NPY")


def too_deep(form: Form) -> bool:
    """Numbers that Pillow would cut or take for others, or a file that it takes for damaged."""
    if form.backward:
        return True
    if form.samples == 1:
        return (form.number, form.bits) in ((2, 8), (1, 32))
    return form.bits > 8 and form.photometric in (0, 1, 2)


def deep(form: Form) -> bool:
    """Numbers that SimpleITK reads as they are."""
    if form.separate or form.tiled or form.premultiplied or form.bits not in (8, 16, 32):
        return False
    if form.number not in (1, 2) and (form.number, form.bits) != (3, 32):
        return False
    if form.samples == 1:
        return form.photometric in (0, 1)
    return form.samples in (3, 4) and form.photometric == 2


def read_deep(path: Path, form: Form) -> NDArray[Any]:
    """Return the stored numbers of a TIFF: (h, w) or (h, w, samples).

    Raises:
        UserError: damaged, or numbers that SimpleITK cannot read either.
    """
    if not deep(form):
        raise unread(path, form)
    with _quiet():
        data = by_simpleitk(path)
    colors = () if form.samples == 1 else (form.samples,)
    if data.shape != (form.height, form.width, *colors) or data.dtype.itemsize * 8 != form.bits:
        raise unread(path, form)
    return data


def by_simpleitk(path: Path) -> NDArray[Any]:
    """Return the pixels of a picture as SimpleITK reads them."""
    import SimpleITK as sitk  # noqa: N813

    with decoding(path):
        # It prints to stderr what its errors say, and more.
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        data: NDArray[Any] = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return data


def read_gray_and_transparency(path: Path) -> NDArray[Any]:
    """Return a 16-bit gray PNG with transparency as (h, w, 2), which SimpleITK cannot read.

    Two numbers of 16 bits are unpacked as the four bytes of an RGBA pixel.
    """
    with decoding(path):
        content = path.read_bytes()
        width, height, interlaced = *struct.unpack(">II", content[16:24]), content[28]
        parts, at = [], 8
        while at + 8 <= len(content):
            size, kind = struct.unpack(">I4s", content[at : at + 8])
            if kind == b"IDAT":
                parts.append(content[at + 8 : at + 8 + size])
            at += size + 12
        packed = b"".join(parts)
        image = Image.frombytes("RGBA", (width, height), packed, "zip", "RGBA", interlaced)
        return np.asarray(image).view(">u2")


@contextmanager
def _quiet() -> Iterator[None]:
    """Send to nowhere what a library writes to stderr; for rare files, as it does so for all."""
    with QUIET, ExitStack() as stack:
        with suppress(OSError):  # stderr may be closed
            saved = os.dup(2)
            stack.callback(os.close, saved)
            with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), 2)
            stack.callback(os.dup2, saved, 2)
        yield
