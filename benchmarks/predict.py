"""Images per second of each branch, seconds for one image, and what the start costs.

    python benchmarks/predict.py --setting demo
    python benchmarks/predict.py --setting prostate --images 4 --precision fp32

Networks have random weights; the images are noise of the U-Net's side, answered at that side.
`trained` are the networks as training leaves them, `folded` as prediction uses them
(synfoc/models/folding.py). `start` is a whole `synfoc predict` of one image as a command.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from measure import clock, parser, product_seconds, write
from settings import SETTINGS, Setting
from synfoc.engine.inference import Branch, Segmenter
from synfoc.engine.machine import choose_device, choose_precision, keep_freed_memory
from synfoc.models.build import build_networks
from synfoc.phantom.data_set import write_phantom

BRANCHES: tuple[Branch, ...] = ("unet", "medsam", "fused")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--setting", choices=SETTINGS, default="demo")
    arguments.add_argument("--images", type=int, default=32)
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--no-start", action="store_true", help="leave the command out")
    given = arguments.parse_args()
    setting = SETTINGS[given.setting]
    device = choose_device(given.device)
    keep_freed_memory(device)
    precision = choose_precision(given.precision, device)
    found: dict[str, Any] = {"setting": given.setting, "device": device.type}
    found |= {"precision": precision, "product_s": product_seconds("fp32", device)}
    found["rows"] = rows(setting, device, precision, given.images, given.repeats)
    if not given.no_start:
        found["start_s"] = start(setting, given.device)
        print(f"`synfoc predict` of one image, from start to end: {found['start_s']:.2f} s")
    write(found, given.out, f"predict-{given.setting}-{device.type}-{precision}", device)


def rows(
    setting: Setting, device: torch.device, precision: str, images: int, repeats: int
) -> list[dict[str, Any]]:
    """One row per branch. Trained and folded networks take turns, so that noise meets both."""
    networks = build_networks(
        setting.config(Path()),
        classes=setting.classes - 1,
        channels=setting.channels,
        generator=torch.Generator().manual_seed(0),
    ).to(device)
    for network in networks.present().values():
        network.eval()
    segmenters = {
        name: Segmenter(
            used, setting.classes - 1, channels=setting.channels, device=device, precision=precision
        )
        for name, used in (("trained", networks), ("folded", networks.folded()))
    }
    shape = (images, setting.unet_side, setting.unet_side, setting.channels)
    many = np.random.default_rng(0).random(shape, np.float32)
    print(f"{'branch':<10}{'images/s':>10}{'one image':>12}{'trained / folded':>18}")
    found = []
    for branch in BRANCHES:
        times: dict[str, list[float]] = {"trained": [], "folded": [], "one": []}
        for repeat in range(repeats + 1):
            for name, stack in (("trained", many), ("folded", many), ("one", many[:1])):
                segmenter = segmenters["trained" if name == "trained" else "folded"]
                begun = clock(device)
                segmenter.segment(stack, [(branch, "student")])
                if repeat:  # the first one warms up
                    times[name].append(clock(device) - begun)
        seconds = {name: statistics.median(values) for name, values in times.items()}
        row = {
            "branch": branch,
            "images_per_s": images / seconds["folded"],
            "one_image_s": seconds["one"],
            "trained_over_folded": seconds["trained"] / seconds["folded"],
        }
        found.append(row)
        print(
            f"{branch:<10}{row['images_per_s']:>10.1f}{1e3 * seconds['one']:>9.0f} ms"
            f"{row['trained_over_folded']:>18.2f}"
        )
    return found


def start(setting: Setting, device: str) -> float:
    """Seconds of the command, median of three."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = write_phantom(root / "phantom", train_patients=4, test_patients=1)
        image = next(iter(sorted((data / "scanner_b/test/image").iterdir())))
        changes = [f"--set={key}" for key in (*setting.changes(), "train.evaluate_images=1")]
        program = [sys.executable, "-m", "synfoc.cli"]
        train = [*program, "train", "--data", str(data), "--labeled", "scanner_a:8", "--quiet"]
        train += ["--steps", "1", "--out", str(root / "run"), "--device", device, *changes]
        subprocess.run(train, check=True, stdout=subprocess.DEVNULL)
        seconds = []
        for i in range(3):
            command = [*program, "predict", str(root / "run"), str(image), "--device", device]
            begun = time.perf_counter()
            subprocess.run(
                [*command, "-o", str(root / f"out{i}")],
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            seconds.append(time.perf_counter() - begun)
        return statistics.median(seconds)


if __name__ == "__main__":
    main()
