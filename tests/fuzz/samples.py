"""Whole images and labels of every format and mode, drawn from a generator."""

from __future__ import annotations

import io
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fuzz.mutators.tiff import write_tiff
from fuzz.stock import SIDE, square

Pixels = NDArray[Any]


class Pair(NamedTuple):
    """Two files of one size."""

    image: bytes
    label: bytes
    suffix: str
    label_suffix: str


def draw_png(rng: Random) -> Pair:
    pixels, label = _square(rng)
    wide = pixels.astype(np.uint16) * 200
    modes: dict[str, Callable[[], Image.Image]] = {
        "L": lambda: Image.fromarray(pixels),
        "1": lambda: Image.fromarray(pixels > 100),
        "P": lambda: Image.fromarray(pixels).quantize(16),
        "LA": lambda: Image.fromarray(pixels).convert("LA"),
        "RGB": lambda: Image.fromarray(pixels).convert("RGB"),
        "RGBA": lambda: Image.fromarray(pixels).convert("RGBA"),
        "I;16": lambda: Image.fromarray(wide),
    }
    picture = modes[rng.choice(list(modes))]()
    more = {"bits": 4} if picture.mode == "P" and rng.random() < 0.5 else {}
    return Pair(_saved(picture, "PNG", **more), _label(label, rng), ".png", ".png")


def draw_jpeg(rng: Random) -> Pair:
    pixels, label = _square(rng)
    mode = rng.choice(("L", "RGB", "CMYK"))
    picture = Image.fromarray(pixels).convert(mode)
    data = _saved(picture, "JPEG", progressive=rng.random() < 0.5)
    return Pair(data, _label(label, rng), rng.choice((".jpg", ".jpeg", ".JPG")), ".png")


def draw_bmp(rng: Random) -> Pair:
    pixels, label = _square(rng)
    picture = Image.fromarray(pixels)
    mode = rng.choice(("L", "1", "P", "RGB"))
    data = _saved(picture.quantize(8) if mode == "P" else picture.convert(mode), "BMP")
    return Pair(data, _saved(Image.fromarray(label), "BMP"), ".bmp", ".bmp")


def draw_tiff(rng: Random) -> Pair:
    pixels, label = _square(rng)
    suffix = rng.choice((".tif", ".tiff"))
    if rng.random() < 0.4:
        pages = [pixels] * rng.choice((1, 1, 3))
        order, tile = rng.choice("<>"), rng.choice((0, 16))
        big, deflate = rng.random() < 0.4, rng.random() < 0.5
        data = write_tiff(pages, order=order, big=big, tile=tile, deflate=deflate)
        return Pair(data, write_tiff([label]), suffix, ".tif")
    arrays: dict[str, Any] = {
        "L": pixels,
        "1": pixels > 100,
        "I;16": pixels.astype(np.uint16) * 200,
        "I": pixels.astype(np.int32) * 1000,
        "F": pixels.astype(np.float32) / 7,
    }
    mode = rng.choice((*arrays, "RGB", "RGBA", "CMYK", "P"))
    gray = Image.fromarray(pixels)
    picture = Image.fromarray(arrays[mode]) if mode in arrays else gray
    if mode not in arrays:
        picture = gray.quantize(8) if mode == "P" else gray.convert(mode)
    packing = rng.choice((None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "raw"))
    if mode in ("L", "RGB") and rng.random() < 0.3:
        packing = "jpeg"
    if mode == "1":
        packing = rng.choice(("group3", "group4", None))
    several = {"save_all": True, "append_images": [picture]} if rng.random() < 0.2 else {}
    data = _saved(picture, "TIFF", compression=packing, **several)
    return Pair(data, _saved(Image.fromarray(label), "TIFF"), suffix, ".tif")


def draw_nifti(rng: Random) -> Pair:
    return _draw_nifti(rng, ".nii")


def draw_nifti_gz(rng: Random) -> Pair:
    return _draw_nifti(rng, ".nii.gz")


def _draw_nifti(rng: Random, suffix: str) -> Pair:
    import nibabel as nib

    image, label = _volume(rng)
    kind = rng.choice((np.uint8, np.int16, np.float32, np.float64, np.uint16, np.int8))
    affine = np.diag([0.5, 0.5, rng.choice((0.5, 3.0)), 1.0])
    if rng.random() < 0.3:
        affine[:3, :3] = affine[:3, :3][[2, 0, 1]]
    make = nib.Nifti2Image if rng.random() < 0.15 else nib.Nifti1Image
    files = []
    scaled = rng.random() < 0.3
    for array, dtype in ((image, kind), (label, np.uint8)):
        values = array // 2 if dtype == np.int8 else array
        found = make(values.astype(dtype), affine)
        if scaled and array is image:
            found.header.set_slope_inter(0.25, -3)
        found.set_sform(affine, code=rng.choice((0, 1, 2)))
        found.set_qform(affine, code=rng.choice((1, 1, 0)))
        files.append(found.to_bytes())
    if suffix.endswith(".gz"):
        import gzip

        files = [gzip.compress(data, 1, mtime=0) for data in files]
    return Pair(files[0], files[1], suffix, suffix)


def draw_npy(rng: Random) -> Pair:
    flat = rng.random() < 0.6
    image, label = _square(rng) if flat else _volume(rng)
    if flat and rng.random() < 0.3:
        image = np.stack([image] * 3, axis=-1)
    dtype = rng.choice((np.uint8, np.int16, np.float32, np.float64, ">u2", np.int64))
    if rng.random() < 0.3:
        image, label = np.asfortranarray(image), np.asfortranarray(label)
    return Pair(npy_bytes(image.astype(dtype)), npy_bytes(label), ".npy", ".npy")


def npy_bytes(array: Pixels, *, pickled: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=pickled)
    return file.getvalue()


def _square(rng: Random) -> tuple[Pixels, Pixels]:
    return square(np.random.default_rng(rng.randrange(2**32)), rng.randrange(4))


def _volume(rng: Random) -> tuple[Pixels, Pixels]:
    """Three slices, last axis."""
    pairs = [_square(rng) for _ in range(3)]
    image = np.stack([pair[0] for pair in pairs], axis=-1)
    return image, np.stack([pair[1] for pair in pairs], axis=-1)


def _label(label: Pixels, rng: Random) -> bytes:
    """A label as PNG: gray, with a palette, or in one bit."""
    picture = Image.fromarray(label)
    mode = rng.choice(("L", "L", "P", "1"))
    if mode == "P":
        picture.putpalette([0, 0, 0, 255, 0, 0])
    if mode == "1":
        picture = Image.fromarray(label > 0)
    return _saved(picture, "PNG")


def _saved(picture: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


assert SIDE % 16 == 0  # tiles of 16 fill a page
