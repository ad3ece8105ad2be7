"""Connected parts of a label map. They are found on the CPU."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from scipy import ndimage


def largest_component(part: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return the largest connected component of a part; pixels touch also by their corners.

    Of two components of one size the first from the top stays; of nothing nothing.
    """
    components, count = ndimage.label(part, structure=np.ones((3, 3)))
    if not count:
        return np.zeros_like(part)
    kept: Bool[np.ndarray, "h w"] = components == 1 + np.argmax(np.bincount(components.ravel())[1:])
    return kept
