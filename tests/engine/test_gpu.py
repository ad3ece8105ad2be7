"""What only a GPU can show: the same losses, no waiting within a step, fp16."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from synfoc.batches.batch import Batch
from synfoc.config import Config
from synfoc.engine import train as module
from synfoc.engine.evaluate import evaluate
from synfoc.engine.train import train
from synfoc.runs import RunFolder
from synfoc.storage import read_lines

pytestmark = pytest.mark.gpu
Settings = Callable[..., Config]


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_lines(RunFolder(run).log) if "loss" in line]


def test_losses_are_those_of_the_cpu(settings: Settings, tmp_path: Path) -> None:
    """fp32; batches are the same, sums are not in the same order."""
    runs = [
        losses(train(settings(f"train.device={device}"), tmp_path / device))
        for device in ("cpu", "cuda")
    ]
    assert runs[1] == pytest.approx(runs[0], rel=1e-2)


def watched(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, in which waiting for the GPU is an error, in whatever thread."""

    def without_waiting(*args: Any, **rest: Any) -> Any:
        try:
            torch.cuda.set_sync_debug_mode("error")
            return call(*args, **rest)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return without_waiting


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("name", ["synfoc", "fixmatch", "uamt", "unimatch", "symgd"])
def test_no_step_waits_for_the_device(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Neither a batch nor a step; BCP and SemiSAM ask the CPU for components and do wait."""
    branches = "both" if name == "synfoc" else "unet"
    config = settings("train.device=cuda", f"method.name={name}", f"method.branches={branches}")
    method = module.method_of(config)

    def one_by_one(trainer: module.Trainer) -> Iterator[Batch]:
        """In this thread: the mode holds for all of them, also for what is outside of a step."""
        yield trainer.stream.batch(0)  # what is made once may wait
        yield from map(watched(trainer.stream.batch), range(1, 6))

    monkeypatch.setattr(module.Trainer, "_batches", one_by_one)
    monkeypatch.setattr(module, "method_of", lambda config: watched(method))
    monkeypatch.setattr(module, "learn", watched(module.learn))
    assert len(losses(train(config, tmp_path / "run"))) == 3


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_trains_and_answers(
    settings: Settings, tmp_path: Path, precision: str
) -> None:
    run = train(settings("train.device=cuda", f"train.precision={precision}"), tmp_path / "run")
    assert all(0 < loss < 100 for loss in losses(run))
    assert evaluate(run, device="cuda")["cases"] == 6
