"""What the pixels of a picture mean: in an image what is seen, in a label what is stored."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from tests.helpers.pictures import page, png, tiff

from synfoc.errors import UserError
from synfoc.images.files import read_codes, read_geometry, read_image

CODES = np.arange(12).reshape(3, 4)
RGB = np.arange(36).reshape(3, 4, 3)
LABEL = np.array([[0, 0, 1, 2], [0, 1, 1, 2], [0, 0, 0, 2]], np.uint8)
SHAPE = (LABEL > 0).astype(np.uint8) * 255


def image(path: Path, content: bytes) -> np.ndarray:
    path.write_bytes(content)
    return read_image(path).pixels[0]


def codes(path: Path, content: bytes) -> np.ndarray:
    path.write_bytes(content)
    return read_codes(path).pixels[0]


def saved(picture: Image.Image | np.ndarray, kind: str, **more: object) -> bytes:
    file = io.BytesIO()
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    picture.save(file, format=kind, **more)
    return file.getvalue()


@pytest.mark.parametrize(
    ("stored", "bits", "seen"),
    [
        (CODES % 2, 1, 255 * (1 - CODES % 2)),
        (CODES % 4, 2, 85 * (3 - CODES % 4)),
        (CODES, 4, 17 * (15 - CODES)),
        (CODES.astype("u1"), 0, 255 - CODES),
        (CODES.astype("<u2"), 0, 65535 - CODES),
        (CODES.astype("<u4"), 0, 2**32 - 1 - CODES),
        (CODES.astype("i1"), 0, -1 - CODES),
        (CODES.astype("<i2"), 0, -1 - CODES),
        (CODES.astype("<f4"), 0, 11 - CODES),
    ],
    ids=["1", "2", "4", "8", "16", "32", "signed 8", "signed 16", "float"],
)
def test_zero_is_white_at_every_depth(
    tmp_path: Path, stored: np.ndarray, bits: int, seen: np.ndarray
) -> None:
    """SimpleITK shows what is stored, Pillow inverts up to 8 bits: viewers show 0 white."""
    stored = stored.astype("u1") if bits else stored
    found = image(tmp_path / "a.tif", tiff(page(stored, bits=bits, photometric=0)))
    assert np.array_equal(found, seen)
    if not bits and stored.dtype.kind != "f":
        assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "a.tif")), stored)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_byte_order_and_bigtiff_do_not_matter(tmp_path: Path, order: str, big: bool) -> None:
    for number in ("u1", "u2", "i2", "u4", "i4", "f4"):
        stored = (CODES * 20).astype(order + number)
        content = tiff(page(stored), order=order, big=big)
        assert np.array_equal(image(tmp_path / "a.tif", content), CODES * 20)
        inverted = tiff(page(stored, photometric=0), order=order, big=big)
        found = image(tmp_path / "a.tif", inverted).astype(float)
        assert np.array_equal(found - found.max(), -CODES * 20.0), number
    content = tiff(page(RGB.astype("u1"), photometric=2), order=order, big=big)
    assert np.array_equal(image(tmp_path / "a.tif", content), RGB)


def test_signed_and_large_numbers_are_not_taken_for_others(tmp_path: Path) -> None:
    """Pillow reads -1 of 8 bits as 255, and 2^31 of 32 bits as -2^31."""
    low = (CODES - 6).astype("i1")
    assert np.array_equal(image(tmp_path / "a.tif", tiff(page(low))), low)
    high = (CODES + 2**31).astype("<u4")
    assert np.array_equal(image(tmp_path / "a.tif", tiff(page(high))), high)


def test_a_label_whose_zero_is_white_holds_what_is_stored_or_is_refused(tmp_path: Path) -> None:
    """Small numbers are codes; large ones are those of a program that inverted; both: who knows.

    1 bit always leaves both open.
    """
    for stored in (LABEL, 255 - LABEL, LABEL.astype("<u2"), 65535 - LABEL.astype("<u2")):
        found = codes(tmp_path / "a.tif", tiff(page(stored, photometric=0)))
        assert np.array_equal(found, LABEL)
    content = tiff(page(LABEL, bits=4, photometric=0))
    assert np.array_equal(codes(tmp_path / "a.tif", content), LABEL)
    for content in (
        tiff(page(SHAPE, photometric=0)),
        tiff(page(SHAPE // 255, bits=1, photometric=0)),
    ):
        with pytest.raises(UserError, match="whose 0 is white, with numbers from 0 to") as caught:
            codes(tmp_path / "a.tif", content)
        assert "cannot read mask" in caught.value.what
        assert caught.value.fix.startswith("save it as PNG")


def test_colors_of_a_tiff_by_hand(tmp_path: Path) -> None:
    """Planes or pixels, 8 or 16 bits or floats, CMYK: 5 of 255 black leaves 250 of each color."""
    for content in (
        tiff(page(RGB.astype("u1"), photometric=2)),
        tiff(page(RGB.astype("u1"), photometric=2, planar=2)),
        tiff(page(RGB.astype("<u2"), photometric=2)),
        tiff(page(RGB.astype(">u2"), photometric=2), order=">"),
        tiff(page(RGB.astype("<f4"), photometric=2)),
    ):
        assert np.array_equal(image(tmp_path / "a.tif", content), RGB)
    ink = np.zeros((3, 4, 4), np.uint8)
    ink[..., 3] = 5
    ink[0, 0, 0] = 255
    found = image(tmp_path / "a.tif", tiff(page(ink, photometric=5)))
    assert found[0, 0].tolist() == [0, 250, 250], "all cyan, no red"
    assert (found[1:] == 250).all()


def test_gray_lab_is_gray(tmp_path: Path) -> None:
    """L of 0 and 255 without a color are black and white."""
    lab = np.zeros((3, 4, 3), np.uint8)
    lab[0, :, 0] = 255
    found = image(tmp_path / "a.tif", tiff(page(lab, photometric=8)))
    assert (found[0] >= 250).all()
    assert (found[1:] <= 5).all()


@pytest.mark.parametrize(
    ("pixels", "more", "found"),
    [
        (RGB.astype("<u2"), {"photometric": 2, "planar": 2}, "3 x 16 bits (whole numbers"),
        (CODES.astype("<f8"), {}, "64 bits (floats"),
        (CODES.astype("<f2"), {}, "16 bits (floats"),
        (CODES.astype("u1"), {"bits": 12, "photometric": 0}, "12 bits (whole numbers"),
        (RGB[..., :2].astype("<u2"), {"extra": 2}, "2 x 16 bits"),
    ],
)
def test_a_tiff_that_is_not_read_is_not_called_damaged(
    tmp_path: Path, pixels: np.ndarray, more: dict[str, int], found: str
) -> None:
    """SimpleITK would give 8 bits of the first, other numbers of the third and the last."""
    with pytest.raises(UserError) as caught:
        image(tmp_path / "a.tif", tiff(page(pixels, **more)))
    assert caught.value.found.startswith(f"a TIFF of {found}")
    assert caught.value.fix == "save it as PNG of 8 or 16 bits, or as NPY"


def test_a_compression_that_no_decoder_knows_is_no_damage(tmp_path: Path) -> None:
    """JPEG 2000 in a TIFF, as slide scanners write it."""
    tags, strips = page(CODES.astype("u1"))
    with pytest.raises(UserError) as caught:
        image(tmp_path / "a.tif", tiff(({**tags, 259: (3, [33003])}, strips)))
    assert caught.value.found.endswith("photometric rule 1, compression 33003)")


@pytest.mark.parametrize("kind", [1, 4, 5])
def test_thumbnails_and_masks_of_a_page_are_no_pages(tmp_path: Path, kind: int) -> None:
    """Behind the picture or before it; SimpleITK takes the first page, which may be the small."""
    full, small = page(CODES.astype("u1")), page(LABEL[:2, :2], kind=kind)
    for order in ((full, small, small), (small, full)):
        assert np.array_equal(image(tmp_path / "a.tif", tiff(*order)), CODES)
    assert read_geometry(tmp_path / "a.tif").size == (1, 3, 4)


def test_real_pages_are_refused(tmp_path: Path) -> None:
    """Two pages, one of them marked as one of several (2); and ImageJ's stack behind one page."""
    full = page(CODES.astype("u1"))
    for content, pages in (
        (tiff(full, full), 2),
        (tiff(full, page(CODES.astype("u1"), kind=2), page(LABEL, kind=1)), 2),
        (tiff(full, text=b"ImageJ=1.53t\nimages=40\nslices=40\n"), 40),
    ):
        with pytest.raises(UserError) as caught:
            image(tmp_path / "a.tif", content)
        assert caught.value.found == f"{pages} pages"


def test_pngs_of_every_type_by_hand(tmp_path: Path) -> None:
    """16-bit colors and gray with transparency are kept whole; gamma changes nothing."""
    gamma = [(b"gAMA", struct.pack(">I", 10000))]
    for factor, bits in ((1, 8), (1000, 16)):
        gray, color = CODES * factor, RGB * factor
        opaque = np.full((3, 4, 1), 2**bits - 1)
        for pixels, kind, seen in (
            (gray, 0, gray),
            (color, 2, color),
            (np.dstack([gray, opaque]), 4, gray),
            (np.dstack([color, opaque]), 6, color),
        ):
            content = png(pixels, bits=bits, color_type=kind, chunks=gamma)
            found = image(tmp_path / "a.png", content)
            assert np.array_equal(found, seen), (bits, kind)
    clear = [(b"tRNS", struct.pack(">H", 1000))]
    content = png(CODES * 1000, bits=16, color_type=0, chunks=clear)
    assert np.array_equal(image(tmp_path / "a.png", content), CODES * 1000)


def test_palettes_of_few_bits_are_indices_in_a_label(tmp_path: Path) -> None:
    """PNG of 1, 2 and 4 bits, TIFF, and BMP of 1 bit whose first color is white."""
    colors = bytes([9, 9, 9, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    for bits in (1, 2, 4):
        stored = LABEL % 2**bits
        content = png(stored, bits=bits, color_type=3, chunks=[(b"PLTE", colors)])
        assert np.array_equal(codes(tmp_path / "a.png", content), stored)
        assert image(tmp_path / "a.png", content)[0, 2].tolist() == [200, 0, 0]
    inverted = Image.fromarray(LABEL % 2).convert("P")
    inverted.putpalette([255, 255, 255, 0, 0, 0])
    content = saved(inverted, "BMP")
    assert np.array_equal(codes(tmp_path / "a.bmp", content), LABEL % 2)
    assert np.array_equal(image(tmp_path / "a.bmp", content), 255 * (1 - LABEL % 2))


def hidden() -> dict[str, bytes]:
    """White all over, the shape in the transparency, in five ways."""
    white = np.full((3, 4, 3), 255, np.uint8)
    palette = [(b"PLTE", bytes([255] * 9)), (b"tRNS", bytes([0, 255, 255]))]
    return {
        "RGBA": saved(np.dstack([white, SHAPE]), "PNG"),
        "LA": saved(np.dstack([white[..., 0], SHAPE]), "PNG"),
        "palette": png(LABEL, bits=8, color_type=3, chunks=palette),
        "16-bit RGBA": png(np.dstack([white, SHAPE]) * np.uint16(257), bits=16, color_type=6),
        "16-bit LA": png(np.dstack([white[..., 0], SHAPE]) * np.uint16(257), bits=16, color_type=4),
        "TIFF": tiff(page(np.dstack([white, SHAPE]), photometric=2, extra=2)),
    }


@pytest.mark.parametrize("kind", hidden())
def test_what_is_drawn_in_the_transparency_alone_is_refused(tmp_path: Path, kind: str) -> None:
    """Read without it, the structure would be everywhere."""
    path = tmp_path / ("a.tif" if kind == "TIFF" else "a.png")
    path.write_bytes(hidden()[kind])
    for read in (read_codes, read_image):
        with pytest.raises(UserError) as caught:
            read(path)
        assert caught.value.found == (
            "one color all over: its transparency says what its colors do not"
        )


def test_the_transparency_as_gray_is_the_label(tmp_path: Path) -> None:
    """What the message proposes."""
    content = saved(Image.fromarray(SHAPE), "PNG")
    with Image.open(io.BytesIO(hidden()["RGBA"])) as picture:
        assert saved(picture.getchannel("A"), "PNG") == content
    assert np.array_equal(codes(tmp_path / "a.png", content), SHAPE)


def test_a_code_with_two_transparencies_is_refused_and_one_of_each_is_not(tmp_path: Path) -> None:
    """Half-clear overlays carry their codes in gray; one that is both seen and unseen does not."""
    overlay = np.dstack([LABEL, LABEL * 60])
    assert np.array_equal(codes(tmp_path / "a.png", saved(overlay, "PNG")), LABEL)
    bleeding = overlay.copy()
    bleeding[0, 0] = (1, 0)
    with pytest.raises(UserError, match="one color with several transparencies"):
        codes(tmp_path / "a.png", saved(bleeding, "PNG"))
    assert image(tmp_path / "a.png", saved(bleeding, "PNG"))[0, 0] == 1, "an image drops it"


def test_codes_that_were_multiplied_by_a_transparency_are_refused(tmp_path: Path) -> None:
    half = np.dstack([LABEL, np.full_like(LABEL, 128)])
    content = tiff(page(half, extra=1))
    with pytest.raises(UserError, match="multiplied by a transparency"):
        codes(tmp_path / "a.tif", content)


def test_a_picture_of_several_is_read_with_a_remark_or_refused(tmp_path: Path) -> None:
    """Of a camera's MPO viewers show the first; a moving PNG has no first."""
    first, second = Image.fromarray(CODES.astype("u1") * 20), Image.fromarray(LABEL)
    several = {"save_all": True, "append_images": [second]}
    (tmp_path / "a.jpg").write_bytes(saved(first.convert("RGB"), "MPO", **several))
    stack = read_image(tmp_path / "a.jpg")
    assert np.abs(stack.pixels[0, ..., 0] - CODES * 20.0).max() <= 10, "not LABEL, which is dark"
    assert "the first is read" in stack.remark
    with pytest.raises(UserError, match="a moving PNG of 2 pictures"):
        image(tmp_path / "a.png", saved(first, "PNG", **several))


def test_an_inverted_cmyk_jpeg_is_seen_as_it_was(tmp_path: Path) -> None:
    """Adobe stores CMYK inverted; a light red must not come back as a dark cyan."""
    red = Image.new("RGB", (8, 8), (250, 120, 110))
    found = image(tmp_path / "a.jpg", saved(red.convert("CMYK"), "JPEG", quality=100))
    assert np.abs(found.reshape(-1, 3) - np.array([250.0, 120, 110])).max() <= 4
