"""SynFoC: a foundation model and a U-Net teach each other (Ma et al., CVPR 2025).

One step, in the order of the paper:

    teachers label U_w -> fuse by confidence -> paste X_w into U_s -> students learn
         Eq. 4-5               Eq. 6, 3               Eq. 1            Eq. 2, 7-10

Names are the paper's symbols. P probabilities, Q labels, W confidence mask, M paste region; then
the view (_x labeled, _w weak, _s strong, _c copy-paste), the model (_UT U-Net, _MS MedSAM, _EN
fused) and _hat for a teacher: P_w_UT_hat is the U-Net teacher on the weak view. Fused maps are of
teachers on the weak view, so _EN says neither. A last _S, _P or _L is the side of a map that has
several: S of MedSAM's images, P of the U-Net's, L of MedSAM's logits.
Shapes: B images, K = C + 1 classes with background 0.

Tensors in, tensors out: no files, devices, clocks or hidden random numbers here.
Other fusions and consistencies (Tables 7 and 8): ablations.py. Where this differs from the paper or
from the authors' code: docs/departures.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from synfoc.batches.batch import Batch
from synfoc.methods.confidence import mutual_confidence, self_confidence
from synfoc.methods.interface import Models, Step
from synfoc.methods.losses import ce_dice, consensus_loss, divergence_loss
from synfoc.methods.maps import argmax_classes, bilinear, nearest, paste

Fuse: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""P_w_MS_hat, P_w_UT_hat, phi_self, phi_mut -> alpha, P_EN_P, P_EN_L."""
Tie: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""P_c_MS, P_c_UT -> L_c, L_d."""


class Variant(NamedTuple):
    """What the ablations of Tables 7 and 8 replace; the defaults of `synfoc_step` are the paper."""

    fuse: Fuse
    tie: Tie


def synfoc_step(
    f: Models,
    b: Batch,
    *,
    lam: float,
    tau: float = 0.95,
    nested: bool = False,
    variant: Variant | None = None,
) -> Step:
    """Compute the loss of one batch: Eq. 1-10 from top to bottom.

    Args:
        f: students and teachers. MS returns logits at its own side L.
        b: a batch with its unlabeled half.
        lam: weight of all that is learned from unlabeled images, 0..1. [Eq. 2]
        tau: pixels whose fused probability is above it count.
        nested: classes lie inside each other (see `confidence.parts`).
        variant: another fusion and consistency; None: the paper's.
    """
    fuse_teachers, tie_students = variant or (self_mutual_confidence, consensus_divergence)
    with torch.no_grad():
        # Teachers label the weak view. The U-Net student only tells how stable its teacher is;
        # its forward also moves its batch-norm statistics, as in the authors' code.
        P_w_MS_hat, P_w_UT_hat = f.MS_hat(b.U_w_MS).softmax(1), f.UT_hat(b.U_w_UT).softmax(1)
        Q_w_UT = argmax_classes(f.UT(b.U_w_UT))
        Q_w_UT_hat = argmax_classes(P_w_UT_hat)
        Q_w_MS_hat = argmax_classes(P_w_MS_hat)
        C = P_w_UT_hat.shape[1] - 1
        phi_self = self_confidence(Q_w_UT, Q_w_UT_hat, C, nested=nested)  # Eq. 4
        phi_mut = mutual_confidence(Q_w_UT_hat, Q_w_MS_hat, C, nested=nested)  # Eq. 5
        alpha, P_EN_P, P_EN_L = fuse_teachers(P_w_MS_hat, P_w_UT_hat, phi_self, phi_mut)  # Eq. 6, 3
        max_P, Q_EN_P = P_EN_P.max(1)
        max_L, Q_EN_L = P_EN_L.max(1)
        W_P, W_L = max_P > tau, max_L > tau

        # Labeled pixels, pasted into the strong view, bridge the domains. They always count.
        M_P, M_S, M_L = b.M, nearest(b.M, b.X_w_MS.shape[-1]), nearest(b.M, b.Y_w_MS.shape[-1])
        U_c_MS = paste(b.X_w_MS, b.U_s_MS, M_S)  # Eq. 1
        U_c_UT = paste(b.X_w_UT, b.U_s_UT, M_P)  # Eq. 1
        Q_c_MS, W_c_MS = paste(b.Y_w_MS, Q_EN_L, M_L), (W_L | M_L).float()
        Q_c_UT, W_c_UT = paste(b.Y_w_UT, Q_EN_P, M_P), (W_P | M_P).float()

    # MedSAM sees each image by itself, so both views share one forward; batch norm may not.
    L_x_UT = f.early_backward(ce_dice(f.UT(b.X_w_UT), b.Y_w_UT))
    z_c_UT = f.UT(U_c_UT)
    z_x_MS, z_c_MS = f.MS(torch.cat([b.X_w_MS, U_c_MS])).chunk(2)

    L_x_MS = ce_dice(z_x_MS, b.Y_w_MS)
    L_u_MS = ce_dice(z_c_MS, Q_c_MS, W_c_MS)  # Eq. 7
    L_u_UT = ce_dice(z_c_UT, Q_c_UT, W_c_UT)  # Eq. 7
    L_c, L_d = tie_students(z_c_MS.softmax(1), z_c_UT.softmax(1))  # Eq. 8-10
    loss = L_x_MS + L_x_UT + lam * (L_u_MS + L_u_UT + L_c + L_d)  # Eq. 2
    return Step(
        loss,
        L_x_UT=L_x_UT, L_x_MS=L_x_MS, L_u_UT=L_u_UT, L_u_MS=L_u_MS, L_c=L_c, L_d=L_d,
        alpha=alpha.mean(), phi_self=phi_self.mean(), phi_mut=phi_mut.mean(),
        trusted=W_P.float().mean(),
    )  # fmt: skip


def self_mutual_confidence(
    P_MS: Tensor, P_UT: Tensor, phi_self: Tensor, phi_mut: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Fuse the teachers' probabilities, weighted by confidence; return alpha and both sides."""
    alpha = phi_self * phi_mut  # Eq. 6
    P_EN_P = fuse(P_MS, P_UT, alpha)  # Eq. 3
    return alpha, P_EN_P, bilinear(P_EN_P, P_MS.shape[-1])


def fuse(P_MS: Tensor, P_UT: Tensor, alpha: Tensor) -> Tensor:
    """Join two branches image by image, at the U-Net's side.

        P_EN = (1 - alpha) * bilinear(P_MS -> P) + alpha * P_UT

    Args:
        P_MS: probabilities of MedSAM, (B, K, L, L).
        P_UT: probabilities of the U-Net, (B, K, P, P).
        alpha: the U-Net's share, (B,), in [0, 1].

    Source: Eq. 3.
    """
    return torch.lerp(bilinear(P_MS, P_UT.shape[-1]), P_UT, alpha.view(-1, 1, 1, 1))


def consensus_divergence(P_c_MS: Tensor, P_c_UT: Tensor) -> tuple[Tensor, Tensor]:
    """Sharpen both students where they agree, and draw them together where they do not."""
    P_c_MS_P = nearest(P_c_MS, P_c_UT.shape[-1])
    agree_P = (argmax_classes(P_c_MS_P) == argmax_classes(P_c_UT)).float()  # Eq. 8
    agree_L = nearest(agree_P, P_c_MS.shape[-1])
    L_c = consensus_loss(P_c_MS, P_c_UT, agree_L, agree_P)  # Eq. 9
    L_d = divergence_loss(P_c_MS_P, P_c_UT, 1 - agree_P)  # Eq. 10
    return L_c, L_d
