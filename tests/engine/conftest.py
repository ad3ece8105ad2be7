"""A data set of small squares and a config that trains on it in a second."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from synfoc.config import Config, parse_config
from synfoc.runs import RunFolder
from synfoc.storage import read_lines

SIDE = 32


@pytest.fixture(scope="session")
def settings(squares: Path) -> Callable[..., Config]:
    """Settings of a small run; arguments are changes such as `train.steps=3`."""

    def make(*changes: str) -> Config:
        tree = {
            "data": {"path": str(squares), "labeled": {"domain": "alpha", "count": 4}},
            "method": {"batch": 2},
            "unet": {"side": SIDE, "width": 4},
            "medsam": {"side": SIDE, "weights": "random:vit-tiny"},
            "train": {
                "steps": 6,
                "precision": "fp32",
                "device": "cpu",
                "log_every": 2,
                "evaluate_every": 3,
                "evaluate_images": 4,
                "checkpoint_every": 2,
            },
        }
        return parse_config(tree, changes)

    return make


@pytest.fixture
def losses_on(tmp_path: Path) -> Callable[[Config, int], list[float]]:
    """Train a config on so many CPU processes, as a command; the losses that were logged."""

    def run(config: Config, devices: int) -> list[float]:
        file, out = tmp_path / "config.yaml", tmp_path / f"run{devices}"
        file.write_text(config.to_yaml())
        command = [sys.executable, "-m", "synfoc", "train", str(file), "--out", str(out)]
        done = subprocess.run(
            [*command, "--devices", str(devices), "--quiet"],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [line["loss"] for line in read_lines(RunFolder(out).log) if "loss" in line]

    return run
