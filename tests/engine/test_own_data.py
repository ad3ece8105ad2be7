"""A config from one line, and what is decided for the user."""

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from synfoc.engine import cost, machine
from synfoc.engine.cost import Estimate, Measured, estimate_step
from synfoc.engine.machine import choose_precision, defaults_for, emulated
from synfoc.engine.own_data import compose_config
from synfoc.engine.prepare import prepare
from synfoc.errors import UserError


def test_one_line_gives_a_whole_config() -> None:
    found = compose_config(None, Path("scans"), "site A: left:20", 128, ("train.device=cpu",))
    data = found.config.data
    assert (data.path, data.labeled.domain, data.labeled.count) == (
        Path("scans"),
        "site A: left",
        20,
    )
    assert (found.config.unet.side, found.config.medsam.side) == (128, 128)
    assert "128 px" in found.summary


@pytest.mark.parametrize("name", ["no", "1", "null", "it's", "a: b", "#1"])
def test_a_domain_may_have_any_name(name: str) -> None:
    found = compose_config(None, Path("scans"), f"{name}:3", 64, ("train.device=cpu",))
    assert found.config.data.labeled.domain == name


def test_a_count_alone_needs_no_domain() -> None:
    labeled = compose_config(None, Path("x"), "7", 64, ("train.device=cpu",)).config.data.labeled
    assert (labeled.domain, labeled.count) == (None, 7)


def test_evaluations_follow_the_length_of_the_run() -> None:
    """A tenth of the steps, 50 at least."""
    for steps, every in ((2000, 200), (100, 50)):
        changes = ("train.device=cpu", f"train.steps={steps}")
        assert (
            compose_config(None, Path("x"), None, 64, changes).config.train.evaluate_every == every
        )


def test_flags_change_a_config_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("data: {path: old, classes: [a]}\nunet: {width: 8}\n")
    config = compose_config(file, Path("new"), None, 48, ("unet.width=6",)).config
    assert (config.data.path, config.unet.side, config.unet.width) == (Path("new"), 48, 6)
    assert config.data.classes == ("a",)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("method.name=synfoc", "litemedsam at 64 px, U-Net of width 16 at 64 px"),
        ("method.branches=unet", "U-Net of width 16 at 64 px"),
        ("method.branches=medsam", "litemedsam at 64 px"),
    ],
)
def test_the_summary_names_the_networks_that_there_are(change: str, named: str) -> None:
    changes = ("train.device=cpu", "train.precision=fp32", "unet.width=16", "train.steps=5", change)
    found = compose_config(None, Path("x"), None, 64, changes)
    assert found.summary == f"cpu fp32, {named}, batch 2 + 2, 5 steps"


@pytest.mark.parametrize("labeled", ["", "a", "a:", "a:b", "a:-1", "a:0", ":"])
def test_a_wrong_labeled_is_told(labeled: str) -> None:
    with pytest.raises(UserError, match="cannot read --labeled"):
        compose_config(None, Path("x"), labeled, None)


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        choose_precision("fp16", torch.device("cpu"))


def test_bf16_without_bf16_arithmetic_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 512 x 512 product took 50 times as long as in fp32 on a CPU with AVX2 alone."""
    cpu = torch.device("cpu")
    for native in (True, False):
        monkeypatch.setattr(machine, "_native_bf16", lambda _, native=native: native)
        assert choose_precision("auto", cpu) == ("bf16" if native else "fp32")
        assert len(emulated("bf16", cpu)) == (not native)
        assert not emulated("fp32", cpu)


def test_few_labels_make_small_batches() -> None:
    assert defaults_for(torch.device("cpu"), size=None, labeled=100)["method"]["batch"] == 2


def test_the_estimate_counts_what_backward_needs() -> None:
    """A larger batch needs more memory; asking changes nothing in the networks."""
    from synfoc.models.build import build_networks

    changes = ("train.device=cpu", "medsam.weights=random:vit-tiny", "unet.width=4")
    config = compose_config(None, Path("x"), None, 64, changes).config
    networks = build_networks(
        config, classes=1, channels=1, generator=torch.Generator().manual_seed(0)
    )
    before = {k: v.clone() for k, v in networks["unet"].student.state_dict().items()}
    cpu = torch.device("cpu")
    one = estimate_step(networks, config, cpu, "fp32")
    wide = config.model_copy(update={"method": config.method.model_copy(update={"batch": 200})})
    other = estimate_step(networks, wide, cpu, "fp32")
    assert other.memory_gib > one.memory_gib
    after = networks["unet"].student.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert all(p.grad is None for p in networks["unet"].student.parameters())


def test_weights_in_low_precision_are_counted_once_and_activations_per_image() -> None:
    """bf16: the second layer's 64 x 1024 weights; of an image 256 pixels and 64 features."""
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(256, 64, bias=False), nn.Linear(64, 1024, bias=False)
    )
    found = cost._measure(network, 4, 1, 16, torch.device("cpu"), "bf16")
    assert (found.once, found.each) == (2 * 64 * 1024, 2 * (256 + 64))
    assert 0 < found.forward < found.both
    assert network.training


@pytest.mark.parametrize(
    ("method", "branches", "gib"),
    [
        ("synfoc", "both", 6 * 2 + 2),  # one batch of the U-Net, both views of MedSAM at once
        ("synfoc", "medsam", 2 * 2 + 1),  # the labeled view is gone before the other one
        ("supervised", "both", 4 * 2 + 2),
        ("unimatch", "unet", 6 * 2 + 3),  # two strong views and dropped features
        ("bcp", "unet", 2 * 2 + 2),  # two mixtures of one image
    ],
)
def test_what_is_released_takes_no_memory(
    monkeypatch: pytest.MonkeyPatch, method: str, branches: str, gib: float
) -> None:
    """A batch of two; an image keeps 2 GiB, and each graph one more."""
    from synfoc.models.build import build_networks

    used = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=0))
    monkeypatch.setattr(psutil, "Process", lambda: used)
    monkeypatch.setattr(cost, "_measure", lambda *_: Measured(0, 0, 2**30, 2 * 2**30))
    weights = ("train.device=cpu", "medsam.weights=random:vit-tiny", "unet.width=4")
    chosen = (f"method.name={method}", f"method.branches={branches}", "method.batch=2")
    config = compose_config(None, Path("x"), None, 64, (*weights, *chosen)).config
    networks = build_networks(
        config, classes=1, channels=1, generator=torch.Generator().manual_seed(0)
    )
    found = estimate_step(networks, config, torch.device("cpu"), "fp32")
    assert gib < found.memory_gib < gib + 0.1  # weights and their optimizers


@pytest.mark.parametrize(
    ("seconds", "steps", "length"),
    [
        (14.46, 2, "29 s"),
        (0.001, 20, "1 s"),
        (1.0, 119, "119 s"),
        (1.0, 120, "2 min"),
        (0.5, 1000, "8 min"),
        (2.0, 7200, "4.0 h"),
    ],
)
def test_a_length_is_said_in_the_unit_that_fits(seconds: float, steps: int, length: str) -> None:
    text = Estimate(memory_gib=1.5, seconds=seconds, free_gib=8).text(steps)
    assert text.startswith("estimate: 1.5 GiB of 8 GiB free")
    assert text.endswith(f"about {length} for {steps} steps")


class SlowGuide(nn.Module):
    """1 MiB of weights, a second for an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2**18))

    def forward(self, images: Tensor, boxes: Tensor) -> Tensor:
        assert images.shape[2:] == (64, 64)
        assert boxes.shape == (len(images), 3, 4)
        time.sleep(1)
        return boxes


def test_a_guide_is_part_of_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks once per step, at three classes here, and keeps nothing for backward."""
    from synfoc.models.build import build_networks

    used = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=0))
    monkeypatch.setattr(psutil, "Process", lambda: used)
    monkeypatch.setattr(cost, "_measure", lambda *_: Measured(0, 0, 0, 0))  # all but the guide
    changes = ("method.name=semisam", "method.branches=unet", "data.classes=[a, b, c]")
    weights = ("train.device=cpu", "medsam.weights=random:vit-tiny", "unet.width=4")
    config = compose_config(None, Path("x"), None, 64, (*changes, *weights)).config
    generator = torch.Generator().manual_seed(0)
    networks = build_networks(config, classes=3, channels=1, generator=generator, guide=False)
    cpu, guided = torch.device("cpu"), replace(networks, guide=SlowGuide())
    without = estimate_step(networks, config, cpu, "fp32")
    with_guide = estimate_step(guided, config, cpu, "fp32")
    assert with_guide.memory_gib == pytest.approx(without.memory_gib + 1 / 1024)
    assert without.seconds == 0
    assert with_guide.seconds > 0.5


def test_one_folder_in_color_makes_three_channels(tmp_path: Path) -> None:
    """However few its images are among the gray ones."""
    for i in range(60):
        for domain, color in (("A", False), ("B", True), ("C", False)):
            folder = tmp_path / domain / "train" / "image"
            folder.mkdir(parents=True, exist_ok=True)
            if not color or i < 2:
                pixels = np.full((8, 8, 3) if color else (8, 8), i, np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
        mask = tmp_path / "A" / "train" / "mask"
        mask.mkdir(exist_ok=True)
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(mask / f"{i}.png")
    config = compose_config(None, tmp_path, "A:4", 32, ("data.test_fraction=0",)).config
    assert prepare(config).config.data.channels == 3
