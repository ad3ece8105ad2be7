"""SAM's ViT: the parameters that `transformers` holds, on a path that computes no padding.

Two exact rewritings of its attention:

Relative positions. A score is q.k / sqrt(d) + q.R[row distance] + q.R[column distance]. The last
two terms take one value per row and per column of keys. So with q' = (q, its row values, its
column values) and k' = (k, one-hot row, one-hot column) the score is q'.k', and no n^2 x n^2 bias
exists, which at 512 px would be most of the memory of a training step.

Windows at the edge. A grid that is no multiple of the window is padded with zeros, which become
keys with one common k and v (the biases), attended to because the weights were trained that way.
Their scores differ by position alone, so the sum of their exponentials factors into rows and
columns: one extra key with the logarithm of that sum stands for all of them, and no padded entry
is ever made. At 512 px a block has 1024 entries instead of 1764.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from synfoc.models.attention import attend, in_windows
from synfoc.models.lora import AdaptedLayers
from synfoc.models.recompute import Again, run_block


class VitEncoder(nn.Module):
    """SAM's image encoder, made for one side.

    Args:
        vision: the `vision_encoder` of a SamModel; its blocks are replaced by ours, which have the
            same parameters under the same names.
    """

    def __init__(self, vision: Any) -> None:
        super().__init__()
        vision.layers = nn.ModuleList(_Block(layer) for layer in vision.layers)
        self.vision = vision

    @property
    def stride(self) -> int:
        """Image side / embedding side: one entry per patch."""
        return int(self.vision.config.patch_size)

    def adapted_layers(self) -> AdaptedLayers:
        """One layer per block; its rows are all of q, all of k, all of v: hence one head."""
        return [(layer.attn.qkv, 1) for layer in self.vision.layers]

    def forward(
        self, x: Float[Tensor, "B 3 S S"], again: Again | None = None
    ) -> Float[Tensor, "B d e e"]:
        """Embedding of images in [0, 1]. `again`: see `recompute.run_block`."""
        vision = self.vision
        entries = vision.patch_embed(x)
        if vision.pos_embed is not None:
            entries = entries + vision.pos_embed
        for block in vision.layers:
            entries = run_block(block, entries, again)
        embedding: Tensor = vision.neck(entries)
        return embedding


class _Block(nn.Module):
    """Attention, in windows or over the whole grid, then a two-layer perceptron."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer_norm1: nn.Module = layer.layer_norm1
        self.attn = _Attention(layer.attn)
        self.layer_norm2: nn.Module = layer.layer_norm2
        self.mlp: nn.Module = layer.mlp

    def forward(self, x: Float[Tensor, "B n n c"]) -> Float[Tensor, "B n n c"]:
        x = x + self.attn(self.layer_norm1(x))
        y: Tensor = x + self.mlp(self.layer_norm2(x))
        return y


class _Attention(nn.Module):
    """Every window of w x w entries attends to itself; a grid of side w is one window."""

    distance: Tensor

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.heads = int(attention.num_attention_heads)
        self.qkv: nn.Linear = attention.qkv
        self.proj: nn.Linear = attention.proj
        self.rel_pos_h: Tensor = attention.rel_pos_h
        self.rel_pos_w: Tensor = attention.rel_pos_w
        self.window = (len(self.rel_pos_h) + 1) // 2
        at = torch.arange(self.window)
        self.register_buffer("distance", at[:, None] - at + self.window - 1, persistent=False)

    def forward(self, x: Float[Tensor, "B n n c"]) -> Float[Tensor, "B n n c"]:
        qkv = self.qkv(x).view(*x.shape[:3], 3, self.heads, -1)
        z: Tensor = self.proj(in_windows(qkv, self.window, self._attend))
        return z

    def _attend(
        self,
        q: Float[Tensor, "W H height width d"],
        k: Float[Tensor, "W H height width d"],
        v: Float[Tensor, "W H height width d"],
    ) -> Float[Tensor, "W H N d"]:
        """Attention within windows of which height x width entries are real."""
        W, H, height, width, d = q.shape
        # The product is divided by sqrt(d), which the positions' part of a score does not want.
        R_h, R_w = (
            R[self.distance[:side]].to(q.dtype) * d**0.5
            for R, side in ((self.rel_pos_h, height), (self.rel_pos_w, width))
        )
        by_row = torch.einsum("ghyxd,ykd->ghyxk", q, R_h)
        by_column = torch.einsum("ghyxd,xkd->ghyxk", q, R_w)
        features = [q, by_row[..., :height], by_column[..., :width]]
        padded = height < self.window or width < self.window
        if padded:
            features.append(_score_of_padding(by_row, by_column, height, width, d))
        # Fused kernels want widths that are multiples of 8.
        spare = -(d + height + width + padded) % 8
        features.append(q.new_zeros(()).expand(W, H, height, width, spare))
        one_hot = [
            torch.eye(height, device=q.device, dtype=q.dtype).repeat_interleave(width, 0),
            torch.eye(width, device=q.device, dtype=q.dtype).repeat(height, 1),
            q.new_zeros(height * width, padded + spare),
        ]
        where = torch.cat(one_hot, dim=-1).expand(W, H, -1, -1)
        q = torch.cat(features, dim=-1).flatten(2, 3)
        k = torch.cat([k.flatten(2, 3), where], dim=-1)
        v = v.flatten(2, 3)
        if padded:
            k_pad, v_pad = self._padding(H, d, height + width, spare)
            k = torch.cat([k, k_pad.to(k.dtype).expand(W, -1, -1, -1)], dim=2)
            v = torch.cat([v, v_pad.to(v.dtype).expand(W, -1, -1, -1)], dim=2)
        # Every head of every window by itself: there is nothing that they share.
        q, k, v = (x.flatten(0, 1)[:, None] for x in (q, k, v))
        return attend(q, k, v, scale=d**-0.5).view(W, H, height * width, d)

    def _padding(
        self, H: int, d: int, positions: int, spare: int
    ) -> tuple[Float[Tensor, "H 1 D"], Float[Tensor, "H 1 d"]]:
        """Return the one key and value that zeros in place of an entry have.

        They are the biases of the layer.
        """
        bias = self.qkv.bias
        if bias is None:
            bias = self.qkv.weight.new_zeros(3 * H * d)
        _, k, v = bias.view(3, H, 1, d)
        ends = [k.new_zeros(H, 1, positions), k.new_ones(H, 1, 1), k.new_zeros(H, 1, spare)]
        return torch.cat([k, *ends], dim=-1), v


def _score_of_padding(
    by_row: Float[Tensor, "W H h w m"],
    by_column: Float[Tensor, "W H h w m"],
    height: int,
    width: int,
    d: int,
) -> Float[Tensor, "W H h w 1"]:
    """Log of the sum over all padded positions of exp(row value + column value), times sqrt(d).

    Beside the real entries, then below them over the whole width of the window.
    """
    rows, columns = by_row.float() * d**-0.5, by_column.float() * d**-0.5
    beside = rows[..., :height].logsumexp(-1) + columns[..., width:].logsumexp(-1)
    below = rows[..., height:].logsumexp(-1) + columns.logsumexp(-1)
    score: Tensor = (torch.logaddexp(beside, below) * d**0.5)[..., None]
    return score.to(by_row.dtype)
