"""Self and mutual confidence (Eq. 4-5): the agreement of label maps, image by image."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from synfoc.methods.maps import nearest


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


def self_confidence(
    Q_UT: Int[Tensor, "B p p"],
    Q_UT_hat: Int[Tensor, "B p p"],
    classes: int,
    *,
    nested: bool = False,
) -> Float[Tensor, " B"]:
    """Return the agreement of the U-Net with its teacher, in [0, 1], one number per image.

    Args:
        Q_UT: class indices 0..C of the U-Net student on the weak view, at P.
        Q_UT_hat: those of its teacher.
        classes: C.
        nested: see `parts`.

    Source: phi_self, Eq. 4.
    """
    return dice_agreement(Q_UT, Q_UT_hat, classes, nested=nested)


def mutual_confidence(
    Q_UT_hat: Int[Tensor, "B p p"],
    Q_MS_hat: Int[Tensor, "B l l"],
    classes: int,
    *,
    nested: bool = False,
) -> Float[Tensor, " B"]:
    """Return the agreement of the two teachers at MedSAM's side, in [0, 1], per image.

    Args:
        Q_UT_hat: class indices 0..C of the U-Net teacher on the weak view, at P.
        Q_MS_hat: those of MedSAM's teacher, at L.
        classes: C.
        nested: see `parts`.

    Source: phi_mut, Eq. 5.
    """
    Q_UT_hat_L = nearest(Q_UT_hat, Q_MS_hat.shape[-1])
    return dice_agreement(Q_UT_hat_L, Q_MS_hat, classes, nested=nested)


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
