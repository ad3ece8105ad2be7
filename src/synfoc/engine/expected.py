"""Expected Dice: what a mask would score on average if its probabilities were true.

The mask A of a part would then share sum_A p pixels with the label Y, and Y would have sum p
pixels. So, with sums over the pixels of an image,

    expected Dice = 2 sum_A p / (|A| + sum p)

(the ratio of two means, which for masks of many pixels is close to the mean of the ratio). Where A
is empty nothing is known: the organ was missed, or is not in the image.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from synfoc.methods.confidence import parts
from synfoc.methods.mixing import most_probable


def tally(
    P: Float[Tensor, "B K h w"], classes: int, *, nested: bool = False
) -> Float[Tensor, "B C 3"]:
    """What the expected Dice is made of, per image and part.

    Args:
        P: probabilities.
        classes: C = K - 1.
        nested: see `methods.confidence.parts`; a part's probability is then the sum over the
            classes inside its outline.

    Returns:
        Sum of the probability inside the mask, pixels of the mask, sum of the probability; float64.
        Tallies of slices add up to that of a volume.
    """
    A = parts(most_probable(P), classes, nested=nested)
    p = P[:, 1:].double()
    if nested:
        p = p.cumsum(1)
    return torch.stack([(p * A).sum((2, 3)), A.sum((2, 3)).double(), p.sum((2, 3))], dim=-1)


def expected_dice(tallies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expected Dice of every part: (..., C, 3) from `tally` -> (..., C); NaN for empty masks."""
    inside, mask, mass = np.moveaxis(tallies, -1, 0)
    size = np.where(mask > 0, mask + mass, 1)
    return np.where(mask > 0, 2 * inside / size, np.nan)
