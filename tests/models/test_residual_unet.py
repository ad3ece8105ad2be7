"""The residual-encoder U-Net: the package's own network, as a run asks for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from synfoc.config import Config, parse_config
from synfoc.engine.predict import predict
from synfoc.engine.train import train
from synfoc.errors import UserError
from synfoc.models.build import Networks, build_networks
from synfoc.models.residual_unet import ResidualUNet, stages

pytest.importorskip("dynamic_network_architectures")


def config_of(**unet: object) -> Config:
    return parse_config(
        {
            "data": {"path": "."},
            "method": {"branches": "unet"},
            "unet": {"model": "residual", "side": 32, "width": 4, **unet},
        }
    )


def build(seed: int = 0, **unet: object) -> Networks:
    generator = torch.Generator().manual_seed(seed)
    return build_networks(config_of(**unet), classes=2, channels=1, generator=generator)


@pytest.mark.parametrize(
    ("side", "count"), [(256, 7), (224, 6), (96, 5), (48, 4), (32, 4), (16, 3)]
)
def test_stages_halve_the_side_down_to_four_pixels(side: int, count: int) -> None:
    assert stages(side) == count
    assert side % 2 ** (count - 1) == 0 and side // 2 ** (count - 1) >= 4


def test_the_network_of_nnunet_has_its_size() -> None:
    """ResEnc M at 256 px: 7 stages of 32, 64, ..., 512, 512 channels."""
    network = ResidualUNet(1, 2, 32, side=256)
    widths = [stage.blocks[0].conv1.conv.out_channels for stage in network.encoder.stages]
    assert widths == [32, 64, 128, 256, 512, 512, 512]
    assert [len(stage.blocks) for stage in network.encoder.stages] == [1, 3, 4, 6, 6, 6, 6]


def test_it_answers_as_the_network_of_the_package_does() -> None:
    """The same weights in the package's own class give the same logits and gradients."""
    from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

    ours = ResidualUNet(3, 4, 8, side=32)
    theirs = ResidualEncoderUNet(
        3, 4, [8, 16, 32, 64], torch.nn.Conv2d, 3, [1, 2, 2, 2], [1, 3, 4, 6], 4, 1, True,
        torch.nn.InstanceNorm2d, {"eps": 1e-5, "affine": True}, None, None,
        torch.nn.LeakyReLU, {"inplace": True},
    )  # fmt: skip
    state = {k.replace("seg_layers.0", "seg_layers.2"): v for k, v in ours.state_dict().items()}
    assert not theirs.load_state_dict(state, strict=False).unexpected_keys
    x = torch.rand(2, 3, 32, 32)
    z, z_theirs = ours(x), theirs(x)
    assert torch.equal(z, z_theirs)
    z.square().sum().backward()
    z_theirs.square().sum().backward()
    gradients = dict(theirs.named_parameters())
    for name, p in ours.named_parameters():
        other = gradients[name.replace("seg_layers.0", "seg_layers.2")].grad
        assert p.grad is not None, f"{name}: nothing waits for a gradient that never comes"
        torch.testing.assert_close(p.grad, other)


def test_a_run_draws_it_by_its_seed_and_its_teacher_is_a_copy() -> None:
    first, again, other = build(1)["unet"], build(1)["unet"], build(2)["unet"]
    x = torch.rand(1, 1, 32, 32)
    assert torch.equal(first.student(x), again.student(x))
    assert not torch.equal(first.student(x), other.student(x))
    assert first.teacher is not None
    assert torch.equal(first.teacher(x), first.student(x))
    with torch.no_grad():
        next(first.student.parameters()).add_(1)
    assert not torch.equal(first.teacher(x), first.student(x))
    assert torch.equal(first.folded().student(x), first.student(x))


def test_dropped_channels_are_those_of_the_seeds() -> None:
    network, x = ResidualUNet(1, 2, 4, side=32).eval(), torch.rand(2, 1, 32, 32)
    one, two = torch.tensor([1, 2]), torch.tensor([3, 4])
    with torch.no_grad():
        assert torch.equal(network(x, one), network(x, one))
        assert not torch.equal(network(x, one), network(x, two))


def test_images_of_another_side_are_refused() -> None:
    with pytest.raises(UserError, match="another side"):
        ResidualUNet(1, 2, 4, side=32)(torch.rand(1, 1, 48, 48))


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dynamic_network_architectures.architectures.unet", None)
    with pytest.raises(UserError, match="another package") as told:
        ResidualUNet(1, 2)
    assert "pip install 'synfoc[networks]'" in told.value.fix


def test_a_run_of_it_trains_is_gone_on_with_and_predicts(squares: Path, tmp_path: Path) -> None:
    """Its checkpoint names every tensor once."""
    settings = {
        "data": {"path": str(squares), "labeled": {"domain": "alpha", "count": 2}},
        "method": {"branches": "unet", "batch": 2},
        "unet": {"model": "residual", "side": 32, "width": 4},
        "train": {"steps": 2, "evaluate_images": 2, "device": "cpu"},
    }
    run = train(parse_config(settings), tmp_path / "run")
    kept = load_file(run / "checkpoints" / "last.safetensors")
    student = [v for k, v in kept.items() if k.startswith("unet.student/")]
    parameters = ResidualUNet(1, 2, 4, side=32).parameters()
    assert sum(v.numel() for v in student) == sum(p.numel() for p in parameters)
    train(None, run, resume=True)
    rows = predict(run, squares / "beta" / "test" / "image", out=tmp_path / "masks", device="cpu")
    assert rows and not any(row.failed for row in rows)
