"""Outlines of a label map drawn over its image, as a PNG for people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synfoc.engine.metrics import parts
from synfoc.storage import replacing

COLORS = (
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (213, 94, 0),
    (230, 159, 0),
)
"""Told apart by color-blind people too (Okabe and Ito), those that show on a fundus first; classes
past the sixth begin again."""
LEAST_SIDE = 512


def draw_overlay(
    image: NDArray[np.float32], label: NDArray[np.uint8], *, classes: int, nested: bool = False
) -> NDArray[np.uint8]:
    """Image in RGB with one outline per part, drawn just inside it.

    Args:
        image: (h, w, c) in [0, 1], c = 1 or 3.
        label: (h, w), class indices 0..C.
        classes: C.
        nested: see `metrics.parts`.

    Returns:
        (s h, s w, 3), enlarged by a whole number s so that small images can be seen.
    """
    scale = max(1, -(-LEAST_SIDE // max(label.shape)))
    big = np.repeat(np.repeat(label, scale, axis=0), scale, axis=1)
    picture = np.rint(np.repeat(np.repeat(image, scale, axis=0), scale, axis=1) * 255)
    picture = np.broadcast_to(picture, (*big.shape, 3)).astype(np.uint8)
    width = max(1, round(max(big.shape) / 256))
    for c, part in reversed(list(enumerate(parts(big, classes, nested=nested)))):
        inside = ndimage.binary_erosion(part, iterations=width, border_value=1)
        picture[part & ~inside] = COLORS[c % len(COLORS)]
    return picture


def write_overlay(
    path: Path,
    images: NDArray[np.float32],
    labels: NDArray[np.uint8],
    *,
    classes: int,
    nested: bool = False,
) -> None:
    """Draw one slice to a PNG, atomically: of a volume the one with most foreground.

    Args:
        path: the PNG.
        images: (n, h, w, c) in [0, 1].
        labels: (n, h, w), class indices 0..C.
        classes: C.
        nested: see `metrics.parts`.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    from PIL import Image

    shown = int(np.count_nonzero(labels, axis=(1, 2)).argmax())
    picture = draw_overlay(images[shown], labels[shown], classes=classes, nested=nested)
    with replacing(path) as part, part.open("wb") as file:
        Image.fromarray(picture).save(file, format="PNG")
