"""The numbers of a NIfTI file: packed or not, gray or color. Its geometry: formats.py."""

from __future__ import annotations

import gzip
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.fileholders import FileHolder
from numpy.typing import NDArray

from synfoc.images.nifti_header import Nifti2Image, NiftiImage
from synfoc.images.source import Source, decoding, refused
from synfoc.images.transparency import refuse_hidden

CIFTI = range(3000, 3100)
"""Intent codes of CIFTI: matrices over surfaces, with a header like that of NIfTI."""
MOST_PACKED = 1032
"""Bytes of which gzip makes one, at most."""
COUNTED, SUSPECT = 2**26, 32
"""So many bytes, packed to less than one in SUSPECT, are counted before they are read."""
PACKED_SIZE, PACKED_SHARE = 2**29, 200
"""Most bytes that may be packed to less than one in PACKED_SHARE."""
THREE_SLICES = (
    "8-bit NIfTI with 3 slices: if these are color channels, save them as PNG or as NIfTI of type "
    "RGB24"
)


def load_nifti(path: Path, *, packed: bool) -> Any:
    """Return the nibabel image of a file; its numbers stay in the file.

    Args:
        path: the file.
        packed: by gzip, whatever its name says.

    Raises:
        UserError: damaged, or surface data.
    """
    # It prints a line for each field of a header that it mends; errors are told by us.
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
    with decoding(path):
        with gzip.open(path) if packed else path.open("rb") as file:
            start = file.read(540)
        _refuse_others(path, start)
        kind = Nifti2Image if start[4:7] == b"n+2" else NiftiImage
        if packed == path.name.lower().endswith(".gz"):
            return kind.from_filename(path)
        # nibabel goes by the name of a file, not by its content.
        file = gzip.open(path) if packed else path.open("rb")  # noqa: SIM115 (close_nifti)
        holder = FileHolder(path.name, file)
        try:
            return kind.from_file_map({"image": holder, "header": holder})
        except BaseException:
            file.close()
            raise


def is_packed(path: Path) -> bool:
    """Tell by its first bytes whether a file is packed by gzip.

    Raises:
        UserError: it cannot be read.
    """
    with decoding(path), path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def close_nifti(image: Any) -> None:
    """Close the file that `load_nifti` opened, where nibabel did not."""
    file = image.file_map["image"].fileobj
    if file is not None:
        file.close()


def _refuse_others(path: Path, start: bytes) -> None:
    """Stop at a file with the header of NIfTI of which nibabel makes no volume."""
    second = start[4:7] == b"n+2"
    order: Any = "little" if start[:1] != b"\0" else "big"
    at, size = (504, 4) if second else (68, 2)
    if int.from_bytes(start[at : at + size], order) in CIFTI:
        fix = "leave it out, or convert it to a volume (wb_command -cifti-separate ... -volume-all)"
        raise refused(path, "a CIFTI file: surface data, no volume", fix)
    at = 12 if second else 70
    if int.from_bytes(start[at : at + 2], order) == 1:
        raise refused(path, "numbers of 1 bit", "save it as 8-bit numbers", "8 bits or more")


def nifti_axes(path: Path, image: Any) -> tuple[tuple[int, ...], str, bool]:
    """Return the axes without that of colors, a remark, and whether it is in color.

    Colors are numbers of type RGB24 or RGBA32, or 3 or 4 whole numbers on the fifth axis. Three
    8-bit slices may be channels that a tool put there: viewers show slices, and so do we.

    Raises:
        UserError: several numbers per voxel that are no colors.
    """
    with decoding(path):
        shape: tuple[int, ...] = tuple(int(size) for size in image.shape)
        dtype = image.get_data_dtype()
    color = dtype.fields is not None
    if len(shape) == 5 and shape[3] == 1 and shape[4] > 1:
        if shape[4] not in (3, 4) or dtype.kind != "u" or color:
            found = f"{shape[4]} numbers of type {dtype} per voxel"
            raise refused(path, found, "save one volume for each", "one number per voxel, or RGB")
        return _without_ones(shape[:3]), "", True
    shape = _without_ones(shape)
    channels = len(shape) == 3 and dtype == np.uint8 and shape[2] == 3
    return shape, THREE_SLICES if channels else "", color


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def read_nifti(path: Path, source: Source, image: Any, *, label: bool) -> NDArray[Any]:
    """Return the numbers of an opened file, scaled as its header says; colors on the last axis.

    Raises:
        UserError: damaged, cut short, far larger than its bytes; drawn in the transparency.
    """
    with decoding(path):
        needed = (
            int(image.dataobj.offset) + math.prod(image.shape) * image.get_data_dtype().itemsize
        )
    _check_size(path, needed)
    with decoding(path):
        data = np.asarray(image.dataobj)
    if not source.color:
        return data.reshape(source.shape)
    if data.dtype.fields:
        data = np.stack([data[name] for name in data.dtype.fields], axis=-1)
    if data.shape[-1] == 4:
        refuse_hidden(path, data[..., :3], data[..., 3], label=label)
    return data[..., :3].reshape(*source.shape, 3)


def _check_size(path: Path, needed: int) -> None:
    """Make sure that a file holds what its header promises, before memory is taken for it.

    Args:
        path: the file.
        needed: bytes, unpacked.

    Raises:
        UserError: it does not, or it is far larger than its packed bytes.
    """
    packed = is_packed(path)
    with decoding(path):
        size = path.stat().st_size
    there = size
    if packed:
        there = needed
        if needed > max(COUNTED, SUSPECT * size):
            there = _unpacked(path, needed) if needed <= MOST_PACKED * size + 1024 else 0
    if there < needed:
        found = f"cut short or damaged: its header promises {needed:,} bytes, more than it holds"
        raise refused(path, found, "export or copy it again")
    if packed and needed > max(PACKED_SIZE, PACKED_SHARE * size):
        found = f"{needed:,} bytes packed into {size:,}"
        raise refused(path, found, "save it as 8-bit numbers, or crop it", "a volume of a scan")


def _unpacked(path: Path, enough: int) -> int:
    """Bytes in a packed file, counted up to `enough`."""
    there = 0
    with decoding(path), gzip.open(path) as file:
        while there < enough and (part := len(file.read(2**20))):
            there += part
    return there
