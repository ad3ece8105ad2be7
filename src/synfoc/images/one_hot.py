"""A label of one channel per class (one-hot), where one number per pixel is read.

Only evidence makes a stack of slices into channels: the image has no such axis, every number is 0
or one other, and several channels are drawn in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synfoc.errors import UserError
from synfoc.images.geometry import Geometry, restack

MOST = 256
"""More channels than this are slices."""


def refuse_one_hot(path: Path, codes: NDArray[Any], label: Geometry, image: Geometry) -> None:
    """Refuse a label whose slices, or colors, are the classes of a 2-D image.

    Args:
        path: the label, named in errors.
        codes: (n, h, w) or (n, h, w, 3), as `label` cut them.
        label: how the label file was cut.
        image: how the image file was cut.

    Raises:
        UserError: one channel per class, with the line that makes one number per pixel of them.
    """
    if image.size[0] > 1 or label.kind == "picture":
        return
    data = restack(codes, label)
    if codes.ndim == 4:
        if codes.max() > 1:  # a label in colors
            return
        data = data[:, :, 0] if data.shape[2] == 1 else data[..., 0]
    plane = sorted(image.size[1:])
    for axis in (0, 2):
        others = sorted(data.shape[:axis] + data.shape[axis + 1 :])
        if others == plane and 1 < data.shape[axis] <= MOST and _several_drawn(data, axis):
            raise _channels(path, data, axis, label.kind)


def _several_drawn(data: NDArray[Any], axis: int) -> bool:
    """Tell whether the numbers are 0 and one other, the other one in several channels."""
    drawn = data != 0
    others = tuple(a for a in range(3) if a != axis)
    return bool((drawn.any(others)).sum() > 1 and (data[drawn] == data.max()).all())


def _channels(path: Path, data: NDArray[Any], axis: int, kind: str) -> UserError:
    count = data.shape[axis]
    drawn = (data != 0).sum(axis)
    what, line = "one-hot", f"np.save(path, np.load(path).argmax({axis}))"
    if drawn.min() == 0:
        what = "one-hot, no channel for the background"
        line = f"a = np.load(path); np.save(path, a.argmax({axis}) + a.any({axis}))"
    if drawn.max() > 1:
        what = f"{np.count_nonzero(drawn > 1):,} pixels are drawn in several"
        fix = "save each channel as a file and list them in a CSV with columns label:NAME"
    elif kind == "npy":
        fix = f"save the class of each pixel: {line}"
    else:
        fix = f"save the class of each pixel, the argmax over axis {axis}"
    return UserError(
        f"mask {path} holds one channel per class",
        found=f"{count} channels on axis {axis} ({what})",
        expected="one number per pixel: 0 background, then 1, 2, ...",
        fix=fix,
    )
