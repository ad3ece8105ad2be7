"""Fields of PNG, JPEG and BMP; checksums are made right again, so that decoders go on reading."""

from __future__ import annotations

import struct
import zlib
from random import Random

from fuzz.mutators.raw import draw_number, either, put_number, spoil

SIGNATURE = b"\x89PNG\r\n\x1a\n"
Chunk = tuple[bytes, bytes]
IHDR = ((0, ">I"), (4, ">I"), (8, ">B"), (9, ">B"), (10, ">B"), (11, ">B"), (12, ">B"))
"""Width, height, depth, color type, compression, filter, interlace."""
BMP = (
    *((2, "<I"), (10, "<I"), (14, "<I"), (18, "<i"), (22, "<i"), (26, "<H"), (28, "<H")),
    *((30, "<I"), (34, "<I"), (46, "<I"), (50, "<I")),
)
"""File size, offset of the pixels, header size, width, height, planes, bits, compression, ..."""
DEPTHS = (1, 2, 4, 8, 16)
COLORS = (0, 2, 3, 4, 6)


def chunks_of(data: bytes) -> list[Chunk]:
    """Name and content of each chunk of a whole PNG."""
    found, at = [], len(SIGNATURE)
    while at + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def png_of(chunks: list[Chunk]) -> bytes:
    """A PNG whose checksums are right."""
    parts = [SIGNATURE]
    for name, content in chunks:
        crc = zlib.crc32(name + content)
        parts.append(struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc))
    return b"".join(parts)


def png_header(data: bytes, rng: Random) -> bytes:
    chunks = chunks_of(data)
    name, content = chunks[0]
    for _ in range(rng.choice((1, 1, 2))):
        at, form = rng.choice(IHDR)
        value = draw_number(form, rng)
        if at in (8, 9) and rng.random() < 0.7:
            value = rng.choice(DEPTHS if at == 8 else COLORS)
        content = put_number(content, at, form, value)
    return png_of([(name, content), *chunks[1:]])


def png_chunk(data: bytes, rng: Random) -> bytes:
    """One chunk spoiled, dropped, moved or said twice."""
    chunks = chunks_of(data)
    at = rng.randrange(len(chunks))
    name, content = chunks[at]
    how = rng.randrange(4)
    if how == 0:
        chunks[at] = (name, spoil(content, rng))
    elif how == 1:
        del chunks[at]
    elif how == 2:
        chunks.insert(rng.randrange(len(chunks) + 1), chunks.pop(at))
    else:
        chunks.insert(at, chunks[at])
    return png_of(chunks)


def png_extra(data: bytes, rng: Random) -> bytes:
    """A chunk that decoders look into: transparency, palette, profile, EXIF, animation, text."""
    extra = rng.choice(
        (
            (b"tRNS", rng.randbytes(rng.choice((1, 2, 6, 300)))),
            (b"PLTE", rng.randbytes(rng.choice((0, 3, 5, 768, 900)))),
            (b"iCCP", b"x\0\0" + zlib.compress(rng.randbytes(20))),
            (b"eXIf", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + rng.randbytes(8)),
            (b"acTL", struct.pack(">II", rng.choice((0, 1, 2**31)), 0)),
            (b"zTXt", b"k\0\0" + zlib.compress(bytes(rng.choice((10, 10**7))))),
            (b"iTXt", b"k\0\x01\0en\0k\0" + rng.randbytes(9)),
            (b"pHYs", rng.randbytes(9)),
            (b"gAMA", rng.randbytes(rng.choice((0, 4)))),
            (b"IHDR", chunks_of(data)[0][1]),
            (rng.randbytes(4), rng.randbytes(10)),
        )
    )
    chunks = chunks_of(data)
    chunks.insert(rng.randrange(1, len(chunks)), extra)
    return png_of(chunks)


def png_pixels(data: bytes, rng: Random) -> bytes:
    """Rows that are spoiled, missing or too many, compressed as they should be."""
    chunks = chunks_of(data)
    packed = b"".join(content for name, content in chunks if name == b"IDAT")
    rows = spoil(zlib.decompress(packed), rng)
    others = [chunk for chunk in chunks if chunk[0] != b"IDAT"]
    return png_of([*others[:-1], (b"IDAT", zlib.compress(rows)), others[-1]])


def jpeg_segment(data: bytes, rng: Random) -> bytes:
    """One segment before the scan spoiled, dropped, said twice; size and precision of the frame."""
    found, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        size = 2 + struct.unpack_from(">H", data, at + 2)[0]
        found.append(data[at : at + size])
        at += size
    which = rng.randrange(len(found))
    segment = found[which]
    frames = [i for i, s in enumerate(found) if s[1] in (0xC0, 0xC1, 0xC2)]
    how = rng.randrange(4)
    if how == 0 and frames:
        which = frames[0]
        offset, form = rng.choice(((4, ">B"), (5, ">H"), (7, ">H"), (9, ">B"), (11, ">B")))
        segment = put_number(found[which], offset, form, draw_number(form, rng))
    elif how == 1:
        segment = b""
    elif how == 2:
        segment = segment * 2
    else:
        body = spoil(segment[4:], rng)[:60_000]
        segment = segment[:2] + struct.pack(">H", len(body) + 2) + body
    found[which] = segment
    return data[:2] + b"".join(found) + data[at:]


def bmp_header(data: bytes, rng: Random) -> bytes:
    for _ in range(rng.choice((1, 1, 2))):
        at, form = rng.choice(BMP)
        value = draw_number(form, rng)
        if at == 28:
            value = rng.choice((1, 2, 4, 8, 16, 24, 32, 64))
        data = put_number(data, at, form, value)
    return data


png = either(spoil, png_header, png_header, png_chunk, png_extra, png_pixels)
jpeg = either(spoil, jpeg_segment, jpeg_segment)
bmp = either(spoil, bmp_header, bmp_header)
