"""A data set of small squares and a config that trains on it in a second."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synfoc.config import Config, parse_config
from synfoc.runs import RunFolder
from synfoc.storage import read_lines

SIDE = 32


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scanners, each 8 training and 3 test images of a bright square; labels for all."""
    root = tmp_path_factory.mktemp("data") / "two squares é"
    rng = np.random.default_rng(5)
    for domain, dark in (("alpha", 0), ("beta", 90)):
        for split, count in (("train", 8), ("test", 3)):
            for name in ("image", "mask"):
                (root / domain / split / name).mkdir(parents=True)
            for i in range(count):
                label = np.zeros((SIDE, SIDE), np.uint8)
                y, x = rng.integers(2, 14, 2)
                label[y : y + 14, x : x + 14] = 1
                image = label * 100 + dark + rng.integers(0, 60, label.shape)
                Image.fromarray(image.astype(np.uint8)).save(
                    root / domain / split / f"image/{i}.png"
                )
                Image.fromarray(label).save(root / domain / split / f"mask/{i}.png")
    return root


@pytest.fixture
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
