"""Attention against the plain formula, in value and gradient; windows cut and put back."""

import math

import pytest
import torch
from torch import Tensor
from transformers import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

from synfoc.models import attention
from synfoc.models.attention import attend, in_windows
from synfoc.models.tiny_vit import TinyViT
from synfoc.models.vit import VitEncoder


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kept", [0, 10**6])
@pytest.mark.parametrize("keys", [49, 50])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-4), (torch.bfloat16, 5e-2)])
def test_attention_is_the_plain_formula(
    dtype: torch.dtype,
    near: float,
    with_bias: bool,
    keys: int,
    kept: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Values and gradients against softmax(q k^T / sqrt(d) + bias) v in double precision."""
    monkeypatch.setattr(attention, "KEPT", kept)
    monkeypatch.setattr(attention, "CHUNK", 2 * 2 * 49 * 50)  # two windows of five at a time
    q = _draw(5, 2, 49, 8, seed=1).to(dtype)
    k, v, bias = (
        _draw(*shape, seed=seed).to(dtype)
        for seed, shape in ((2, (5, 2, keys, 8)), (3, (5, 2, keys, 4)), (4, (2, 49, keys)))
    )
    weight = _draw(5, 2, 49, 4, seed=5).to(dtype)
    leaves = [t.clone().requires_grad_() for t in (q, k, v)]
    y = attend(leaves[0], leaves[1], leaves[2], bias if with_bias else None, scale=8**-0.5)
    exact = [t.double().requires_grad_() for t in (q, k, v)]
    scores = exact[0] @ exact[1].mT / math.sqrt(8) + with_bias * bias.double()
    expected = scores.softmax(-1) @ exact[2]
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), expected, atol=near, rtol=near)
    grads = torch.autograd.grad(y, leaves, weight)
    others = torch.autograd.grad(expected, exact, weight.double())
    for grad, other in zip(grads, others, strict=True):
        torch.testing.assert_close(grad.double(), other, atol=near, rtol=near)


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


@pytest.mark.parametrize(("side", "window"), [(48, 3), (80, 3), (32, 3), (112, 7), (64, 7)])
def test_vit_without_padding_is_the_one_of_transformers(side: int, window: int) -> None:
    """Grids of 3, 5, 2, 7 and 4 entries: windows that fit, reach over the edge, or hold it all."""
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
    theirs, other = SamVisionEncoder(config).double(), SamVisionEncoder(config).double()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    other.load_state_dict(theirs.state_dict())
    ours = VitEncoder(other)
    x = _draw(2, 3, side, side).double()
    expected, y = theirs(x).last_hidden_state, ours(x)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
    weight = _draw(*y.shape, seed=1).double()
    (expected * weight).sum().backward()
    (y * weight).sum().backward()
    gradients = {n: p.grad for n, p in theirs.named_parameters()}
    for name, parameter in ours.vision.named_parameters():
        grad, other_grad = parameter.grad, gradients[name]
        assert grad is not None and other_grad is not None
        assert (grad - other_grad).abs().max() <= 1e-5 * other_grad.abs().max(), name


@pytest.mark.parametrize(("height", "width"), [(7, 7), (9, 12), (3, 5), (14, 8)])
def test_tiny_vit_without_padding_equals_padded_windows(height: int, width: int) -> None:
    """Windows of 7: features padded with zeros before the norm, as the weights were trained."""
    torch.manual_seed(height)
    layer = TinyViT().layers[1].blocks[0].attn.double()  # type: ignore[union-attr,index]
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = _draw(2, height, width, 128).double().requires_grad_()
    y, expected = layer(x), _padded(layer, x)
    torch.testing.assert_close(y, expected, atol=1e-9, rtol=1e-9)
    weight = _draw(*y.shape, seed=1).double()
    wanted = [x, layer.norm.bias.requires_grad_(), layer.qkv.weight.requires_grad_()]
    grads = torch.autograd.grad(layer(x), wanted, weight)
    for grad, other in zip(
        grads, torch.autograd.grad(_padded(layer, x), wanted, weight), strict=True
    ):
        torch.testing.assert_close(grad, other, atol=1e-8, rtol=1e-8)


def _padded(layer: torch.nn.Module, x: Tensor) -> Tensor:
    """The plain way: pad, cut into windows of 7, attend with the full table of biases, crop."""
    B, h, w, c = x.shape
    x = torch.nn.functional.pad(x, (0, 0, 0, -w % 7, 0, -h % 7))
    rows, columns = x.shape[1] // 7, x.shape[2] // 7
    x = x.view(B, rows, 7, columns, 7, c).transpose(2, 3).reshape(-1, 49, c)
    q, k, v = layer.qkv(layer.norm(x)).view(-1, 49, 4, 3, c // 4).permute(3, 0, 2, 1, 4)  # type: ignore[operator]
    scores = q @ k.mT / math.sqrt(c // 4) + layer.attention_biases[:, layer.index]  # type: ignore[index]
    y = layer.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, 49, c))  # type: ignore[operator]
    y = y.view(B, rows, columns, 7, 7, c).transpose(2, 3).reshape(B, rows * 7, columns * 7, c)
    return y[:, :h, :w]
