"""Checkpoints that were cut, flipped, swapped or edited answer nothing; whole ones still open."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from synfoc.config import Config
from synfoc.engine.checkpoint import load_run
from synfoc.engine.checkpoint_files import find_checkpoint, sum_of
from synfoc.engine.train import train
from synfoc.errors import UserError
from synfoc.models.build import build_networks, save_base
from synfoc.runs import RunFolder

Settings = Callable[..., Config]
Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def trained(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps of two networks, evaluated at the last."""
    return train(settings("train.steps=3"), tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> RunFolder:
    """A copy of it, to be spoiled."""
    return RunFolder(shutil.copytree(trained, tmp_path / "run"))


def rewrite(path: Path, change: Callable[[Tensors, dict[str, str]], None]) -> None:
    """Change tensors and header of a checkpoint."""
    with safe_open(path, "pt") as file:
        header = dict(file.metadata())
    tensors = load_file(path)
    change(tensors, header)
    save_file(tensors, path, metadata=header)


def refused(run: RunFolder, checkpoint: str = "best") -> UserError:
    with pytest.raises(UserError) as told:
        load_run(run.path, checkpoint=checkpoint, device="cpu")
    return told.value


def test_one_flipped_bit_of_a_weight_is_told(run: RunFolder) -> None:
    """Nothing but its sum shows it: the file opens and the number is finite."""
    best = run.checkpoint("best")
    data = bytearray(best.read_bytes())
    data[-3] ^= 1
    best.write_bytes(bytes(data))
    error = refused(run)
    assert "best.safetensors" in error.what
    assert "changed since they were written" in error.found
    assert error.fix == "--checkpoint last"
    assert load_run(run.path, checkpoint="last", device="cpu").step == 3


def test_a_sum_by_hand() -> None:
    """Order does not count; a number, a name, a shape and a type do."""
    one, two = torch.tensor([1.0, 2.0]), torch.tensor([3], dtype=torch.int64)
    whole = sum_of({"a": one, "b": two})
    assert whole == sum_of({"b": two, "a": one})
    others = ({"a": one, "c": two}, {"a": one[None], "b": two}, {"a": one.double(), "b": two})
    assert len({whole, *map(sum_of, others), sum_of({"a": one + 1e-6, "b": two})}) == 5


def test_weights_that_are_not_finite_answer_nothing(run: RunFolder) -> None:
    """A checkpoint of an earlier version, which has no sum."""

    def spoil(tensors: Tensors, header: dict[str, str]) -> None:
        del header["sums"]
        tensors["unet.student/outc.conv.bias"][0] = torch.nan

    rewrite(run.checkpoint("best"), spoil)
    error = refused(run)
    assert "not finite in 1 tensors, first unet.student/outc.conv.bias" in error.found
    assert error.fix.startswith("--checkpoint last")


def drop_progress(tensors: Tensors, header: dict[str, str]) -> None:
    del header["progress"]


def text_as_step(tensors: Tensors, header: dict[str, str]) -> None:
    header["progress"] = json.dumps({"step": "three"})


def lists_as_config(tensors: Tensors, header: dict[str, str]) -> None:
    header["config"] = "[" * 100_000


def no_format(tensors: Tensors, header: dict[str, str]) -> None:
    del header["format"]


def half_numbers(tensors: Tensors, header: dict[str, str]) -> None:
    header.pop("sums")
    name = "unet.student/outc.conv.bias"
    tensors[name] = tensors[name].half()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (drop_progress, "no progress in its header"),
        (text_as_step, "step = 'three'"),
        (lists_as_config, "no config in its header"),
        (no_format, "format None"),
        (half_numbers, "first unet.student/outc.conv.bias [2] float"),
    ],
)
def test_a_header_that_was_edited(
    run: RunFolder, change: Callable[[Tensors, dict[str, str]], None], found: str
) -> None:
    rewrite(run.checkpoint("best"), change)
    error = refused(run)
    assert found in error.found
    assert "--checkpoint last" in error.fix


def test_a_checkpoint_of_an_earlier_version_needs_no_sum(run: RunFolder) -> None:
    rewrite(run.checkpoint("best"), lambda tensors, header: header.pop("sums"))
    assert load_run(run.path, device="cpu").step == 3


def test_the_frozen_encoder_of_another_run_is_told(
    run: RunFolder, settings: Settings, tmp_path: Path
) -> None:
    """Both have the same shapes; masks would be those of no network that was ever trained."""
    other = build_networks(
        settings(), classes=1, channels=1, generator=torch.Generator().manual_seed(99)
    )
    save_base(other, run.base)
    error = refused(run)
    assert "base.safetensors" in error.what
    assert "that of another run" in error.found
    run.base.unlink()
    assert refused(run).found == "no such file"


def test_a_setting_that_changes_the_answer_must_be_that_of_training(run: RunFolder) -> None:
    text = run.config.read_text()
    run.config.write_text(text.replace("nested: false", "nested: true"))
    error = refused(run)
    assert "do not belong together" in error.what
    assert (error.found.split(" in ")[0], error.expected[:19]) == (
        "data.nested = True", "data.nested = False"
    )  # fmt: skip
    # How it was trained does not count any more, nor where the data lie now.
    moved = text.replace("steps: 3", "steps: 9").replace("cache_gib: 2.0", "cache_gib: 1.0")
    run.config.write_text(moved)
    assert load_run(run.path, device="cpu").step == 3


@pytest.mark.filterwarnings("ignore:.*the settings are those of the checkpoint")
def test_a_lost_config_is_read_from_the_checkpoint(run: RunFolder) -> None:
    run.config.unlink()
    assert load_run(run.path, device="cpu").classes == ("class1",)


def test_a_wrong_name_lists_those_that_are_there(run: RunFolder) -> None:
    shutil.copy(run.checkpoint("best"), run.checkpoint("step_000002"))
    for name in ("bset", "../../run/checkpoints/best", ""):
        error = refused(run, name)
        assert error.found == "best, last, step_000002"
        assert error.fix == "--checkpoint with one of: best, last, step_000002"
    assert load_run(run.path, checkpoint="step_000002", device="cpu").step == 3


def test_a_run_that_was_stopped_before_its_first_evaluation_offers_the_last(run: RunFolder) -> None:
    run.checkpoint("best").unlink()
    assert refused(run).fix.startswith("--checkpoint last; ")
    assert find_checkpoint(run, "last") == run.checkpoint("last")


def test_others_may_read_what_training_writes(run: RunFolder) -> None:
    """A run lies on a share; safetensors writes for the owner alone."""
    plain = run.config.stat().st_mode
    files = [run.base, *run.checkpoints.glob("*.safetensors")]
    assert {path.stat().st_mode for path in files} == {plain}


def test_going_on_finds_a_new_best_where_it_was_lost(run: RunFolder) -> None:
    run.checkpoint("best").unlink()
    train(None, run.path, resume=True)
    assert load_run(run.path, device="cpu").step == 3


def test_going_on_refuses_a_damaged_best_before_the_first_step(run: RunFolder) -> None:
    run.checkpoint("best").write_bytes(b"")
    before = run.checkpoint("last").read_bytes()
    with pytest.raises(UserError, match=r"best\.safetensors") as told:
        train(None, run.path, resume=True)
    assert "move it away" in told.value.fix
    assert run.checkpoint("last").read_bytes() == before
