"""Expected Dice: what a mask would score on average if its probabilities were true.

The mask A of a part would then share sum_A p pixels with the label Y, and Y would have sum p
pixels. So, with sums over the pixels of an image,

    expected Dice = 2 sum_A p / (|A| + sum p),  mean over parts; 0 where A is empty

(the ratio of two means, which for masks of many pixels is close to the mean of the ratio).
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
    """Expected Dice, mean over parts: (..., C, 3) from `tally` -> (...), in [0, 1]."""
    inside, mask, mass = np.moveaxis(tallies, -1, 0)
    size = np.where(mask > 0, mask + mass, 1)
    found: NDArray[np.float64] = np.where(mask > 0, 2 * inside / size, 0).mean(-1)
    return found
