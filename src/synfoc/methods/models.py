"""What every method page takes and gives: networks as plain callables, one step's numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from torch import Tensor

Network: TypeAlias = Callable[[Tensor], Tensor]
"""Images (B, c, s, s) in [0, 1] -> logits (B, K, s', s')."""
Dropping: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""The same with half of its features dropped: images, one seed per image (B,) -> logits."""

Boxed: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Images (B, c, S, S), boxes (B, n, 4) as left, top, right, bottom in pixels of S -> the logits of
what is in each box, (B, n, L, L); above 0 is inside."""


def absent(images: Tensor, *more: Tensor) -> Tensor:
    """Stand in for a network that this run does not train: calling it is a mistake of ours.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError(f"no such network in this run (asked about {tuple(images.shape)})")


@dataclass(frozen=True)
class Models:
    """Students UT (U-Net) and MS (MedSAM), their teachers, SAM; `absent` where there is none.

    `memory` is what a page carries from step to step: tensors by name, which it replaces in place.
    Checkpoints keep it. A page without memory leaves it empty.
    """

    UT: Network = absent
    MS: Network = absent
    UT_hat: Network = absent
    MS_hat: Network = absent
    UT_drop: Dropping = absent
    MS_drop: Dropping = absent
    SAM: Boxed = absent
    memory: dict[str, Tensor] = field(default_factory=dict)


Release: TypeAlias = Callable[[Tensor], Tensor]
"""Called with a loss whose graph nothing else needs; returns what takes its place in the sum.
The engine runs backward at once, which frees the graph before the next one is built, and returns
the detached value."""


def keep(loss: Tensor) -> Tensor:
    """The `Release` that releases nothing: one backward, at the end, is the caller's."""
    return loss


@dataclass(frozen=True)
class Step:
    """The loss that is left to differentiate, and its parts for the log.

    All are tensors, so that nothing waits for the device; `loss` has the value of the whole sum.
    """

    loss: Tensor
    L_x_UT: Tensor | None = None
    L_x_MS: Tensor | None = None
    L_u_UT: Tensor | None = None
    L_u_MS: Tensor | None = None
    L_c: Tensor | None = None
    L_d: Tensor | None = None
    alpha: Tensor | None = None
    phi_self: Tensor | None = None
    phi_mut: Tensor | None = None
    trusted: Tensor | None = None
