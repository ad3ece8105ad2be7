"""One branch alone: a student whose own teacher labels the weak view for the copy-paste view.

This is SynFoC with one network (the paper's ablation "U-Net alone" and "MedSAM alone"): Eq. 1, 2
and 7 stay, the fused pseudo-label is the one teacher's, and nothing ties two students.
"""

from __future__ import annotations

import torch

from synfoc.batches.batch import Batch
from synfoc.methods.losses import ce_dice
from synfoc.methods.mixing import nearest, paste
from synfoc.methods.models import Models, Release, Step, keep


def single_unet_step(
    f: Models, b: Batch, *, lam: float, tau: float = 0.95, release: Release = keep
) -> Step:
    """Eq. 1, 2 and 7 for the U-Net alone, at its side P. Arguments as in `synfoc_step`."""
    with torch.no_grad():
        largest, Q_w_hat = f.UT_hat(b.U_w_UT).softmax(1).max(1)
        W = largest > tau
        U_c = paste(b.X_w_UT, b.U_s_UT, b.M)  # Eq. 1
        Q_c, W_c = paste(b.Y_w_UT, Q_w_hat, b.M), (W | b.M).float()
    L_x = release(ce_dice(f.UT(b.X_w_UT), b.Y_w_UT))
    L_u = ce_dice(f.UT(U_c), Q_c, W_c)  # Eq. 7
    return Step(loss=L_x + lam * L_u, L_x_UT=L_x, L_u_UT=L_u, trusted=W.float().mean())  # Eq. 2


def single_medsam_step(f: Models, b: Batch, *, lam: float, tau: float = 0.95) -> Step:
    """Eq. 1, 2 and 7 for the foundation model alone, at the side L of its logits."""
    with torch.no_grad():
        largest, Q_w_hat = f.MS_hat(b.U_w_MS).softmax(1).max(1)
        W = largest > tau
        M = nearest(b.M, b.Y_w_MS.shape[-1])
        U_c = paste(b.X_w_MS, b.U_s_MS, nearest(b.M, b.X_w_MS.shape[-1]))  # Eq. 1
        Q_c, W_c = paste(b.Y_w_MS, Q_w_hat, M), (W | M).float()
    z_x, z_c = f.MS(torch.cat([b.X_w_MS, U_c])).chunk(2)
    L_x, L_u = ce_dice(z_x, b.Y_w_MS), ce_dice(z_c, Q_c, W_c)  # Eq. 7
    return Step(loss=L_x + lam * L_u, L_x_MS=L_x, L_u_MS=L_u, trusted=W.float().mean())  # Eq. 2
