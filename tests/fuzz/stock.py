"""What cases begin with, made once: small data, a run, a stopped run, a suite, masks, weights.

All of it is made by the real command line, is copied before it is spoiled, and is looked at once
more at the end: no case may have changed it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from fuzz.child import arguments_of, run_in_child

SIDE = 32
QUIET = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "PIP_NO_INDEX": "1",
    "UV_OFFLINE": "1",
    "COLUMNS": "200",
}
"""Nothing asks a network; every core is one process's."""
SETTINGS: dict[str, Any] = {
    "method": {"batch": 2, "branches": "unet"},
    "unet": {"side": SIDE, "width": 4},
    "medsam": {"side": SIDE, "weights": "random:vit-tiny"},
    "train": {
        "steps": 2,
        "precision": "fp32",
        "device": "cpu",
        "log_every": 1,
        "evaluate_every": 2,
        "evaluate_images": 2,
        "checkpoint_every": 1,
    },
}
"""A run of a second."""


@dataclass(frozen=True)
class Stock:
    """Paths of what there is; none of them may be written."""

    root: Path

    @property
    def data(self) -> Path:
        """Two scanners, each 3 training images and 1 test image of 32 px, all with labels."""
        return self.root / "data"

    @property
    def run(self) -> Path:
        """A run that has ended, with scores, pictures and report."""
        return self.root / "run"

    @property
    def stopped(self) -> Path:
        """A run that was stopped after one step of two."""
        return self.root / "stopped"

    @property
    def masks(self) -> Path:
        """What `predict` wrote for the test images of one scanner."""
        return self.root / "masks"

    @property
    def suite(self) -> Path:
        """Folder of a suite whose cells have ended; `suite.yaml` beside it."""
        return self.root / "suite"

    @property
    def weights(self) -> Path:
        """A small SAM: sam.pth, sam.safetensors, hub/."""
        return self.root / "weights"

    @property
    def config(self) -> Path:
        """Config of a run on `data`."""
        return self.root / "config.yaml"

    @property
    def suite_file(self) -> Path:
        """The suite whose folder is `suite`."""
        return self.root / "suite.yaml"


def make_stock(root: Path) -> Stock:
    """Make all of it in a new folder.

    Raises:
        RuntimeError: a command that must succeed did not.
    """
    stock = Stock(root)
    root.mkdir(parents=True)
    write_data(stock.data)
    tree = {"data": {"path": str(stock.data), "labeled": {"domain": "alpha", "count": 2}}}
    stock.config.write_text(yaml.safe_dump(tree | SETTINGS, sort_keys=False))
    must(stock, "train", str(stock.config), "--out", str(stock.run), "--quiet")
    _make_stopped_run(stock)
    must(stock, "evaluate", str(stock.run), "--device", "cpu")
    must(stock, "report", str(stock.run))
    images = str(stock.data / "beta/test/image")
    must(stock, "predict", str(stock.run), images, "-o", str(stock.masks), "--device", "cpu")
    _make_suite(stock)
    _run(stock, lambda: _make_weights(stock), status=0)
    return stock


def write_data(root: Path) -> None:
    """Class 1 is a bright square on noise."""
    rng = np.random.default_rng(3)
    for domain in ("alpha", "beta"):
        for split, count in (("train", 3), ("test", 1)):
            for i in range(count):
                for name, pixels in zip(("image", "mask"), square(rng, i), strict=True):
                    path = root / domain / split / name / f"{split}{i}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pixels).save(path)


def square(rng: np.random.Generator, i: int = 0) -> tuple[Any, Any]:
    """An image and its label."""
    label = np.zeros((SIDE, SIDE), np.uint8)
    label[8 + i : 20 + i, 8:20] = 1
    return label * 150 + rng.integers(0, 60, label.shape, np.uint8), label


def must(stock: Stock, *words: str) -> None:
    """Run a command that has to succeed."""
    _run(stock, arguments_of(words), status=0)


def _run(stock: Stock, command: Callable[[], object], *, status: int) -> None:
    ended = run_in_child(command, stock.root, cwd=stock.root, environment=QUIET)
    for name in ("stdout", "stderr", "report.json"):
        (stock.root / name).unlink()
    if ended.status != status:
        raise RuntimeError(f"the stock cannot be made: {ended.escaped}\n{ended.err}")


def _make_stopped_run(stock: Stock) -> None:
    """The same run, asked to stop after its first step."""

    def stopped() -> None:
        from synfoc.engine.progress import Interruption

        Interruption.__bool__ = lambda self: True  # type: ignore[method-assign]
        words = ("train", str(stock.config), "--out", str(stock.stopped), "--quiet")
        arguments_of(words)()

    _run(stock, stopped, status=130)


def _make_suite(stock: Stock) -> None:
    suite = {
        "name": "squares",
        "base": SETTINGS,
        "data": {"squares": {"path": "data", "labeled": [{"domain": "alpha", "count": 2}]}},
        "methods": {
            "supervised": {
                "title": "Supervised",
                "settings": {"method": {"name": "supervised"}},
            },
            "synfoc": {"title": "U-Net alone", "branches": ["recommended"]},
        },
        "seeds": [1],
        "protocols": ["honest"],
    }
    stock.suite_file.write_text(yaml.safe_dump(suite, sort_keys=False))
    words = (str(stock.suite_file), "--data", str(stock.root), "--out", str(stock.suite))
    must(stock, "bench", *words, "--device", "cpu")


def _make_weights(stock: Stock) -> None:
    """A SAM of two blocks: as transformers saves it, and under its original names."""
    import torch
    from safetensors.torch import save_file
    from transformers import SamConfig, SamModel

    from synfoc.models.checkpoints import read_source

    torch.manual_seed(0)
    vision = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "window_size": 2,
        "global_attn_indexes": [1],
        "output_channels": 16,
        "num_pos_feats": 8,
        "mlp_dim": 40,
    }
    decoder = {"hidden_size": 16, "mlp_dim": 24, "num_attention_heads": 8}
    config = SamConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 16, "image_size": SIDE},
        mask_decoder_config=decoder | {"iou_head_hidden_dim": 12},
    )
    SamModel(config).save_pretrained(stock.weights / "hub")
    tensors = {k: v.contiguous() for k, v in read_source(stock.weights / "hub").tensors.items()}
    torch.save(tensors, stock.weights / "sam.pth")
    save_file(tensors, stock.weights / "sam.safetensors")
    sys.exit(0)


def run_cells_here() -> None:
    """Let `synfoc bench` run its cells in this process instead of one process each."""
    from synfoc.bench import run
    from synfoc.bench.cell import run_cell
    from synfoc.bench.folder import SuiteFolder, unfinished

    def run_here(folder: SuiteFolder, *, device: str, **_: object) -> bool:
        ends = [
            run_cell(folder.path, cell.name, device=device) for cell in unfinished(folder.cells)
        ]
        return 130 not in ends

    run.run_here = run_here  # type: ignore[assignment]


def import_everything() -> None:
    """Import what commands load when they run, so that forked children find it there."""
    import torch

    Image.init()
    torch.set_num_threads(1)
