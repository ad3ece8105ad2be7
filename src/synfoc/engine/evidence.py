"""What is known of a mask without its label: its own probabilities, and what another network says.

If probabilities were true, the mask A of a part would on average share sum_A p pixels with the
label, and the label would have sum p pixels. So, with sums over the pixels of an image,

    expected Dice = 2 sum_A p / (|A| + sum p)
    agreement     = Dice of the part in the masks of two networks

(the first is the ratio of two means, which for masks of many pixels is close to the mean of the
ratio). Where A is empty nothing is known: the organ was missed, or is not in the image.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from synfoc.batches.resize import resize_labels
from synfoc.methods.confidence import parts
from synfoc.methods.maps import argmax_classes


def tally(
    P: Float[Tensor, "B K h w"],
    pair: tuple[Int[Tensor, "B y x"], Int[Tensor, "B v u"]] | None = None,
    *,
    nested: bool = False,
) -> Float[Tensor, "B C 5"]:
    """Return sums of which both numbers are made, per image and part.

    Args:
        P: probabilities.
        pair: label maps of the two networks that are compared, at their own sides; None: there is
            no other network, and their sums are 0.
        nested: see `methods.confidence.parts`; a part's probability is then the sum over the
            classes inside its outline.

    Returns:
        Sum of the probability inside the mask, pixels of the mask, sum of the probability; pixels
        that the pair shares, pixels of both of the pair. float64. Sums of slices add up to those of
        a volume.
    """
    C = P.shape[1] - 1
    A = parts(argmax_classes(P), C, nested=nested)
    p = P[:, 1:].double()
    if nested:
        p = p.cumsum(1)
    sums = [(p * A).sum((2, 3)), A.sum((2, 3)).double(), p.sum((2, 3))]
    if pair is None:
        sums += 2 * [torch.zeros_like(sums[0])]
    else:
        side = min(Q.shape[-1] for Q in pair)
        one, other = (parts(resize_labels(Q, side), C, nested=nested) for Q in pair)
        sums += [(one & other).sum((2, 3)).double()]
        sums += [(one.sum((2, 3)) + other.sum((2, 3))).double()]
    return torch.stack(sums, dim=-1)


def expected_dice(tallies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return expected Dice of every part: (..., C, 5) from `tally` -> (..., C).

    NaN for empty masks.
    """
    inside, mask, mass = np.moveaxis(tallies[..., :3], -1, 0)
    size = np.where(mask > 0, mask + mass, 1)
    return np.where(mask > 0, 2 * inside / size, np.nan)


def compared(tallies: NDArray[np.float64]) -> bool:
    """Whether two networks are compared in (..., C, 5), and one of them drew anything."""
    return bool(tallies[..., 4].any())


def agreement(tallies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Dice of the pair in every part, (..., C, 5) -> (..., C); 0 where both are empty."""
    shared, size = tallies[..., 3], tallies[..., 4]
    found: NDArray[np.float64] = 2 * shared / np.where(size > 0, size, 1)
    return found
