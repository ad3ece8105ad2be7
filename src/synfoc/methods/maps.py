"""What is done to maps: copy-paste, the most probable class, another side."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor


def paste(
    X: Shaped[Tensor, "B *c h w"], U: Shaped[Tensor, "B *c h w"], M: Bool[Tensor, "B h w"]
) -> Shaped[Tensor, "B *c h w"]:
    """X inside the region M, U outside: images, label maps or trust. Source: Eq. 1."""
    return torch.where(M if X.ndim == M.ndim else M[:, None], X, U)


def argmax_classes(P: Float[Tensor, "B K h w"]) -> Int[Tensor, "B h w"]:
    """Class indices of the largest probability or logit; of equal ones the first.

    This is `P.argmax(1)`, which on the CPU takes eight times as long.
    """
    return P.max(1).indices


def nearest(maps: Shaped[Tensor, "B *c h w"], side: int) -> Shaped[Tensor, "B *c s s"]:
    """Return maps at another side by nearest sampling.

    Kind (bool, int, float) and gradient are kept.

    One rule for every kind, torch's: labels, regions and probabilities stay pixel on pixel.
    """
    if maps.shape[-1] == side == maps.shape[-2]:
        return maps
    four = maps if maps.ndim == 4 else maps[:, None]
    real = four if maps.is_floating_point() else four.float()
    resized = F.interpolate(real, size=(side, side), mode="nearest")
    return resized.reshape(*maps.shape[:-2], side, side).to(maps.dtype)


def bilinear(P: Float[Tensor, "B K h w"], side: int) -> Float[Tensor, "B K s s"]:
    """Probabilities at another side, pixel centers aligned (align_corners False)."""
    if P.shape[-1] == side == P.shape[-2]:
        return P
    return F.interpolate(P, size=(side, side), mode="bilinear", align_corners=False)
