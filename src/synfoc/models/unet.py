"""The conventional model of the paper: the U-Net with five levels and batch norm.

    level      1    2    3    4    5          c_i = width * 2^(i - 1)
    side       P   P/2  P/4  P/8  P/16

Down: 2x2 max-pooling, then two 3x3 convolutions. Up: 2x2 transposed convolution, joined with the
level's skip, then two 3x3 convolutions. A 1x1 head gives the logits.

The parameter names are those of published SynFoC checkpoints, so these load as they are.
Nothing here depends on the memory format or the precision: channels_last and autocast work.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from synfoc.errors import UserError
from synfoc.models.dropping import drop_channels
from synfoc.models.folding import fold_batch_norms
from synfoc.models.network import SegmentationNetwork


class UNet(SegmentationNetwork):
    """Images to logits at the same side; 31,036,546 parameters for 1 channel, K = 2, width 64.

    Args:
        in_channels: c, of an image; 1 gray or 3 color.
        out_channels: K, foreground classes + 1; class 0 is background.
        width: channels of the first level; 64 in the paper, 16 for small runs.
        side: P, of its images in pixels.

    Source: the paper's Sec. 4.2 and the authors' code.
    """

    title = "U-Net"

    def __init__(
        self, in_channels: int, out_channels: int, width: int = 64, *, side: int = 256
    ) -> None:
        super().__init__()
        self.side = side
        self.inc = _DoubleConv(in_channels, width)
        self.down1 = _Down(width)
        self.down2 = _Down(width * 2)
        self.down3 = _Down(width * 4)
        self.down4 = _Down(width * 8)
        self.up1 = _Up(width * 16)
        self.up2 = _Up(width * 8)
        self.up3 = _Up(width * 4)
        self.up4 = _Up(width * 2)
        self.outc = _Head(width, out_channels)

    def forward(
        self, x: Float[Tensor, "B c P P"], seeds: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B K P P"]:
        """Logits of every pixel.

        Args:
            x: images in [0, 1]; the side P is a multiple of 16, for the four poolings.
            seeds: where given, half of the channels of all five levels are dropped on their way to
                the decoder [UniMatch].

        Raises:
            UserError: the side is no multiple of 16.
        """
        if x.shape[-2] % 16 or x.shape[-1] % 16:
            raise UserError(
                "the U-Net halves its images four times",
                found=f"{x.shape[-2]} x {x.shape[-1]} pixels",
                expected="sides that are multiples of 16",
                fix="set unet.side to a multiple of 16",
            )
        skip1 = self.inc(x)
        skip2 = self.down1(skip1)
        skip3 = self.down2(skip2)
        skip4 = self.down3(skip3)
        x = self.down4(skip4)
        if seeds is not None:
            skip1, skip2, skip3, skip4, x = drop_channels((skip1, skip2, skip3, skip4, x), seeds)
        x = self.up1(x, skip4)
        x = self.up2(x, skip3)
        x = self.up3(x, skip2)
        x = self.up4(x, skip1)
        logits: Tensor = self.outc(x)
        return logits

    def folded(self) -> UNet:
        """Copy the network for inference, with its batch norms in the convolutions."""
        return fold_batch_norms(super().folded())


class _DoubleConv(nn.Module):
    """Twice: 3x3 convolution, batch norm, ReLU. The norm's shift makes a bias superfluous."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(channels, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B d h w"]:
        y: Tensor = self.double_conv(x)
        return y


class _Down(nn.Module):
    """Half the side, twice the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), _DoubleConv(channels, channels * 2))

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B d h//2 w//2"]:
        y: Tensor = self.maxpool_conv(x)
        return y


class _Up(nn.Module):
    """Twice the side, half the channels; the skip comes first in the joined channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)
        self.conv = _DoubleConv(channels, channels // 2)

    def forward(
        self, x: Float[Tensor, "B c h w"], skip: Float[Tensor, "B d 2*h 2*w"]
    ) -> Float[Tensor, "B d 2*h 2*w"]:
        y: Tensor = self.conv(torch.cat([skip, self.up(x)], dim=1))
        return y


class _Head(nn.Module):
    """Channels to logits, pixel by pixel."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B K h w"]:
        y: Tensor = self.conv(x)
        return y
