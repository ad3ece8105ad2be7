"""SAM's ViT as `transformers` has it, with relative positions folded into the attention.

A score is q.k / sqrt(d) + q.R[row distance] + q.R[column distance]. The last two terms take one
value per row and per column of keys. So with q' = (q, its row values, its column values) and
k' = (k, one-hot row, one-hot column) the score is q'.k': fused attention gives the same answer
with no n^2 x n^2 bias, which at 512 px would be most of the memory of a training step.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from synfoc.models.lora import QkvLayers


class VitEncoder(nn.Module):
    """SAM's image encoder, made for one side.

    Args:
        vision: the `vision_encoder` of a SamModel; its attention modules are replaced by ours,
            which have the same parameters under the same names.
    """

    def __init__(self, vision: Any) -> None:
        super().__init__()
        self.vision = vision
        for layer in vision.layers:
            layer.attn = _Attention(layer.attn)

    @property
    def stride(self) -> int:
        """Image side / embedding side: one entry per patch."""
        return int(self.vision.config.patch_size)

    def qkv_layers(self) -> QkvLayers:
        """One layer per block; its rows are all of q, all of k, all of v: hence one head."""
        return [(layer.attn.qkv, 1) for layer in self.vision.layers]

    def forward(self, x: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B d e e"]:
        """Embedding of images in [0, 1]."""
        embedding: Tensor = self.vision(x).last_hidden_state
        return embedding


class _Attention(nn.Module):
    """Self-attention of n x n entries: a window, or the whole grid."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.heads = int(attention.num_attention_heads)
        self.qkv: nn.Linear = attention.qkv
        self.proj: nn.Linear = attention.proj
        self.rel_pos_h: Tensor = attention.rel_pos_h
        self.rel_pos_w: Tensor = attention.rel_pos_w
        side = (len(self.rel_pos_h) + 1) // 2
        at = torch.arange(side)
        one_hot = torch.eye(side)
        keys = [one_hot.repeat_interleave(side, 0), one_hot.repeat(side, 1)]
        # Fused kernels want the width to be a multiple of 8.
        width = self.qkv.in_features // self.heads + 2 * side
        keys.append(torch.zeros(side * side, -width % 8))
        self.register_buffer("distance", at[:, None] - at + side - 1, persistent=False)
        self.register_buffer("keys", torch.cat(keys, dim=1), persistent=False)

    distance: Tensor
    keys: Tensor

    def forward(
        self, hidden_states: Float[Tensor, "B n n c"], **_: object
    ) -> tuple[Float[Tensor, "B n n c"], None]:
        """The attended entries, and None where `transformers` may return scores."""
        B, n, _n, c = hidden_states.shape
        qkv = self.qkv(hidden_states).view(B, n * n, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        d = q.shape[-1]
        grid = q.unflatten(2, (n, n))
        # The kernel divides by sqrt(d), which the positions' part of a score does not want.
        rows = torch.einsum("bhyxd,ykd->bhyxk", grid, self.rel_pos_h[self.distance] * d**0.5)
        columns = torch.einsum("bhyxd,xkd->bhyxk", grid, self.rel_pos_w[self.distance] * d**0.5)
        padding = rows.new_zeros(()).expand(B, self.heads, n * n, self.keys.shape[1] - 2 * n)
        q = torch.cat([q, rows.flatten(2, 3), columns.flatten(2, 3), padding.to(q.dtype)], dim=-1)
        k = torch.cat([k, self.keys.to(k.dtype).expand(B, self.heads, -1, -1)], dim=-1)
        # Most fused kernels want one width for all three.
        v = F.pad(v, (0, q.shape[-1] - d))
        y = F.scaled_dot_product_attention(q, k, v, scale=d**-0.5)[..., :d]
        return self.proj(y.transpose(1, 2).reshape(B, n, n, c)), None
