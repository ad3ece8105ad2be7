"""The teacher follows its student: an exponential moving average of parameters."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def ema_update(teacher: Iterable[Tensor], student: Iterable[Tensor], decay: float) -> None:
    """Move every teacher parameter: teacher = decay * teacher + (1 - decay) * student.

    Buffers stay as they are: batch-norm statistics are the teacher's own, from its own forwards in
    train mode [authors' code].

    Args:
        teacher: parameters to change in place.
        student: the matching parameters, in the same order.
        decay: share of the teacher that survives, in [0, 1]; 0 copies.

    Raises:
        ValueError: the two lists do not match.
    """
    old, new = list(teacher), list(student)
    if [p.shape for p in old] != [p.shape for p in new]:
        raise ValueError("teacher and student differ in their parameters")
    torch._foreach_lerp_(old, new, 1 - decay)
