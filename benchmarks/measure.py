"""What every benchmark needs: a clock that waits for the device, this machine's rates, a record."""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula

from synfoc.engine.machine import DTYPES, gpu_of
from synfoc.environment import environment

SIDE = 4096
PRODUCT_FLOP = 2 * SIDE**3
Shape: TypeAlias = Sequence[int]


def clock(device: torch.device) -> float:
    """Seconds, once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds_of(work: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """Median of some runs after one that warms up."""
    work()
    found = []
    for _ in range(repeats):
        start = clock(device)
        work()
        found.append(clock(device) - start)
    return statistics.median(found)


def product_seconds(precision: str, device: torch.device) -> float:
    """One matrix product of 4096^3: the yardstick for machines that differ."""
    factors = torch.ones(2, SIDE, SIDE, device=device, dtype=DTYPES[precision])
    return seconds_of(lambda: factors[0] @ factors[1], device, repeats=3)


def flop_of(work: Callable[[], object]) -> int:
    """What torch's counter finds in `work`: products and convolutions, attention of all devices."""
    with FlopCounterMode(display=False) as counter:
        work()
    total: int = counter.get_total_flops()
    return total


# torch counts the fused attention kernels of GPUs; that of the CPU it passes over.
@register_flop_formula(torch.ops.aten._scaled_dot_product_flash_attention_for_cpu)
def _attention(q: Shape, k: Shape, v: Shape, *_: object, **__: object) -> int:
    """Two products: q k^T and weights v."""
    return _scores(q, k) * (q[-1] + v[-1])


@register_flop_formula(torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward)
def _attention_backward(_dy: Shape, q: Shape, k: Shape, v: Shape, *_: object, **__: object) -> int:
    """Five products: the scores anew, and the gradients of q, k, v and of the weights."""
    return _scores(q, k) * (3 * q[-1] + 2 * v[-1])


def _scores(q: Shape, k: Shape) -> int:
    """Twice the number of scores: a multiplication and an addition for each entry of a vector."""
    return 2 * math.prod(q[:-1]) * k[-2]


def parser(text: str) -> argparse.ArgumentParser:
    """The options that all benchmarks share."""
    found = argparse.ArgumentParser(description=text.splitlines()[0])
    found.add_argument("--precision", choices=("auto", *DTYPES), default="auto")
    found.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    found.add_argument("--out", type=Path, help="JSON file; default: benchmarks/results/...")
    return found


def write(found: dict[str, Any], out: Path | None, name: str, device: torch.device) -> None:
    """Keep the figures with the machine that they are from."""
    path = out or Path(__file__).parent / "results" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    machine = environment() | gpu_of(device)
    path.write_text(json.dumps(found | {"machine": machine}, indent=1) + "\n")
    print(f"-> {path}")
