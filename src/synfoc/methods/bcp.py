"""BCP: copy-paste in both directions with a mean teacher (Bai et al., CVPR 2023).

Labeled halves X_a, X_b and unlabeled halves U_a, U_b of a batch share one box:

    outward   X_a in the box, U_a around it      inward   U_b in the box, X_b around it

Labels are the true ones, and of U the largest component of each class that the teacher sees.
Before that the student learns from labeled pairs alone, X_b in the box and X_a around it.
What is simplified here: docs/departures.md, D37 and D41.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from synfoc.batches.batch import Batch
from synfoc.methods.components import largest_component
from synfoc.methods.interface import Models, Network, Step
from synfoc.methods.losses import part_dice
from synfoc.methods.maps import argmax_classes, nearest, paste
from synfoc.methods.one_network import OneNetwork, only_network

PRETRAINING = 0.25
"""Share of the run that is spent on labeled pairs: 10,000 of 40,000 steps. [paper, ACDC]"""
ALPHA = 0.5
"""Weight of pixels with pseudo-labels. [paper]"""


def bcp_step(f: Models, b: Batch, *, progress: float, draws: torch.Generator) -> Step:
    """Compute the loss of one batch.

        L = L_x + alpha L_u, sums over both mixtures of their labeled and unlabeled parts

    Args:
        f: one student and its teacher.
        b: a batch of 2, 4, ... images with its unlabeled half; only weak views are used.
        progress: share of the run that is done; below `PRETRAINING` only labeled pairs are used.
        draws: the box of this step, on the CPU.

    Raises:
        ValueError: an odd number of images.

    Source: the paper's Sec. 3; the losses and what is pasted where follow the authors' code.
    """
    n = only_network(f, b)
    if len(n.X_w) % 2:
        raise ValueError(f"bcp pairs images: the batch must be even, not {len(n.X_w)}")
    (X_a, X_b), (Y_a, Y_b) = n.X_w.chunk(2), n.Y_w.chunk(2)
    box_s, box_l = draw_box(n, draws)
    if progress < PRETRAINING:
        z = n.f(paste(X_b, X_a, box_s))
        L_x = part_loss(z, Y_a, ~box_l) + part_loss(z, Y_b, box_l)
        zero = torch.zeros_like(L_x.detach())
        return n.step(L_x, L_x=L_x, L_u=zero, trusted=zero)

    U_a, U_b = n.U_w.chunk(2)
    with torch.no_grad():
        Q_a, Q_b = pseudo_labels(n.f_hat, U_a), pseudo_labels(n.f_hat, U_b)
    z_out, z_in = n.f(paste(X_a, U_a, box_s)), n.f(paste(U_b, X_b, box_s))
    L_x = part_loss(z_out, Y_a, box_l) + part_loss(z_in, Y_b, ~box_l)
    L_u = part_loss(z_out, Q_a, ~box_l) + part_loss(z_in, Q_b, box_l)
    return n.step(L_x + ALPHA * L_u, L_x=L_x, L_u=L_u, trusted=torch.ones_like(L_u.detach()))


def draw_box(
    n: OneNetwork, draws: torch.Generator
) -> tuple[Bool[Tensor, "half s s"], Bool[Tensor, "half l l"]]:
    """One square for the whole batch, 2/3 of the side wide, anywhere; at the sides s and l."""
    half, s = len(n.X_w) // 2, n.X_w.shape[-1]
    side = 2 * s // 3  # beta = 2/3 [paper]
    top, left = torch.randint(s - side, (2,), generator=draws).tolist()
    box = torch.zeros(half, s, s, dtype=torch.bool)
    box[:, top : top + side, left : left + side] = True
    box = box.to(n.X_w.device)
    return box, nearest(box, n.Y_w.shape[-1])


def pseudo_labels(f_hat: Network, U: Float[Tensor, "half c s s"]) -> Int[Tensor, "half l l"]:
    """Return the teacher's most probable class, and of each class the largest component alone.

    Components are found on the CPU, so this waits for a GPU.
    """
    z = f_hat(U)
    Q = argmax_classes(z)
    kept = np.stack([largest_components(q, z.shape[1]) for q in Q.cpu().numpy()])
    return torch.from_numpy(kept).to(Q.device)


def largest_components(q: Int[np.ndarray, "l l"], K: int) -> Int[np.ndarray, "l l"]:
    """One label map with only the largest component of each foreground class.

    Args:
        q: class indices.
        K: classes, with the background 0.

    Returns:
        The same map, 0 where a smaller component was [authors' code].
    """
    kept = np.zeros_like(q)
    for k in range(1, K):
        kept[largest_component(q == k)] = k
    return kept


def part_loss(
    z: Float[Tensor, "B K h w"], Q: Int[Tensor, "B h w"], part: Bool[Tensor, "B h w"]
) -> Float[Tensor, ""]:
    """Cross-entropy plus Dice loss over a part of the pixels alone.

        L_ce = sum(W ce) / (sum(W) + 1e-16),   L_dice of `part_dice`

    Unlike `ce_dice` it divides by the part's pixels.

    Args:
        z: logits.
        Q: class indices.
        part: W, where it counts.

    Source: authors' code.
    """
    W = part.float()
    ce = (functional.cross_entropy(z, Q, reduction="none") * W).sum() / (W.sum() + 1e-16)
    return ce + part_dice(z.softmax(1), Q, part)
