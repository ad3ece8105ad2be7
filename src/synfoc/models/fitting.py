"""A checkpoint and the wished S, K and rank -> a prompt-free SAM; and its tensors back by name.

No silent fallback: what is resized, drawn fresh or unused is listed in `Loaded`, and anything
else that does not fit is an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from synfoc.errors import UserError
from synfoc.models.checkpoints import (
    Decoder,
    Source,
    Tensors,
    Tiny,
    Vit,
    to_original,
)
from synfoc.models.lora import LoRA
from synfoc.models.sam import Loaded, PromptFreeSam
from synfoc.models.tiny_vit import TinyViT
from synfoc.models.tokens import TOKENS, from_object_token
from synfoc.models.vit import VitEncoder

PER_CLASS = r"mask_decoder\.(mask_tokens|iou_prediction_head\.layers\.2)\."
MASK_MLP = r"mask_decoder\.output_hypernetworks_mlps\.(\d+)\."
POSITIONS = r"(pos_embed|rel_pos_[hw])$"
EVERYTHING = r""
"""As `fresh`: all may be drawn that the source does not have, as for a network without a file."""
AROUND_ENCODER = r"prompt_encoder|mask_decoder"
"""As `fresh`: what a run folder keeps in its checkpoints, not in base.safetensors."""
EMBEDDING = r"(_tokens?|_embed|point_embeddings\.\d)\.weight$|gaussian_matrix$"


def sam_from_source(
    source: Source,
    *,
    out_channels: int,
    side: int,
    rank: int,
    generator: torch.Generator,
    where: str,
    fresh: str | None = None,
    tokens: str = "checkpoint",
) -> PromptFreeSam:
    """Build the network of a checkpoint for K classes and the side S.

    Args:
        source: tensors and shape, from `read_source`.
        out_channels: K, foreground classes + 1.
        side: S, pixels.
        rank: of LoRA.
        generator: draws what is fresh, then A of LoRA.
        where: names the checkpoint in an error.
        fresh: pattern for the beginning of names that may be drawn, such as EVERYTHING; None: see
            `fit`.
        tokens: `object` starts every class from the trained token (see tokens.py), `checkpoint`
            class k from token k.

    Raises:
        UserError: a tensor is absent or misshapen that must come from the checkpoint.
    """
    sam = _empty_sam(source.encoder, source.decoder, out_channels, side)
    parts = {"prompt_encoder": sam.prompt_encoder, "mask_decoder": sam.mask_decoder}
    tiny, of_encoder = None, Loaded()
    if isinstance(source.encoder, Vit):
        parts["vision_encoder"] = sam.vision_encoder
    else:
        tiny, of_encoder = _tiny_vit(source.encoder, source.tensors, generator, where, fresh)
    wanted = {
        to_original(f"{part}.{name}"): tensor.shape
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
    }
    rest = {k: v for k, v in source.tensors.items() if k not in of_encoder.unchanged}
    tensors, loaded = fit(rest, wanted, generator, where=where, fresh=fresh)
    if tokens == "object":
        tensors = from_object_token(tensors, source.tensors, generator)
    for part, module in parts.items():
        names = {name: to_original(f"{part}.{name}") for name in module.state_dict()}
        module.load_state_dict({k: tensors[name] for k, name in names.items()}, assign=True)
    loaded = replace(
        loaded,
        unchanged=of_encoder.unchanged + loaded.unchanged,
        fresh=of_encoder.fresh + loaded.fresh,
    )
    encoder = tiny or VitEncoder(sam.vision_encoder)
    lora = LoRA(encoder.adapted_layers(), rank, generator)
    _load_lora(lora, source.tensors)
    return PromptFreeSam(
        encoder,
        sam.prompt_encoder,
        sam.mask_decoder,
        lora,
        side=side,
        shape=(source.encoder, source.decoder),
        loaded=loaded,
    )


def fit(
    tensors: Mapping[str, Tensor],
    wanted: Mapping[str, torch.Size],
    generator: torch.Generator,
    *,
    where: str,
    fresh: str | None = None,
) -> tuple[Tensors, Loaded]:
    """Return copies of the tensors in the wanted shapes.

    All that fits is taken over, as the authors do.

    Positions are interpolated bilinearly. Drawn fresh are, by default, only what another number of
    classes asks for: mask tokens, the last IoU layer, and the mask MLPs beyond the checkpoint's.

    Raises:
        UserError: another tensor is absent or has another shape.
    """
    fitted: Tensors = {}
    unchanged, resized, drawn, wrong = [], [], [], []
    for name, size in wanted.items():
        tensor = tensors.get(name)
        if tensor is not None and tensor.shape == size:
            fitted[name] = tensor.to(torch.float32, copy=True)
            unchanged.append(name)
        elif tensor is not None and re.search(POSITIONS, name) and _alike(tensor.shape, size):
            fitted[name] = _interpolate(tensor.float(), size)
            resized.append(name)
        elif _of_classes(name, size, tensors) if fresh is None else re.match(fresh, name):
            fitted[name] = draw(name, wanted, generator)
            drawn.append(name)
        else:
            wrong.append(name)
    if wrong:
        name = wrong[0]
        raise UserError(
            f"{where} does not fit the foundation model",
            found=f"{name}: {tuple(tensors[name].shape) if name in tensors else 'absent'}"
            f" ({len(wrong)} such tensors)",
            expected=f"{name}: {tuple(wanted[name])}",
            fix="use an unaltered checkpoint of SAM, MedSAM or LiteMedSAM",
        )
    unused = [k for k in tensors if k not in wanted and ".linear_" not in k]
    return fitted, Loaded(tuple(unchanged), tuple(resized), tuple(drawn), tuple(unused))


def draw(name: str, wanted: Mapping[str, torch.Size], generator: torch.Generator) -> Tensor:
    """Return a fresh tensor, as PyTorch would start it.

    Embeddings are N(0, 1), layers U(+-1/sqrt(fan in)).

    Args:
        name: its original name.
        wanted: sizes of all tensors; the fan-in of a bias is that of its weight.
        generator: the source of chance.
    """
    size = wanted[name]
    if re.search(EMBEDDING, name):
        return torch.empty(size).normal_(generator=generator)
    if re.search(POSITIONS, name):
        return torch.empty(size).normal_(std=0.02, generator=generator)
    weight = wanted.get(re.sub(r"bias$", "weight", name), size)
    if len(weight) < 2:  # a norm: scale 1, shift 0
        return torch.full(size, float(name.endswith("weight")))
    bound = 1 / math.sqrt(math.prod(weight[1:]))
    return torch.empty(size).uniform_(-bound, bound, generator=generator)


def _empty_sam(encoder: Vit | Tiny, decoder: Decoder, out_channels: int, side: int) -> Any:
    """Return a SamModel without memory for its tensors.

    Its vision encoder is a stub for TinyViT.
    """
    from transformers import SamConfig, SamModel

    vit = encoder if isinstance(encoder, Vit) else Vit(16, 0, 1, 16, 0, (), encoder.embed)
    config = SamConfig(
        vision_config={
            "hidden_size": vit.width,
            "num_hidden_layers": vit.depth,
            "num_attention_heads": vit.heads,
            "mlp_dim": vit.mlp,
            "window_size": vit.window,
            "global_attn_indexes": list(vit.global_blocks),
            "output_channels": vit.embed,
            "image_size": side,
            "patch_size": vit.patch,
            "num_pos_feats": vit.embed // 2,
        },
        prompt_encoder_config={
            "hidden_size": vit.embed,
            "image_size": side,
            "patch_size": vit.patch,
        },
        mask_decoder_config={
            "hidden_size": vit.embed,
            "num_attention_heads": decoder.heads,
            "mlp_dim": decoder.mlp,
            "num_multimask_outputs": out_channels - 1,
            "iou_head_hidden_dim": decoder.iou,
            "layer_norm_eps": decoder.eps,
        },
    )
    try:
        with torch.device("meta"):
            return SamModel(config)
    except ValueError as error:  # of sizes that stand in a folder's config.json
        raise UserError(
            "no SAM has these sizes",
            found=str(error),
            expected="the config.json that was saved with the weights",
            fix="get the folder again",
        ) from None


def _tiny_vit(
    shape: Tiny, tensors: Tensors, generator: torch.Generator, where: str, fresh: str | None
) -> tuple[TinyViT, Loaded]:
    with torch.random.fork_rng(devices=[]):  # its first values are replaced below
        encoder = TinyViT(shape.dims, shape.depths, shape.heads, shape.windows, shape.embed)
    own = {k: v for k, v in tensors.items() if k.startswith("image_encoder.")}
    if any(".bn." in name for name in own):
        encoder.load_original({k.removeprefix("image_encoder."): v for k, v in own.items()})
        return encoder, Loaded(unchanged=tuple(own))
    wanted = {"image_encoder." + k: v.shape for k, v in encoder.state_dict().items()}
    fitted, loaded = fit(own, wanted, generator, where=where, fresh=fresh)
    encoder.load_state_dict({k.removeprefix("image_encoder."): v for k, v in fitted.items()})
    return encoder, loaded


def _of_classes(name: str, size: torch.Size, tensors: Mapping[str, Tensor]) -> bool:
    """Whether the checkpoint lacks this only because it has another number of mask tokens."""
    mlp, tensor, tokens = re.match(MASK_MLP, name), tensors.get(name), tensors.get(TOKENS)
    if mlp:
        return tokens is not None and int(mlp[1]) >= len(tokens)
    return bool(re.match(PER_CLASS, name)) and tensor is not None and tensor.shape[1:] == size[1:]


def _alike(shape: torch.Size, size: torch.Size) -> bool:
    """Whether positions of one shape can be interpolated to another."""
    return len(shape) == len(size) and shape[-1] == size[-1] and 0 not in shape


def _interpolate(tensor: Tensor, size: torch.Size) -> Tensor:
    if tensor.ndim == 4:  # absolute: 1 g g width
        grid = F.interpolate(tensor.permute(0, 3, 1, 2), size=tuple(size[1:3]), mode="bilinear")
        return grid.permute(0, 2, 3, 1).contiguous()
    return F.interpolate(tensor[None, None], size=tuple(size), mode="bilinear")[0, 0]


@torch.no_grad()
def _load_lora(lora: LoRA, tensors: Mapping[str, Tensor]) -> None:
    for i, (A, B) in enumerate(zip(lora.A, lora.B, strict=True)):
        for part, name in enumerate("qv"):
            layer = f"image_encoder.blocks.{i}.attn.qkv.linear"
            if f"{layer}_a_{name}.weight" in tensors:
                A[part].copy_(tensors[f"{layer}_a_{name}.weight"])
                B[part].copy_(tensors[f"{layer}_b_{name}.weight"])
