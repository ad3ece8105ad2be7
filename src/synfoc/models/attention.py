"""Softmax attention, exact in output and gradient, in the form that each device does fastest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

CHUNK = 2**21
"""Scores in work at a time on a CPU: 4 MiB in bf16, which stay in its caches."""

KEPT = 2**23
"""So many scores of one layer (16 MiB) are kept for backward; more are computed anew."""


def attend(
    q: Float[Tensor, "W H N d"],
    k: Float[Tensor, "W H M d"],
    v: Float[Tensor, "W H M e"],
    bias: Float[Tensor, "H N M"] | None = None,
    *,
    scale: float,
) -> Float[Tensor, "W H N e"]:
    """softmax(scale q k^T + bias) v for W windows and H heads.

    Args:
        q: queries, N in each window.
        k: keys, M in each window.
        v: values; e is at most d.
        bias: frozen, it gets no gradient; None: no bias.
        scale: factor of the products; most often 1 / sqrt(d).

    Returns:
        One value per query, in the number format of `q`.
    """
    bias = None if bias is None else bias.to(q.dtype)
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        # There the fused kernels work at a fraction of the speed of matrix products.
        y: Tensor = _Chunked.apply(q, k, v, bias, scale)  # type: ignore[no-untyped-call]
        return y
    width = v.shape[-1]
    # Most fused kernels want one width for all three.
    v = F.pad(v, (0, q.shape[-1] - width)) if width < q.shape[-1] else v
    mask = None if bias is None else bias[None]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)[..., :width]


def in_windows(
    qkv: Float[Tensor, "B y x 3 H d"],
    window: int,
    attend_within: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Float[Tensor, "B y x H*d"]:
    """Cut a grid into windows, attend within each, put the answers back in place.

    Where the side is no multiple of the window, the last windows hold only the entries that there
    are: nothing is padded, and what padding would have added is the caller's to add.

    Args:
        qkv: queries, keys and values of every entry.
        window: side of a whole window.
        attend_within: maps q, k, v of equal windows (W, H, height, width, d) to (W, H, N, d).
    """
    strips = [[side for side in (n // window * window, n % window) if side] for n in qkv.shape[1:3]]
    rows = []
    for row in torch.split(qkv, strips[0], 1):
        parts = [_equal(part, window, attend_within) for part in torch.split(row, strips[1], 2)]
        rows.append(_join(parts, 2))
    return _join(rows, 1)


def _join(parts: Sequence[Tensor], dim: int) -> Tensor:
    """Like `torch.cat`, which copies even where there is only one."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim)


def _equal(
    qkv: Tensor, window: int, attend_within: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> Tensor:
    """Return the same for a part of the grid that divides into windows of one size."""
    B, y, x, _, H, d = qkv.shape
    height, width = min(y, window), min(x, window)
    windows = qkv.reshape(B, y // height, height, x // width, width, 3, H, d)
    q, k, v = windows.permute(5, 0, 1, 3, 6, 2, 4, 7).flatten(1, 3)
    answers = attend_within(q, k, v)
    answers = answers.view(B, y // height, x // width, H, height, width, d)
    return answers.permute(0, 1, 4, 2, 5, 3, 6).reshape(B, y, x, H * d)


class _Chunked(torch.autograd.Function):
    """A few windows at a time; backward computes many scores anew and keeps few."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float
    ) -> Tensor:
        ctx.scale = scale
        if q.shape[:-1].numel() * k.shape[-2] <= KEPT:
            weights = _weights(q, k, bias, scale)
            ctx.save_for_backward(q, k, v, bias, weights)
            return weights @ v
        ctx.save_for_backward(q, k, v, bias, None)
        y = q.new_empty(*q.shape[:-1], v.shape[-1])
        for part in _chunks(q, k):
            torch.matmul(_weights(q[part], k[part], bias, scale), v[part], out=y[part])
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, bias, kept = ctx.saved_tensors
        dy = dy.to(q.dtype)
        dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
        for part in _chunks(q, k) if kept is None else [slice(None)]:
            weights = _weights(q[part], k[part], bias, ctx.scale) if kept is None else kept
            torch.matmul(weights.mT, dy[part], out=dv[part])
            scores = torch._softmax_backward_data(
                dy[part] @ v[part].mT, weights, -1, weights.dtype
            ).mul_(ctx.scale)
            torch.matmul(scores, k[part], out=dq[part])
            torch.matmul(scores.mT, q[part], out=dk[part])
        return dq, dk, dv, None, None


def _weights(q: Tensor, k: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    scores = (q * scale) @ k.mT
    if bias is not None:
        scores.add_(bias)
    return scores.softmax(-1)


def _chunks(q: Tensor, k: Tensor) -> list[slice]:
    # Never one matrix alone: torch copies the operands of such a product.
    size = max(2, CHUNK // (q.shape[1] * q.shape[2] * k.shape[2]))
    return [slice(start, start + size) for start in range(0, len(q), size)]
