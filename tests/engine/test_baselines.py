"""Baselines in the loop: each trains on either network, resumed runs equal unbroken ones."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from synfoc.batches.batch import Batch
from synfoc.config import METHODS, Config, MethodName
from synfoc.engine import method as method_page
from synfoc.engine import train as module
from synfoc.engine.checkpoint import Progress, load_checkpoint, load_run, save_checkpoint
from synfoc.engine.evaluate import evaluate
from synfoc.engine.method import PAGES, lam_of, method_of
from synfoc.engine.train import train
from synfoc.errors import UserError
from synfoc.methods import ustrun
from synfoc.methods.interface import Models
from synfoc.models.build import Networks, build_networks
from synfoc.runs import RunFolder
from synfoc.storage import read_lines

Settings = Callable[..., Config]
BASELINES = [name for name in get_args(MethodName) if name not in ("synfoc", "supervised")]
RUNS = [(n, b) for n in BASELINES for b in ("unet", "medsam") if (n, b) != ("semisam", "medsam")]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def weights(run: Path) -> dict[str, Tensor]:
    return load_file(run / "checkpoints/last.safetensors")


@pytest.mark.parametrize(("name", "branches"), RUNS)
def test_each_baseline_trains_either_network(
    settings: Settings, tmp_path: Path, name: str, branches: str
) -> None:
    """Losses are finite, the student moves, and the log says which network they are of."""
    run = train(settings(f"method.name={name}", f"method.branches={branches}"), tmp_path / "run")
    lines = [line for line in read_lines(RunFolder(run).log) if "loss" in line]
    short = {"unet": "UT", "medsam": "MS"}[branches]
    assert len(lines) == 3
    assert all(0 < line["loss"] < 50 for line in lines)
    assert all(0 <= line["trusted"] <= 1 for line in lines)
    assert all(f"L_x_{short}" in line and f"L_u_{short}" in line for line in lines)
    # Where nothing is trusted yet, as with random answers, there is nothing to learn from U.
    assert all(line[f"L_u_{short}"] > 0 for line in lines if line["trusted"] > 0)
    summary = json.loads(RunFolder(run).summary.read_text())
    assert summary["recommended"] == branches
    assert summary["skipped_steps"] == 0


def train_until_power_cut(
    config: Config, run: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = module.learn

    def power_cut(loss: Tensor, k: int, **rest: object) -> Tensor:
        if k == step:
            raise RuntimeError("power cut")
        return learn(loss, k, **rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(module, "learn", power_cut)
        with pytest.raises(RuntimeError, match="power cut"):
            train(config, run)


@pytest.mark.parametrize("name", BASELINES)
def test_a_resumed_baseline_equals_an_unbroken_one(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The power goes off at step 3; what a step draws depends on the seed and its number alone."""
    config = settings(f"method.name={name}", "method.branches=unet")
    whole = weights(train(config, tmp_path / "whole"))
    train_until_power_cut(config, tmp_path / "broken", 3, monkeypatch)
    train(None, tmp_path / "broken", resume=True)
    broken = weights(tmp_path / "broken")
    assert whole.keys() == broken.keys()
    assert all(torch.equal(whole[key], broken[key]) for key in whole)


def test_what_ustrun_remembers_is_kept_where_a_run_can_go_on(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here all are reliable, 2 images in each step. Saved every 2 steps, a run that stops in its
    sixth goes on from its fourth, with 8 images. Checkpoints to evaluate hold none.
    """
    monkeypatch.setattr(ustrun, "THRESHOLD", 2.0)
    changes = ("method.name=ustrun", "method.branches=unet", "train.keep=9")
    config = settings(*changes)
    whole = weights(train(config, tmp_path / "whole"))
    assert len(whole["memory/X"]) == 10
    assert whole["memory/X_r"].shape == (1, 1, 32, 32)
    assert load_run(tmp_path / "whole", checkpoint="last", device="cpu").step == 6
    for file in (tmp_path / "whole/checkpoints").glob("*.safetensors"):
        assert any(key.startswith("memory/") for key in load_file(file)) == (file.stem == "last")
    train_until_power_cut(config, tmp_path / "broken", 5, monkeypatch)
    assert len(weights(tmp_path / "broken")["memory/X"]) == 8
    train(None, tmp_path / "broken", resume=True)
    broken = weights(tmp_path / "broken")
    assert whole.keys() == broken.keys()
    assert all(torch.equal(whole[key], broken[key]) for key in whole)


def test_ustrun_needs_two_pixels_at_the_depth_of_the_unet(settings: Settings) -> None:
    """Batch norms of one image of 16 pixels would see one number per channel."""
    with pytest.raises(UserError, match="one image alone"):
        settings("method.name=ustrun", "method.branches=unet", "unet.side=16")
    settings("method.name=ustrun", "method.branches=medsam", "unet.side=16")


@pytest.mark.parametrize("name", ["supervised", "fixmatch", "unimatch"])
def test_nobody_is_scored_as_a_teacher_who_is_not_one(
    settings: Settings, tmp_path: Path, name: str
) -> None:
    """The student alone is evaluated. Nothing tells its checkpoints apart: the last is the best."""
    changes = (f"method.name={name}", "method.branches=unet", "data.monitor=true")
    run = train(settings(*changes), tmp_path / "run")
    assert set(evaluate(run, device="cpu")["branches"]["unet"]) == {"student"}
    summary = json.loads(RunFolder(run).summary.read_text())
    assert (summary["rule"], summary["best_step"]) == ("last", 6)
    line = next(x for x in read_lines(RunFolder(run).log) if x.get("kind") == "evaluation")
    assert line["stability"] is None
    assert set(line["pseudo_dice"]) == {"unet"}


@pytest.mark.parametrize("branch", ["unet", "medsam"])
def test_a_checkpoint_may_hold_a_teacher_that_nobody_asks(
    settings: Settings, tmp_path: Path, branch: str
) -> None:
    """Earlier versions kept one of every student; a teacher that is asked must be there."""

    def networks(name: str) -> Networks:
        config = settings(f"method.name={name}", f"method.branches={branch}")
        return build_networks(config, classes=1, channels=1, generator=torch.Generator())

    for name, file in (("uamt", "with"), ("fixmatch", "without")):
        path = tmp_path / f"{file}.safetensors"
        save_checkpoint(path, networks(name), {}, Progress(3), settings())
    assert load_checkpoint(tmp_path / "with.safetensors", networks("fixmatch")).step == 3
    with pytest.raises(UserError, match="belongs to other networks"):
        load_checkpoint(tmp_path / "without.safetensors", networks("uamt"))


@pytest.mark.parametrize("name", BASELINES)
def test_both_networks_at_once_are_refused(settings: Settings, name: str) -> None:
    with pytest.raises(UserError, match=f"{name} trains one network"):
        settings(f"method.name={name}")


def test_every_method_has_its_page() -> None:
    """Each function is named as the method that it calls."""
    assert tuple(PAGES) == tuple(METHODS)
    assert [page.__name__ for page in PAGES.values()] == [f"_{name}" for name in METHODS]


def test_only_methods_with_a_ramp_have_one(settings: Settings) -> None:
    """Three weigh unlabeled images by 1 from the first step on; the log says so."""
    for name in ("fixmatch", "unimatch", "bcp"):
        config = settings(f"method.name={name}", "method.branches=unet")
        assert [lam_of(config, k) for k in (0, 5)] == [1, 1]
    assert lam_of(settings(), 0) < 0.01


def test_the_second_strong_view_depends_on_the_seed_and_the_step_alone(
    settings: Settings,
) -> None:
    """UniMatch draws it beside the batch's own."""
    step_of = method_of(settings("method.name=unimatch", "method.branches=unet"))
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    Y, M = torch.zeros(2, 16, 16, dtype=torch.long), torch.zeros(2, 16, 16, dtype=torch.bool)
    b = Batch(images, images, Y, Y, images, images, images, images, M)
    seen: list[Tensor] = []

    def student(view: Tensor, *seeds: Tensor) -> Tensor:
        seen.append(view)
        return torch.cat([view, 1 - view], 1)

    for k in (3, 3, 4):
        step_of(Models(UT=student, UT_drop=student), b, k)
    _, _, first, second, _ = seen[:5]
    assert torch.equal(first, images)
    assert not torch.equal(second, images)
    assert torch.equal(second, seen[8])
    assert not torch.equal(second, seen[13])


def test_semisam_trains_the_unet_alone(settings: Settings) -> None:
    with pytest.raises(UserError, match="semisam trains one network"):
        settings("method.name=semisam", "method.branches=medsam")


def test_semisam_believes_its_guide_less_and_less(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """exp(-5 (k/6)^2) on 200 plateaus, while lambda rises."""
    seen: list[tuple[float, float]] = []
    monkeypatch.setattr(
        method_page, "semisam_step", lambda f, b, *, lam, mu, **_: seen.append((lam, mu))
    )
    step_of = method_of(settings("method.name=semisam", "method.branches=unet"))
    for k in (0, 3, 5):
        step_of(None, None, k)  # type: ignore[arg-type]
    lam, mu = zip(*seen, strict=True)
    assert mu == pytest.approx((1, math.exp(-5 / 4), 0.0306), abs=1e-3)
    assert lam == pytest.approx((math.exp(-5), math.exp(-5 / 4), 0.8655), abs=1e-3)


def test_a_guide_is_kept_in_the_run_and_asked_by_training_alone(
    settings: Settings, tmp_path: Path
) -> None:
    """base.safetensors holds it whole, no checkpoint any of it; evaluation goes without."""
    changes = ("method.name=semisam", "method.branches=unet", "medsam.side=48")
    run = train(settings(*changes), tmp_path / "run")
    kept = {key.split(".")[0] for key in load_file(RunFolder(run).base)}
    assert kept == {"image_encoder", "prompt_encoder", "mask_decoder"}
    prefixes = {key.split("/")[0] for key in weights(run)}
    assert prefixes == {"unet.student", "unet.teacher", "optimizer.unet"}
    RunFolder(run).base.unlink()
    assert set(evaluate(run, device="cpu")["branches"]) == {"unet"}


def test_bcp_needs_pairs_on_every_device(settings: Settings) -> None:
    """Half a batch is divided among the processes, too."""
    changes = ("method.name=bcp", "method.branches=unet")
    for more in (("method.batch=3",), ("method.batch=2", "train.devices=2")):
        with pytest.raises(UserError, match="bcp mixes the halves of a batch"):
            settings(*changes, *more)
    settings(*changes, "method.batch=4", "train.devices=2")


@pytest.mark.slow
@pytest.mark.parametrize("name", BASELINES)
def test_two_processes_give_the_losses_of_one(
    settings: Settings, losses_on: Callable[[Config, int], list[float]], name: str
) -> None:
    """The same global batch and the same draws on 1 and on 2 CPU processes.

    Within 1e-4 at first; where a pixel lies at a threshold, rounding decides whether it is learned
    from, and later losses part a little more.
    """
    options = ("method.batch=4", "method.branches=unet", "train.log_every=1")
    config = settings(f"method.name={name}", *options)
    one, two = losses_on(config, 1), losses_on(config, 2)
    assert len(one) == 6
    assert one[:3] == pytest.approx(two[:3], abs=1e-4)
    assert one == pytest.approx(two, abs=5e-3)
