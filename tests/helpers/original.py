"""SAMs from and to state dicts by the names of the authors' code, which only tests need whole."""

import re
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from synfoc.models.checkpoints import Tensors, source_of, to_original
from synfoc.models.fitting import sam_from_source
from synfoc.models.sam import PromptFreeSam


def sam_from_original(
    tensors: Mapping[str, Tensor],
    *,
    classes: int,
    side: int,
    rank: int = 4,
    decoder_heads: int = 8,
    generator: torch.Generator | None = None,
) -> PromptFreeSam:
    """Build from a state dict with original names, the authors' `sam.` and LoRA names included.

    Raises:
        UserError: a tensor is absent or misshapen that must come from the state dict.
    """
    where = "the state dict"
    source = source_of(tensors, where=where)
    source = replace(source, decoder=replace(source.decoder, heads=decoder_heads))
    generator = generator or torch.Generator().manual_seed(0)
    return sam_from_source(
        source, out_channels=classes, side=side, rank=rank, generator=generator, where=where
    )


def original_names(network: PromptFreeSam, *, gradients: bool = False) -> Tensors:
    """Parameters of a ViT network by the names of the authors' code; or those that have a gradient.

    The inverse of `sam_from_original`: `sam.image_encoder.blocks.0.attn.qkv.linear_a_q.weight` ...
    """
    named: Tensors = {}
    for name, value in network.state_dict(keep_vars=True).items():
        tensor = value.grad if gradients else value.detach()
        if tensor is None:
            continue
        lora = re.fullmatch(r"lora\.([AB])\.(\d+)", name)
        if lora:
            layer = f"sam.image_encoder.blocks.{lora[2]}.attn.qkv.linear_{lora[1].lower()}"
            named |= {f"{layer}_{part}.weight": tensor[i] for i, part in enumerate("qv")}
        else:
            original = to_original(name.replace("encoder.vision.", "vision_encoder.", 1))
            named["sam." + original.replace(".attn.qkv.", ".attn.qkv.qkv.")] = tensor
    return named
