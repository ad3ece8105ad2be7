"""UniMatch: FixMatch with three perturbations instead of one (Yang et al., CVPR 2023).

    f labels U_w -> what is sure is kept -> f learns it on two strong views, in each a region of
                                            another image, and on U_w with half its features dropped

Symbols: Q labels, W trust, M region; _w weak, _1 and _2 the strong views, _d dropped features.
What is simplified here: docs/departures.md, D37 and D42.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from synfoc.batches.batch import Batch, to_device
from synfoc.methods.interface import Models, Step
from synfoc.methods.losses import ce_dice, part_dice
from synfoc.methods.maps import nearest, paste
from synfoc.methods.one_network import only_network

STRONG, DROPPED = 0.5, 1.0
"""Weights of each strong view and of the dropped features: 1/4 and 1/2 beside half of cross-entropy
+ Dice [authors' code], hence twice that beside the whole."""
CUTMIX = 0.5
"""Chance that a strong view gets a region of another image. [authors' code]"""
SMOOTH = 1e-5
"""Of the Dice loss, in pixels. [authors' code]"""


def unimatch_step(
    f: Models,
    b: Batch,
    *,
    U_2: Float[Tensor, "B c s s"],
    M_2: Bool[Tensor, "B P P"],
    draws: torch.Generator,
    tau: float = 0.95,
) -> Step:
    """Compute the loss of one batch.

        Q = argmax f(U_w),  W = [max f(U_w) > tau]
        L = L_x + (D_1 + D_2) / 2 + D_d,   D the Dice loss over trusted pixels alone

    Args:
        f: one student, also with dropped features; its teacher is never asked.
        b: a batch with its unlabeled half; its strong view and its region are the first.
        U_2: the second strong view, at the network's side.
        M_2: the second region.
        draws: which views are mixed, and which features are dropped, on the CPU.
        tau: a probability above it is sure.

    Source: the paper's Sec. 3; the losses, their weights and the mixing follow the authors' code
    for medical images.
    """
    n = only_network(f, b)
    with torch.no_grad():
        largest, Q = n.f(n.U_w).softmax(1).max(1)
        W = largest > tau
    mixed = to_device(torch.rand(2, len(Q), 1, 1, generator=draws) < CUTMIX, Q.device)
    seeds = torch.randint(2**62, (len(Q),), generator=draws)

    L_x = f.early_backward(ce_dice(n.f(n.X_w), n.Y_w))
    L_u = torch.zeros_like(L_x)
    for U_s, M, coin in ((n.U_s, b.M, mixed[0]), (U_2, M_2, mixed[1])):
        M_s, M_l = (nearest(M & coin, side) for side in (U_s.shape[-1], Q.shape[-1]))
        P = n.f(cutmix(U_s, M_s)).softmax(1)
        D = part_dice(P, cutmix(Q, M_l), cutmix(W, M_l), smooth=SMOOTH)
        L_u = L_u + STRONG * D
    D_d = part_dice(n.f_drop(n.U_w, seeds).softmax(1), Q, W, smooth=SMOOTH)
    L_u = L_u + DROPPED * D_d
    return n.step(L_x + L_u, L_x=L_x, L_u=L_u, trusted=W.float().mean())


def cutmix(
    maps: Shaped[Tensor, "B *c h w"], M: Bool[Tensor, "B h w"]
) -> Shaped[Tensor, "B *c h w"]:
    """Inside the region M the next image of the batch, in the last one the first."""
    return paste(maps.roll(-1, 0), maps, M)
