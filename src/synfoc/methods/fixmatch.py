"""FixMatch (Sohn et al., NeurIPS 2020) for segmentation: a network labels for itself.

    f labels U_w -> what is sure is kept -> f learns it on U_s

No teacher and no copy-paste: the student's own labels of the weak view, on the strong view of the
same image. With an averaged teacher and pasted labeled regions this becomes the copy-paste
baseline of SynFoC's ablation, which is `mean_teacher.py` (docs/departures.md, D38).
"""

from __future__ import annotations

import torch

from synfoc.batches.batch import Batch
from synfoc.methods.interface import Models, Step
from synfoc.methods.losses import ce_dice
from synfoc.methods.one_network import only_network


def fixmatch_step(f: Models, b: Batch, *, lam: float = 1.0, tau: float = 0.95) -> Step:
    """Compute the loss of one batch.

        Q = argmax f(U_w),  W = [max f(U_w) > tau]
        L = L(f(X_w), Y) + lambda L(f(U_s), Q, W),  L = cross-entropy + Dice

    Args:
        f: one student; its teacher is never asked.
        b: a batch with its unlabeled half.
        lam: weight of what is learned from unlabeled images; 1 throughout in the paper, where the
            growing share of sure labels is the ramp.
        tau: a probability above it is sure.

    Source: l_s and l_u of the paper, with the losses of segmentation in place of one label's.
    """
    n = only_network(f, b)
    with torch.no_grad():
        largest, Q = n.f(n.U_w).softmax(1).max(1)
        W = (largest > tau).float()
    L_x = f.early_backward(ce_dice(n.f(n.X_w), n.Y_w))
    L_u = ce_dice(n.f(n.U_s), Q, W)
    return n.step(L_x + lam * L_u, L_x=L_x, L_u=L_u, trusted=W.mean())
