"""The losses of the paper as pure functions of logits or probabilities, labels and trust.

Shapes: B images, K = C + 1 classes with background 0, h x w pixels. Every function returns one
number with gradient; none has modes. Where they differ from the paper: docs/departures.md.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def cross_entropy(
    z: Float[Tensor, "B K h w"], Q: Int[Tensor, "B h w"], W: Float[Tensor, "B h w"] | None = None
) -> Float[Tensor, ""]:
    """Cross-entropy in nats, averaged over ALL pixels, trusted or not.

        L_ce = mean_i(-W_i ln P_i[Q_i])

    Args:
        z: logits.
        Q: class indices 0..K-1.
        W: trust per pixel in [0, 1]; None is the supervised case, all ones.

    Source: L_ce of Eq. 7. Dividing by all pixels makes little trust a small loss [authors' code].
    """
    if W is None:
        return F.cross_entropy(z, Q)
    return (F.cross_entropy(z, Q, reduction="none") * W).mean()


def dice_loss(
    P: Float[Tensor, "B K h w"],
    Q: Int[Tensor, "B h w"],
    W: Float[Tensor, "B h w"] | None = None,
    *,
    smooth: float = 1e-10,
) -> Float[Tensor, ""]:
    """Soft Dice loss over trusted pixels and the whole batch, averaged over the K classes.

        L_dice = 1 - mean_k (2 sum(W_k P_k Q_k) + s) / (sum(W_k P_k^2) + sum(W_k Q_k) + s)

    W_k is the trust W for the foreground classes and 1 for the background k = 0.

    Args:
        P: probabilities in [0, 1], summing to 1 over K.
        Q: class indices 0..K-1.
        W: trust per pixel in [0, 1]; None is the supervised case, all ones.
        smooth: s, in pixels. It makes a class that is absent everywhere cost 0.

    Returns:
        A number in [0, 1], no unit; 0 means P equals Q wherever it counts.

    Source: L_dice of Eq. 7. The sums over the batch, the squares and the unweighted background
    follow the authors' code (docs/departures.md, D4).
    """
    Q_k = F.one_hot(Q, P.shape[1]).movedim(-1, 1).to(P.dtype)
    pixels = (0, 2, 3)
    if W is None:
        overlap, size = (P * Q_k).sum(pixels), (P * P + Q_k).sum(pixels)
    else:
        W_k = W[:, None].expand_as(P).clone()
        W_k[:, 0] = 1
        overlap, size = (W_k * P * Q_k).sum(pixels), (W_k * (P * P + Q_k)).sum(pixels)
    return 1 - ((2 * overlap + smooth) / (size + smooth)).mean()


def part_dice(
    P: Float[Tensor, "B K h w"],
    Q: Int[Tensor, "B h w"],
    part: Bool[Tensor, "B h w"],
    *,
    smooth: float = 1e-10,
) -> Float[Tensor, ""]:
    """Soft Dice loss over a part of the pixels alone, averaged over the K classes.

        1 - mean_k (2 sum(W P_k Q_k) + s) / (sum(W P_k^2) + sum(W Q_k) + s)

    Unlike in `dice_loss` the background is weighed like the other classes.

    Args:
        P: probabilities.
        Q: class indices.
        part: W, where it counts; nowhere costs 0.
        smooth: s, in pixels.

    Source: as the authors of BCP and of UniMatch compute it.
    """
    W_k = part[:, None].to(P.dtype)
    Q_k = F.one_hot(Q, P.shape[1]).movedim(-1, 1).to(P.dtype)
    overlap, size = (W_k * P * Q_k).sum((0, 2, 3)), (W_k * (P * P + Q_k)).sum((0, 2, 3))
    return 1 - ((2 * overlap + smooth) / (size + smooth)).mean()


def ce_dice(
    z: Float[Tensor, "B K h w"], Q: Int[Tensor, "B h w"], W: Float[Tensor, "B h w"] | None = None
) -> Float[Tensor, ""]:
    """Cross-entropy plus Dice loss of the same logits. Source: Eq. 7; L_x where W is None."""
    return cross_entropy(z, Q, W) + dice_loss(z.softmax(1), Q, W)


def consensus_loss(
    P_MS: Float[Tensor, "B K l l"],
    P_UT: Float[Tensor, "B K p p"],
    agree_L: Float[Tensor, "B l l"],
    agree_P: Float[Tensor, "B p p"],
) -> Float[Tensor, ""]:
    """Entropy of both students where they agree, each at its own resolution.

        L_c = 1/2 [mean(-P_MS ln P_MS * agree) + mean(-P_UT ln P_UT * agree)]

    Means run over all B*K*h*w entries; probabilities are clamped to [1e-10, 1] first.

    Args:
        P_MS: probabilities of the foundation model at L.
        P_UT: probabilities of the U-Net at P.
        agree_L: 1 where both students choose the same class, else 0, at L.
        agree_P: the same at P.

    Source: Eq. 9.
    """
    sure_MS = (_entropy(P_MS) * agree_L[:, None]).mean()
    sure_UT = (_entropy(P_UT) * agree_P[:, None]).mean()
    return (sure_MS + sure_UT) / 2


def divergence_loss(
    P_MS: Float[Tensor, "B K h w"],
    P_UT: Float[Tensor, "B K h w"],
    differ: Float[Tensor, "B h w"],
) -> Float[Tensor, ""]:
    """Mean squared difference of both students where they disagree.

        L_d = mean((P_MS - P_UT)^2 * differ), over all B*K*h*w entries

    Args:
        P_MS: probabilities of the foundation model, brought to the U-Net's side.
        P_UT: probabilities of the U-Net.
        differ: 1 where the students choose different classes, else 0.

    Source: Eq. 10. Gradients reach both networks [authors' code].
    """
    return ((P_MS - P_UT) ** 2 * differ[:, None]).mean()


def _entropy(P: Tensor) -> Tensor:
    P = P.clamp(1e-10, 1)
    return -P * P.log()
