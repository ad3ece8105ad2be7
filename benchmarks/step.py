"""Seconds, parts, arithmetic and peak memory of one SynFoC step on this machine.

    python benchmarks/step.py --setting demo
    python benchmarks/step.py --setting prostate --precision fp32 --steps 3

Networks have random weights, data is the phantom: neither changes the cost. On a GPU the seconds of
a step are those of training: nothing waits within, and the next batch is made meanwhile; its parts
are measured in other steps, in which each is waited for, and add up to more. On a CPU every timed
step writes its line of the log, which training does every `train.log_every` steps. Beside seconds
stand the step's FLOP (torch's counter), the share of the machine's own matrix-product rate that
this is, and on a CPU the authors' code as measured on a machine of the kind named in
docs/performance.md.
"""

from __future__ import annotations

import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from measure import PRODUCT_FLOP, clock, flop_of, parser, product_seconds, write
from settings import SETTINGS
from synfoc.batches.batch import Batch
from synfoc.batches.stream import Stream
from synfoc.config import Config
from synfoc.engine.machine import (
    choose_device,
    choose_precision,
    keep_freed_memory,
    peak_memory_gib,
    reset_peak_memory,
)
from synfoc.engine.optimize import forget_gradients, learn, make_optimizers
from synfoc.engine.parallel import make_fabric, set_up
from synfoc.engine.prepare import prepare
from synfoc.methods.interface import Models, Network
from synfoc.methods.synfoc import synfoc_step
from synfoc.models.build import build_networks
from synfoc.phantom.data_set import write_phantom
from synfoc.storage import append_line

AUTHORS = {
    "prostate": {"seconds": 78.0, "peak_memory_gib": 21.0, "precision": "fp32"},
    "fundus": {"seconds": 52.0, "peak_memory_gib": 16.2, "precision": "fp32"},
}
"""The authors' code on 2 cores of another machine, torch 2.13, batch 4 + 4."""


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
        bench = Bench(config, setting.channels, classes, log=Path(folder) / "log.jsonl")
        found = bench.run(given.steps)
    found["setting"] = given.setting
    if given.setting in AUTHORS and found["device"] == "cpu":
        found["authors"] = AUTHORS[given.setting]
    report(found)
    name = f"step-{given.setting}-{found['device']}-{found['precision']}"
    name += "-recompute" if config.medsam.recompute else ""
    write(found, given.out, name, torch.device(found["device"]))


class Bench:
    """The loop of `synfoc train`, with a clock around each part of a step."""

    def __init__(self, config: Config, channels: int, classes: int, log: Path) -> None:
        self.config, self.classes, self.log = config, classes, log
        self.device = choose_device(config.train.device)
        keep_freed_memory(self.device)
        self.precision = choose_precision(config.train.precision, self.device)
        self.before = self._rates()
        self.times: dict[str, list[float]] = defaultdict(list)
        self.fabric = make_fabric(config, self.device)
        self.networks = build_networks(
            config,
            classes=classes - 1,
            channels=channels,
            generator=torch.Generator().manual_seed(0),
        ).to(self.device)
        self.networks["medsam"].student.recompute = bool(config.medsam.recompute)
        models, self.optimizers = set_up(
            self.networks, make_optimizers(self.networks, config), self.fabric
        )
        self.stream = self._stream(channels)
        self.parted = True
        """Whether parts are timed, each of which is waited for."""
        self.f = self._timed_models(models)

    def run(self, steps: int) -> dict[str, Any]:
        """Figures of so many steps after one that warms up; arithmetic is that of one more."""
        self.step(0, self.stream.batch(0))
        self.times.clear()
        reset_peak_memory(self.device)
        ahead = self._ahead(steps) if self.device.type == "cuda" else None
        whole = []
        for k in range(1, steps + 1):
            start = clock(self.device)
            with self._timed("data"):
                batch = self.stream.batch(k)
            self.step(k, batch)
            whole.append(clock(self.device) - start)
        parts = {name: sum(values) / steps for name, values in self.times.items()}
        # Read before the counter runs, which itself takes memory.
        peak, seconds = peak_memory_gib(self.device), ahead or statistics.median(whole)
        batch = self.stream.batch(steps + 1)
        tflop = flop_of(lambda: self.step(steps + 1, batch)) / 1e12
        # A shared machine changes its speed meanwhile: the share is of the better of two moments.
        rates = {name: max(rate, self.before[name]) for name, rate in self._rates().items()}
        return {
            "seconds": seconds,
            "tflop": tflop,
            "gflop_per_second": 1e3 * tflop / seconds,
            "product_gflop_per_second": rates,
            "share_of_product_rate": 1e3 * tflop / seconds / rates[self.precision],
            "fp32_products": seconds * rates["fp32"] * 1e9 / PRODUCT_FLOP,
            "peak_memory_gib": peak,
            "precision": self.precision,
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "parts": parts,
        }

    def _rates(self) -> dict[str, float]:
        """GFLOP/s of a matrix product, by precision."""
        return {
            name: PRODUCT_FLOP / product_seconds(name, self.device) / 1e9
            for name in dict.fromkeys(("fp32", self.precision))
        }

    def _ahead(self, steps: int) -> float:
        """Seconds per step where the GPU alone sets the pace, as in `engine.train`."""
        self.parted = False
        batches = enumerate(self.stream.iterate(1, steps + 1), start=1)
        start = clock(self.device)
        for k, batch in batches:
            self.step(k, batch)
        seconds = (clock(self.device) - start) / steps
        self.parted = True
        return seconds

    def step(self, k: int, batch: Batch) -> None:
        """One step as `engine.train` does it."""
        for Y in (batch.Y_w_UT, batch.Y_w_MS):
            Y.clamp_(max=self.classes - 1)
        forget_gradients(self.optimizers)
        with self._timed("labels, losses", without_networks=True):
            step = synfoc_step(self.f, batch, lam=0.5)
        with self._timed("optimizers, EMA", without_networks=True):
            learn(
                step.loss, k, networks=self.networks, optimizers=self.optimizers,
                config=self.config, fabric=self.fabric,
            )  # fmt: skip
        if self.parted or k % self.config.train.log_every == 0:
            with self._timed("logging"):
                values = {name: v.item() for name, v in vars(step).items() if v is not None}
                append_line(self.log, {"step": k, **values})

    def _stream(self, channels: int) -> Stream:
        config, prepared = self.config, prepare(self.config)
        return Stream(
            prepared.table, prepared.split, sides=self.networks.sides, channels=channels,
            batch=config.method.batch, augment=config.augment,
            paste_area=config.method.paste_area, seed=1, device=self.device, slice_axis=None,
            cache_gib=1.0, supervised=False,
        )  # fmt: skip

    def _timed_models(self, models: Models) -> Models:
        backward = self.fabric.backward

        def timed_backward(loss: Tensor) -> None:
            with self._timed("backward"):
                backward(loss)

        self.fabric.backward = timed_backward  # type: ignore[method-assign]

        def timed(name: str, network: Network) -> Network:
            def call(images: Tensor) -> Tensor:
                extra = ", for its label" if name == "U-Net student" else ""
                with self._timed(name + ("" if torch.is_grad_enabled() else extra)):
                    return network(images)

            return call

        return Models(
            UT=timed("U-Net student", models.UT),
            MS=timed("MedSAM student", models.MS),
            UT_hat=timed("U-Net teacher", models.UT_hat),
            MS_hat=timed("MedSAM teacher", models.MS_hat),
            early_backward=self._early_backward,
        )

    def _early_backward(self, loss: Tensor) -> Tensor:
        self.fabric.backward(loss)
        return loss.detach()

    def _spent(self) -> float:
        """Seconds in the networks and in backward so far."""
        return sum(sum(v) for k, v in self.times.items() if "Net" in k or "SAM" in k or "back" in k)

    @contextmanager
    def _timed(self, name: str, *, without_networks: bool = False) -> Iterator[None]:
        if not self.parted:
            yield
            return
        start, before = clock(self.device), self._spent()
        yield
        networks = self._spent() - before if without_networks else 0.0
        self.times[name].append(clock(self.device) - start - networks)


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
    total = sum(found["parts"].values())
    for part, value in found["parts"].items():
        print(f"    {part:<30} {value:8.3f} s  {value / total:4.0%}")
    if authors := found.get("authors"):
        theirs, memory = authors["seconds"], authors["peak_memory_gib"]
        print(
            f"  the authors' code, fp32, measured elsewhere: {theirs:.0f} s, {memory:.1f} GiB",
            end="",
        )
        print(f" (ratios {theirs / seconds:.1f}, {memory / peak:.1f})")


if __name__ == "__main__":
    main()
