"""The residual-encoder U-Net of nnU-Net, built by the package that nnU-Net keeps for it.

Stages halve the side until it would fall below 4 pixels, or no longer divides. The encoder has more
residual blocks the deeper it is, the decoder one convolution per stage; instance norm, so that no
statistics of a batch are kept.

Source: Isensee et al., "nnU-Net Revisited", MICCAI 2024, preset ResEnc M in 2-D.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from synfoc.errors import UserError
from synfoc.models.dropping import drop_channels
from synfoc.models.network import SegmentationNetwork

BLOCKS = (1, 3, 4, 6)
"""Residual blocks of the first stages; those below have as many as the last."""
WIDEST = 512
"""Channels that no stage exceeds."""
SMALLEST = 4
"""Pixels of the side of the deepest stage, at least."""


class ResidualUNet(SegmentationNetwork):
    """Images to logits at the same side.

    Args:
        in_channels: c, of an image; 1 gray or 3 color.
        out_channels: K, foreground classes + 1; class 0 is background.
        width: channels of the first stage; 32 in nnU-Net.
        side: P, of its images in pixels; it decides how many stages there are.

    Raises:
        UserError: the package is not installed.
    """

    title = "Residual-encoder U-Net"

    def __init__(
        self, in_channels: int, out_channels: int, width: int = 32, *, side: int = 256
    ) -> None:
        super().__init__()
        self.side, count = side, stages(side)
        network = _architecture()(
            input_channels=in_channels,
            n_stages=count,
            features_per_stage=[min(WIDEST, width * 2**i) for i in range(count)],
            conv_op=nn.Conv2d,
            kernel_sizes=3,
            strides=[1] + [2] * (count - 1),
            n_blocks_per_stage=[BLOCKS[min(i, len(BLOCKS) - 1)] for i in range(count)],
            num_classes=out_channels,
            n_conv_per_stage_decoder=1,
            conv_bias=True,
            norm_op=nn.InstanceNorm2d,
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
        )
        network.apply(network.initialize)
        self.encoder: Any = network.encoder
        self.decoder: Any = network.decoder
        # The decoder holds the encoder, too, whose tensors would stand twice in a checkpoint.
        self.decoder.encoder = None
        # Of its heads for deep supervision only the last is asked; processes wait for all others.
        self.decoder.seg_layers = self.decoder.seg_layers[-1:]

    def forward(
        self, x: Float[Tensor, "B c P P"], seeds: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B K P P"]:
        """Return the logits of every pixel.

        Args:
            x: images in [0, 1] of the side P.
            seeds: where given, half of the channels of all stages are dropped on their way to the
                decoder [UniMatch].

        Raises:
            UserError: the images have another side.
        """
        if x.shape[-2:] != (self.side, self.side):
            raise UserError(
                "the network was built for another side",
                found=f"{x.shape[-2]} x {x.shape[-1]} pixels",
                expected=f"{self.side} x {self.side} (unet.side)",
                fix="resize the images, or set unet.side",
            )
        skips = self.encoder(x)
        if seeds is not None:
            skips = drop_channels(skips, seeds)
        logits: Tensor = self.decoder(skips)
        return logits

    def trained_state(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint keeps, each once: blocks name theirs twice."""
        return {k: v for k, v in super().trained_state().items() if ".all_modules." not in k}


def stages(side: int) -> int:
    """Return how many stages a side gives: 7 for 256 pixels, 4 for 48."""
    count = 1
    while side % 2**count == 0 and side // 2**count >= SMALLEST:
        count += 1
    return count


def _architecture() -> Any:
    try:
        from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
    except ImportError as error:
        raise UserError(
            "unet.model = residual needs another package",
            found=str(error),
            expected="dynamic-network-architectures, which nnU-Net builds its networks with",
            fix="pip install 'synfoc[networks]', or set unet.model = unet",
        ) from None
    return ResidualEncoderUNet
