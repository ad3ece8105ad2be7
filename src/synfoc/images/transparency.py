"""Transparency: dropped, unless it says something that the colors do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synfoc.images.source import refused


def refuse_hidden(path: Path, colors: NDArray[Any], alpha: NDArray[Any], *, label: bool) -> None:
    """Make sure that dropping the transparency loses nothing.

    Args:
        path: named in the error.
        colors: (..., c) or (...): what will be used.
        alpha: (...), of the same pixels.
        label: a label needs one transparency for each of its codes; an image more than one color.

    Raises:
        UserError: what is drawn is drawn in the transparency.
    """
    if alpha.min() == alpha.max():
        return
    colors = colors.reshape(*alpha.shape, -1)
    flat = bool((colors == colors[(0,) * alpha.ndim]).all())
    if not flat and not (label and _divides(colors, alpha)):
        return
    what = "one color all over" if flat else "one color with several transparencies"
    raise refused(
        path,
        f"{what}: its transparency says what its colors do not",
        "save the transparency as gray (ImageMagick: convert IN.png -alpha extract OUT.png), or "
        "the colors on black (convert IN.png -background black -alpha remove -alpha off OUT.png)",
        "what is drawn in colors or gray: transparency is dropped",
    )


def _divides(colors: NDArray[Any], alpha: NDArray[Any]) -> bool:
    """Whether pixels of one color differ in their transparency (unknown, of floats)."""
    if colors.dtype.kind == "f":
        return True
    key = np.zeros(alpha.shape, np.uint64)
    for channel in range(colors.shape[-1]):
        key = (key << np.uint64(16)) | colors[..., channel].astype(np.uint64)
    both = (key << np.uint64(16)) | alpha.astype(np.uint64)
    return len(np.unique(both)) > len(np.unique(key))
