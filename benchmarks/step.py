"""Seconds and peak memory of one SynFoC step, with its parts, on this machine.

    python benchmarks/step.py --setting demo
    python benchmarks/step.py --setting prostate --precision fp32 --steps 3

Weights are random, images are noise: neither changes the cost. Beside seconds stand units of a
fixed matrix product (fp32, 4096^3) timed in the same process, because machines differ.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from synfoc.batches.batch import Batch, Sides
from synfoc.config import Config, parse_config
from synfoc.engine.machine import (
    choose_device,
    choose_precision,
    keep_freed_memory,
    peak_memory_gib,
)
from synfoc.engine.optimize import forget_gradients, learn, make_optimizers
from synfoc.engine.parallel import Sharded, make_fabric
from synfoc.methods.models import Models
from synfoc.methods.synfoc import synfoc_step
from synfoc.models.build import build_networks
from synfoc.runs import environment

SETTINGS = {
    "demo": ("random:litemedsam", 112, 112, 16, 2, 1, 3),
    "prostate": ("random:vit-b", 512, 384, 64, 4, 1, 2),
    "fundus": ("random:vit-b", 512, 256, 64, 4, 3, 3),
}
"""Weights, S, P, width of the U-Net, batch, channels, K."""


def main() -> None:
    arguments = read_arguments()
    weights, side, unet_side, width, batch_size, channels, classes = SETTINGS[arguments.setting]
    config = parse_config(
        {
            "data": {"path": "."},
            "unet": {"side": unet_side, "width": width},
            "medsam": {"weights": weights, "side": side},
            "method": {"batch": batch_size},
            "train": {"precision": arguments.precision, "device": arguments.device},
        }
    )
    found = measure(config, channels, classes, arguments.steps)
    found["setting"] = arguments.setting
    print(
        f"{arguments.setting}: {found['seconds']:.2f} s per step ({found['matmul_units']:.1f} "
        f"products of 4096^3), peak {found['peak_memory_gib']:.2f} GiB, {found['precision']}"
    )
    for part, seconds in found["parts"].items():
        print(f"  {part:<22} {seconds:8.3f} s")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(found | {"machine": environment()}, indent=1) + "\n")
        print(f"-> {arguments.out}")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setting", choices=SETTINGS, default="demo")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--steps", type=int, default=5, help="timed steps, after one to warm up")
    parser.add_argument("--out", type=Path, help="JSON file")
    return parser.parse_args()


def measure(config: Config, channels: int, classes: int, steps: int) -> dict:
    device = choose_device(config.train.device)
    keep_freed_memory(device)
    precision = choose_precision(config.train.precision, device)
    product = seconds_of(lambda: torch.mm(*2 * [torch.ones(4096, 4096, device=device)]), device)
    generator = torch.Generator().manual_seed(0)
    networks = build_networks(config, classes=classes, channels=channels, generator=generator)
    networks = networks.to(device)
    optimizers, fabric = make_optimizers(networks, config), make_fabric(config, device)
    times: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, network: torch.nn.Module) -> Callable[[Tensor], Tensor]:
        run, setup = Sharded(network.train(), fabric), f"{name} forward"

        def call(images: Tensor) -> Tensor:
            start = clock(device)
            logits = run(images)
            suffix = "" if logits.requires_grad or "teacher" in name else ", no graph"
            times[setup + suffix].append(clock(device) - start)
            return logits

        return call

    def backward(loss: Tensor) -> Tensor:
        start = clock(device)
        fabric.backward(loss)
        times["U-Net backward, labeled"].append(clock(device) - start)
        return loss.detach()

    f = Models(
        UT=timed("U-Net student", networks.unet),
        MS=timed("MedSAM student", networks.medsam),
        UT_hat=timed("U-Net teacher", networks.unet_teacher),
        MS_hat=timed("MedSAM teacher", networks.medsam_teacher),
    )
    batch = noise(networks.sides, config.method.batch, channels, classes, generator).to(device)
    whole = []
    for k in range(steps + 1):
        start = clock(device)
        forget_gradients(optimizers)
        step = synfoc_step(f, batch, lam=0.5, release=backward)
        middle = clock(device)
        learn(step.loss, k, networks=networks, optimizers=optimizers, config=config, fabric=fabric)
        end = clock(device)
        times["forward and losses"].append(middle - start)
        times["backward, optimizers"].append(end - middle)
        whole.append(end - start)
        if k == 0:
            whole.clear()
            times.clear()
    seconds = statistics.median(whole)
    return {
        "seconds": seconds,
        "matmul_units": seconds / product,
        "matmul_seconds": product,
        "peak_memory_gib": peak_memory_gib(device),
        "precision": precision,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "parts": {name: sum(values) / steps for name, values in times.items()},
    }


def noise(sides: Sides, B: int, c: int, K: int, generator: torch.Generator) -> Batch:
    S, L, P = sides.medsam, sides.logits, sides.unet

    def images(side: int) -> Tensor:
        return torch.rand(B, c, side, side, generator=generator)

    def labels(side: int) -> Tensor:
        return torch.randint(K, (B, side, side), generator=generator)

    region = torch.zeros(B, P, P, dtype=torch.bool)
    region[:, : P // 2, : P // 2] = True
    return Batch(
        images(S), images(P), labels(L), labels(P),
        images(S), images(P), images(S), images(P), region,
    )  # fmt: skip


def seconds_of(work: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    found = []
    for _ in range(repeats):
        start = clock(device)
        work()
        found.append(clock(device) - start)
    return statistics.median(found)


def clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


if __name__ == "__main__":
    main()
