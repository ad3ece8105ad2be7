"""SymGD: intermediate domains between labeled and unlabeled images (MiDSS; Ma et al., CVPR 2024).

    UCP     X pasted into U (_ul) and U pasted into X (_lu), by the same region M
    SymGD   the teacher labels U, and once more through both weak mixtures; the student learns both
            strong mixtures from the first, and U_s from what the second says the same
    TP-RAM  X takes over more and more of the low-frequency amplitude of U

Symbols as in `synfoc.py`: Q labels, W trust, M region, _w weak, _s strong, hat the teacher; _m is
merged from both mixtures. What is simplified here: docs/departures.md, D37 and D40.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from synfoc.batches.batch import Batch, to_device
from synfoc.methods.interface import Models, Step
from synfoc.methods.losses import ce_dice
from synfoc.methods.maps import paste
from synfoc.methods.one_network import OneNetwork, only_network

LOW = 0.01
"""Half the width of the low-frequency window as a share of the side. [authors' code]"""


def symgd_step(
    f: Models,
    b: Batch,
    *,
    lam: float,
    progress: float,
    draws: torch.Generator,
    tau: float = 0.95,
) -> Step:
    """Compute the loss of one batch.

        L = L_x + lambda (L_ul + L_lu + lambda L_s), each cross-entropy + Dice with trust

    Args:
        f: one student and its teacher.
        b: a batch with its unlabeled half.
        lam: the ramp exp(-5 (1 - t/t_max)^2).
        progress: t / t_max, the largest share of amplitude that X takes over.
        draws: shares of this step, on the CPU.
        tau: a probability above it is trusted.

    Source: the paper's UCP, SymGD and TP-RAM; order and weights follow the authors' code.
    """
    n = only_network(f, b)
    with torch.no_grad():
        Q, W, Q_m, W_m = taught(n, n.X_w, tau)
        share = progress * torch.rand(len(n.X_w), generator=draws)
        X_t = amplitude_mixup(n.X_w, n.U_w, to_device(share, n.X_w.device))  # TP-RAM
        V_ul, V_lu = paste(X_t, n.U_s, n.M_s), paste(n.U_s, X_t, n.M_s)  # UCP
        Y_ul, Y_lu = paste(n.Y_w, Q, n.M_l), paste(Q, n.Y_w, n.M_l)

    L_x = f.early_backward(ce_dice(n.f(n.X_w), n.Y_w))
    L_ul = ce_dice(n.f(V_ul), Y_ul, (W | n.M_l).float())
    L_lu = ce_dice(n.f(V_lu), Y_lu, (W | ~n.M_l).float())
    L_s = ce_dice(n.f(n.U_s), Q_m, W_m.float())
    L_u = L_ul + L_lu + lam * L_s
    return n.step(L_x + lam * L_u, L_x=L_x, L_u=L_u, trusted=W.float().mean())


def taught(
    n: OneNetwork, X: Float[Tensor, "B c s s"], tau: float
) -> tuple[
    Int[Tensor, "B l l"], Bool[Tensor, "B l l"], Int[Tensor, "B l l"], Bool[Tensor, "B l l"]
]:
    """Return what the teacher says of U: as it is, and each part of it beside pixels of X.

    Returns:
        Q and W of U alone, Q_m merged from both mixtures, W_m where all of it is sure and the same.
    """
    largest, Q = n.f_hat(n.U_w).softmax(1).max(1)
    largest_ul, Q_ul = n.f_hat(paste(X, n.U_w, n.M_s)).softmax(1).max(1)
    largest_lu, Q_lu = n.f_hat(paste(n.U_w, X, n.M_s)).softmax(1).max(1)
    W = largest > tau
    # Outside M the pixels of U lie in the mixture _ul, inside M in _lu.
    Q_m = paste(Q_lu, Q_ul, n.M_l)
    W_m = (paste(largest_lu, largest_ul, n.M_l) > tau) & W & (Q_m == Q)
    return Q, W, Q_m, W_m


def amplitude_mixup(
    X: Float[Tensor, "B c s s"], U: Float[Tensor, "B c s s"], share: Float[Tensor, " B"]
) -> Float[Tensor, "B c s s"]:
    """X with a share of the low-frequency amplitude of U; its phase stays.

        |F(X)| <- (1 - share) |F(X)| + share |F(U)|   at frequencies of at most b along both axes
        b = floor(0.01 s) cycles per image; at sides below 100 that is the mean alone

    Args:
        X: labeled images in [0, 1].
        U: unlabeled images in [0, 1].
        share: per image, in [0, 1].

    Returns:
        Images cut to [0, 1].

    Source: TP-RAM; the window follows the authors' code.
    """
    s = X.shape[-1]
    cycles = torch.fft.fftfreq(s, 1 / s, device=X.device).abs().round()
    low = (cycles <= math.floor(LOW * s)).float()
    weight = share.view(-1, 1, 1, 1) * low[:, None] * low
    F_X = torch.fft.fft2(X)
    A = torch.lerp(F_X.abs(), torch.fft.fft2(U).abs(), weight)
    mixed: Tensor = torch.fft.ifft2(torch.polar(A, F_X.angle())).real
    return mixed.clamp(0, 1)
