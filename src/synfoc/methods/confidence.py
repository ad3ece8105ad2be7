"""How far each teacher is believed: agreement of label maps, and the weight alpha made of it."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from synfoc.methods.mixing import nearest

Fusion: TypeAlias = Literal["smc", "constant", "linear", "self", "mutual", "cps", "own"]


def parts(
    Q: Int[Tensor, "B h w"], classes: int, *, nested: bool = False
) -> Bool[Tensor, "B C h w"]:
    """Binary map of each foreground part.

    Args:
        Q: class indices 0..C.
        classes: C, the number of foreground classes.
        nested: part c is everything inside the outline of class c, 0 < Q <= c (fundus: class 1
            is the cup, classes 1 and 2 together are the disc); else part c is Q == c.
    """
    c = torch.arange(1, classes + 1, device=Q.device).view(1, -1, 1, 1)
    Q = Q[:, None]
    return ((Q > 0) & (c >= Q)) if nested else (c == Q)


def confidences(
    Q_UT: Int[Tensor, "B p p"],
    Q_UT_hat: Int[Tensor, "B p p"],
    Q_MS_hat: Int[Tensor, "B l l"],
    classes: int,
    *,
    nested: bool = False,
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """How steady the U-Net is, phi_self [Eq. 4], and how alike both teachers are, phi_mut [Eq. 5].

    Args:
        Q_UT: class indices 0..C of the U-Net student on the weak view, at P.
        Q_UT_hat: those of its teacher.
        Q_MS_hat: those of MedSAM's teacher, at L, where the teachers are compared.
        classes: C.
        nested: see `parts`.

    Returns:
        Two numbers in [0, 1] per image.
    """
    phi_self = dice_agreement(Q_UT, Q_UT_hat, classes, nested=nested)
    Q_UT_hat_L = nearest(Q_UT_hat, Q_MS_hat.shape[-1])
    return phi_self, dice_agreement(Q_UT_hat_L, Q_MS_hat, classes, nested=nested)


def dice_agreement(
    Q_a: Int[Tensor, "B h w"], Q_b: Int[Tensor, "B h w"], classes: int, *, nested: bool = False
) -> Float[Tensor, " B"]:
    """Mean Dice over the foreground parts of two label maps, one number per image.

    Arguments as in `dice_of_parts`. Source: Eq. 4 and 5.
    """
    return dice_of_parts(Q_a, Q_b, classes, nested=nested).mean(1)


def dice_of_parts(
    Q_a: Int[Tensor, "B h w"], Q_b: Int[Tensor, "B h w"], classes: int, *, nested: bool = False
) -> Float[Tensor, "B C"]:
    """Dice of every foreground part of two label maps.

        Dice = (2 |A & B| + 1) / (|A| + |B| + 1.001), or 1 where both parts are empty

    Args:
        Q_a: class indices 0..C.
        Q_b: class indices 0..C.
        classes: C.
        nested: see `parts`.

    Source: the constants follow the authors' code.
    """
    A, B = parts(Q_a, classes, nested=nested), parts(Q_b, classes, nested=nested)
    overlap = (A & B).sum((2, 3))
    size = A.sum((2, 3)) + B.sum((2, 3))
    return torch.where(size == 0, 1.0, (2 * overlap + 1) / (size + 1.001))


def unet_share(
    fusion: Fusion,
    phi_self: Float[Tensor, " B"],
    phi_mut: Float[Tensor, " B"],
    *,
    constant: float = 0.5,
    progress: float = 1.0,
) -> Float[Tensor, " B"]:
    """The U-Net teacher's weight alpha in the fused pseudo-label, one per image.

    Args:
        fusion: smc (phi_self * phi_mut, Eq. 6), self, mutual, constant, or linear (rises from 0
            to `constant` over the run). cps and own are no fusions; they never ask for a weight.
        phi_self: agreement of the U-Net student with its teacher, in [0, 1].
        phi_mut: agreement of the two teachers, in [0, 1].
        constant: alpha of `constant`, and the end of `linear`.
        progress: share of the run that is done, in [0, 1].

    Raises:
        ValueError: a fusion that has no weight.

    Source: Eq. 6; the others are the ablation of the paper's Table 8.
    """
    if fusion == "smc":
        return phi_self * phi_mut
    if fusion == "self":
        return phi_self
    if fusion == "mutual":
        return phi_mut
    if fusion == "constant":
        return torch.full_like(phi_self, constant)
    if fusion == "linear":
        return torch.full_like(phi_self, constant * progress)
    raise ValueError(f"fusion {fusion} has no weight")
