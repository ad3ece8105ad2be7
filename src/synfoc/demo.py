"""The whole job on a phantom: data of several scanners, two runs, their scores, one page.

SynFoC with a few labeled images of one scanner and unlabeled ones of all, beside a U-Net that
learns from the same labels alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from synfoc.config import parse_config
from synfoc.engine.evaluate import evaluate
from synfoc.engine.progress import progress_callback
from synfoc.engine.train import train
from synfoc.errors import UserError
from synfoc.images.phantom import write_phantom
from synfoc.report.page import write_report
from synfoc.report.pictures import write_pictures
from synfoc.report.tables import print_scores
from synfoc.runs import RunFolder

SIDE = 112
"""Pixels; LiteMedSAM's windows fit into multiples of 112 without padding."""
LABELED = {"domain": "scanner_a", "count": 12}
STEPS = 200


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
    if out.exists() and any(out.iterdir()):
        raise UserError(
            f"{out} is not empty",
            found=", ".join(sorted(p.name for p in out.iterdir())[:4]),
            expected="a new folder",
            fix=f"choose another --out, or delete {out}",
        )
    console.print(f"phantom of several scanners -> {out / 'data'}")
    write_phantom(out / "data", train_patients=10, test_patients=5, seed=seed)
    runs = []
    for name, settings in settings_of(out / "data", device=device, seed=seed).items():
        console.print(f"\n[bold]{name}[/bold]")
        run = train(parse_config(settings, source="demo"), out / name, console=console)
        with progress_callback(console, "evaluate") as bar:
            evaluate(run, device=device, progress=bar)
        runs.append(run)
    console.print()
    print_scores(runs, console=console)
    for run in runs:
        write_pictures(RunFolder(run))
    return write_report(out / "report.html", runs, title="synfoc demo")


def settings_of(data_path: Path, *, device: str, seed: int) -> dict[str, dict[str, Any]]:
    """Settings of the two runs by name; configs/demo.yaml is the first."""
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
        "steps": STEPS,
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
            "train": loop,
        },
    }
