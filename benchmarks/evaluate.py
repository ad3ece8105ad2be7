"""Milliseconds of the four scores of a slice, and where the time of an evaluation goes.

    python benchmarks/evaluate.py                     # scores alone, one core
    python benchmarks/evaluate.py --run RUN           # also a whole evaluation of a trained run

`plain` are the same definitions on whole images: an erosion of each mask and a distance map per
direction, twice for HD95 and once for ASD, as the authors' code has them from MedPy (19 ms for a
slice of 384 pixels on a machine of the kind named in docs/performance.md).
"""

from __future__ import annotations

import time
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from measure import parser, product_seconds, seconds_of, write
from synfoc.engine.evaluate import evaluate
from synfoc.engine.machine import choose_device
from synfoc.engine.metrics import Scores, score

SHAPES = ((128, 30), (384, 30), (384, 60), (384, 100), (512, 80))
"""Side of the slice and radius of the mask, in pixels."""


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--repeats", type=int, default=15)
    arguments.add_argument("--run", type=Path, help="a run to evaluate")
    given = arguments.parse_args()
    cpu = torch.device("cpu")
    found: dict[str, Any] = {"product_s": product_seconds("fp32", cpu), "rows": []}
    print(f"{'slice':>8}{'radius':>8}{'plain':>12}{'ours':>12}{'ratio':>8}")
    for side, radius in SHAPES:
        a, b = blob(side, radius, (0, 0), 5), blob(side, radius * 1.05, (4, -3), 7)
        assert np.allclose(astuple(plain(a, b))[:4], astuple(score(a, b, protocol="paper"))[:4])
        theirs, ours = (
            1e3 * seconds_of(partial(scores, a, b), cpu, given.repeats) for scores in (plain, score)
        )
        found["rows"].append({"side": side, "radius": radius, "plain_ms": theirs, "ms": ours})
        print(f"{side:>8}{radius:>8}{theirs:>9.2f} ms{ours:>9.2f} ms{theirs / ours:>8.1f}")
    if given.run:
        start = time.perf_counter()
        metrics = evaluate(given.run, device=given.device)
        found["run"] = {"cases": metrics["cases"], "seconds": time.perf_counter() - start}
        print(f"{found['run']['cases']} cases in {found['run']['seconds']:.1f} s, all branches")
    write(found, given.out, "evaluate", choose_device(given.device) if given.run else cpu)


def blob(side: int, radius: float, shift: tuple[int, int], waves: int) -> NDArray[np.bool_]:
    """A wavy disc near the middle."""
    y, x = np.mgrid[:side, :side] - side / 2
    y, x = y - shift[0], x - shift[1]
    mask: NDArray[np.bool_] = np.hypot(y, x) < radius * (
        1 + 0.15 * np.sin(waves * np.arctan2(y, x))
    )
    return mask


def plain(prediction: NDArray[np.bool_], label: NDArray[np.bool_]) -> Scores:
    """The definitions, word for word."""
    common = np.count_nonzero(prediction & label)
    dice = 2 * common / (np.count_nonzero(prediction) + np.count_nonzero(label))
    jaccard = common / np.count_nonzero(prediction | label)
    both = np.hstack([directed(prediction, label), directed(label, prediction)])
    hd95 = float(np.percentile(both, 95))
    return Scores(dice, jaccard, hd95, float(directed(prediction, label).mean()))


def directed(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distances of the surface of one mask to that of the other."""
    surface_a, surface_b = (m & ~ndimage.binary_erosion(m) for m in (a, b))
    distances: NDArray[np.float64] = ndimage.distance_transform_edt(~surface_b)[surface_a]
    return distances


if __name__ == "__main__":
    main()
