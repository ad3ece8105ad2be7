"""The U-Net: size by hand, shape by property, values by the authors' own tensors."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from synfoc.errors import UserError
from synfoc.models.unet import UNet

GOLDEN = Path(__file__).resolve().parents[2] / ".." / "shared" / "golden" / "unet_slim_prostate.pt"


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    if not GOLDEN.exists():
        pytest.skip("golden tensors are not beside the project")
    tensors: dict[str, Any] = torch.load(GOLDEN, weights_only=False)
    return tensors


def _golden_net(golden: dict[str, Any]) -> UNet:
    net = UNet(in_channels=1, out_channels=2, width=8)
    net.load_state_dict(golden["state_dict"])
    return net


def test_parameters_by_hand() -> None:
    """Width 64, 1 channel, K = 2; c -> d twice 3x3 with two norms is 9(cd + dd) + 4d.

    down: 1-64 37,696   64-128 221,696   128-256 885,760   256-512 3,540,992   512-1024 14,159,872
    up (2x2 with bias: 4cd + d): 1024-512 2,097,664   524,544   131,200   32,832
    double after up: 7,079,936   1,770,496   442,880   110,848     head: 2 * 64 + 2 = 130
    """
    down = [37_696, 221_696, 885_760, 3_540_992, 14_159_872]
    up = [2_097_664, 524_544, 131_200, 32_832]
    double = [7_079_936, 1_770_496, 442_880, 110_848]
    with torch.device("meta"):
        net = UNet(in_channels=1, out_channels=2)
    parameters = sum(p.numel() for p in net.parameters())
    assert parameters == sum(down) + sum(up) + sum(double) + 130 == 31_036_546


@pytest.mark.parametrize(("channels", "classes", "side"), [(1, 2, 16), (3, 4, 48)])
def test_logits_have_the_side_of_the_image(channels: int, classes: int, side: int) -> None:
    logits = UNet(channels, classes, width=2).eval()(torch.rand(2, channels, side, side))
    assert logits.shape == (2, classes, side, side)


def test_a_side_that_is_no_multiple_of_16_is_told() -> None:
    with pytest.raises(UserError, match=r"found\s+40 x 40 pixels"):
        UNet(1, 2, width=2)(torch.rand(1, 1, 40, 40))


def test_convolutions_before_a_norm_have_no_bias() -> None:
    """18 3x3 convolutions without, 4 transposed ones and the head with a bias."""
    net = UNet(1, 2, width=2)
    biased = [
        m.bias is not None for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
    ]
    assert (biased.count(False), biased.count(True)) == (18, 5)


def test_channels_last_gives_the_same_logits() -> None:
    torch.manual_seed(0)
    net, x = UNet(1, 2, width=4).eval(), torch.rand(2, 1, 32, 32)
    logits = net(x)
    again = _channels_last(net)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(again, logits)
    assert again.is_contiguous(memory_format=torch.channels_last)


def test_bf16_autocast_gives_finite_gradients() -> None:
    """bf16 has 8 bits of mantissa: after 23 layers, logits of size 1 agree to a tenth."""
    torch.manual_seed(0)
    net, x = UNet(1, 2, width=4), torch.rand(2, 1, 32, 32)
    net, x = _channels_last(net), x.to(memory_format=torch.channels_last)
    expected = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(x)
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), expected, atol=0.1, rtol=0.1)
    logits.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_eval_logits_are_the_authors(golden: dict[str, Any]) -> None:
    net = _golden_net(golden).eval()
    torch.testing.assert_close(net(golden["x"]), golden["eval_logits"], atol=1e-4, rtol=1e-4)


def test_one_train_step_is_the_authors(golden: dict[str, Any]) -> None:
    """Logits, batch-norm statistics and the gradient of sum(logits * grad_weight)."""
    net = _golden_net(golden)
    logits = net(golden["x"])
    torch.testing.assert_close(logits, golden["train_logits"], atol=1e-4, rtol=1e-4)

    buffers = dict(net.named_buffers())
    assert buffers.keys() == golden["bn_after_one_train_forward"].keys()
    for name, expected in golden["bn_after_one_train_forward"].items():
        torch.testing.assert_close(buffers[name], expected, atol=1e-4, rtol=1e-4)

    (logits * golden["grad_weight"]).sum().backward()
    parameters = dict(net.named_parameters())
    assert parameters.keys() == golden["grad_norms"].keys()
    for name, norm in golden["grad_norms"].items():
        assert _grad(parameters[name]).norm().item() == pytest.approx(norm, rel=1e-4), name
    first = parameters["inc.double_conv.0.weight"]
    torch.testing.assert_close(_grad(first), golden["grad_first_conv"], atol=1e-2, rtol=1e-4)


def _channels_last(net: UNet) -> UNet:
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
