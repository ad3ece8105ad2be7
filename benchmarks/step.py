"""Seconds, parts, arithmetic and peak memory of one SynFoC step on this machine.

    python benchmarks/step.py --setting demo
    python benchmarks/step.py --setting prostate --precision fp32 --steps 3

Networks have random weights, data is the phantom: neither changes the cost. Beside seconds stand
the step's FLOP (torch's counter), the share of the machine's own matrix-product rate that this
is, and the authors' code as measured on a machine of the kind named in docs/performance.md.
"""

from __future__ import annotations

import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from measure import PRODUCT_FLOP, clock, parser, product_seconds, write
from settings import SETTINGS
from synfoc.batches.stream import Stream
from synfoc.config import Config
from synfoc.engine.machine import (
    choose_device,
    choose_precision,
    keep_freed_memory,
    peak_memory_gib,
)
from synfoc.engine.optimize import forget_gradients, learn, make_optimizers
from synfoc.engine.parallel import Sharded, make_fabric
from synfoc.engine.prepare import prepare
from synfoc.images.phantom import write_phantom
from synfoc.methods.models import Models
from synfoc.methods.synfoc import synfoc_step
from synfoc.models.build import Networks, build_networks

AUTHORS = {"prostate": (78.0, 21.0), "fundus": (52.0, 16.2)}
"""Seconds per step and peak GiB of the authors' code: fp32, 2 cores, torch 2.13, batch 4 + 4."""


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--setting", choices=SETTINGS, default="demo")
    arguments.add_argument("--classes", type=int, help="K, with the background")
    arguments.add_argument("--steps", type=int, default=5, help="timed steps, after one to warm up")
    arguments.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as in `synfoc train`"
    )
    given = arguments.parse_args()
    setting = SETTINGS[given.setting]
    with tempfile.TemporaryDirectory() as folder:
        data = write_phantom(Path(folder) / "phantom", train_patients=4, test_patients=1)
        where = (f"train.precision={given.precision}", f"train.device={given.device}")
        config = setting.config(data, (*where, *given.set))
        classes = given.classes or setting.classes
        found = Bench(config, setting.channels, classes).run(given.steps)
    found["setting"] = given.setting
    report(found)
    write(found, given.out, f"step-{given.setting}-{found['device']}-{found['precision']}")


class Bench:
    """The loop of `synfoc train`, with a clock around each part of a step."""

    def __init__(self, config: Config, channels: int, classes: int) -> None:
        self.config, self.classes = config, classes
        self.device = choose_device(config.train.device)
        keep_freed_memory(self.device)
        self.precision = choose_precision(config.train.precision, self.device)
        self.rates = {
            name: PRODUCT_FLOP / product_seconds(name, self.device) / 1e9
            for name in dict.fromkeys(("fp32", self.precision))
        }
        self.times: dict[str, list[float]] = defaultdict(list)
        self.fabric = make_fabric(config, self.device)
        self.networks = build_networks(
            config,
            classes=classes,
            channels=channels,
            generator=torch.Generator().manual_seed(0),
        ).to(self.device)
        assert self.networks.medsam is not None
        self.networks.medsam.recompute = bool(config.medsam.recompute)
        self.optimizers = make_optimizers(self.networks, config)
        self.stream = self._stream(channels)
        self.f = self._models(self.networks)

    def run(self, steps: int) -> dict[str, Any]:
        """Figures of so many steps after one that warms up; arithmetic is that of one more."""
        self.step(0)
        self.times.clear()
        whole = []
        for k in range(1, steps + 1):
            start = clock(self.device)
            self.step(k)
            whole.append(clock(self.device) - start)
        parts = {name: sum(values) / steps for name, values in self.times.items()}
        # Read before the counter runs, which itself takes memory.
        peak, seconds = peak_memory_gib(self.device), statistics.median(whole)
        with FlopCounterMode(display=False) as counter:
            self.step(steps + 1)
        tflop = counter.get_total_flops() / 1e12
        return {
            "seconds": seconds,
            "tflop": tflop,
            "gflop_per_second": 1e3 * tflop / seconds,
            "product_gflop_per_second": self.rates,
            "share_of_product_rate": 1e3 * tflop / seconds / self.rates[self.precision],
            "fp32_products": seconds * self.rates["fp32"] * 1e9 / PRODUCT_FLOP,
            "peak_memory_gib": peak,
            "precision": self.precision,
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "parts": parts,
        }

    def step(self, k: int) -> None:
        """One step as `engine.train` does it."""
        with self._timed("data"):
            batch = self.stream.batch(k)
            batch.Y_w_UT.clamp_(max=self.classes - 1)
            batch.Y_w_MS.clamp_(max=self.classes - 1)
        forget_gradients(self.optimizers)
        before = self._spent()
        start = clock(self.device)
        step = synfoc_step(self.f, batch, lam=0.5, release=self._release)
        self.times["labels, losses"].append(clock(self.device) - start - self._spent() + before)
        before, start = self._spent(), clock(self.device)
        learn(
            step.loss, k, networks=self.networks, optimizers=self.optimizers,
            config=self.config, fabric=self.fabric,
        )  # fmt: skip
        self.times["optimizers, EMA"].append(clock(self.device) - start - self._spent() + before)
        if k % self.config.train.log_every == 0:
            with self._timed("logging"):
                [value.item() for value in vars(step).values() if value is not None]

    def _stream(self, channels: int) -> Stream:
        config, prepared = self.config, prepare(self.config)
        return Stream(
            prepared.table, prepared.split, sides=self.networks.sides, channels=channels,
            batch=config.method.batch, augment=config.augment,
            paste_area=config.method.paste_area, seed=1, device=self.device, slice_axis=None,
            cache_gib=1.0, supervised=False,
        )  # fmt: skip

    def _models(self, networks: Networks) -> Models:
        backward = self.fabric.backward

        def timed_backward(loss: Tensor) -> None:
            with self._timed("backward"):
                backward(loss)

        self.fabric.backward = timed_backward  # type: ignore[method-assign]

        def timed(name: str, network: nn.Module | None) -> Callable[[Tensor], Tensor]:
            assert network is not None
            run = Sharded(network.train(), self.fabric)

            def call(images: Tensor) -> Tensor:
                extra = ", for its label" if name == "U-Net student" else ""
                with self._timed(name + ("" if torch.is_grad_enabled() else extra)):
                    return run(images)

            return call

        return Models(
            UT=timed("U-Net student", networks.unet),
            MS=timed("MedSAM student", networks.medsam),
            UT_hat=timed("U-Net teacher", networks.unet_teacher),
            MS_hat=timed("MedSAM teacher", networks.medsam_teacher),
        )

    def _release(self, loss: Tensor) -> Tensor:
        self.fabric.backward(loss)
        return loss.detach()

    def _spent(self) -> float:
        """Seconds in the networks and in backward so far."""
        return sum(sum(v) for k, v in self.times.items() if "Net" in k or "SAM" in k or "back" in k)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = clock(self.device)
        yield
        self.times[name].append(clock(self.device) - start)


def report(found: dict[str, Any]) -> None:
    """The figures for a person."""
    seconds, peak = found["seconds"], found["peak_memory_gib"]
    rates = ", ".join(f"{n} {r:.0f}" for n, r in found["product_gflop_per_second"].items())
    print(f"{found['setting']}, {found['device']} {found['precision']}: {seconds:.2f} s per step")
    print(f"  peak memory {peak:.2f} GiB")
    print(f"  {found['tflop']:.2f} TFLOP, {found['gflop_per_second']:.0f} GFLOP/s")
    print(f"  this machine multiplies 4096^3 at {rates} GFLOP/s: the step reaches", end=" ")
    print(
        f"{found['share_of_product_rate']:.0%} of that; it is {found['fp32_products']:.1f} of",
        end=" ",
    )
    print("such products in fp32")
    for part, value in found["parts"].items():
        print(f"    {part:<30} {value:8.3f} s  {value / seconds:4.0%}")
    if found["setting"] in AUTHORS:
        theirs, memory = AUTHORS[found["setting"]]
        print(
            f"  the authors' code, fp32, measured elsewhere: {theirs:.0f} s, {memory:.1f} GiB",
            end="",
        )
        print(f" (ratios {theirs / seconds:.1f}, {memory / peak:.1f})")


if __name__ == "__main__":
    main()
