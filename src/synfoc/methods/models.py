"""What every method page takes and gives: networks as plain callables, one step's numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

Network: TypeAlias = Callable[[Tensor], Tensor]
"""Images (B, c, s, s) in [0, 1] -> logits (B, K, s', s')."""


def absent(images: Tensor) -> Tensor:
    """Stand in for a network that this run does not train: calling it is a mistake of ours.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError(f"no such network in this run (asked about {tuple(images.shape)})")


@dataclass(frozen=True)
class Models:
    """Students UT (U-Net) and MS (MedSAM), and their teachers; `absent` where not trained."""

    UT: Network = absent
    MS: Network = absent
    UT_hat: Network = absent
    MS_hat: Network = absent


@dataclass(frozen=True)
class Step:
    """The loss to differentiate, and its parts for the log (tensors, so that nothing waits)."""

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
