"""Folded networks answer as the trained ones do, and copy no more than they must."""

import pytest
import torch
from torch import nn

from synfoc.config import parse_config
from synfoc.models.build import Networks, build_networks
from synfoc.models.unet import UNet


def trained(weights: str = "random:vit-tiny", side: int = 48) -> Networks:
    """Networks whose update, norms and teachers are not those of the beginning."""
    config = parse_config(
        {
            "data": {"path": "."},
            "unet": {"side": 48, "width": 4},
            "medsam": {"weights": weights, "side": side},
        }
    )
    generator = torch.Generator().manual_seed(0)
    networks = build_networks(config, classes=2, channels=1, generator=generator)
    for network in (networks["unet"].student, networks["unet"].teacher):
        assert network is not None
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.running_mean, module.weight, module.bias):
                    assert tensor is not None
                    tensor.data.normal_(generator=generator)
                assert module.running_var is not None
                module.running_var.uniform_(0.5, 2, generator=generator)
    for medsam in (networks["medsam"].student, networks["medsam"].teacher):
        assert medsam is not None
        for B in medsam.lora.B:
            B.data.normal_(0, 0.1, generator=generator)
    return networks


@pytest.mark.parametrize(("weights", "side"), [("vit-tiny", 48), ("litemedsam", 64)])
def test_folded_networks_answer_the_same(weights: str, side: int) -> None:
    networks = trained(f"random:{weights}", side)
    folded = networks.folded()
    for name, network in networks.by_name().items():
        image = torch.rand(2, 1, network.side, network.side)
        with torch.no_grad():
            expected = network.eval()(image)
            got = folded.by_name()[name](image)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * expected.abs().max())
        assert expected.std() > 1e-3, "a constant answer proves nothing"


def test_one_norm_by_hand() -> None:
    """y = 3 (2 x - 1) / sqrt(4 + 1e-5) + 5, so the folded weight is about 3 and the bias 3.5."""
    unet = UNet(1, 2, width=1)
    convolution, norm = unet.inc.double_conv[0], unet.inc.double_conv[1]
    convolution.weight.data.zero_()
    convolution.weight.data[0, 0, 1, 1] = 2
    norm.running_mean.fill_(1), norm.running_var.fill_(4)
    norm.weight.data.fill_(3), norm.bias.data.fill_(5)
    folded = unet.folded()
    assert folded.inc.double_conv[0].weight[0, 0, 1, 1].item() == pytest.approx(3, abs=1e-4)
    assert folded.inc.double_conv[0].bias.item() == pytest.approx(3.5, abs=1e-4)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())


def test_all_but_the_qkv_weights_is_shared_and_the_originals_stay() -> None:
    networks = trained()
    before = {k: v.clone() for k, v in networks["medsam"].student.state_dict().items()}  # type: ignore[union-attr]
    original = networks["medsam"].student
    merged = original.folded()
    theirs = dict(original.encoder.named_parameters())
    own = [n for n, p in merged.encoder.named_parameters() if p is not theirs[n]]
    assert len(own) == len(original.encoder.adapted_layers())
    assert all(name.endswith("qkv.weight") for name in own)
    assert before.keys() == original.state_dict().keys()
    assert all(torch.equal(v, original.state_dict()[k]) for k, v in before.items())


def test_folded_networks_take_no_gradient() -> None:
    folded = trained().folded()
    for network in (
        folded["unet"].student,
        folded["unet"].teacher,
        folded["medsam"].student,
        folded["medsam"].teacher,
    ):
        assert network is not None
        assert not any(p.requires_grad for p in network.parameters())
        assert not network.training
