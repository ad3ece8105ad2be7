"""The whole job on a phantom: data of several scanners, two runs, their scores, one page.

SynFoC with a few labeled images of one scanner and unlabeled ones of all, beside a U-Net that
learns from the same labels alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from synfoc.config import Config, parse_config
from synfoc.engine.cost import estimate_step
from synfoc.engine.evaluate import evaluate
from synfoc.engine.machine import choose_device, choose_precision
from synfoc.engine.progress import progress_callback
from synfoc.engine.train import train
from synfoc.models.build import build_networks
from synfoc.phantom.data_set import write_phantom
from synfoc.report.page import write_report
from synfoc.report.pictures import write_pictures
from synfoc.report.terminal import print_scores
from synfoc.runs import RunFolder
from synfoc.storage import refuse_used

SIDE = 112
"""Pixels; LiteMedSAM's windows fit into multiples of 112 without padding."""
LABELED = {"domain": "scanner_a", "count": 12}
STEPS, FEWEST, ROUND = 200, 50, 10
"""Steps of both runs; fewer of SynFoC, in whole tens, where they would take too long. The U-Net
beside it costs little, and a slow machine must not make it look worse than it is."""
SECONDS = 260
"""For the training of SynFoC; the U-Net beside it takes some seconds more."""


def run_demo(out: Path, *, device: str = "auto", seed: int = 1, console: Console) -> Path:
    """Make the phantom, train SynFoC and a supervised U-Net, evaluate both, write the report.

    Args:
        out: new folder; gets `data/`, `synfoc/`, `supervised-unet/`, `report.html`.
        device: auto, cpu or cuda.
        seed: of the data and the training.
        console: where progress and the table are shown.

    Returns:
        The page, which needs no network to be opened.

    Raises:
        UserError: `out` is not empty, or the weights cannot be had.
    """
    refuse_used(out)
    console.print(f"phantom of several scanners -> {out / 'data'}", markup=False)
    write_phantom(out / "data", train_patients=10, test_patients=5, seed=seed)
    wanted = settings_of(out / "data", device=device, seed=seed)["synfoc"]
    seconds = seconds_per_step(parse_config(wanted, source="demo"))
    if (steps := steps_within(SECONDS, seconds)) < STEPS:
        console.print(
            f"note: a step takes about {seconds:.1f} s here: {steps} steps of SynFoC instead of "
            f"{STEPS}, which gives lower scores than those of the README"
        )
    runs = []
    named = settings_of(out / "data", device=device, seed=seed, steps=steps)
    for name, settings in named.items():
        console.print(f"\n[bold]{name}[/bold]")
        run = train(parse_config(settings, source="demo"), out / name, console=console)
        with progress_callback(console, "evaluate") as bar:
            evaluate(run, device=device, progress=bar)
        runs.append(run)
    console.print()
    print_scores(runs, console=console)
    for run in runs:
        folder = RunFolder(run)
        write_pictures(folder, folder.read_examples()[0])
    return write_report(out / "report.html", runs, title="synfoc demo")


def seconds_per_step(config: Config) -> float:
    """Return what a step of this run will take on this machine, tried out on its networks."""
    device = choose_device(config.train.device)
    assert config.data.classes is not None
    networks = build_networks(
        config,
        classes=len(config.data.classes),
        channels=1,
        generator=torch.Generator().manual_seed(config.train.seed),
    ).to(device)
    precision = choose_precision(config.train.precision, device)
    return estimate_step(networks, config, device, precision).seconds


def steps_within(budget: float, seconds: float) -> int:
    """How many steps of so many seconds fit, rounded down; never below FEWEST or above STEPS."""
    fitting = int(budget / seconds) // ROUND * ROUND
    return min(STEPS, max(FEWEST, fitting))


def settings_of(
    data_path: Path, *, device: str, seed: int, steps: int = STEPS
) -> dict[str, dict[str, Any]]:
    """Return settings of the two runs by name.

    The first is configs/demo.yaml. `steps` are SynFoC's.
    """
    shared: dict[str, Any] = {
        "unet": {"side": SIDE, "width": 16},
        "medsam": {"weights": "litemedsam", "side": SIDE, "lr": 5e-4},
    }
    # The phantom's hidden labels are read for one curve of the report, and for nothing else.
    data = {
        "path": str(data_path),
        "labeled": LABELED,
        "monitor": True,
        "classes": ["cavity", "muscle"],
    }
    loop = {
        "seed": seed,
        "device": device,
        "steps": steps,
        "schedule": "cosine",
        "evaluate_every": 50,
        "evaluate_images": 16,
        "checkpoint_every": 100,
    }
    return {
        "synfoc": {
            **shared,
            "data": data,
            "method": {"batch": 2},
            "train": loop,
        },
        "supervised-unet": {
            **shared,
            "data": data,
            "method": {"name": "supervised", "branches": "unet", "batch": 2},
            "train": loop | {"steps": STEPS},
        },
    }
