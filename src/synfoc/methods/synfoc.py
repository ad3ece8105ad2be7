"""SynFoC: a foundation model and a U-Net teach each other (Ma et al., CVPR 2025).

One step, in the order of the paper:

    teachers label U_w -> fuse by trust -> paste X_w into U_s -> students learn
         Eq. 4-6             Eq. 3              Eq. 1             Eq. 2, 7-10

Names are the paper's symbols. P probabilities, Q labels, W trust, M paste region; then the view
(_x labeled, _w weak, _s strong, _c copy-paste), the model (_UT U-Net, _MS MedSAM, _EN fused) and
_hat for a teacher: P_w_UT_hat is the U-Net teacher on the weak view. Fused maps are of teachers on
the weak view, so _EN says neither. A last _P or _L is the side of a map that has two: P the
U-Net's, L that of MedSAM's logits.
Shapes: B images, K = C + 1 classes with background 0.

Tensors in, tensors out: no files, devices, clocks or hidden random numbers here.
Where this differs from the paper or from the authors' code: docs/departures.md.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from synfoc.batches.batch import Batch
from synfoc.methods.confidence import Fusion, confidences, unet_share
from synfoc.methods.losses import ce_dice, consensus_loss, divergence_loss
from synfoc.methods.mixing import bilinear, most_probable, nearest, paste
from synfoc.methods.models import Models, Release, Step, keep

Consistency: TypeAlias = Literal["cdcr", "mse", "none"]


def synfoc_step(
    f: Models,
    b: Batch,
    *,
    lam: float,
    tau: float = 0.95,
    nested: bool = False,
    fusion: Fusion = "smc",
    constant: float = 0.5,
    progress: float = 1.0,
    consistency: Consistency = "cdcr",
    release: Release = keep,
) -> Step:
    """Compute the loss of one batch: Eq. 1-10 from top to bottom.

    Args:
        f: students and teachers. MS returns logits at its own side L.
        b: a batch with its unlabeled half.
        lam: weight of all that is learned from unlabeled images, 0..1. [Eq. 2]
        tau: a fused probability above it is trusted.
        nested: classes lie inside each other (see `confidence.parts`).
        fusion: how the teachers' labels are joined; smc is the paper's.
        constant: alpha of `fusion: constant`, and the end of `linear`.
        progress: share of the run that is done, for `fusion: linear`.
        consistency: cdcr is the paper's Eq. 8-10; mse ties all pixels; none drops the term.
        release: is given the U-Net's labeled loss as soon as it is there.

    Raises:
        ValueError: there is no such fusion or consistency.
    """
    side_L, side_P = b.Y_w_MS.shape[-1], b.Y_w_UT.shape[-1]
    with torch.no_grad():
        # Teachers label the weak view. The U-Net student only tells how steady its teacher is;
        # its forward also moves its batch-norm statistics, as in the authors' code.
        P_w_MS_hat, P_w_UT_hat = f.MS_hat(b.U_w_MS).softmax(1), f.UT_hat(b.U_w_UT).softmax(1)
        Q_w_UT, Q_w_UT_hat, Q_w_MS_hat = (
            most_probable(f.UT(b.U_w_UT)),
            most_probable(P_w_UT_hat),
            most_probable(P_w_MS_hat),
        )
        C = P_w_UT_hat.shape[1] - 1
        phi_self, phi_mut = confidences(Q_w_UT, Q_w_UT_hat, Q_w_MS_hat, C, nested=nested)  # Eq. 4-5
        alpha = torch.full_like(phi_self, torch.nan)
        if fusion == "own":  # each teacher labels for its own student
            P_EN_P, P_EN_L = P_w_UT_hat, P_w_MS_hat
        elif fusion == "cps":  # each teacher labels for the other student
            P_EN_P, P_EN_L = bilinear(P_w_MS_hat, side_P), bilinear(P_w_UT_hat, side_L)
        else:
            alpha = unet_share(fusion, phi_self, phi_mut, constant=constant, progress=progress)
            P_EN_P = fuse(P_w_MS_hat, P_w_UT_hat, alpha)  # Eq. 3
            P_EN_L = bilinear(P_EN_P, side_L)
        largest_P, Q_EN_P = P_EN_P.max(1)
        largest_L, Q_EN_L = P_EN_L.max(1)
        W_P, W_L = largest_P > tau, largest_L > tau

        # Labeled pixels pasted into the strong view bridge the domains; they are always trusted.
        M_P, M_L = b.M, nearest(b.M, side_L)
        U_c_MS = paste(b.X_w_MS, b.U_s_MS, nearest(b.M, b.X_w_MS.shape[-1]))  # Eq. 1
        U_c_UT = paste(b.X_w_UT, b.U_s_UT, M_P)  # Eq. 1
        Q_c_MS, W_c_MS = paste(b.Y_w_MS, Q_EN_L, M_L), (W_L | M_L).float()
        Q_c_UT, W_c_UT = paste(b.Y_w_UT, Q_EN_P, M_P), (W_P | M_P).float()

    # MedSAM sees each image by itself, so both views share one forward; batch norm may not. The
    # U-Net's labeled loss is complete before its second forward, and needs no memory beside it.
    L_x_UT = release(ce_dice(f.UT(b.X_w_UT), b.Y_w_UT))
    z_c_UT = f.UT(U_c_UT)
    z_x_MS, z_c_MS = f.MS(torch.cat([b.X_w_MS, U_c_MS])).chunk(2)

    L_x_MS = ce_dice(z_x_MS, b.Y_w_MS)
    L_u_MS, L_u_UT = ce_dice(z_c_MS, Q_c_MS, W_c_MS), ce_dice(z_c_UT, Q_c_UT, W_c_UT)  # Eq. 7
    L_c, L_d = _consistency(z_c_MS.softmax(1), z_c_UT.softmax(1), consistency)
    loss = L_x_MS + L_x_UT + lam * (L_u_MS + L_u_UT + L_c + L_d)  # Eq. 2
    return Step(
        loss=loss,
        L_x_UT=L_x_UT,
        L_x_MS=L_x_MS,
        L_u_UT=L_u_UT,
        L_u_MS=L_u_MS,
        L_c=L_c,
        L_d=L_d,
        alpha=alpha.mean(),
        phi_self=phi_self.mean(),
        phi_mut=phi_mut.mean(),
        trusted=W_P.float().mean(),
    )


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


def _consistency(P_c_MS: Tensor, P_c_UT: Tensor, kind: Consistency) -> tuple[Tensor, Tensor]:
    zero = P_c_UT.new_zeros(())
    if kind == "none":
        return zero, zero
    P_c_MS_P = nearest(P_c_MS, P_c_UT.shape[-1])
    if kind == "mse":
        return zero, divergence_loss(P_c_MS_P, P_c_UT, torch.ones_like(P_c_UT[:, 0]))
    if kind != "cdcr":
        raise ValueError(f"no consistency {kind}")
    agree_P = (most_probable(P_c_MS_P) == most_probable(P_c_UT)).float()  # Eq. 8
    agree_L = nearest(agree_P, P_c_MS.shape[-1])
    L_c = consensus_loss(P_c_MS, P_c_UT, agree_L, agree_P)  # Eq. 9
    L_d = divergence_loss(P_c_MS_P, P_c_UT, 1 - agree_P)  # Eq. 10
    return L_c, L_d
