"""Batch: the only object that crosses from the data to the method, and the way to the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Sides:
    """Sides in pixels: S the foundation model's images, L its logits, P the U-Net's images."""

    medsam: int
    logits: int
    unet: int


@dataclass(frozen=True)
class Batch:
    """One global batch: labeled images X with labels Y, unlabeled images U, paste regions M.

    Views: _w weak, _s strong. Sides: _MS the foundation model's (images S, labels L), _UT the
    U-Net's (P). Images are in [0, 1] with c = 1 or 3 channels; both sides of one view come from
    one draw. Labeled image i will be pasted into unlabeled image i, so both halves have B images.
    Supervised training has an unlabeled half of 0 images.
    """

    X_w_MS: Float[Tensor, "B c S S"]
    X_w_UT: Float[Tensor, "B c P P"]
    Y_w_MS: Int[Tensor, "B L L"]
    Y_w_UT: Int[Tensor, "B P P"]
    U_w_MS: Float[Tensor, "Bu c S S"]
    U_w_UT: Float[Tensor, "Bu c P P"]
    U_s_MS: Float[Tensor, "Bu c S S"]
    U_s_UT: Float[Tensor, "Bu c P P"]
    M: Bool[Tensor, "Bu P P"]


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Return what was made on the CPU, on the device.

    A GPU copies it in its turn, and nothing waits.

    From memory that the system may move, a copy waits until the GPU has done all that it was given
    before.
    """
    if device.type == "cuda":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)
