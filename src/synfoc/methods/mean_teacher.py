"""One branch alone: a student whose own teacher labels the weak view for the copy-paste view.

This is SynFoC with one network (the paper's ablation "U-Net alone" and "MedSAM alone"): Eq. 1, 2
and 7 stay, the fused pseudo-label is the one teacher's, and nothing ties two students.
"""

from __future__ import annotations

import torch

from synfoc.batches.batch import Batch
from synfoc.methods.interface import Models, Step
from synfoc.methods.losses import ce_dice
from synfoc.methods.maps import paste
from synfoc.methods.one_network import only_network


def mean_teacher_step(f: Models, b: Batch, *, lam: float, tau: float = 0.95) -> Step:
    """Eq. 1, 2 and 7 for one network, the U-Net or MedSAM. Arguments as in `synfoc_step`."""
    n = only_network(f, b)
    with torch.no_grad():
        largest, Q_w_hat = n.f_hat(n.U_w).softmax(1).max(1)
        W = largest > tau
        U_c = paste(n.X_w, n.U_s, n.M_s)  # Eq. 1
        Q_c, W_c = paste(n.Y_w, Q_w_hat, n.M_l), (W | n.M_l).float()
    L_x = f.early_backward(ce_dice(n.f(n.X_w), n.Y_w))
    L_u = ce_dice(n.f(U_c), Q_c, W_c)  # Eq. 7
    return n.step(L_x + lam * L_u, L_x=L_x, L_u=L_u, trusted=W.float().mean())  # Eq. 2
