"""NPY: numbers without a word about what their axes are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synfoc.images.source import Source, decoding, refused
from synfoc.images.transparency import refuse_hidden

CHANNELS_FIRST = "NPY of 8 bits with 3 on the first axis: read as color, channels first"
THREE_SLICES = (
    "volumes with {count} slices on the first axis of an NPY: if these are channels (channels "
    "first), save them as (h, w, 3); for gray as (h, w)"
)


def open_npy(path: Path, *, first: bool) -> tuple[Source, NDArray[Any]]:
    """Open an array; pixels stay in the file. Its colors are moved to the last axis.

    Three on the last axis are colors, and so are 4 in 8 bits, the last of which is transparency.
    Else three axes are a volume, and so are four of which the last is 1.

    Args:
        path: the file.
        first: in 8 bits three on the first axis are colors, too (a label has slices there, and
            so has a volume whose axis of slices is named).

    Raises:
        UserError: damaged, cut short, or Python objects.
    """
    with decoding(path), path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0
        dtype = (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)[2]
    if dtype.hasobject:
        fix = "make one array of it: np.array(...) of numbers, then np.save"
        raise refused(path, "Python objects (a pickle), which are not opened", fix, "numbers")
    with decoding(path):
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim == 4 and array.shape[-1] == 1:
        return Source("npy", array.shape[:3], color=False), array[..., 0]
    shape, remark, eight = array.shape, "", array.dtype == np.uint8
    color = array.ndim == 3 and shape[-1] in ((3, 4) if eight else (3,))
    if array.ndim == 3 and not color and shape[0] in (3, 4) and first:
        if eight and shape[0] == 3:
            array, color, remark = np.moveaxis(array, 0, -1), True, CHANNELS_FIRST
        else:
            remark = THREE_SLICES.format(count=shape[0])
    return Source("npy", array.shape[:2] if color else array.shape, color, remark=remark), array


def read_npy(path: Path, source: Source, array: NDArray[Any], *, label: bool) -> NDArray[Any]:
    """Return the numbers of an opened array.

    Raises:
        UserError: damaged; its transparency hides what is drawn.
    """
    with decoding(path):
        data = np.array(array)
    if source.color and data.shape[-1] == 4:
        refuse_hidden(path, data[..., :3], data[..., 3], label=label)
        data = data[..., :3]
    return data
