"""SemiSAM: a mean teacher, and a frozen foundation model that draws what the student points at.

    f labels U_w -> a box around each part -> SAM draws what is in it -> f follows SAM
                    f_hat answers to noisy U_w                        -> f follows f_hat

Zhang et al., BIBM 2024. Symbols: f student, f_hat teacher; P probabilities, Q labels, _SAM of the
foundation model as it was published, asked with boxes: it does not learn, and has no part in the
trained network. In the box of a ring SAM draws what the ring holds, so rings are learned wrong: on
the phantom, whose muscle is one, this is no better than labels alone (docs/results.md).
What is simplified here: docs/departures.md, D37 and D43.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from synfoc.batches.batch import Batch
from synfoc.methods.components import largest_component
from synfoc.methods.confidence import parts
from synfoc.methods.interface import Boxed, Models, Step
from synfoc.methods.losses import ce_dice
from synfoc.methods.maps import argmax_classes, bilinear
from synfoc.methods.one_network import only_network
from synfoc.methods.uamt import noisy

WEIGHT = 0.05
"""Largest weight of either consistency beside cross-entropy + Dice. [authors' code: 0.1, halved]"""


def semisam_step(
    f: Models,
    b: Batch,
    *,
    lam: float,
    mu: float,
    draws: torch.Generator,
    nested: bool = False,
) -> Step:
    """Compute the loss of one batch.

        L = L_x + 0.05 (lambda mean (P - P_hat)^2 + mu mean (P - P_SAM)^2)

    Args:
        f: one student, its teacher, and SAM.
        b: a batch with its unlabeled half; the strong view and the region are not used. SAM sees
            the weak view at the side S.
        lam: the ramp exp(-5 (1 - t/t_max)^2): the teacher is believed more and more.
        mu: the same backwards, exp(-5 (t/t_max)^2): SAM is believed less and less.
        draws: noise of this step, on the CPU.
        nested: see `confidence.parts`; SAM is asked about parts.

    Source: noise, weights and ramps follow the authors' code.
    """
    n = only_network(f, b)
    L_x = f.early_backward(ce_dice(n.f(n.X_w), n.Y_w))
    P = n.f(n.U_w).softmax(1)
    with torch.no_grad():
        P_hat = n.f_hat(noisy(n.U_w, draws)).softmax(1)
        Q_SAM = drawn_by_sam(f.SAM, b.U_w_MS, argmax_classes(P), P.shape[1] - 1, nested=nested)
        P_SAM = functional.one_hot(Q_SAM, P.shape[1]).movedim(-1, 1)
    L_u = lam * ((P - P_hat) ** 2).mean() + mu * ((P - P_SAM) ** 2).mean()
    return n.step(L_x + WEIGHT * L_u, L_x=L_x, L_u=L_u, trusted=torch.ones_like(L_u.detach()))


def drawn_by_sam(
    SAM: Boxed, U: Float[Tensor, "B c S S"], Q: Int[Tensor, "B h w"], classes: int, *, nested: bool
) -> Int[Tensor, "B h w"]:
    """Label maps made of the masks that SAM draws in a box around each part of Q.

    Where masks overlap the smallest wins: a part may hold another or be a ring around it, and SAM
    fills what it draws. A part that Q does not have is not asked for.

    Args:
        SAM: see `models.Boxed`.
        U: the images of Q at SAM's side S.
        Q: class indices 0..C.
        classes: C.
        nested: see `confidence.parts`.
    """
    boxes, found = boxes_around(Q, classes, U.shape[-1], nested=nested)
    z = bilinear(SAM(U, boxes.to(U.device)), Q.shape[-1])
    drawn = (z > 0) & found.to(z.device)[:, :, None, None]
    smallness = -drawn.float().mean((2, 3), keepdim=True)
    first = argmax_classes(smallness.masked_fill(~drawn, -torch.inf))
    return torch.where(drawn.any(1), first + 1, 0)


def boxes_around(
    Q: Int[Tensor, "B h w"], classes: int, side: int, *, nested: bool
) -> tuple[Float[Tensor, "B C 4"], Bool[Tensor, "B C"]]:
    """Return the box around the largest component of each part, and whether there is one.

    All are on the CPU.

    This waits for a GPU.

    Returns:
        Left, top, right, bottom of the outermost pixels, in pixels of an image of that side.
    """
    maps = parts(Q, classes, nested=nested).cpu().numpy()
    edges = torch.zeros(*maps.shape[:2], 4)
    for i, c in np.ndindex(*maps.shape[:2]):
        part = largest_component(maps[i, c])
        if part.any():
            rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
            edges[i, c] = torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    boxes = edges * side / maps.shape[-1]
    boxes[..., 2:] -= 1
    return boxes, edges[..., 2] > 0
