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


def missing_network(images: Tensor, *more: Tensor) -> Tensor:
    """Stand in for a network that this run does not have; calling it is our mistake.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError(f"no such network in this run (asked about {tuple(images.shape)})")


EarlyBackward: TypeAlias = Callable[[Tensor], Tensor]
"""Run backward on a part of the loss whose graph nothing else needs, which frees that graph; return
the value to add to the total."""


def no_early_backward(loss: Tensor) -> Tensor:
    """Return the loss with its graph: the caller runs one backward at the end."""
    return loss


@dataclass(frozen=True)
class Models:
    """Students UT and MS, their teachers, the prompted SAM; `missing_network` where there is none.

    `memory` is what a page carries from step to step: tensors by name, which it replaces in place.
    Checkpoints keep it. A page without memory leaves it empty.
    """

    UT: Network = missing_network
    MS: Network = missing_network
    UT_hat: Network = missing_network
    MS_hat: Network = missing_network
    UT_drop: Dropping = missing_network
    MS_drop: Dropping = missing_network
    SAM: Boxed = missing_network
    memory: dict[str, Tensor] = field(default_factory=dict)
    early_backward: EarlyBackward = no_early_backward


@dataclass(frozen=True)
class Step:
    """The loss to differentiate, and its parts for the log.

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
