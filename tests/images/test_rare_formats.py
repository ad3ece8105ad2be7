"""Forms of pictures that few tools write: read to the last pixel, as images and as labels."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.helpers.pictures import packed, page, tiff

from synfoc.images.files import read_codes, read_geometry, read_image

CODES = np.arange(7 * 11, dtype=np.uint8).reshape(7, 11) % 5
GRAY = np.arange(7 * 11, dtype=np.uint8).reshape(7, 11) * 3
SEVEN = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
         (0, 1, 1, 2))  # fmt: skip
"""Adam7: first column, first row, step of columns, step of rows of each pass."""


def interlaced(pixels: np.ndarray, bits: int, color_type: int) -> bytes:
    rows = b""
    for column, row, columns, lines in SEVEN:
        part = pixels[row::lines, column::columns]
        rows += b"".join(b"\0" + packed(line, bits) for line in part if line.size)
    header = struct.pack(">IIBBBBB", *pixels.shape[1::-1], bits, color_type, 0, 0, 1)
    palette = bytes(np.repeat(np.arange(0, 250, 50, dtype=np.uint8), 3))
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    if color_type == 3:
        chunks.insert(1, (b"PLTE", palette))
    file = b"\x89PNG\r\n\x1a\n"
    for kind, content in chunks:
        body = kind + content
        file += struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
    return file


@pytest.mark.parametrize("bits", [8, 16])
def test_an_interlaced_png_is_read_as_a_whole(tmp_path: Path, bits: int) -> None:
    """Adam7 in gray: a pixel of the last pass lies between those of the six before it."""
    gray = GRAY.astype(np.uint16) * 200 if bits == 16 else GRAY
    (tmp_path / "a.png").write_bytes(interlaced(gray, bits, 0))
    assert np.array_equal(read_image(tmp_path / "a.png").pixels[0], gray)


@pytest.mark.parametrize(("bits", "color_type"), [(4, 0), (4, 3), (8, 3)])
def test_an_interlaced_label_holds_its_codes(tmp_path: Path, bits: int, color_type: int) -> None:
    (tmp_path / "a.png").write_bytes(interlaced(CODES, bits, color_type))
    assert np.array_equal(read_codes(tmp_path / "a.png").pixels[0], CODES)


def bmp(body: bytes, *, height: int, compression: int) -> bytes:
    """An 8-bit BMP of 11 columns; index k is gray k."""
    palette = b"".join(bytes((k, k, k, 0)) for k in range(256))
    place = 14 + 40 + len(palette)
    head = struct.pack("<2sIHHI", b"BM", place + len(body), 0, 0, place)
    shape = struct.pack("<IiiHHIIiiII", 40, 11, height, 1, 8, compression, len(body), 0, 0, 256, 0)
    return head + shape + palette + body


def rle(rows: np.ndarray) -> bytes:
    """Runs of one pixel or more, and an end to each line and to the picture."""
    body = b""
    for row in rows:
        for start in [0, *(np.flatnonzero(np.diff(row)) + 1)]:
            run = np.flatnonzero(row[start:] != row[start])
            body += bytes((run[0] if run.size else row.size - start, row[start]))
        body += b"\0\0"
    return body + b"\0\1"


def test_a_bmp_in_runs_or_from_the_top_is_read_upright(tmp_path: Path) -> None:
    """Rows are stored from the bottom, but for a negative height; RLE knows no other way."""
    padded = np.pad(CODES, ((0, 0), (0, 1)))
    files = {
        "rle": bmp(rle(CODES[::-1]), height=7, compression=1),
        "top": bmp(padded.tobytes(), height=-7, compression=0),
        "bottom": bmp(padded[::-1].tobytes(), height=7, compression=0),
    }
    for name, content in files.items():
        path = tmp_path / f"{name}.bmp"
        path.write_bytes(content)
        assert np.array_equal(read_codes(path).pixels[0], CODES), name
        seen = read_image(path).pixels[0]
        assert np.array_equal(seen if seen.ndim == 2 else seen[..., 0], CODES), name


@pytest.mark.parametrize("dtype", ["u1", "<u2", "<f4"])
def test_a_tiff_in_tiles_is_one_picture(tmp_path: Path, dtype: str) -> None:
    """20 x 37 pixels in 2 x 3 tiles of 16 x 16, whose padding is no part of it."""
    pixels = (np.arange(20 * 37).reshape(20, 37) % 251).astype(dtype)
    tags, _ = page(pixels)
    padded = np.pad(pixels, ((0, 12), (0, 11)), constant_values=99)
    tiles = [
        padded[row : row + 16, column : column + 16].tobytes()
        for row in (0, 16)
        for column in (0, 16, 32)
    ]
    del tags[278]
    tags |= {322: (3, [16]), 323: (3, [16])}
    (tmp_path / "a.tif").write_bytes(tiff((tags, tiles)))
    assert np.array_equal(read_image(tmp_path / "a.tif").pixels[0], pixels)
    assert np.array_equal(read_codes(tmp_path / "a.tif").pixels[0], pixels)
    assert read_geometry(tmp_path / "a.tif").size == (1, 20, 37)


@pytest.mark.parametrize("compression", [None, "jpeg"])
def test_a_tiff_of_brightness_and_two_colors_is_seen_in_color(
    tmp_path: Path, compression: str | None
) -> None:
    """YCbCr, as slide scanners write it: what Pillow shows."""
    color = np.random.default_rng(0).integers(0, 255, (4, 4, 3), np.uint8)
    picture = Image.fromarray(color.repeat(8, 0).repeat(8, 1)).convert("YCbCr")
    file = io.BytesIO()
    picture.save(file, format="TIFF", compression=compression)
    (tmp_path / "a.tif").write_bytes(file.getvalue())
    seen = read_image(tmp_path / "a.tif").pixels[0].astype(int)
    assert np.abs(seen - np.asarray(picture.convert("RGB"), int)).max() <= (8 if compression else 1)


def test_a_single_plane_of_ome_is_a_picture(tmp_path: Path) -> None:
    text = (
        b'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        b'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="11"'
        b' SizeY="7" SizeC="1" SizeZ="1" SizeT="1"><TiffData/></Pixels></Image></OME>'
    )
    pixels = GRAY.astype("<u2") * 200
    (tmp_path / "a.ome.tif").write_bytes(tiff(page(pixels), text=text))
    assert np.array_equal(read_image(tmp_path / "a.ome.tif").pixels[0], pixels)
