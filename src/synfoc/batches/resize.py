"""One resizing code for training, evaluation and prediction, so that no size is seen in one alone.

    file -> working side R = max(S, P), once -> [training: warp at R] -> S and P

Images shrink with an antialiasing filter, labels by the nearest pixel centre. An image that is not
square is squashed to a square, as in the authors' code.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from synfoc.batches.batch import Sides

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in gray, ITU-R BT.601, as in Pillow's mode L."""


def working_side(sides: Sides) -> int:
    """Side R in pixels at which images are kept and warped: the larger of S and P."""
    return max(sides.medsam, sides.unet)


def to_channels(images: Float[Tensor, "n c h w"], channels: int) -> Float[Tensor, "n C h w"]:
    """Gray to color by repetition, color to gray by luma; no copy where nothing changes."""
    if images.shape[1] == channels:
        return images
    return to_gray(images) if channels == 1 else images.expand(-1, channels, -1, -1)


def to_gray(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h w"]:
    """Luma of color images; gray images as they are."""
    if images.shape[1] == 1:
        return images
    red, green, blue = (LUMA[c] * images[:, c : c + 1] for c in range(3))
    return red + green + blue


def resize_images(images: Float[Tensor, "n c h w"], side: int) -> Float[Tensor, "n c side side"]:
    """Bilinear, antialiased where it shrinks; the same tensor where the size already fits."""
    if images.shape[-2:] == (side, side):
        return images
    return functional.interpolate(images, size=(side, side), mode="bilinear", antialias=True)


def center_indices(length: int, side: int, device: torch.device | None = None) -> Tensor:
    """Index of the pixel of a row of `length` that lies under each pixel centre of a row of `side`.

    Of two equally near pixels the later one. Both rows cover the same ground.
    """
    # Whole numbers only: floor((i + 1/2) * length / side) has no rounding to disagree about.
    return (2 * torch.arange(side, device=device) + 1) * length // (2 * side)


def resize_labels(labels: Shaped[Tensor, "*n h w"], side: int) -> Shaped[Tensor, "*n side side"]:
    """Nearest pixel centre; the same tensor where the size already fits."""
    h, w = labels.shape[-2:]
    if (h, w) == (side, side):
        return labels
    rows, columns = (center_indices(length, side, labels.device) for length in (h, w))
    return labels.index_select(-2, rows).index_select(-1, columns)


def working_images(
    pixels: Float32[NDArray[np.float32], "n h w c"], side: int, channels: int
) -> Float[Tensor, "n C side side"]:
    """Return decoded slices in [0, 1] at the working side, with the run's number of channels.

    A gray slice of a color run stays gray (it is repeated when a batch is made), so that it is
    stored and resized once and not three times.
    """
    images = torch.from_numpy(np.require(np.moveaxis(pixels, -1, 1), requirements=["C", "W"]))
    return resize_images(to_channels(images, 1) if channels == 1 else images, side)
