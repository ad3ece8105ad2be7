"""Trained networks -> networks that answer the same with less arithmetic, for inference alone.

    convolution, batch norm, ReLU      ->  convolution, ReLU
    W_q x + B_q A_q x                  ->  (W_q + B_q A_q) x

Both are exact but for rounding. Only what changes is copied: of the foundation model the qkv
weights, so that student and teacher still share the rest of the encoder.
"""

from __future__ import annotations

import copy
from dataclasses import replace

from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from synfoc.models.build import Networks
from synfoc.models.sam import PromptFreeSam
from synfoc.models.unet import UNet


def for_inference(networks: Networks) -> Networks:
    """The same networks, folded, in evaluation mode and without gradients; the given ones stay."""
    return replace(
        networks,
        unet=fold_unet(networks.unet),
        unet_teacher=fold_unet(networks.unet_teacher),
        medsam=merge_lora(networks.medsam),
        medsam_teacher=merge_lora(networks.medsam_teacher),
    )


def fold_unet(unet: UNet | None) -> UNet | None:
    """A copy whose batch norms, at their running statistics, are part of the convolutions."""
    if unet is None:
        return None
    folded = copy.deepcopy(unet).eval().requires_grad_(False)
    for module in list(folded.modules()):
        if isinstance(module, nn.Sequential):
            _fold_pairs(module)
    return folded


def merge_lora(medsam: PromptFreeSam | None) -> PromptFreeSam | None:
    """A copy whose qkv weights have the low-rank update in them; all other weights are shared."""
    return None if medsam is None else medsam.folded()


def _fold_pairs(layers: nn.Sequential) -> None:
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.BatchNorm2d):
            convolution = layers[i - 1]
            assert isinstance(convolution, nn.Conv2d)
            layers[i - 1], layers[i] = fuse_conv_bn_eval(convolution, layer), nn.Identity()
