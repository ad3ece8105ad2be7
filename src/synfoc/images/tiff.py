"""The tags of a TIFF file that say what its numbers mean: which page, how many bits, what is black.

Pillow and SimpleITK do not tell it all: both pass over pages' kinds, and neither shows white where
the smallest number is white at every depth.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
SAMPLES, PLANAR, EXTRA, FORMAT = 277, 284, 338, 339
SUBFILE, OLD_SUBFILE, DESCRIPTION, TILE_WIDTH = 254, 255, 270, 322
READ = (
    *(WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, PLANAR, EXTRA, FORMAT),
    *(SUBFILE, OLD_SUBFILE, DESCRIPTION, TILE_WIDTH),
)
TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 18: "Q"}
"""Number of a TIFF type -> its letter in `struct`; others hold nothing that is asked here."""
COMPRESSIONS = (1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32946, 34925, 50000, 50001)
"""Those that the decoders may know."""
MOST_PAGES, MOST_TAGS, MOST_VALUES = 10_000, 4096, 2**16

Tags = dict[int, tuple[int, ...]]


@dataclass(frozen=True)
class Form:
    """How the pixels of one page are stored."""

    width: int
    height: int
    bits: int
    """Of a sample; 0 where samples differ."""
    samples: int
    photometric: int
    """0 the smallest number is white, 1 it is black, 2 RGB, 3 palette, 4 a mask of other pages."""
    number: int
    """1 unsigned, 2 signed, 3 float."""
    separate: bool
    """Each color in a plane of its own."""
    tiled: bool
    compression: int
    """1 none, 5 LZW, 7 JPEG, 8 deflate, ..."""
    backward: bool
    """A BigTIFF with the high byte first."""
    premultiplied: bool
    """Colors were multiplied by the transparency beside them."""

    def __str__(self) -> str:
        kinds = {1: "whole numbers", 2: "signed numbers", 3: "floats"}
        each = (
            f"{self.samples} x {self.bits or '?'} bits" if self.samples > 1 else f"{self.bits} bits"
        )
        how = kinds.get(self.number, "numbers of another type")
        more = ", colors in separate planes" * self.separate + ", in tiles" * self.tiled
        more += f", compression {self.compression}" * (self.compression not in COMPRESSIONS)
        more += ", high byte first" * self.backward
        more += ", multiplied by a transparency" * self.premultiplied
        return f"a TIFF of {each} ({how}, photometric rule {self.photometric}{more})"


@dataclass(frozen=True)
class Pages:
    """The pages of a file."""

    full: tuple[int, ...]
    """Numbers of those that are neither a smaller copy nor a mask of another one."""
    form: Form
    """Of the first full page."""
    stacked: int
    """Pictures that ImageJ wrote behind the only page; 1 where there are no more."""


def read_pages(path: Path) -> Pages:
    """Follow the pages of a TIFF or BigTIFF, classic or of either byte order.

    Raises:
        Exception: of any type, where the file is damaged.
    """
    with path.open("rb") as file:
        backward = file.read(4) == b"MM\0+"
        file.seek(0)
        pages = _walk(file)
    full = tuple(k for k, tags in enumerate(pages) if not _of_another(tags)) or (0,)
    tags = pages[full[0]]
    bits = set(tags.get(BITS, (1,)))
    samples = _first(tags, SAMPLES, 1)
    form = Form(
        width=_first(tags, WIDTH, 0),
        height=_first(tags, HEIGHT, 0),
        bits=bits.pop() if len(bits) == 1 else 0,
        samples=samples,
        photometric=_first(tags, PHOTOMETRIC, 1),
        number=_first(tags, FORMAT, 1),
        separate=samples > 1 and _first(tags, PLANAR, 1) == 2,
        tiled=TILE_WIDTH in tags,
        compression=_first(tags, COMPRESSION, 1),
        backward=backward,
        premultiplied=_first(tags, EXTRA, 0) == 1,
    )
    told = re.match(rb"ImageJ=.*?\nimages=(\d+)", bytes(tags.get(DESCRIPTION, ())), re.DOTALL)
    return Pages(full, form, int(told[1]) if told and len(pages) == 1 else 1)


def _first(tags: Tags, tag: int, otherwise: int) -> int:
    return next(iter(tags.get(tag, ())), otherwise)


def _of_another(tags: Tags) -> bool:
    """Return whether a page is of another: a smaller copy (bit 0) or a mask (bit 2)."""
    kind = _first(tags, SUBFILE, 0)
    mask = _first(tags, PHOTOMETRIC, 1) == 4
    return bool(kind & 0b101) or mask or _first(tags, OLD_SUBFILE, 1) == 2


def _walk(file: BinaryIO) -> list[Tags]:
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    at = struct.unpack(order + ("Q" if big else "I"), head[8:16] if big else head[4:8])[0]
    pages: list[Tags] = []
    seen: set[int] = set()
    while at and at not in seen and len(pages) < MOST_PAGES:
        seen.add(at)
        file.seek(at)
        tags, at = _page(file, order, big=big)
        pages.append(tags)
    return pages


def _page(file: BinaryIO, order: str, *, big: bool) -> tuple[Tags, int]:
    """Return the tags of READ of the page at the file's position, and where the next page is."""
    counter, entry, wide = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    (count,) = struct.unpack(order + counter, file.read(struct.calcsize("=" + counter)))
    if count > MOST_TAGS:
        raise ValueError(f"{count} tags in a page")
    size = struct.calcsize("=" + entry)
    entries = file.read(size * count)
    (following,) = struct.unpack(
        order + wide, file.read(struct.calcsize("=" + wide)) or bytes(8 if big else 4)
    )
    tags: Tags = {}
    for tag, kind, length, value in struct.iter_unpack(order + entry, entries):
        if tag not in READ or kind not in TYPES or length > MOST_VALUES:
            continue
        form = f"{order}{length}{TYPES[kind]}"
        needed = struct.calcsize(form)
        if needed > len(value):
            file.seek(struct.unpack(order + wide, value)[0])
            tags[tag] = struct.unpack(form, file.read(needed))
        else:
            tags[tag] = struct.unpack(form, value[:needed])
    return tags, following
