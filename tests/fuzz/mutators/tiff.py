"""Fields of TIFF and BigTIFF: tags, types, counts, values, offsets and the chain of pages."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from fuzz.mutators.raw import draw_number, either, put_number, spoil

WORTH = (
    *(254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 282, 284, 317, 320, 322, 323),
    *(324, 325, 330, 338, 339, 340, 347, 530, 34665, 42112),
)
"""Tags that change what the pixels are or where they lie."""
VALUES = {
    258: (1, 2, 4, 8, 12, 16, 24, 32, 64),
    259: (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34712, 50000, 9),
    262: (0, 1, 2, 3, 4, 5, 6, 8, 32844),
    274: (0, 1, 2, 3, 5, 6, 8, 9),
    277: (0, 1, 2, 3, 4, 5, 100),
    284: (1, 2, 3),
    317: (1, 2, 3),
    338: (0, 1, 2),
    339: (1, 2, 3, 4, 5, 6),
}
"""Values that a tag may have."""


@dataclass(frozen=True)
class Layout:
    """How the two kinds of TIFF write an entry: tag, type, count, value."""

    order: str
    big: bool

    @property
    def forms(self) -> tuple[tuple[int, str], ...]:
        """Offset in an entry and form of its four parts."""
        word = "Q" if self.big else "I"
        at = (0, 2, 4, 12) if self.big else (0, 2, 4, 8)
        letters = ("H", "H", word, word)
        return tuple((a, self.order + form) for a, form in zip(at, letters, strict=True))

    @property
    def size(self) -> int:
        return 20 if self.big else 12


def layout_of(data: bytes) -> Layout:
    order = ">" if data[:2] == b"MM" else "<"
    return Layout(order, struct.unpack_from(order + "H", data, 2)[0] == 43)


def entries_of(data: bytes) -> list[int]:
    """Where the entries of the first page begin; [] where the file is cut."""
    layout = layout_of(data)
    try:
        if layout.big:
            (start,) = struct.unpack_from(layout.order + "Q", data, 8)
            (count,) = struct.unpack_from(layout.order + "Q", data, start)
            first = start + 8
        else:
            (start,) = struct.unpack_from(layout.order + "I", data, 4)
            (count,) = struct.unpack_from(layout.order + "H", data, start)
            first = start + 2
    except struct.error:
        return []
    return [first + i * layout.size for i in range(min(count, 100))]


def tag_value(data: bytes, rng: Random) -> bytes:
    """A part of one entry replaced, its value twice as often as the others."""
    layout, entries = layout_of(data), entries_of(data)
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.choice(entries)
        (tag,) = struct.unpack_from(layout.order + "H", data, at)
        part = rng.choice((0, 1, 2, 3, 3, 3))
        offset, form = layout.forms[part]
        value = draw_number(form, rng)
        if part == 0:
            value = rng.choice(WORTH)
        elif part == 3 and tag in VALUES and rng.random() < 0.8:
            form, value = layout.order + "H", rng.choice(VALUES[tag])
        data = put_number(data, at + offset, form, value)
    return data


def chain(data: bytes, rng: Random) -> bytes:
    """Where the first page or the next one lies: nowhere, here again, behind the end."""
    layout, entries = layout_of(data), entries_of(data)
    form = layout.order + ("Q" if layout.big else "I")
    first = 8 if layout.big else 4
    behind = entries[-1] + layout.size if entries else first
    (start,) = struct.unpack_from(form, data, first)
    value = rng.choice((0, 1, 8, start, len(data) - 1, len(data), 2**31, 2**32 - 1))
    return put_number(data, rng.choice((first, behind)), form, value)


def other_kind(data: bytes, rng: Random) -> bytes:
    """Another byte order or another magic number."""
    return rng.choice((b"MM\0*", b"II*\0", b"II+\0", b"MM\0+", b"IIII", b"MMMM")) + data[4:]


def write_tiff(
    pages: list[NDArray[np.uint8]],
    *,
    order: str = "<",
    big: bool = False,
    tile: int = 0,
    deflate: bool = False,
) -> bytes:
    """A TIFF of gray pages as Pillow does not write it: tiles, BigTIFF, either byte order."""
    word, layout = ("Q" if big else "I"), Layout(order, big)
    mark = b"II" if order == "<" else b"MM"
    head = struct.pack(order + "HHHQ", 43, 8, 0, 0) if big else struct.pack(order + "HI", 42, 0)
    data, link = mark + head, 8 if big else 4
    for page in pages:
        blocks = _blocks(page, tile)
        packed = [zlib.compress(block) if deflate else block for block in blocks]
        offsets, sizes = [], []
        for block in packed:
            offsets.append(len(data))
            sizes.append(len(block))
            data += block
        tags = {
            256: (page.shape[1],),
            257: (page.shape[0],),
            258: (8,),
            259: (8 if deflate else 1,),
        }
        tags |= {262: (1,), 277: (1,)}
        if tile:
            tags |= {322: (tile,), 323: (tile,), 324: tuple(offsets), 325: tuple(sizes)}
        else:
            tags |= {273: tuple(offsets), 278: (page.shape[0],), 279: tuple(sizes)}
        body, start = b"", len(data)
        after = start + (8 if big else 2) + layout.size * len(tags) + (8 if big else 4)
        spill = b""
        for tag, values in sorted(tags.items()):
            packed_values = struct.pack(f"{order}{len(values)}{word}", *values)
            width = 8 if big else 4
            if len(packed_values) > width:
                value = struct.pack(order + word, after + len(spill))
                spill += packed_values
            else:
                value = packed_values
            body += struct.pack(f"{order}HH{word}", tag, 16 if big else 4, len(values)) + value
        count = struct.pack(order + ("Q" if big else "H"), len(tags))
        data += count + body + bytes(8 if big else 4) + spill
        data = put_number(data, link, order + word, start)
        link = after - (8 if big else 4)
    return data


def _blocks(page: NDArray[np.uint8], tile: int) -> list[bytes]:
    if not tile:
        return [page.tobytes()]
    rows, columns = -(-page.shape[0] // tile), -(-page.shape[1] // tile)
    whole = np.zeros((rows * tile, columns * tile), np.uint8)
    whole[: page.shape[0], : page.shape[1]] = page
    places = [(i * tile, j * tile) for i in range(rows) for j in range(columns)]
    return [whole[i : i + tile, j : j + tile].tobytes() for i, j in places]


tiff = either(spoil, tag_value, tag_value, tag_value, chain, other_kind)
