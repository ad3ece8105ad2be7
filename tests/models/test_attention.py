"""Attention against the plain formula, in value and gradient; windows cut and put back."""

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

from synfoc.models import attention
from synfoc.models.attention import attend, in_windows
from synfoc.models.checkpoints import read_source
from synfoc.models.fitting import sam_from_source
from synfoc.models.lora import AdaptedLayers, LoRA
from synfoc.models.sam import PromptFreeSam
from synfoc.models.tiny_vit import TinyViT
from synfoc.models.vit import VitEncoder


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[0, 10**9], ids=["anew", "kept"])
def backward(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores of bf16 are computed anew in backward, two windows at a time, or all are kept."""
    monkeypatch.setattr(attention, "KEPT", request.param)
    monkeypatch.setattr(attention, "CHUNK", 1)


@pytest.fixture
def softmax_in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers asks for a softmax in single precision, whatever its input: not here."""
    monkeypatch.setattr(nn.functional, "softmax", lambda x, dim, dtype: x.softmax(dim))


def _gradients(y: Tensor, wanted: Sequence[Tensor]) -> list[Tensor]:
    """The answer, and the gradients of a weighted sum of it."""
    return [y, *torch.autograd.grad(y, wanted, _draw(*y.shape, seed=99).to(y.dtype))]


def _assert_near(found: list[Tensor], expected: list[Tensor], near: float) -> None:
    for i, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert (one - other).abs().max() <= near * other.abs().max(), i


def _assert_as_exact(found: list[Tensor], plain: list[Tensor], exact: list[Tensor]) -> None:
    """In bf16, about as far from double precision as the plain form is: up to 2.5 times.

    Only windows of mostly padding need more than 2: the one key that stands for all of it has a
    larger score, which rounds more. A plain form that is far itself would prove nothing.
    """
    for one, other, truth in zip(found, plain, exact, strict=True):
        error, usual = ((t.double() - truth).norm() / truth.norm() for t in (one, other))
        assert usual < 0.03
        assert error < 2.5 * usual


def _plain(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    scores = q @ k.mT * scale
    return (scores if bias is None else scores + bias).softmax(-1) @ v


@pytest.mark.usefixtures("backward")
@pytest.mark.parametrize("keys", [49, 50])
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16], ids=["double", "single", "bf16"]
)
def test_attention_is_the_plain_formula(
    dtype: torch.dtype, with_bias: bool, heads: int, keys: int
) -> None:
    """Five windows, so that the last chunk is one alone; v narrower than q; strides of a view."""
    q, k, v = wanted = [
        _draw(5, n, heads, width, seed=i).to(dtype).transpose(1, 2).requires_grad_()
        for i, (n, width) in enumerate([(49, 8), (keys, 8), (keys, 4)])
    ]
    bias = _draw(heads, 49, keys, seed=4).to(dtype) if with_bias else None
    y = attend(q, k, v, bias, scale=0.3)
    assert y.dtype == dtype
    found, plain = (_gradients(z, wanted) for z in (y, _plain(q, k, v, bias, 0.3)))
    if dtype == torch.bfloat16:
        q, k, v = wanted = [t.detach().double().requires_grad_() for t in wanted]
        bias = None if bias is None else bias.double()
        _assert_as_exact(found, plain, _gradients(_plain(q, k, v, bias, 0.3), wanted))
    elif dtype == torch.float32:
        _assert_near(found, plain, 1e-5)
    else:
        y = attention._Chunked.apply(q, k, v, bias, 0.3)  # type: ignore[no-untyped-call]
        for one in (found, _gradients(y, wanted)):  # the chunks of bf16 are exact as well
            _assert_near(one, plain, 1e-12)


def test_bf16_keeps_no_large_scores_for_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved for 4 windows of 64: q, k, v of 4 x 64 x 8, and nothing of 4 x 64 x 64."""
    monkeypatch.setattr(attention, "KEPT", 4 * 64 * 64 - 1)
    sizes: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    q, k, v = (_draw(4, 1, 64, 8, seed=s).bfloat16().requires_grad_() for s in range(3))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        attend(q, k, v, scale=1.0)
    assert sorted(sizes) == [2048] * 3


@pytest.mark.parametrize(
    ("height", "width", "windows"),
    [
        (6, 6, [(4, 3, 3)]),
        (7, 5, [(2, 3, 3), (2, 3, 2), (1, 1, 3), (1, 1, 2)]),
        (2, 2, [(1, 2, 2)]),
        (3, 4, [(1, 3, 3), (1, 3, 1)]),
    ],
)
def test_windows_are_put_back_in_place(
    height: int, width: int, windows: list[tuple[int, int, int]]
) -> None:
    """Windows of 3, (number, height, width) of each kind; what hands v through returns the grid."""
    qkv = _draw(1, height, width, 3, 4, 5)
    seen = []

    def hand_through(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen.append((len(q), q.shape[2], q.shape[3]))
        return v.flatten(2, 3)

    y = in_windows(qkv, 3, hand_through)
    assert seen == windows
    torch.testing.assert_close(y, qkv[:, :, :, 2].flatten(3), atol=0, rtol=0)


Network = Callable[[Tensor], Tensor]


def _answers(
    network: Network, x: Tensor, learned: Sequence[Tensor], bf16: bool = False
) -> list[Tensor]:
    """The answer, and the gradients for input and parameters of a weighted sum of it."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        y = network(x)
    return _gradients(y, [x, *learned])


def _assert_as_exact_in_bf16(
    ours: Network, plain: Network, x: Tensor, learned: Sequence[Tensor], parts: Sequence[nn.Module]
) -> None:
    """Both in autocast against `plain` with its `parts` in double precision.

    The gradients of all parameters are one vector: those that cancel out to next to nothing are as
    rough in one form as in the other.
    """
    answers = [_answers(network, x, learned, bf16=True) for network in (ours, plain)]
    for part in parts:
        part.double()
    answers.append(_answers(plain, x.double(), learned))
    found, usual, exact = (
        [y, dx, torch.cat([grad.flatten() for grad in grads])] for y, dx, *grads in answers
    )
    _assert_as_exact(found, usual, exact)


def _lora(layers: AdaptedLayers) -> LoRA:
    generator = torch.Generator().manual_seed(1)
    lora = LoRA(layers, 8, generator)
    for B in lora.B:
        nn.init.normal_(B, std=0.1, generator=generator)
    return lora


def _vits(side: int, window: int) -> tuple[Any, VitEncoder]:
    """The encoder of transformers in its plain form, and ours with the same numbers."""
    torch.manual_seed(side)
    config = SamVisionConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_dim=48,
        window_size=window,
        global_attn_indexes=[1],
        image_size=side,
        output_channels=16,
        attn_implementation="eager",
    )
    theirs = SamVisionEncoder(config)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    return theirs, VitEncoder(copy.deepcopy(theirs))


@pytest.mark.usefixtures("softmax_in_double")
@pytest.mark.parametrize(
    ("side", "window", "near"),
    [(48, 3, 1e-10), (112, 7, 1e-10), (80, 3, 1e-6), (32, 3, 1e-6), (64, 7, 1e-6)],
)
def test_vit_without_padding_is_the_one_of_transformers(
    side: int, window: int, near: float
) -> None:
    """Grids of 3, 7, 5, 2 and 4 entries: windows that fit, reach over the edge, or hold it all.

    The score of the padding is computed in single precision.
    """
    theirs, ours = (vit.double() for vit in _vits(side, window))
    x = _draw(2, 3, side, side).double()
    names = [name for name, _ in theirs.named_parameters()]
    found = _answers(ours, x, [ours.vision.get_parameter(name) for name in names])
    expected = _answers(
        lambda x: theirs(x).last_hidden_state, x, [theirs.get_parameter(name) for name in names]
    )
    _assert_near(found, expected, near)


@pytest.mark.usefixtures("backward")
@pytest.mark.parametrize(("side", "window"), [(48, 3), (80, 3), (176, 7)])
def test_vit_in_bf16_is_as_exact_as_the_one_of_transformers(side: int, window: int) -> None:
    """A windowed and a global block, LoRA; grids of 3, 5 and 11 entries."""
    theirs, ours = _vits(side, window)
    lora = _lora(ours.adapted_layers())
    adapted = lora.attached([(layer.attn.qkv, 1) for layer in theirs.layers])
    _assert_as_exact_in_bf16(
        lora.attached(ours.adapted_layers())(ours),
        adapted(lambda x: theirs(x).last_hidden_state),
        _draw(3, 3, side, side),
        list(lora.parameters()),
        [theirs, lora],
    )


def _tiny_layer(stage: int, seed: int) -> tuple[Any, LoRA, tuple[Network, Network]]:
    """A layer of TinyViT (windows of 7 in stage 2, of 14 in stage 3), LoRA, both forms with it."""
    torch.manual_seed(seed)
    layer: Any = TinyViT().layers[stage - 1].blocks[0].attn  # type: ignore[union-attr,index]
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.2)
    layers = [(layer.qkv, layer.heads)]
    lora = _lora(layers)
    adapted = lora.attached(layers)
    return layer, lora, (adapted(layer), adapted(partial(_padded, layer)))


TINY = pytest.mark.parametrize(
    ("stage", "height", "width"),
    [(2, 7, 7), (2, 9, 12), (2, 3, 5), (2, 14, 8), (3, 14, 14), (3, 17, 5), (3, 16, 28)],
)


@TINY
def test_tiny_vit_without_padding_equals_padded_windows(
    stage: int, height: int, width: int
) -> None:
    """Features padded with zeros before the norm, as the weights were trained."""
    layer, lora, forms = _tiny_layer(stage, seed=height)
    layer.requires_grad_(True).attention_biases.requires_grad_(False)
    learned = [p for m in (layer, lora) for p in m.double().parameters() if p.requires_grad]
    x = _draw(2, height, width, layer.qkv.in_features).double()
    found, expected = (_answers(form, x, learned) for form in forms)
    _assert_near(found, expected, 1e-10)


@TINY
@pytest.mark.usefixtures("backward")
def test_tiny_vit_in_bf16_is_as_exact_as_padded_windows(
    stage: int, height: int, width: int
) -> None:
    layer, lora, forms = _tiny_layer(stage, seed=height)
    x = _draw(3, height, width, layer.qkv.in_features)
    _assert_as_exact_in_bf16(*forms, x, list(lora.parameters()), [layer, lora])


def _padded(layer: Any, x: Tensor) -> Tensor:
    """The plain way: pad, cut into windows, attend with the full table of biases, crop."""
    B, h, w, c = x.shape
    n, H = layer.window, layer.heads
    x = nn.functional.pad(x, (0, 0, 0, -w % n, 0, -h % n))
    rows, columns = x.shape[1] // n, x.shape[2] // n
    x = x.view(B, rows, n, columns, n, c).transpose(2, 3).reshape(-1, n * n, c)
    q, k, v = layer.qkv(layer.norm(x)).view(-1, n * n, H, 3, c // H).permute(3, 0, 2, 1, 4)
    z = _plain(q, k, v, layer.attention_biases[:, layer.index], math.sqrt(H / c))
    y: Tensor = layer.proj(z.transpose(1, 2).reshape(-1, n * n, c))
    y = y.view(B, rows, columns, n, n, c).transpose(2, 3).reshape(B, rows * n, columns * n, c)
    return y[:, :h, :w]


Decoders = tuple[PromptFreeSam, list[Tensor], tuple[Network, Network]]


@pytest.fixture(params=[0, 3], ids=["no prompt", "prompt"])
def decoders(
    request: pytest.FixtureRequest, hub_sam: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch
) -> Decoders:
    """A network, what its decoder learns, and its masks by our path and by transformers alone.

    Without the key biases: they shift all scores of a query alike, their true gradient is zero.
    """
    source, generator = read_source(hub_sam[1]), torch.Generator()
    network = sam_from_source(
        source, out_channels=4, side=64, rank=1, generator=generator, where="the folder"
    )
    nothing = network.prompt_encoder.no_mask_embed.weight
    decoder = network.mask_decoder
    learned = [p for n, p in decoder.named_parameters() if p.requires_grad and "k_proj.b" not in n]
    prompts = _draw(2, request.param, 16, seed=1)

    def ours(x: Tensor) -> Tensor:
        return network.decode(x, prompts.to(x.dtype) if len(prompts[0]) else None)

    def plain(x: Tensor) -> Tensor:
        with monkeypatch.context() as patch:
            patch.setattr(decoder.config, "_attn_implementation", "eager")
            patch.delattr(nn.functional, "scaled_dot_product_attention")
            inputs = {
                "image_embeddings": x,
                "image_positional_embeddings": network.positions,
                "sparse_prompt_embeddings": prompts[:, None].to(x.dtype),
                "dense_prompt_embeddings": nothing[..., None, None],
            }
            masks = [decoder(**inputs, multimask_output=many)[0] for many in (False, True)]
        return torch.cat(masks, dim=2)[:, 0]

    return network, [nothing, *learned], (ours, plain)


@pytest.mark.usefixtures("softmax_in_double")
def test_the_decoder_is_the_plain_one_of_transformers(decoders: Decoders) -> None:
    network, learned, forms = decoders
    network.double()
    x = _draw(2, 16, 4, 4).double()
    found, expected = (_answers(form, x, learned) for form in forms)
    _assert_near(found, expected, 1e-10)


def test_the_decoder_in_bf16_is_as_exact_as_the_plain_one(decoders: Decoders) -> None:
    network, learned, forms = decoders
    _assert_as_exact_in_bf16(*forms, _draw(2, 16, 4, 4), learned, [network])
