"""Prompt-free SAM: equal to the authors' tensors and to transformers' own model."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from helpers.original import original_names, sam_from_original
from synfoc.config import parse_config
from synfoc.errors import UserError
from synfoc.models import attention
from synfoc.models.build import build_networks
from synfoc.models.checkpoints import Vit, read_source, source_of, to_original, to_transformers
from synfoc.models.fitting import EVERYTHING, sam_from_source
from synfoc.models.sam import PromptFreeSam


@pytest.fixture(scope="module")
def authors(golden: Path) -> dict[str, object]:
    """Forward and backward of the authors' small LoRA-SAM on two gray images of 64 px, K = 2."""
    return torch.load(golden / "sam_tiny_prostate.pt", weights_only=False)


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    """A whole small SAM with four mask tokens, by original names: 32 px, so a grid of 2 x 2."""
    return original_checkpoint(side=32)


def original_checkpoint(side: int, classes: int = 4) -> dict[str, Tensor]:
    from synfoc.models.build import SHAPES
    from synfoc.models.checkpoints import Source

    source = Source({}, *SHAPES["vit-tiny"])
    network = sam_from_source(
        source,
        out_channels=classes,
        side=side,
        rank=1,
        generator=torch.Generator().manual_seed(3),
        where="nothing",
        fresh=EVERYTHING,
    )
    named = original_names(network)
    return {
        k.removeprefix("sam.").replace("qkv.qkv", "qkv"): v.clone()
        for k, v in named.items()
        if "linear_" not in k
    }


def small_sam(tensors: dict[str, Tensor], side: int = 32, classes: int = 2) -> PromptFreeSam:
    network = sam_from_original(tensors, classes=classes, side=side, decoder_heads=2)
    with torch.no_grad():
        for B in network.lora.B:
            B.normal_(std=0.1, generator=torch.Generator().manual_seed(5))
    return network


def test_logits_and_gradients_equal_the_authors(authors: dict) -> None:
    """Logits to 1e-4; each gradient to 1e-4 of its largest entry (up to 50: fp32 gives no more).

    The key bias shifts all attention scores of a query alike, so its true gradient is zero.
    """
    network = sam_from_original(authors["state_dict"], classes=2, side=64, decoder_heads=2)
    embedding = network.embed(authors["x"])
    logits = network(authors["x"])
    torch.testing.assert_close(network.positions, authors["dense_pe"], atol=1e-6, rtol=0)
    torch.testing.assert_close(embedding, authors["image_embedding"], atol=1e-5, rtol=0)
    torch.testing.assert_close(logits, authors["low_res_logits"], atol=1e-4, rtol=0)

    (logits * authors["grad_weight"]).sum().backward()
    gradients = original_names(network, gradients=True)
    assert gradients.keys() == authors["grads"].keys()
    for name, expected in authors["grads"].items():
        if not name.endswith("k_proj.bias"):
            tolerance = 1e-4 * max(1.0, expected.abs().max().item())
            torch.testing.assert_close(gradients[name], expected, atol=tolerance, rtol=0, msg=name)


def test_the_authors_tensors_come_back_by_their_names(authors: dict) -> None:
    network = sam_from_original(authors["state_dict"], classes=2, side=64, decoder_heads=2)
    named = original_names(network)
    assert named.keys() == authors["state_dict"].keys()
    assert all(torch.equal(named[k], v) for k, v in authors["state_dict"].items())
    assert network.loaded.resized == network.loaded.fresh == network.loaded.unused == ()


@pytest.mark.parametrize("classes", [2, 4])
def test_loading_for_another_side_equals_the_authors(golden: Path, classes: int) -> None:
    """From 128 px (grid 8) to 64 px (grid 4): positions go from 8 x 8 to 4 x 4, 15 rows to 7."""
    recorded = torch.load(golden / "ckpt_resize.pt", weights_only=False)
    expected = recorded["result"][classes]
    network = sam_from_original(recorded["source"], classes=classes, side=64, decoder_heads=2)
    assert set(network.loaded.resized) == set(expected["resized"])
    assert set(network.loaded.fresh) == set(expected["kept_random"])
    assert set(network.loaded.unchanged) == set(expected["from_checkpoint_unchanged"])
    named = original_names(network)
    for name, tensor in expected["loaded"].items():
        ours = named["sam." + name.replace("attn.qkv.", "attn.qkv.qkv.")]
        if name not in expected["kept_random"]:
            torch.testing.assert_close(ours, tensor, atol=1e-6, rtol=0, msg=name)


def test_masks_equal_those_of_transformers_sam_without_a_prompt(
    hub_sam: tuple[Any, Path],
) -> None:
    """K = 4: its single mask is our class 0, its three further masks are classes 1 to 3."""
    reference, folder = hub_sam
    source = read_source(folder)
    network = sam_from_source(
        source, out_channels=4, side=64, rank=2, generator=torch.Generator(), where="the folder"
    )
    assert network.loaded.resized == network.loaded.fresh == network.loaded.unused == ()
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        one = reference(pixel_values=x, multimask_output=False).pred_masks[:, 0]
        three = reference(pixel_values=x, multimask_output=True).pred_masks[:, 0]
        torch.testing.assert_close(network(x), torch.cat([one, three], 1), atol=1e-4, rtol=1e-4)


def test_attention_is_fused_and_equals_the_plain_one(
    tensors: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 encoder blocks + 7 of the decoder (2 x 3 + 1) call PyTorch's fused attention.

    The decoder is `transformers`' own, which does so by default from version 5 on.
    """
    network = small_sam(tensors)
    x = torch.rand(2, 1, 32, 32)

    def gradients() -> tuple[Tensor, list[Tensor]]:
        network.zero_grad()
        logits = network(x)
        logits.square().sum().backward()
        return logits, [p.grad for p in network.parameters() if p.grad is not None]

    fused = gradients()
    calls = []

    def plain(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **_):  # type: ignore[no-untyped-def]
        calls.append(q.shape)
        scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
        return (scores if attn_mask is None else scores + attn_mask).softmax(-1) @ v

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", plain)
    eager = gradients()
    assert len(calls) == (9 if int(transformers.__version__[0]) >= 5 else 2)
    torch.testing.assert_close(fused[0], eager[0], atol=1e-4, rtol=1e-4)
    for a, b in zip(fused[1], eager[1], strict=True):
        torch.testing.assert_close(a, b, atol=1e-4 * max(1, b.abs().max()), rtol=1e-4)


def test_gray_is_color_with_three_equal_channels(tensors: dict[str, Tensor]) -> None:
    network = small_sam(tensors)
    x = torch.rand(2, 1, 32, 32)
    assert torch.equal(network(x), network(x.repeat(1, 3, 1, 1)))
    assert network(x).shape == (2, 2, 8, 8)  # L = 4 * S / 16
    assert network.logits_side == 8


def test_gradient_reaches_lora_no_mask_embedding_and_decoder_alone(
    tensors: dict[str, Tensor],
) -> None:
    network = small_sam(tensors).train()
    network(torch.rand(1, 1, 32, 32)).square().sum().backward()
    trained = {k for k, p in network.named_parameters() if p.requires_grad}
    assert trained == {k for k, p in network.named_parameters() if p.grad is not None}
    decoder = {k for k, _ in network.named_parameters() if k.startswith("mask_decoder")}
    iou = {k for k in decoder if "iou_prediction_head" in k}
    lora = {f"lora.{part}.{i}" for part in "AB" for i in range(2)}
    assert trained == lora | {"prompt_encoder.no_mask_embed.weight"} | (decoder - iou)
    assert not network.encoder.training
    assert network.mask_decoder.training


@pytest.mark.parametrize("weights", ["random:vit-tiny", "random:litemedsam"])
@pytest.mark.parametrize(
    ("bf16", "scores"), [(False, 0), (True, 0), (True, 10**9)], ids=["fp32", "anew", "kept"]
)
def test_recomputed_activations_give_the_same_gradients_and_keep_less(
    weights: str, bf16: bool, scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Backward must find the student's own LoRA again, which is attached during forward only.

    In bf16 attention may compute its scores anew as well, here two windows at a time.
    """
    monkeypatch.setattr(attention, "KEPT", scores)
    monkeypatch.setattr(attention, "CHUNK", 1)
    config = parse_config(
        {
            "data": {"path": "."},
            "method": {"branches": "medsam"},
            "medsam": {"weights": weights, "side": 32},
        }
    )
    generator = torch.Generator().manual_seed(0)
    network = build_networks(config, classes=1, channels=1, generator=generator)["medsam"].student
    assert network is not None
    with torch.no_grad():
        for B in network.lora.B:
            B.normal_(std=0.1, generator=generator)
    x = torch.rand(2, 1, 32, 32, generator=generator)
    found, kept = [], []
    for network.recompute in (False, True):
        sizes: list[int] = []

        def note(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        network.zero_grad()
        with (
            torch.autocast("cpu", torch.bfloat16, enabled=bf16),
            torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        ):
            z = network(x)
        z.square().mean().backward()
        found.append([z, *(p.grad for p in network.lora.parameters())])
        kept.append(sum(sizes))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)
    assert kept[1] < 0.8 * kept[0]


def test_no_graph_is_kept_before_the_first_adapted_layer(tensors: dict[str, Tensor]) -> None:
    network = small_sam(tensors)
    seen = []
    vision = network.encoder.vision
    vision.patch_embed.register_forward_hook(lambda *a: seen.append(a[2].requires_grad))
    vision.layers[0].attn.qkv.register_forward_hook(lambda *a: seen.append(a[2].requires_grad))
    network(torch.rand(1, 1, 32, 32))
    assert seen == [False, False]


def test_the_teacher_shares_the_encoder_and_nothing_else(tensors: dict[str, Tensor]) -> None:
    student = small_sam(tensors)
    teacher = student.make_teacher()
    x = torch.rand(1, 1, 32, 32)
    assert teacher.encoder is student.encoder
    torch.testing.assert_close(student(x), teacher(x))
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for p in student.mask_decoder.transformer.parameters())
    with torch.no_grad():
        for p in student.averaged_parameters():
            p.add_(0.1)
    assert not torch.allclose(student(x), teacher(x))
    count = len(student.averaged_parameters())
    assert count == len(student.trained_state()) - 1  # all but the fixed positions
    assert not {id(p) for p in student.averaged_parameters()} & {
        id(p) for p in teacher.averaged_parameters()
    }


def test_the_trained_state_makes_another_network_equal(tensors: dict[str, Tensor]) -> None:
    first, second = small_sam(tensors), small_sam(tensors)
    with torch.no_grad():
        for tensor in first.trained_state().values():
            tensor.add_(0.05)
        first.load_trained_state(first.trained_state())  # its positions follow the matrix
    x = torch.rand(1, 1, 32, 32)
    assert not torch.allclose(first(x), second(x))
    second.load_trained_state(first.trained_state())
    assert torch.equal(first(x), second(x))
    assert not any(k.startswith("encoder") for k in first.trained_state())


def test_the_state_of_another_number_of_classes_is_told(tensors: dict[str, Tensor]) -> None:
    with pytest.raises(UserError, match=r"mask_tokens.weight: 4 x 32|proj_out"):
        small_sam(tensors).load_trained_state(small_sam(tensors, classes=4).trained_state())


def test_five_classes_draw_one_more_mask_mlp(tensors: dict[str, Tensor]) -> None:
    network = small_sam(tensors, classes=5)
    assert network(torch.rand(1, 1, 32, 32)).shape == (1, 5, 8, 8)
    assert len(network.loaded.fresh) == 3 + 6  # tokens, IoU weight and bias, 3 layers of one MLP
    assert all("output_hypernetworks_mlps.4" in k for k in network.loaded.fresh if "hyper" in k)


def test_images_of_another_side_are_told(tensors: dict[str, Tensor]) -> None:
    with pytest.raises(UserError, match=r"found\s+48 x 48"):
        small_sam(tensors)(torch.rand(1, 1, 48, 48))


def test_the_shape_is_read_from_the_tensors() -> None:
    """Grid 4: the global block reaches 2 * 4 - 1 = 7 rows, the local one 2 * 3 - 1 = 5."""
    shape = source_of(original_checkpoint(side=64), where="it").encoder
    assert shape == Vit(32, 2, 2, 64, 3, (1,), 32)


def test_names_go_to_transformers_and_back(tensors: dict[str, Tensor]) -> None:
    assert to_transformers("mask_decoder.output_hypernetworks_mlps.3.layers.1.bias") == (
        "mask_decoder.output_hypernetworks_mlps.3.layers.0.bias"
    )
    assert (
        to_transformers("image_encoder.neck.1.weight") == "vision_encoder.neck.layer_norm1.weight"
    )
    assert all(to_original(to_transformers(name)) == name for name in tensors)
    assert len({to_transformers(name) for name in tensors}) == len(tensors)


@pytest.mark.parametrize("wrap", [dict, lambda t: {"model": t, "epoch": 3}, "module."])
def test_an_original_file_loads_bare_nested_or_from_parallel_training(
    tensors: dict[str, Tensor], tmp_path: Path, wrap: object
) -> None:
    path = tmp_path / "with space é.pth"
    tree = {wrap + k: v for k, v in tensors.items()} if isinstance(wrap, str) else wrap(tensors)
    torch.save(tree, path)
    assert read_source(path).tensors.keys() == tensors.keys()


@pytest.mark.parametrize(
    "name",
    [
        "image_encoder.blocks.1.norm2.bias",
        "image_encoder.blocks.0.attn.qkv.bias",
        "mask_decoder.mask_tokens.weight",
        "mask_decoder.output_hypernetworks_mlps.1.layers.2.bias",
        "prompt_encoder.no_mask_embed.weight",
    ],
)
def test_a_checkpoint_without_a_tensor_is_told_by_its_name(
    tensors: dict[str, Tensor], name: str
) -> None:
    with pytest.raises(UserError, match=f"{name}: absent"):
        small_sam({k: v for k, v in tensors.items() if k != name})


@pytest.mark.parametrize("config", [None, "{", '{"vision_config": 3}'])
def test_a_folder_that_is_no_model_is_told(tmp_path: Path, config: str | None) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    if config:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(UserError, match="not a model folder"):
        read_source(tmp_path)


class Evil:
    """A pickle that would run code."""

    def __reduce__(self) -> tuple[object, ...]:
        return print, ("never",)


@pytest.mark.parametrize("content", ["absent", "empty", "text", "code", "truncated", "not a SAM"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_is_no_checkpoint_is_told(tmp_path: Path, content: str, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    whole = tmp_path / "whole.pth"
    torch.save({"a": torch.zeros(100)}, whole)
    if content == "not a SAM":
        path = whole
    elif content != "absent":
        path.write_bytes(
            {
                "empty": b"",
                "text": b"hello, this is not a checkpoint",
                "code": pickle.dumps(Evil(), protocol=2),
                "truncated": whole.read_bytes()[:-300],
            }[content]
        )
    with pytest.raises(UserError, match=r"weights|no SAM"):
        read_source(path)


def test_positions_are_those_of_the_matrix_that_was_loaded(tensors: dict[str, Tensor]) -> None:
    """Another matrix of random features, as of another checkpoint, gives other positions."""
    network, fresh = small_sam(tensors), small_sam(tensors)
    name = "prompt_encoder.shared_embedding.positional_embedding"
    state = {k: v + 0.1 * (k == name) for k, v in network.trained_state().items()}
    network.load_trained_state(state)
    assert torch.equal(network.positions, network._positions())
    assert not torch.allclose(network.positions, fresh.positions)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("vision_config", "num_hidden_layers", 10**7),
        ("vision_config", "hidden_size", 10**6),
        ("vision_config", "num_attention_heads", 0),
        ("vision_config", "window_size", 10**6),
        ("vision_config", "global_attn_indexes", [0]),
        ("vision_config", "mlp_dim", "40"),
        ("mask_decoder_config", "num_attention_heads", 0),
        ("mask_decoder_config", "layer_norm_eps", None),
        ("mask_decoder_config", "mlp_dim", True),
    ],
)
def test_a_config_that_does_not_describe_its_tensors(
    hub_sam: tuple[Any, Path], section: str, key: str, value: object
) -> None:
    """One wrong number asks for any amount of memory or time; nothing is built of it."""
    path = hub_sam[1] / "config.json"
    config = json.loads(path.read_text())
    config[section][key] = value
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"does not describe the tensors|is not a model folder"):
        read_source(hub_sam[1])


def test_heads_that_do_not_divide_the_width_are_told(hub_sam: tuple[Any, Path]) -> None:
    """transformers refuses them when the network is built."""
    path = hub_sam[1] / "config.json"
    config = json.loads(path.read_text())
    config["mask_decoder_config"]["num_attention_heads"] = 3
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"no SAM has these sizes|does not describe the tensors"):
        sam_from_source(
            read_source(hub_sam[1]), out_channels=2, side=64, rank=2,
            generator=torch.Generator(), where="here", fresh=None, tokens="checkpoint",
        )  # fmt: skip
