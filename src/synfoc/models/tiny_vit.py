"""The image encoder of LiteMedSAM: TinyViT, frozen, with adapters coming in from outside.

    image   stem      stage 1         stage 2      stage 3      stage 4      neck
    S, 3    S, 64  -> convolutions -> S/2, 128  -> S/4, 160  -> S/4, 320  -> S/4, 256
            1x1       no gradient     window 7     window 14    window 7     1x1, 3x3

The stem does not stride (MobileSAM's does), so 256 px give an embedding of 64 x 64. Attention is
windowed: every side that is a multiple of 16 works. The weights were trained with windows padded at
the edge; that padding is computed as one key per window, never made.

The batch norms of the checkpoint are folded into their convolutions on loading, so they keep the
statistics they came with, whatever `train()` says. Between the stages images are channels-last:
convolutions see (B, C, h, w), norms and attention the same memory as (B, h, w, C).

Facts (sizes, order of layers, key names): the LiteMedSAM checkpoint and TinyViT (Wu et al., ECCV
2022). Parameter names are those of the checkpoint, so an adapter file fits both.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from synfoc.errors import UserError
from synfoc.models.attention import attend, in_windows
from synfoc.models.recompute import Again, run_block


class TinyViT(nn.Module):
    """Images to embeddings at a quarter of the side. Frozen: no parameter requires a gradient.

    Two ways to fill it:

        encoder.load_original(state)      keys and batch norms of the checkpoint, without
                                          their prefix `image_encoder.`
        encoder.load_state_dict(folded)   what `encoder.state_dict()` gave: the same names
                                          without `.bn.`, plus a bias per convolution

    The state dict is all that a run folder needs to rebuild the encoder without the original.

    Args:
        dims: channels of the four stages.
        depths: blocks per stage.
        heads: attention heads per stage; the first is unused, stage 1 has no attention.
        windows: sides of the attention windows per stage, in features; the first is unused.
        out: channels of the embedding; the mask decoder wants 256.
    """

    stride: ClassVar[int] = 4
    """Image side / embedding side."""

    def __init__(
        self,
        dims: Sequence[int] = (64, 128, 160, 320),
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (2, 4, 5, 10),
        windows: Sequence[int] = (7, 7, 14, 7),
        out: int = 256,
    ) -> None:
        super().__init__()
        stem = nn.Sequential(_conv(3, dims[0] // 2), nn.GELU(), _conv(dims[0] // 2, dims[0]))
        self.patch_embed = nn.Sequential(OrderedDict(seq=stem))
        convolutions = [_ConvBlock(dims[0]) for _ in range(depths[0])]
        attentions = [
            [_AttentionBlock(dims[i], heads[i], windows[i]) for _ in range(depths[i])]
            for i in (1, 2, 3)
        ]
        self.layers = nn.ModuleList(
            [
                _Stage(convolutions, _merge(dims[0], dims[1], stride=2)),
                _Stage(attentions[0], _merge(dims[1], dims[2], stride=2)),
                _Stage(attentions[1], _merge(dims[2], dims[3], stride=1)),
                _Stage(attentions[2]),
            ]
        )
        self.neck = nn.Sequential(
            nn.Conv2d(dims[3], out, 1, bias=False),
            _ChannelNorm(out, eps=1e-6),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            _ChannelNorm(out, eps=1e-6),
        )
        self.requires_grad_(False)

    def forward(
        self, x: Float[Tensor, "B 3 S S"], again: Again | None = None
    ) -> Float[Tensor, "B d S//4 S//4"]:
        """Embedding of RGB images in [0, 1]; S is a multiple of 16. The result is channels-last.

        `again`: see `recompute.run_block`.
        """
        x = self.patch_embed(x.contiguous(memory_format=torch.channels_last))
        for stage in self.layers:
            x = stage(x, again)
        embedding: Tensor = self.neck(x)
        return embedding

    def adapted_layers(self) -> list[tuple[nn.Linear, int]]:
        """Every fused qkv layer with its number of heads, from the image on.

        The rows of a layer's output are laid out head by head: q, k, v of head 1, then q, k, v of
        head 2, and so on. A layer is called as a module, so that hooks see its input and output.
        """
        return [(m.qkv, m.heads) for m in self.modules() if isinstance(m, _Attention)]

    def load_original(self, state: Mapping[str, Tensor]) -> None:
        """Read the encoder of an original checkpoint, folding its batch norms.

        Args:
            state: tensors by their names in the checkpoint, without `image_encoder.`.

        Raises:
            UserError: a tensor is missing, superfluous or of another shape.
        """
        folded, own = fold_batch_norms(state), self.state_dict()
        wrong = sorted(
            name
            for name in folded.keys() | own.keys()
            if name not in folded or name not in own or folded[name].shape != own[name].shape
        )
        if wrong:
            raise UserError(
                "the weights do not fit the TinyViT encoder",
                found=f"{len(wrong)} tensors missing, superfluous or misshapen, as {wrong[0]}",
                expected=f"the {len(own)} tensors of LiteMedSAM's image encoder",
                fix="give a LiteMedSAM checkpoint",
            )
        self.load_state_dict(folded)


def fold_batch_norms(state: Mapping[str, Tensor], *, eps: float = 1e-5) -> dict[str, Tensor]:
    """Join each convolution `X.c` with the batch norm `X.bn` behind it, at its running statistics.

        weight' = weight * s    bias' = b - mean * s    s = g / sqrt(var + eps)

    Args:
        state: tensors by name; convolutions before a norm have no bias.
        eps: the norm's guard against division by zero; 1e-5 in TinyViT.

    Returns:
        `X.c.weight` and `X.c.bias` in place of `X.c.weight` and `X.bn.*`; all else as it was.
    """
    folded = {}
    for name, tensor in state.items():
        if name.endswith(".c.weight"):
            norm = name.removesuffix("c.weight") + "bn."
            gain, shift, mean, var = (
                state[norm + part].double()
                for part in ("weight", "bias", "running_mean", "running_var")
            )
            scale = gain / (var + eps).sqrt()
            folded[name] = (tensor * scale.view(-1, 1, 1, 1)).to(tensor.dtype)
            folded[name.removesuffix("weight") + "bias"] = (shift - mean * scale).to(tensor.dtype)
        elif ".bn." not in name:
            folded[name] = tensor
    return folded


def _conv(channels: int, out: int, side: int = 1, stride: int = 1, groups: int = 1) -> nn.Module:
    """Return a convolution with its batch norm folded in; `c` is its name in the checkpoint."""
    conv = nn.Conv2d(channels, out, side, stride, padding=side // 2, groups=groups)
    return nn.Sequential(OrderedDict(c=conv))


def _merge(channels: int, out: int, stride: int) -> nn.Module:
    """To the channels and the side of the next stage."""
    layers = OrderedDict[str, nn.Module](
        conv1=_conv(channels, out),
        gelu1=nn.GELU(),
        conv2=_conv(out, out, 3, stride, groups=out),
        gelu2=nn.GELU(),
        conv3=_conv(out, out),
    )
    return nn.Sequential(layers)


class _Stage(nn.Module):
    """Blocks at one side, then the way to the next one."""

    def __init__(self, blocks: Sequence[nn.Module], downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(
        self, x: Float[Tensor, "B c h w"], again: Again | None = None
    ) -> Float[Tensor, "B d y x"]:
        for block in self.blocks:
            x = run_block(block, x, again)
        return x if self.downsample is None else self.downsample(x)


class _ConvBlock(nn.Module):
    """Inverted residual: four times the channels, a depthwise 3x3 convolution, and back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 4 * channels
        self.conv1 = _conv(channels, wide)
        self.conv2 = _conv(wide, wide, 3, groups=wide)
        self.conv3 = _conv(wide, channels)

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B c h w"]:
        y = F.gelu(self.conv1(x))
        y = F.gelu(self.conv2(y))
        return F.gelu(x + self.conv3(y))


class _AttentionBlock(nn.Module):
    """Attention in windows, a depthwise 3x3 convolution across them, a two-layer perceptron."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.attn = _Attention(channels, heads, window)
        self.local_conv = _conv(channels, channels, 3, groups=channels)
        self.mlp = _Mlp(channels)

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B c h w"]:
        x = x.permute(0, 2, 3, 1)
        x = x + self.attn(x)
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        y: Tensor = x + self.mlp(x)
        return y.permute(0, 3, 1, 2)


class _Attention(nn.Module):
    """Every window attends to itself; a learned bias per head depends on |dy| and |dx|."""

    index: Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window**2))
        feature = torch.arange(window**2)
        y, x = feature // window, feature % window
        offset = (y[:, None] - y).abs() * window + (x[:, None] - x).abs()
        self.register_buffer("index", offset, persistent=False)

    def forward(self, x: Float[Tensor, "B h w c"]) -> Float[Tensor, "B h w c"]:
        B, h, w, c = x.shape
        padding = None
        if h % self.window or w % self.window:
            # Padded features are attended to as well: the weights were trained that way.
            padding = self._qkv(x.new_zeros(1, c)).view(self.heads, 3, 1, -1).transpose(0, 1)
        qkv = self._qkv(x).view(B, h, w, self.heads, 3, -1).transpose(3, 4)
        z: Tensor = self.proj(in_windows(qkv, self.window, partial(self._attend, padding)))
        return z

    def _qkv(self, x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n 3*c"]:
        y: Tensor = self.qkv(self.norm(x))
        return y

    def _attend(
        self,
        padding: Float[Tensor, "3 H 1 d"] | None,
        q: Float[Tensor, "W H height width d"],
        k: Float[Tensor, "W H height width d"],
        v: Float[Tensor, "W H height width d"],
    ) -> Float[Tensor, "W H N d"]:
        """Attention within windows of which height x width features are real.

        All padded features have one k and one v and differ by their bias alone, so a single key
        whose bias is the logarithm of the sum of their exponentials stands for them.
        """
        W, _, height, width, d = q.shape
        offsets = self.index.view(4 * [self.window])[:height, :width]
        bias = self._biases(offsets[:, :, :height, :width])
        q, k, v = (x.flatten(2, 3) for x in (q, k, v))
        if height < self.window or width < self.window:
            assert padding is not None
            beside, below = offsets[:, :, :height, width:], offsets[:, :, height:]
            padded = torch.cat([self._biases(beside), self._biases(below)], dim=-1)
            bias = torch.cat([bias, padded.logsumexp(-1, keepdim=True)], dim=-1)
            k, v = (
                torch.cat([x, pad.expand(W, -1, -1, -1)], dim=2)
                for x, pad in ((k, padding[1]), (v, padding[2]))
            )
        return attend(q, k, v, bias, scale=d**-0.5)

    def _biases(self, offsets: Int[Tensor, "h w y x"]) -> Float[Tensor, "H h*w y*x"]:
        return self.attention_biases[:, offsets.flatten(0, 1).flatten(1, 2)]


class _Mlp(nn.Module):
    """Two layers with four times the channels between."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Float[Tensor, "B h w c"]) -> Float[Tensor, "B h w c"]:
        y: Tensor = self.fc2(F.gelu(self.fc1(self.norm(x))))
        return y


class _ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, c, h, w)."""

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B c h w"]:
        y: Tensor = super().forward(x.permute(0, 2, 3, 1))
        return y.permute(0, 3, 1, 2)
