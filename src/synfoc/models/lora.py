"""Low-rank update of linear layers, from outside a frozen encoder.

    fused layer of q, k, v     q = W_q x + B_q A_q x        v = W_v x + B_v A_v x        k = W_k x
    plain layer                y = W x + B A x

The encoder knows nothing of it: during one forward, hooks on its layers add the update. So a
student and a teacher, each with its own LoRA, use one encoder object in turn, and either graph
stays valid while the other runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from synfoc.errors import UserError

AdaptedLayers = Sequence[tuple[nn.Linear, int]]
"""Layers that are updated, each with its number of heads. Of a fused one the rows of the weight are
q, k, v of head 1, then of head 2, ...; laid out as all q, all k, all v it has a single head. With
PLAIN heads the layer is updated as a whole."""
PLAIN = 0


class LoRA(nn.Module):
    """The update of every layer: of a fused one A (2, r, in) and B (2, out, r), first q, then v; of
    a plain one A (1, r, in) and B (1, out, r).

    Args:
        layers: the layers of the encoder that are updated; only their sizes are read here.
        rank: r, at least 1 and at most the width of the layers.
        generator: draws A; B is zero, so that the update starts at nothing.

    Raises:
        UserError: a rank larger than the width of a layer.

    Source: the authors' code: no bias and no scaling.
    """

    def __init__(self, layers: AdaptedLayers, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        for linear, _ in layers:
            if rank > linear.in_features:
                raise UserError(
                    "the low-rank update has too high a rank",
                    found=f"rank {rank} for layers of width {linear.in_features}",
                    expected="a rank at most as large as the width",
                    fix="set medsam.rank to 4, the value of the authors' code",
                )
        self.A = nn.ParameterList(
            _draw(1 if heads == PLAIN else 2, rank, linear.in_features, generator)
            for linear, heads in layers
        )
        self.B = nn.ParameterList(_zeros(linear, heads, rank) for linear, heads in layers)

    @contextmanager
    def attached(self, layers: AdaptedLayers) -> Iterator[None]:
        """Within the block, and in this thread only, the layers answer with the update added.

        Args:
            layers: the layers of the encoder that the update was made for.
        """
        handles = []
        try:
            for (linear, heads), A, B in zip(layers, self.A, self.B, strict=True):
                handles.append(linear.register_forward_hook(_hook(A, B, heads)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def updates(self, layers: AdaptedLayers) -> list[Float[Tensor, "rows i"]]:
        """Return what the update adds to the weight of each layer."""
        triples = zip(layers, self.A, self.B, strict=True)
        return [_rows(B, heads) @ A.flatten(0, 1) for (_, heads), A, B in triples]


class MergedLoRA(LoRA):
    """What is left of an update once the encoder's weights hold it: nothing to add."""

    def __init__(self) -> None:
        super().__init__((), rank=0, generator=torch.Generator())

    @contextmanager
    def attached(self, layers: AdaptedLayers) -> Iterator[None]:
        """Let the layers answer as they are."""
        yield


def low_rank_update(
    x: Float[Tensor, "*n i"],
    A: Float[Tensor, "parts r i"],
    B: Float[Tensor, "parts o r"],
    heads: int,
    y: Float[Tensor, "*n rows"],
) -> Float[Tensor, "*n rows"]:
    """Add the low-rank update to the answer of a layer.

    Args:
        x: what the layer was given.
        A: maps to the rank; of a fused layer for q and for v.
        B: maps from the rank; rows head by head.
        heads: how many blocks of q, k, v follow each other in `y`; PLAIN: it is one whole.
        y: the layer's own answer; k passes through unchanged.
    """
    # One matrix of rank 2r for all of qkv: a single multiply-add per layer, no copies of q, k, v.
    low = F.linear(x, A.flatten(0, 1)).flatten(0, -2)
    return torch.addmm(y.flatten(0, -2), low, _rows(B, heads).t()).view_as(y)


def _rows(B: Float[Tensor, "parts o r"], heads: int) -> Float[Tensor, "rows ranks"]:
    """B of q, zeros for k, B of v, in the order of the fused layer's rows; B of a plain layer."""
    if heads == PLAIN:
        return B[0]
    q, v = B.view(2, heads, B.shape[1] // heads, B.shape[2]).unbind(0)
    nothing = torch.zeros_like(q)
    rows = torch.cat([_beside(q, nothing), _beside(nothing, nothing), _beside(nothing, v)], dim=1)
    return rows.flatten(0, 1)


def _beside(left: Tensor, right: Tensor) -> Tensor:
    return torch.cat([left, right], dim=-1)


def _hook(A: Tensor, B: Tensor, heads: int) -> Callable[[nn.Module, Any, Tensor], Tensor | None]:
    owner = threading.get_ident()

    def add(_: nn.Module, inputs: tuple[Tensor], y: Tensor) -> Tensor | None:
        if threading.get_ident() != owner:  # another network's forward over the same encoder
            return None
        return low_rank_update(inputs[0], A, B, heads, y)

    return add


def _zeros(linear: nn.Linear, heads: int, rank: int) -> nn.Parameter:
    parts, rows = (1, linear.out_features) if heads == PLAIN else (2, linear.out_features // 3)
    return nn.Parameter(torch.zeros(parts, rows, rank))


def _draw(parts: int, rank: int, width: int, generator: torch.Generator) -> nn.Parameter:
    A = torch.empty(parts, rank, width)
    for part in A:
        nn.init.kaiming_uniform_(part, a=5**0.5, generator=generator)
    return nn.Parameter(A)
