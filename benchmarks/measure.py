"""What every benchmark needs: a clock that waits for the device, this machine's rates, a record."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from synfoc.engine.machine import DTYPES, gpu_of
from synfoc.environment import environment

SIDE = 4096
PRODUCT_FLOP = 2 * SIDE**3


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
