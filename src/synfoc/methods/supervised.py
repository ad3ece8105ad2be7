"""Supervised only: what the labeled images alone can teach. The floor of every comparison."""

from __future__ import annotations

from torch import Tensor

from synfoc.batches.batch import Batch
from synfoc.methods.interface import Models, Step, missing_network
from synfoc.methods.losses import ce_dice


def supervised_step(f: Models, b: Batch) -> Step:
    """Cross-entropy and Dice on the labeled weak view, for each branch that is there.

    Raises:
        ValueError: neither branch is there.
    """
    L_x_UT = None if f.UT is missing_network else ce_dice(f.UT(b.X_w_UT), b.Y_w_UT)
    L_x_MS = None if f.MS is missing_network else ce_dice(f.MS(b.X_w_MS), b.Y_w_MS)
    losses: list[Tensor] = [loss for loss in (L_x_UT, L_x_MS) if loss is not None]
    if not losses:
        raise ValueError("supervised_step needs at least one network")
    return Step(loss=sum(losses[1:], losses[0]), L_x_UT=L_x_UT, L_x_MS=L_x_MS)
