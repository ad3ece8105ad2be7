"""Copy-paste between views, and the two ways in which a map changes its side."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor


def paste(
    X: Shaped[Tensor, "B *c h w"], U: Shaped[Tensor, "B *c h w"], M: Bool[Tensor, "B h w"]
) -> Shaped[Tensor, "B *c h w"]:
    """X inside the region M, U outside: images, label maps or trust. Source: Eq. 1."""
    return torch.where(M if X.ndim == M.ndim else M[:, None], X, U)


def nearest(maps: Shaped[Tensor, "B *c h w"], side: int) -> Shaped[Tensor, "B *c s s"]:
    """Maps at another side by nearest sampling; kind (bool, int, float) and gradient are kept."""
    if maps.shape[-1] == side == maps.shape[-2]:
        return maps
    if maps.is_floating_point():
        four = maps if maps.ndim == 4 else maps[:, None]
        return F.interpolate(four, size=(side, side), mode="nearest").reshape(
            *maps.shape[:-2], side, side
        )
    rows = _nearest_index(maps.shape[-2], side, maps.device)
    columns = _nearest_index(maps.shape[-1], side, maps.device)
    return maps[..., rows[:, None], columns]


def bilinear(P: Float[Tensor, "B K h w"], side: int) -> Float[Tensor, "B K s s"]:
    """Probabilities at another side, pixel centers aligned (align_corners False)."""
    if P.shape[-1] == side == P.shape[-2]:
        return P
    return F.interpolate(P, size=(side, side), mode="bilinear", align_corners=False)


def _nearest_index(old: int, new: int, device: torch.device) -> Tensor:
    # The rule of torch's interpolate: floor(i * old / new).
    return (torch.arange(new, device=device) * old) // new
