"""Convolution, batch norm, ReLU -> convolution, ReLU: the same answers with less arithmetic."""

from __future__ import annotations

from typing import TypeVar

from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

Network = TypeVar("Network", bound=nn.Module)


def fold_batch_norms(network: Network) -> Network:
    """Put every batch norm, at its running statistics, into the convolution before it.

    Args:
        network: changed in place; in evaluation mode. Only norms behind a convolution in the same
            `nn.Sequential` are folded.

    Returns:
        The same network. Its answers change by rounding alone.
    """
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential):
            _fold_pairs(module)
    return network


def _fold_pairs(layers: nn.Sequential) -> None:
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.BatchNorm2d):
            convolution = layers[i - 1]
            assert isinstance(convolution, nn.Conv2d)
            layers[i - 1], layers[i] = fuse_conv_bn_eval(convolution, layer), nn.Identity()
