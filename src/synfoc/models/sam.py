"""Prompt-free SAM: an image becomes the logits of K classes, with no point or box.

    image -> frozen encoder + LoRA -> embedding -> mask decoder, K mask tokens -> K logit maps
                                         ^ + no-mask embedding

The parts are those of `transformers`; only the path through them is our own. The encoder is SAM's
ViT (vit.py) or TinyViT (tiny_vit.py).
Reading checkpoints is in checkpoints.py, building from them in build.py.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from synfoc.errors import UserError
from synfoc.models.checkpoints import Decoder, Tiny, Vit, describe, to_original
from synfoc.models.dropping import drop_channels
from synfoc.models.lora import LoRA, MergedLoRA
from synfoc.models.network import Frozen, SegmentationNetwork
from synfoc.models.tiny_vit import TinyViT
from synfoc.models.vit import VitEncoder


@dataclass(frozen=True)
class Loaded:
    """What became of a checkpoint's tensors, by their original names."""

    unchanged: tuple[str, ...] = ()
    resized: tuple[str, ...] = ()
    """Positions, interpolated to the side S."""
    fresh: tuple[str, ...] = ()
    """Drawn at random, because the checkpoint has none of this shape."""
    unused: tuple[str, ...] = ()
    """Left in the file, e.g. the mask tokens beyond K."""


class PromptFreeSam(SegmentationNetwork):
    """A student: frozen encoder, LoRA, prompt encoder, mask decoder.

    Gradient reaches LoRA, the no-mask embedding and the mask decoder without its IoU head. The IoU
    head and the embeddings of points, boxes and masks take no part in a forward; they are kept so
    that checkpoints of the authors' code load and save without loss.

    Args:
        encoder: frozen here, and in evaluation mode always; may be shared.
        prompt_encoder: `transformers`' SamPromptEncoder.
        mask_decoder: `transformers`' SamMaskDecoder with K mask tokens.
        lora: the update of the encoder's qkv layers.
        side: S, pixels.
        shape: of encoder and decoder, so that `frozen` can tell it.
        title: the name of its checkpoint for people.
        loaded: what became of the checkpoint's tensors, for who wants to look.
    """

    positions: Float[Tensor, "1 d e e"]

    def __init__(
        self,
        encoder: VitEncoder | TinyViT,
        prompt_encoder: nn.Module,
        mask_decoder: nn.Module,
        lora: LoRA,
        *,
        side: int,
        shape: tuple[Vit | Tiny, Decoder],
        title: str = "SAM",
        loaded: Loaded | None = None,
    ) -> None:
        super().__init__()
        self.encoder: VitEncoder | TinyViT = encoder.requires_grad_(False)
        self.prompt_encoder: Any = prompt_encoder.requires_grad_(False)
        self.mask_decoder: Any = mask_decoder
        self.lora = lora
        self.title, self.side = title, side
        self.shape = shape
        self.loaded = loaded or Loaded()
        self.prompt_encoder.no_mask_embed.requires_grad_(True)
        self.mask_decoder.iou_prediction_head.requires_grad_(False)
        self.register_buffer("positions", self._positions(), persistent=False)
        self.train(self.training)

    @property
    def logits_side(self) -> int:
        """L: the decoder quadruples the side of the embedding."""
        return 4 * self.side // self.encoder.stride

    def forward(
        self, x: Float[Tensor, "B c S S"], seeds: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B K L L"]:
        """Logits of every class; class 0 is background.

        Args:
            x: images in [0, 1], gray (c = 1) or color (c = 3), without mean and deviation removed.
            seeds: where given, half of the channels of the embedding are dropped [UniMatch].

        Raises:
            UserError: the images have another side than S.
        """
        embedding = self.embed(x)
        if seeds is not None:
            [embedding] = drop_channels([embedding], seeds)
        return self.decode(embedding)

    def embed(self, x: Float[Tensor, "B c S S"]) -> Float[Tensor, "B d e e"]:
        """Image embedding: the encoder with this network's own update of q and v."""
        if x.shape[-2:] != (self.side, self.side):
            raise UserError(
                "the foundation model was built for another side",
                found=f"{x.shape[-2]} x {x.shape[-1]} pixels",
                expected=f"{self.side} x {self.side} (medsam.side)",
                fix="resize the images, or set medsam.side",
            )
        attached = partial(self.lora.attached, self.encoder.adapted_layers())
        with attached():
            again = attached if self.recompute else None
            embedding: Tensor = self.encoder(x.expand(-1, 3, -1, -1), again)
        return embedding

    def decode(
        self, embedding: Float[Tensor, "B d e e"], prompts: Float[Tensor, "B t d"] | None = None
    ) -> Float[Tensor, "B K L L"]:
        """All K mask logits of an embedding, given no prompt, or t tokens of one per image."""
        decoder = self.mask_decoder
        tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = tokens.expand(len(embedding), -1, -1)
        if prompts is not None:
            tokens = torch.cat([tokens, prompts], dim=1)
        queries, keys = decoder.transformer(
            point_embeddings=tokens[:, None],
            image_embeddings=embedding + self.prompt_encoder.no_mask_embed.weight[..., None, None],
            image_positional_embeddings=self.positions,
            attention_similarity=None,
            target_embedding=None,
        )[:2]
        classes = [mlp(queries[:, 0, 1 + k]) for k, mlp in enumerate(_hypernetworks(decoder))]
        return _upscale(decoder, keys[:, 0], torch.stack(classes, dim=1))

    def train(self, mode: bool = True) -> PromptFreeSam:
        """Training mode for all but the frozen encoder, whose statistics never change."""
        super().train(mode)
        self.encoder.eval()
        return self

    def averaged_parameters(self) -> list[nn.Parameter]:
        """Return LoRA, prompt encoder and mask decoder, without the fixed positions."""
        fixed = {id(p) for p in self.prompt_encoder.shared_embedding.parameters()}
        parts = (self.lora, self.prompt_encoder, self.mask_decoder)
        return [p for part in parts for p in part.parameters() if id(p) not in fixed]

    def trained_state(self) -> dict[str, Tensor]:
        """Return the tensors of LoRA, prompt encoder and mask decoder, by name; no copy is made."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith("encoder.")}

    @torch.no_grad()
    def load_trained_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `trained_state` gave; the positions follow the prompt encoder."""
        super().load_trained_state(state)
        self.positions.copy_(self._positions())

    def frozen(self) -> Frozen:
        """Return the encoder under its original names, and the shape of the network."""
        tensors = {
            to_original("vision_encoder." + name.removeprefix("vision."))
            if name.startswith("vision.")
            else "image_encoder." + name: tensor
            for name, tensor in self.encoder.state_dict().items()
        }
        about = {"family": "sam", "shape": describe(*self.shape), "side": str(self.side)}
        return Frozen(tensors, about)

    def folded(self) -> PromptFreeSam:
        """Copy the network with the low-rank update in its qkv weights; all others are shared."""
        shared = {id(t): t for t in (*self.encoder.parameters(), *self.encoder.buffers())}
        merged = copy.deepcopy(self, shared).eval().requires_grad_(False)
        layers = merged.encoder.adapted_layers()
        for (linear, _), update in zip(layers, merged.lora.updates(layers), strict=True):
            linear.weight = nn.Parameter(linear.weight + update, requires_grad=False)
        merged.lora = MergedLoRA()
        return merged

    def _shared(self) -> dict[int, object]:
        return {id(self.encoder): self.encoder}

    @torch.no_grad()
    def _positions(self) -> Float[Tensor, "1 d e e"]:
        """Random Fourier features of pixel centers: sin and cos of 2 pi (x, y) G, in [-1, 1]."""
        gaussian = self.prompt_encoder.shared_embedding.positional_embedding
        side = self.side // self.encoder.stride
        center = (torch.arange(side, device=gaussian.device, dtype=gaussian.dtype) + 0.5) / side
        y, x = torch.meshgrid(center, center, indexing="ij")
        angle = 2 * math.pi * ((2 * torch.stack([x, y], dim=-1) - 1) @ gaussian)
        return torch.cat([angle.sin(), angle.cos()], dim=-1).permute(2, 0, 1)[None].contiguous()


def _hypernetworks(decoder: Any) -> Iterable[nn.Module]:
    networks: Iterable[nn.Module] = decoder.output_hypernetworks_mlps
    return networks


def _upscale(
    decoder: Any, pixels: Float[Tensor, "B n d"], classes: Float[Tensor, "B K f"]
) -> Float[Tensor, "B K L L"]:
    """Product of each class's vector with the embedding, upscaled twice by 2 x 2.

    A transposed convolution of stride 2 with a 2 x 2 kernel maps every pixel by itself to four. So
    both of SAM's are linear maps, and only the K logits, not all features, are put in place.
    """
    side = math.isqrt(pixels.shape[1])
    fine = _four(decoder.upscale_conv1, pixels)  # B n 4 d/4
    norm = decoder.upscale_layer_norm
    fine = F.gelu(F.layer_norm(fine, norm.normalized_shape, norm.weight, norm.bias, norm.eps))
    finer = F.gelu(_four(decoder.upscale_conv2, fine)).flatten(1, -2)  # B (n 4 4) d/8
    logits = classes @ finer.transpose(1, 2)
    logits = logits.view(*logits.shape[:2], side, side, 2, 2, 2, 2).permute(0, 1, 2, 4, 6, 3, 5, 7)
    return logits.reshape(*logits.shape[:2], 4 * side, 4 * side)


def _four(convolution: nn.ConvTranspose2d, x: Float[Tensor, "*n i"]) -> Float[Tensor, "*n 4 o"]:
    """Return the four pixels (row by row) that a transposed 2 x 2 convolution makes of each."""
    weight = convolution.weight.permute(2, 3, 1, 0).flatten(0, 2)
    bias = convolution.bias
    four = F.linear(x, weight, None if bias is None else bias.repeat(4))
    return four.view(*x.shape[:-1], 4, -1)
