"""bf16 beside fp32: losses of the first 50 steps, and Dice of the demo's run over some seeds.

    python benchmarks/precision.py --seeds 1 2 3           # half an hour on two cores

Both precisions see the same batches. Losses part slowly, as those of any two orders of summation
do; what counts is whether the Dice of either differs by more than it does from seed to seed.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from measure import parser, write
from synfoc.config import parse_config
from synfoc.demo import settings_of
from synfoc.engine.evaluate import evaluate
from synfoc.engine.machine import choose_device
from synfoc.engine.train import train
from synfoc.phantom.data_set import write_phantom
from synfoc.runs import RunFolder
from synfoc.storage import read_lines

PRECISIONS = ("fp32", "bf16")
BRANCHES = ("unet", "medsam", "fused")
FIRST = 50


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = arguments.parse_args()
    rows = []
    print(f"{'seed':<6}{'precision':<11}{'seconds':>9}" + "".join(f"{b:>9}" for b in BRANCHES))
    for seed in given.seeds:
        for precision in PRECISIONS:
            row = one(seed, precision, given.device, given.set)
            rows.append(row)
            scores = "".join(f"{100 * row['dice'][b]:>9.1f}" for b in BRANCHES)
            print(f"{seed:<6}{precision:<11}{row['seconds']:>9.0f}{scores}", flush=True)
    compare(rows)
    write({"rows": rows}, given.out, "precision", choose_device(given.device))


def one(seed: int, precision: str, device: str, changes: list[str]) -> dict[str, Any]:
    """The demo's SynFoC run on the phantom of a seed."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_phantom(root / "data", train_patients=10, test_patients=5, seed=seed)
        tree = settings_of(root / "data", device=device, seed=seed)["synfoc"]
        fixed = (f"train.precision={precision}", "train.log_every=1", "data.monitor=false")
        run = train(parse_config(tree, (*fixed, *changes), source="benchmark"), root / "run")
        metrics = evaluate(run, device=device)
        branches = metrics["branches"]
        return {
            "seed": seed,
            "precision": precision,
            "seconds": RunFolder(run).read_summary()["seconds"],
            "recommended": metrics["recommended"],
            "dice": {b: branches[b]["student"]["mean_over_domains"]["dice"] for b in BRANCHES},
            "losses": [x["loss"] for x in read_lines(RunFolder(run).log) if "loss" in x][:FIRST],
        }


def compare(rows: list[dict[str, Any]]) -> None:
    """How far the precisions are apart, beside how far seeds are."""
    of = {p: [row for row in rows if row["precision"] == p] for p in PRECISIONS}
    print(f"\nlosses of bf16 / losses of fp32, mean over ten steps (seed {rows[0]['seed']})")
    ratio = np.array(of["bf16"][0]["losses"]) / np.array(of["fp32"][0]["losses"])
    for start in range(0, len(ratio), 10):
        part = ratio[start : start + 10]
        print(f"  steps {start + 1:>2} to {start + len(part):>2}: {part.mean():.3f}", end="")
        print(f" (each {part.min():.3f} to {part.max():.3f})")
    for branch in BRANCHES:
        dice = {p: [100 * row["dice"][branch] for row in of[p]] for p in PRECISIONS}
        differences = np.subtract(dice["bf16"], dice["fp32"])
        spread = statistics.stdev(dice["fp32"]) if len(dice["fp32"]) > 1 else float("nan")
        each = ", ".join(f"{d:+.1f}" for d in differences)
        print(f"{branch}: bf16 - fp32 {differences.mean():+.1f} ({each}); sd of fp32 {spread:.1f}")


if __name__ == "__main__":
    main()
