"""UST-RUN: SymGD that remembers whom to trust (Ma et al., IEEE TMI 2025).

    reliable    U of which student and teacher say the same: the newest ten, with their
                pseudo-labels, take the places of labeled images in up to half of the mixtures
    unreliable  the U of the step before of which they differ most: it is learned once more, with
                labeled pixels over all that is foreground in either of the two

All else is `symgd.py`, and so are the symbols; _r is the unreliable image. What the page carries
from step to step is in `Models.memory`. What is simplified here: docs/departures.md, D37 and D44.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from synfoc.batches.batch import Batch, to_device
from synfoc.methods.confidence import dice_of_parts, parts
from synfoc.methods.interface import Models, Step
from synfoc.methods.losses import ce_dice
from synfoc.methods.maps import argmax_classes, nearest, paste
from synfoc.methods.one_network import only_network
from synfoc.methods.symgd import amplitude_mixup, taught

REMEMBERED = 10
"""Reliable images that are remembered. [authors' code]"""
THRESHOLD = 0.1
"""Disagreement below which an image is reliable, at the start and at most. [authors' code]"""
RELAX = 1.0005
"""By how much the threshold rises in a step that has no reliable image. [authors' code]"""
START = 1 / 60
"""Share of the run in which nothing is reliable yet. [authors' code: 500 of 30,000 steps]"""


class Labeled(NamedTuple):
    """Images of side s with labels and trust of side l, whoever labeled them."""

    X: Float[Tensor, "n c s s"]
    Y: Int[Tensor, "n l l"]
    W: Bool[Tensor, "n l l"]

    def at(self, places: list[int]) -> Labeled:
        """Return some of them, copied."""
        return Labeled(*(x[places] for x in self))


def ustrun_step(
    f: Models,
    b: Batch,
    *,
    lam: float,
    progress: float,
    draws: torch.Generator,
    tau: float = 0.95,
    nested: bool = False,
) -> Step:
    """Compute the loss of one batch, and remember what the next steps need. This waits for a GPU.

        L = L_x + lambda (L_ul + L_lu + lambda L_s), each cross-entropy + Dice with trust;
        the unreliable image is one more image of L_ul

    Args:
        f: one student, its teacher, and the memory, which is changed.
        b: a batch with its unlabeled half.
        lam: the ramp exp(-5 (1 - t/t_max)^2).
        progress: t / t_max.
        draws: who is mixed with whom, and shares, of this step; on the CPU.
        tau: a probability above it is trusted.
        nested: see `confidence.parts`; agreement is about parts.

    Source: the paper's modules; order, weights and constants follow the authors' code.
    """
    n = only_network(f, b)
    given = Labeled(n.X_w, n.Y_w, torch.ones_like(n.Y_w, dtype=torch.bool))
    with torch.no_grad():
        X, Y, T = partners(given, f.memory, draws)
        Q, W, Q_m, W_m = taught(n, X, tau)
        z = n.f(n.U_w)
        differ = disagreement(argmax_classes(z), Q, z.shape[1] - 1, nested=nested)
        share = progress * torch.rand(len(X), generator=draws)
        X_t = amplitude_mixup(X, n.U_w, to_device(share, X.device))  # TP-RAM
        V_ul, V_lu = paste(X_t, n.U_s, n.M_s), paste(n.U_s, X_t, n.M_s)  # UCP
        Y_ul, Y_lu = paste(Y, Q, n.M_l), paste(Q, Y, n.M_l)
        W_ul, W_lu = paste(T, W, n.M_l), paste(W, T, n.M_l)
        again = covered(given, f.memory, n.M_l[:1], draws)

    L_x = f.early_backward(ce_dice(n.f(n.X_w), n.Y_w))
    z_ul, z_lu, z_s = n.f(V_ul), n.f(V_lu), n.f(n.U_s)
    if again is not None:
        # By itself: batch norms of the mixtures do not see it.
        z_ul = torch.cat([z_ul, n.f(again.X)])
        Y_ul, W_ul = torch.cat([Y_ul, again.Y]), torch.cat([W_ul, again.W])
    L_ul, L_lu = ce_dice(z_ul, Y_ul, W_ul.float()), ce_dice(z_lu, Y_lu, W_lu.float())
    L_u = L_ul + L_lu + lam * ce_dice(z_s, Q_m, W_m.float())
    at_start = progress < START
    remember(f.memory, Labeled(n.U_w, Q, W), [1.0] * len(Q) if at_start else differ.tolist())
    return n.step(L_x + lam * L_u, L_x=L_x, L_u=L_u, trusted=W.float().mean())


def disagreement(
    Q_a: Int[Tensor, "B l l"], Q_b: Int[Tensor, "B l l"], classes: int, *, nested: bool
) -> Float[Tensor, " B"]:
    """1 less the mean Dice over the foreground parts of two label maps, one number per image.

    Unlike in `dice_agreement` a part that neither has is no agreement, Dice 0 [authors' code].
    """
    dice = dice_of_parts(Q_a, Q_b, classes, nested=nested)
    there = parts(Q_a, classes, nested=nested) | parts(Q_b, classes, nested=nested)
    return 1 - (dice * there.flatten(2).any(2)).mean(1)


def partners(given: Labeled, memory: dict[str, Tensor], draws: torch.Generator) -> Labeled:
    """Return what U is mixed with: labeled images, up to half of them replaced by reliable ones."""
    if "X" not in memory:
        return given
    count = min(len(given.X) // 2, len(memory["X"]))
    places = torch.randperm(len(given.X), generator=draws)[:count].to(given.X.device)
    which = torch.randint(len(memory["X"]), (count,), generator=draws).to(given.X.device)
    reliable = Labeled(memory["X"], memory["Y"], memory["W"])
    return Labeled(
        *(x.index_copy(0, places, r[which]) for x, r in zip(given, reliable, strict=True))
    )


def covered(
    given: Labeled,
    memory: dict[str, Tensor],
    M: Bool[Tensor, "1 l l"],
    draws: torch.Generator,
) -> Labeled | None:
    """Put the unreliable image of the last step under a labeled one; None where there is none yet.

    What covers it is the rectangle around the foreground of both, so that no pseudo-label but
    background is left; the region M where neither has any.
    """
    if "X_r" not in memory:
        return None
    x = given.at([int(torch.randint(len(given.X), (1,), generator=draws))])
    r = Labeled(memory["X_r"], memory["Y_r"], memory["W_r"])
    foreground = (x.Y > 0) | (r.Y > 0)
    R = torch.where(foreground.any(), rectangle(foreground), M)
    R_s = nearest(R, x.X.shape[-1])
    return Labeled(paste(x.X, r.X, R_s), paste(x.Y, r.Y, R), paste(x.W, r.W, R))


def rectangle(F: Bool[Tensor, "B l l"]) -> Bool[Tensor, "B l l"]:
    """Return the smallest rectangle around all that is True in each map."""

    def between(line: Bool[Tensor, "B l"]) -> Bool[Tensor, "B l"]:
        return (line.cumsum(1) > 0) & (line.flip(1).cumsum(1).flip(1) > 0)

    return between(F.any(2))[:, :, None] & between(F.any(1))[:, None]


def remember(memory: dict[str, Tensor], new: Labeled, differ: list[float]) -> None:
    """Put reliable images of this step before the remembered ones; keep the least reliable.

    The threshold falls to the largest disagreement that is remembered, and rises slowly in steps
    that have no reliable image.

    Args:
        memory: X, Y, W, differ of the reliable images, newest first; X_r, Y_r, W_r of the
            unreliable one; threshold.
        new: U_w with its pseudo-labels.
        differ: `disagreement` of each.
    """
    worst = new.at([differ.index(max(differ))])
    memory |= zip(("X_r", "Y_r", "W_r"), worst, strict=True)
    threshold = float(memory["threshold"]) if "threshold" in memory else THRESHOLD
    remembered = memory["differ"].tolist() if "differ" in memory else []
    if reliable := [i for i, d in enumerate(differ) if d < threshold]:
        for name, x in zip("XYW", new.at(reliable), strict=True):
            memory[name] = torch.cat([x, memory.get(name, x[:0])])[:REMEMBERED]
        remembered = ([differ[i] for i in reliable] + remembered)[:REMEMBERED]
        threshold = min(threshold, max(remembered))
    elif remembered:
        threshold = min(RELAX * threshold, THRESHOLD)
    if remembered:
        memory["differ"] = torch.tensor(remembered, dtype=torch.float64)
    memory["threshold"] = torch.tensor(threshold, dtype=torch.float64)
