"""SAM checkpoints: read any of their forms, name tensors one way, tell the network's shape.

One way of naming inside the package: the original one (`image_encoder.blocks.0...`), which .pth
files, LiteMedSAM and published SynFoC checkpoints share. `transformers` has other names for the
same tensors; RULES goes from one to the other and back.
"""

from __future__ import annotations

import json
import math
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from synfoc.errors import UserError
from synfoc.storage import obstacle, refuse_endless

Tensors = dict[str, Tensor]

HYPER = r"output_hypernetworks_mlps\.\d+|iou_prediction_head"
# (segments before, original segments, transformers' segments); the order matters, back is reversed.
RULES = (
    (r"^", "image_encoder", "vision_encoder"),
    (r"vision_encoder", "patch_embed.proj", "patch_embed.projection"),
    (r"vision_encoder", "blocks", "layers"),
    (r"vision_encoder\.neck", "0", "conv1"),
    (r"vision_encoder\.neck", "1", "layer_norm1"),
    (r"vision_encoder\.neck", "2", "conv2"),
    (r"vision_encoder\.neck", "3", "layer_norm2"),
    (r"layers\.\d+", "norm1", "layer_norm1"),
    (r"layers\.\d+", "norm2", "layer_norm2"),
    (r"layers\.\d+", "norm3", "layer_norm3"),
    (r"layers\.\d+", "norm4", "layer_norm4"),
    (
        r"prompt_encoder",
        "pe_layer.positional_encoding_gaussian_matrix",
        "shared_embedding.positional_embedding",
    ),
    (r"prompt_encoder", "point_embeddings", "point_embed"),
    (r"prompt_encoder", "mask_downscaling.0", "mask_embed.conv1"),
    (r"prompt_encoder", "mask_downscaling.1", "mask_embed.layer_norm1"),
    (r"prompt_encoder", "mask_downscaling.3", "mask_embed.conv2"),
    (r"prompt_encoder", "mask_downscaling.4", "mask_embed.layer_norm2"),
    (r"prompt_encoder", "mask_downscaling.6", "mask_embed.conv3"),
    (r"transformer", "norm_final_attn", "layer_norm_final_attn"),
    (r"mask_decoder", "output_upscaling.0", "upscale_conv1"),
    (r"mask_decoder", "output_upscaling.1", "upscale_layer_norm"),
    (r"mask_decoder", "output_upscaling.3", "upscale_conv2"),
    (HYPER, "layers.0", "proj_in"),
    (HYPER, "layers.1", "layers.0"),
    (HYPER, "layers.2", "proj_out"),
)


@dataclass(frozen=True)
class Vit:
    """Shape of SAM's image encoder."""

    width: int
    depth: int
    heads: int
    mlp: int
    window: int
    """Side of a local block's attention window, in patches."""
    global_blocks: tuple[int, ...]
    embed: int
    """Channels of the embedding, after the neck."""
    patch: int = 16
    """Side of a patch, in pixels."""


@dataclass(frozen=True)
class Tiny:
    """Shape of LiteMedSAM's image encoder; the four values are per stage."""

    dims: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    windows: tuple[int, ...]
    embed: int


@dataclass(frozen=True)
class Decoder:
    """Shape of SAM's mask decoder."""

    heads: int
    mlp: int
    iou: int
    """Hidden width of the IoU head."""
    eps: float = 1e-5
    """Of the layer norms; 1e-5 in the original code, 1e-6 by default in `transformers`."""


@dataclass(frozen=True)
class Source:
    """A SAM as it was found: tensors by original names, and the shape of the network."""

    tensors: Tensors
    encoder: Vit | Tiny
    decoder: Decoder


def to_transformers(name: str) -> str:
    """Return the name that `transformers` gives to a tensor of that original name."""
    for before, original, hub in RULES:
        name = _rename(name, before, original, hub)
    return name


def to_original(name: str) -> str:
    """Return the original name of a tensor that `transformers` calls so."""
    for before, original, hub in reversed(RULES):
        name = _rename(name, before, hub, original)
    return name


def _rename(name: str, before: str, old: str, new: str) -> str:
    return re.sub(rf"((?:^|\.)(?:{before})(?:^|\.)){re.escape(old)}(?=\.|$)", rf"\g<1>{new}", name)


def read_source(path: Path) -> Source:
    """Read a folder in hub format, an original .pth, or safetensors with original names.

    Raises:
        UserError: no such file, a damaged file, or no SAM in it.
    """
    if path.is_dir():
        return _read_hub_folder(path)
    return source_of(read_tensors(path), where=str(path))


HEADS = 8
"""Of the decoder's attention in every published SAM: the one number that no shape tells."""


def source_of(tensors: Mapping[str, Tensor], *, where: str) -> Source:
    """Infer the network from the shapes of tensors with original names.

    Args:
        tensors: a state dict; `module.`, `sam.` and the authors' `qkv.qkv.` are taken off.
        where: names the file in an error.

    Raises:
        UserError: these are not the tensors of a SAM.
    """
    found = {_plain(name): tensor for name, tensor in tensors.items()}
    try:
        decoder = Decoder(
            heads=HEADS,
            mlp=len(found["mask_decoder.transformer.layers.0.mlp.lin1.weight"]),
            iou=len(found["mask_decoder.iou_prediction_head.layers.0.weight"]),
        )
        tiny = "image_encoder.patch_embed.seq.0.c.weight" in found
        return Source(found, _tiny_of(found) if tiny else _vit_of(found), decoder)
    except (KeyError, IndexError, StopIteration, TypeError, ValueError, ZeroDivisionError) as error:
        missing = f"none named {error}" if isinstance(error, KeyError) else "of other shapes"
        raise UserError(
            f"no SAM in {where}",
            found=f"{len(found)} tensors, but {missing}",
            expected="image_encoder.*, prompt_encoder.*, mask_decoder.* of SAM, MedSAM, LiteMedSAM",
            fix="set medsam.weights to a SAM checkpoint",
        ) from None


def read_tensors(path: Path) -> Tensors:
    """All tensors of a .safetensors or PyTorch file, by name; code in the file is never run.

    Raises:
        UserError: no such file, one that cannot be read, or numbers that are not finite.
    """
    tensors = _read_tensors(path)
    broken = [name for name, tensor in tensors.items() if not _is_finite(tensor)]
    if broken:
        raise UserError(
            f"weights in {path} are not numbers",
            found=f"NaN or infinity in {broken[0]} ({len(broken)} such tensors)",
            expected="finite numbers",
            fix="get the file again",
        )
    return tensors


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point():
        return True
    plain = tensor.float() if tensor.element_size() == 1 else tensor  # float8 has no such test
    return bool(plain.isfinite().all())


def _read_tensors(path: Path) -> Tensors:
    try:
        refuse_endless(path)
        if path.suffix == ".safetensors":
            return load_file(path)
        tree = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        found = "no such file"
    except OSError as error:
        found = obstacle(path) or str(error)
    except (pickle.UnpicklingError, SafetensorError) as error:
        found = obstacle(path) or _damage(error)
    except Exception as error:  # whatever else the two libraries throw at a damaged file
        told = f"{type(error).__name__}: {error}".partition("\n")[0]
        found = obstacle(path) or f"a damaged file ({told})"
    else:
        for key in ("model", "state_dict"):
            tree = tree.get(key, tree) if isinstance(tree, dict) else tree
        if isinstance(tree, dict):
            tensors = {k: v for k, v in tree.items() if isinstance(v, Tensor)}
            return {k: v for k, v in tensors.items() if isinstance(k, str)}
        found = type(tree).__name__
    raise UserError(
        f"cannot read weights from {path}",
        found=found,
        expected="a .safetensors file or a PyTorch file that holds tensors only",
        fix="git lfs pull, in the clone that holds it"
        if "LFS" in found
        else "check the path, or get the file again",
    )


def _damage(error: Exception) -> str:
    """Return what a reader found, without its advice to run the code in a file that is trusted."""
    text = str(error)
    if called := re.search(r"GLOBAL ([\w.]+)", text):
        return f"a pickle that calls {called[1]}; code in a file is never run"
    if text.startswith("Weights only load failed"):
        return "a damaged file, or one that holds more than tensors"
    return f"a damaged file ({text.partition(chr(10))[0]})"


def _plain(name: str) -> str:
    name = name.removeprefix("module.").removeprefix("sam.")
    return name.replace(".qkv.qkv.", ".qkv.")


def _vit_of(found: Tensors) -> Vit:
    blocks = "image_encoder.blocks"
    depth = _count(found, rf"{blocks}\.(\d+)\.norm1\.weight")
    grid = found["image_encoder.pos_embed"].shape[1]
    reach = [len(found[f"{blocks}.{i}.attn.rel_pos_h"]) for i in range(depth)]
    is_global = [i for i in range(depth) if reach[i] == 2 * grid - 1]
    local = [n for n in reach if n != 2 * grid - 1]
    mlp, width = found[f"{blocks}.0.mlp.lin1.weight"].shape
    return Vit(
        width=width,
        depth=depth,
        heads=width // found[f"{blocks}.0.attn.rel_pos_h"].shape[1],
        mlp=mlp,
        window=(local[0] + 1) // 2 if local else 14,
        global_blocks=tuple(is_global),
        embed=len(found["image_encoder.neck.0.weight"]),
        patch=found["image_encoder.patch_embed.proj.weight"].shape[-1],
    )


def _tiny_of(found: Tensors) -> Tiny:
    dims, depths, heads, windows = [], [], [1], [1]
    dims.append(len(found["image_encoder.patch_embed.seq.2.c.weight"]))
    for i in range(4):
        stage = f"image_encoder.layers.{i}"
        conv = "conv1.c.weight" if i == 0 else "attn.attention_biases"
        depths.append(_count(found, rf"{re.escape(stage)}\.blocks\.(\d+)\.{re.escape(conv)}"))
        if i:
            dims.append(len(found[f"image_encoder.layers.{i - 1}.downsample.conv3.c.weight"]))
            biases = found[f"{stage}.blocks.0.attn.attention_biases"]
            heads.append(biases.shape[0])
            windows.append(math.isqrt(biases.shape[1]))
    embed = len(found["image_encoder.neck.0.weight"])
    return Tiny(tuple(dims), tuple(depths), tuple(heads), tuple(windows), embed)


def _count(found: Iterable[str], pattern: str) -> int:
    return 1 + max((int(m[1]) for m in (re.fullmatch(pattern, k) for k in found) if m), default=-1)


def _read_hub_folder(folder: Path) -> Source:
    from transformers import SamConfig

    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    try:
        refuse_endless(folder / "config.json")
        config = SamConfig.from_dict(json.loads((folder / "config.json").read_bytes()))
    except Exception:  # its validation errors differ from version to version
        config = None
    if config is None or not files:
        raise UserError(
            f"{folder} is not a model folder",
            found=", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "an empty folder",
            expected="config.json and model.safetensors of a SAM",
            fix="point medsam.weights at a folder saved by transformers' SamModel",
        )
    tensors: Tensors = {}
    for file in files:
        tensors |= {to_original(k): v for k, v in read_tensors(file).items()}
    gaussian = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
    shared = tensors.pop("shared_image_embedding.positional_embedding", None)
    if shared is not None:  # one tensor under two names, of which a file may hold either
        tensors.setdefault(gaussian, shared)
    vision, decoder = config.vision_config, config.mask_decoder_config
    vit = Vit(
        width=vision.hidden_size,
        depth=vision.num_hidden_layers,
        heads=vision.num_attention_heads,
        mlp=vision.mlp_dim,
        window=vision.window_size,
        global_blocks=tuple(vision.global_attn_indexes),
        embed=vision.output_channels,
        patch=vision.patch_size,
    )
    shape = Decoder(
        heads=decoder.num_attention_heads,
        mlp=decoder.mlp_dim,
        iou=decoder.iou_head_hidden_dim,
        eps=decoder.layer_norm_eps,
    )
    _check_shape(folder, vit, shape, tensors)
    return Source(tensors, vit, shape)


def _check_shape(folder: Path, vit: Vit, decoder: Decoder, tensors: Tensors) -> None:
    """Make sure that config.json describes the tensors beside it, before a network is built of it.

    Raises:
        UserError: it says something else; one wrong number could ask for any amount of memory.
    """
    inferred = source_of(tensors, where=str(folder))
    is_vit, is_decoder = inferred.encoder, inferred.decoder
    rows = [
        (name, getattr(vit, name), getattr(is_vit, name, None))
        for name in ("width", "depth", "heads", "mlp", "embed", "patch")
    ]
    rows += [(f"decoder {n}", getattr(decoder, n), getattr(is_decoder, n)) for n in ("mlp", "iou")]
    wrong = [row for row in rows if row[1] != row[2] or isinstance(row[1], bool)]
    if not wrong:
        # No shape tells a local block from a global one where both reach equally far.
        grid = tensors["image_encoder.pos_embed"].shape[1]
        for i in range(vit.depth):
            said = 2 * (grid if i in vit.global_blocks else vit.window) - 1
            reach = len(tensors[f"image_encoder.blocks.{i}.attn.rel_pos_h"])
            wrong += [(f"reach of block {i}", said, reach)] if said != reach else []
    if decoder.heads not in range(1, vit.embed + 1) or vit.embed % decoder.heads:
        wrong.append(("decoder heads", decoder.heads, f"a divisor of {vit.embed}"))
    if not isinstance(decoder.eps, float) or not 0 < decoder.eps < 1:
        wrong.append(("layer_norm_eps", decoder.eps, "a small number above 0"))
    if wrong:
        name, said, there = wrong[0]
        raise UserError(
            f"{folder / 'config.json'} does not describe the tensors beside it",
            found=f"{name} {said}",
            expected=f"{name} {there}, as the tensors have it",
            fix="get config.json and the tensors again, from one place",
        )


def describe(encoder: Vit | Tiny, decoder: Decoder) -> str:
    """Return the shape of a network as JSON, for a file's metadata."""
    kind = "vit" if isinstance(encoder, Vit) else "tiny"
    return json.dumps({kind: asdict(encoder), "decoder": asdict(decoder)})


def described(text: str) -> tuple[Vit | Tiny, Decoder]:
    """Return what `describe` wrote."""
    tree: dict[str, Any] = json.loads(text)
    decoder = Decoder(**tree["decoder"])
    shape = tree.get("vit") or tree["tiny"]
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in shape.items()}
    return (Vit(**values) if "vit" in tree else Tiny(**values)), decoder
