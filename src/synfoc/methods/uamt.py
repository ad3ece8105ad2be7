"""UA-MT: a mean teacher that is believed where it is certain (Yu et al., MICCAI 2019).

    f_hat answers to noisy U_w -> its entropy over T noisy looks -> f follows where it is low

Symbols: f student, f_hat teacher, xi noise, u uncertainty in nats, H its threshold.
What is simplified here: docs/departures.md, D37 and D39.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from synfoc.batches.batch import Batch, to_device
from synfoc.methods.interface import Models, Network, Step
from synfoc.methods.losses import ce_dice
from synfoc.methods.one_network import only_network

PASSES = 8
"""T, looks of the teacher from which its uncertainty is taken. [paper; authors' code]"""
WEIGHT = 0.2
"""Largest weight of the consistency: 0.1 beside half of cross-entropy + Dice [authors' code],
hence 0.2 beside the whole."""


def uamt_step(
    f: Models,
    b: Batch,
    *,
    lam: float,
    draws: torch.Generator,
) -> Step:
    """Compute the loss of one batch.

        L = L_x + 0.2 lambda L_u,   H = (3/4 + lambda/4) ln K

    Args:
        f: one student and its teacher.
        b: a batch with its unlabeled half; the strong view and the region are not used.
        lam: the ramp exp(-5 (1 - t/t_max)^2), of the weight and of the threshold.
        draws: noise of this step, on the CPU.

    Source: the paper's Sec. 2; noise, weights and ramps follow the authors' code.
    """
    n = only_network(f, b)
    with torch.no_grad():
        P_hat = n.f_hat(noisy(n.U_w, draws)).softmax(1)
        u = uncertainty(n.f_hat, n.U_w, PASSES, draws)
        W = u < (0.75 + 0.25 * lam) * math.log(P_hat.shape[1])
    L_x = f.early_backward(ce_dice(n.f(n.X_w), n.Y_w))
    L_u = consistency(n.f(n.U_w).softmax(1), P_hat, W)
    return n.step(L_x + WEIGHT * lam * L_u, L_x=L_x, L_u=L_u, trusted=W.float().mean())


def noisy(U: Float[Tensor, "B c s s"], draws: torch.Generator) -> Float[Tensor, "B c s s"]:
    """Images plus xi ~ N(0, 0.1^2), cut to [-0.2, 0.2]. Source: authors' code."""
    xi = torch.randn(U.shape, generator=draws).mul_(0.1).clamp_(-0.2, 0.2)
    return U + to_device(xi, U.device)


def uncertainty(
    f_hat: Network, U: Float[Tensor, "B c s s"], passes: int, draws: torch.Generator
) -> Float[Tensor, "B l l"]:
    """Entropy of the teacher's mean answer to the image under T noises, in [0, ln K] nats.

        mu = 1/T sum_t softmax f_hat(U + xi_t),   u = -sum_k mu_k ln(mu_k + 1e-6)

    Source: the paper's predictive entropy. There dropout adds to the noise; no network here has it.
    """
    P = f_hat(noisy(U, draws)).softmax(1)
    for _ in range(passes - 1):
        P = P + f_hat(noisy(U, draws)).softmax(1)
    mu = P / passes
    return -(mu * (mu + 1e-6).log()).sum(1)


def consistency(
    P: Float[Tensor, "B K l l"], P_hat: Float[Tensor, "B K l l"], W: Bool[Tensor, "B l l"]
) -> Float[Tensor, ""]:
    """Mean squared difference of student and teacher over the certain pixels and the K classes.

        L_u = sum(W (P - P_hat)^2) / (K sum(W) + 1e-16), 0 where no pixel is certain

    Source: the paper's consistency loss.
    """
    distance = ((P - P_hat) ** 2).sum(1)
    return (W * distance).sum() / (P.shape[1] * W.sum() + 1e-16)
