"""How the K class tokens of a mask decoder start.

MedSAM and LiteMedSAM were trained to answer with ONE mask, that of mask token 0; tokens 1 to 3 of
their checkpoints hardly were. The authors of SynFoC make token k the class k all the same, so that
the one trained token becomes the background. Here all classes may start from it instead.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

TOKENS = "mask_decoder.mask_tokens.weight"
MLP = "mask_decoder.output_hypernetworks_mlps."
LAST = ".layers.2."

SCALE = 0.05
"""Without a prompt the trained token answers with logits near -20 everywhere. At this scale they
are near 1, so that no class begins as certain."""
SPREAD = 0.1
"""Noise that tells the classes apart, as a share of the token's own spread."""


def from_object_token(
    fitted: Mapping[str, Tensor], checkpoint: Mapping[str, Tensor], generator: torch.Generator
) -> dict[str, Tensor]:
    """Start every class from the checkpoint's object token, the background from its opposite.

    Foreground classes get the token with a little noise, its mask MLP, and logits at a twentieth;
    the background the same with the other sign.

    Args:
        fitted: the decoder's tensors in their final shapes, by original names.
        checkpoint: the checkpoint's tensors; without mask tokens (random weights) nothing changes.
        generator: draws the noise.

    Returns:
        `fitted` with the mask tokens and mask MLPs replaced.
    """
    if TOKENS not in checkpoint:
        return dict(fitted)
    changed = dict(fitted)
    token, classes = checkpoint[TOKENS][0].float(), len(fitted[TOKENS])
    noise = torch.empty(classes, len(token)).normal_(generator=generator)
    changed[TOKENS] = token + SPREAD * token.std() * noise
    trained = {
        k.removeprefix(f"{MLP}0"): v for k, v in checkpoint.items() if k.startswith(f"{MLP}0.")
    }
    for k in range(classes):
        sign = -1 if k == 0 else 1
        for layer, tensor in trained.items():
            factor = sign * SCALE if layer.startswith(LAST) else 1
            changed[f"{MLP}{k}{layer}"] = factor * tensor.float()
    return changed
