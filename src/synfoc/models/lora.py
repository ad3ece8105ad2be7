"""Low-rank update of q and v, from outside a frozen encoder.

    q = W_q x + B_q A_q x        v = W_v x + B_v A_v x        k = W_k x

The encoder knows nothing of it: during one forward, hooks on its fused qkv layers add the
update. So a student and a teacher, each with its own LoRA, use one encoder object in turn,
and either graph stays valid while the other runs.
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

QkvLayers = Sequence[tuple[nn.Linear, int]]
"""Fused layers, each with its number of heads: the rows of its weight are q, k, v of head 1, then
of head 2, ... A layer laid out as all q, all k, all v is one with a single head."""


class LoRA(nn.Module):
    """The update of every fused qkv layer: A (2, r, in) and B (2, out, r), first q, then v.

    Args:
        layers: the fused layers of the encoder; only their sizes are read here.
        rank: r, at least 1 and at most the width of the layers.
        generator: draws A; B is zero, so that the update starts at nothing.

    Raises:
        UserError: a rank larger than the width of a layer.

    Source: the authors' code: no bias and no scaling.
    """

    def __init__(self, layers: QkvLayers, rank: int, generator: torch.Generator) -> None:
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
            _draw(rank, linear.in_features, generator) for linear, _ in layers
        )
        self.B = nn.ParameterList(
            nn.Parameter(torch.zeros(2, linear.out_features // 3, rank)) for linear, _ in layers
        )

    @contextmanager
    def attached(self, layers: QkvLayers) -> Iterator[None]:
        """Within the block, and in this thread only, the layers answer with the update added.

        Args:
            layers: the fused layers of the encoder that the update was made for.
        """
        handles = []
        try:
            for (linear, heads), A, B in zip(layers, self.A, self.B, strict=True):
                handles.append(linear.register_forward_hook(_hook(A, B, heads)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def updates(self, layers: QkvLayers) -> list[Float[Tensor, "rows i"]]:
        """What the update adds to the weight of each layer, as one matrix of its 3 o rows."""
        triples = zip(layers, self.A, self.B, strict=True)
        return [_rows(B, heads) @ A.flatten(0, 1) for (_, heads), A, B in triples]


class MergedLoRA(LoRA):
    """What is left of an update once the encoder's weights hold it: nothing to add."""

    def __init__(self) -> None:
        super().__init__((), rank=0, generator=torch.Generator())

    @contextmanager
    def attached(self, layers: QkvLayers) -> Iterator[None]:
        """The layers answer as they are."""
        yield


def qkv_update(
    x: Float[Tensor, "*n i"],
    A: Float[Tensor, "2 r i"],
    B: Float[Tensor, "2 o r"],
    heads: int,
    qkv: Float[Tensor, "*n 3*o"],
) -> Float[Tensor, "*n 3*o"]:
    """Add the low-rank update of q and v to the fused answer of a layer.

    Args:
        x: what the layer was given.
        A: maps to the rank, for q and for v.
        B: maps from the rank, for q and for v; rows head by head.
        heads: how many blocks of q, k, v follow each other in `qkv`.
        qkv: the layer's own answer; k passes through unchanged.
    """
    # One matrix of rank 2r for all of qkv: a single multiply-add per layer, no copies of q, k, v.
    low = F.linear(x, A.flatten(0, 1)).flatten(0, -2)
    return torch.addmm(qkv.flatten(0, -2), low, _rows(B, heads).t()).view_as(qkv)


def _rows(B: Float[Tensor, "2 o r"], heads: int) -> Float[Tensor, "3*o 2*r"]:
    """B of q, zeros for k, B of v, in the order of the fused layer's rows."""
    q, v = B.view(2, heads, B.shape[1] // heads, B.shape[2]).unbind(0)
    nothing = torch.zeros_like(q)
    rows = torch.cat([_beside(q, nothing), _beside(nothing, nothing), _beside(nothing, v)], dim=1)
    return rows.flatten(0, 1)


def _beside(left: Tensor, right: Tensor) -> Tensor:
    return torch.cat([left, right], dim=-1)


def _hook(A: Tensor, B: Tensor, heads: int) -> Callable[[nn.Module, Any, Tensor], Tensor | None]:
    owner = threading.get_ident()

    def add(_: nn.Module, inputs: tuple[Tensor], qkv: Tensor) -> Tensor | None:
        if threading.get_ident() != owner:  # another network's forward over the same encoder
            return None
        return qkv_update(inputs[0], A, B, heads, qkv)

    return add


def _draw(rank: int, width: int, generator: torch.Generator) -> nn.Parameter:
    A = torch.empty(2, rank, width)
    for part in A:
        nn.init.kaiming_uniform_(part, a=5**0.5, generator=generator)
    return nn.Parameter(A)
