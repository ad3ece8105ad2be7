"""What only a GPU can show: the same losses, no waiting within a step, fp16."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

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


def test_no_step_waits_for_the_device(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def without_waiting(*args: Any, **rest: Any) -> Any:
            torch.cuda.set_sync_debug_mode("error")
            try:
                return call(*args, **rest)
            finally:
                torch.cuda.set_sync_debug_mode("default")

        return without_waiting

    config = settings("train.device=cuda")
    method = module.method_of(config)
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
