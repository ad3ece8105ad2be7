"""A file's first bytes -> what it is, whatever its name says, and what to do about it."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

from synfoc.images.source import decoding

HEAD = 1024
"""Bytes that are looked at."""
PNG, JPEG, TIFF, BMP = "a PNG picture", "a JPEG picture", "a TIFF picture", "a BMP picture"
NIFTI, PACKED_NIFTI, NPY = "a NIfTI file", "a NIfTI file packed by gzip", "an NPY file"
PAGE = "a web page (HTML)"
UNKNOWN = "of no format that is known by its first bytes"
PICTURE_CONTENTS = (PNG, JPEG, TIFF, BMP)

HEADERS = (
    (0, b"\x89PNG\r\n\x1a\n", PNG),
    (0, b"\xff\xd8\xff", JPEG),
    (0, b"II*\0", TIFF),
    (0, b"MM\0*", TIFF),
    (0, b"II+\0", TIFF),
    (0, b"MM\0+", TIFF),
    (0, b"BM", BMP),
    (0, b"\x93NUMPY", NPY),
    (344, b"n+1\0", NIFTI),
    (4, b"n+2\0", NIFTI),
    (344, b"ni1\0", "the header of a NIfTI pair (.hdr and .img)"),
    (4, b"ni2\0", "the header of a NIfTI pair (.hdr and .img)"),
    (128, b"DICM", "a DICOM file"),
    (0, b"GIF8", "a GIF picture"),
    (8, b"WEBP", "a WebP picture"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (4, b"ftypavif", "an AVIF picture"),
    (4, b"ftyphei", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIC picture"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"BZh", "a file packed by bzip2"),
    (0, b"\xfd7zXZ", "a file packed by xz"),
    (0, b"\x28\xb5\x2f\xfd", "a file packed by zstd"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"PK\x05\x06", "a ZIP archive"),
    (0, b"7z\xbc\xaf", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
    (257, b"ustar", "a TAR archive"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (MINC-2, MATLAB 7.3, ...)"),
    (0, b"CDF\x01", "a NetCDF file (MINC-1)"),
    (0, b"CDF\x02", "a NetCDF file (MINC-1)"),
    (0, b"MATLAB 5.0", "a MATLAB file"),
    (0, b"NRRD", "an NRRD file"),
    (0, b"ObjectType", "a MetaImage file"),
    (0, b"%PDF", "a PDF document"),
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the file itself"),
    (0, b"/annex/objects/", "a pointer of git-annex, not the file itself"),
)
"""(offset, bytes, what a file with these bytes there is)."""

DO = {
    PNG: "rename it to end in .png",
    JPEG: "rename it to end in .jpg",
    TIFF: "rename it to end in .tif",
    BMP: "rename it to end in .bmp",
    NPY: "rename it to end in .npy",
    NIFTI: "rename it to end in .nii",
    PACKED_NIFTI: "rename it to end in .nii.gz",
    "a DICOM file": "convert it to NIfTI, e.g. by dcm2niix",
    "a GIFTI file: surface data, no volume": "leave it out: it has no voxels",
    PAGE: "download the file again: its place answered with a page",
    "a pointer of Git LFS, not the file itself": "fetch the file: git lfs pull",
    "a pointer of git-annex, not the file itself": "fetch the file: git annex get, or datalad get",
    "only zero bytes": "copy it again: its content never arrived",
    "an Analyze header": "convert both its files to NIfTI, e.g. by nibabel or FSL",
    "a file packed by gzip twice": "unpack it once (gunzip)",
    "a ZIP archive": "unpack it; of an NPZ save one array by np.save",
}


def first_bytes(path: Path) -> bytes:
    """Return the beginning of a file as it is stored.

    Raises:
        UserError: it cannot be read.
    """
    with decoding(path), path.open("rb") as file:
        return file.read(HEAD)


def contents(path: Path, start: bytes) -> str:
    """Return what a file is by its first bytes; UNKNOWN where they tell nothing.

    Raises:
        UserError: it is packed by gzip, and damaged.
    """
    if not start.startswith(b"\x1f\x8b"):
        return _of(start)
    with decoding(path), gzip.open(path) as file:
        inside = file.read(HEAD)
    if inside.startswith(b"\x1f\x8b"):
        return "a file packed by gzip twice"
    return PACKED_NIFTI if _of(inside) == NIFTI else f"{_of(inside)}, packed by gzip"


def what_to_do(what: str) -> str:
    """Return what makes a file of these contents usable."""
    inside, packed, _ = what.partition(", packed by gzip")
    if packed:
        lost = inside in (PAGE, UNKNOWN, "text", "only zero bytes")
        return what_to_do(inside) if lost else f"unpack it (gunzip), then {what_to_do(inside)}"
    if what in DO:
        return DO[what]
    rules = (
        (what in (UNKNOWN, "text"), "export or copy it again"),
        ("picture" in what or "Photoshop" in what, "save it as PNG"),
        (what.startswith("a file packed by"), "unpack it, and pack it by gzip or not at all"),
        ("archive" in what, "unpack it"),
    )
    return next((fix for holds, fix in rules if holds), "convert it to NIfTI or PNG")


def _of(start: bytes) -> str:
    found = next(
        (what for at, magic, what in HEADERS if start[at : at + len(magic)] == magic), None
    )
    if found:
        return found
    if not start.strip(b"\0"):
        return "only zero bytes"
    sizes = {struct.unpack(order + "i", start[:4])[0] for order in "<>"} if len(start) > 3 else ()
    if 348 in sizes and len(start) >= 348:
        return "an Analyze header"
    return _text(start) or UNKNOWN


def _text(start: bytes) -> str:
    """Return what a text is; "" where it is none."""
    told = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if told.startswith((b"<!doctype html", b"<html")):
        return PAGE
    if told.startswith((b"<?xml", b"<gifti")):
        gifti = b"gifti" in told
        return "a GIFTI file: surface data, no volume" if gifti else "an XML file"
    if b"annex/objects/" in told[:200]:
        return "a pointer of git-annex, not the file itself"
    printable = sum(byte in b"\t\n\r\f" or byte > 31 for byte in start)
    return "text" if printable == len(start) and b"\x7f" not in start else ""
