"""PNG and TIFF files by hand: forms that Pillow does not write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

LETTERS = {1: "B", 2: "B", 3: "H", 4: "I", 16: "Q"}
Tags = dict[int, tuple[int, Sequence[int]]]


def png(
    pixels: np.ndarray,
    *,
    bits: int,
    color_type: int,
    chunks: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """A PNG of (h, w) or (h, w, c); color type 0 gray, 2 RGB, 3 palette, 4 and 6 with alpha."""
    rows = b"".join(b"\0" + packed(row, bits) for row in pixels)
    header = struct.pack(">IIBBBBB", *pixels.shape[1::-1], bits, color_type, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n"
    data = (b"IDAT", zlib.compress(rows))
    for kind, content in ((b"IHDR", header), *chunks, data, (b"IEND", b"")):
        body = kind + content
        file += struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
    return file


def packed(row: np.ndarray, bits: int) -> bytes:
    """The numbers of a row, high bits first, filled up to whole bytes."""
    digits = "".join(format(int(number), f"0{bits}b") for number in row.ravel())
    digits += "0" * (-len(digits) % 8)
    return int(digits, 2).to_bytes(len(digits) // 8, "big")


def page(pixels: np.ndarray, *, bits: int = 0, photometric: int = 1, **more: int) -> tuple:
    """One page of a TIFF: its tags and its strips.

    Args:
        pixels: (h, w) or (h, w, c), as they are stored; its number type is that of the page.
        bits: fewer than the number type has: packed.
        photometric: 0 zero is white, 1 zero is black, 2 RGB, ...
        more: `extra` (2 transparency, 1 premultiplied), `planar` (2 separate), `kind` (1 thumbnail,
            4 mask).
    """
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    number = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    planes = [pixels]
    if more.get("planar") == 2:
        planes = [np.ascontiguousarray(pixels[..., k]) for k in range(samples)]
    strips = [plane.tobytes() for plane in planes]
    if bits:
        strips = [b"".join(packed(row, bits) for row in pixels)]
    tags: Tags = {
        256: (4, [pixels.shape[1]]),
        257: (4, [pixels.shape[0]]),
        258: (3, [bits or pixels.itemsize * 8] * samples),
        259: (3, [1]),
        262: (3, [photometric]),
        277: (3, [samples]),
        278: (4, [pixels.shape[0]]),
        339: (3, [number] * samples),
    }
    for name, tag in (("extra", 338), ("planar", 284), ("kind", 254)):
        if name in more:
            tags[tag] = (3, [more[name]])
    return tags, strips


def tiff(*pages: tuple, order: str = "<", big: bool = False, text: bytes = b"") -> bytes:
    """A TIFF of pages; `big`: BigTIFF; `order`: "<" or ">", which the pixels must have, too."""
    wide, width = ("Q", 8) if big else ("I", 4)
    file = bytearray(b"II" if order == "<" else b"MM")
    file += struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8)
    link = 8 if big else 4
    for tags, strips in pages:
        places = [_put(file, strip) for strip in strips]
        sizes = [len(strip) for strip in strips]
        where, long = (324, 325) if 322 in tags else (273, 279)  # tiles or strips
        entries: Tags = {**tags, where: (4, places), long: (4, sizes)}
        if text:
            entries[270] = (2, [*text, 0])
        fields = []
        for tag in sorted(entries):
            kind, values = entries[tag]
            raw = struct.pack(f"{order}{len(values)}{LETTERS[kind]}", *values)
            if len(raw) > width:
                raw = struct.pack(order + wide, _put(file, raw))
            fields.append(
                struct.pack(order + "HH" + wide, tag, kind, len(values)) + raw.ljust(width, b"\0")
            )
        struct.pack_into(order + wide, file, link, len(file))
        file += struct.pack(order + ("Q" if big else "H"), len(fields)) + b"".join(fields)
        link = len(file)
        file += bytes(width)
    return bytes(file)


def _put(file: bytearray, content: bytes) -> int:
    """Append at an even place, and return the place."""
    file += bytes(len(file) % 2)
    place = len(file)
    file += content
    return place
