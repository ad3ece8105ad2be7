"""Images per second of the batch stream, and what becomes of it as the data set grows.

    python benchmarks/data.py --setting prostate              # one core, as the authors' figures
    python benchmarks/data.py --setting prostate --cases 100 10000 100000

A data set of N cases is N names for a few phantom files. `cold` is a batch of files that were not
read before, `warm` one from the cache. The authors' augmentation took 66 and 82 ms for a gray
image (labeled, unlabeled), 99 and 155 ms in color, on one core of the machine of their figures.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from measure import parser, product_seconds, write
from settings import SETTINGS
from synfoc.batches.split import Split
from synfoc.batches.stream import Stream
from synfoc.config import Augment, parse_config
from synfoc.engine.machine import keep_freed_memory
from synfoc.images.cases import load_cases
from synfoc.phantom.data_set import write_phantom

AUTHORS = {"prostate": 2 / (0.066 + 0.082), "fundus": 2 / (0.099 + 0.155)}
"""Images per second on one core, half of them labeled."""


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--setting", choices=SETTINGS, default="prostate")
    arguments.add_argument("--cases", type=int, nargs="+", default=[100])
    arguments.add_argument("--batches", type=int, default=10)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--cache-gib", type=float, default=2.0)
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory(torch.device("cpu"))  # as training does
    product = product_seconds("fp32", torch.device("cpu"))
    rows = []
    print(f"{given.setting}, {given.threads} thread(s); a 4096^3 product takes {product:.2f} s")
    print(f"{'cases':>8}{'listed in':>11}{'cold':>10}{'warm':>10}{'images/s':>10}{'memory':>10}")
    for cases in given.cases:
        row = measure(given.setting, cases, given.batches, given.cache_gib)
        rows.append(row)
        print(
            f"{cases:>8}{row['list_s']:>9.1f} s{1e3 * row['cold_s']:>7.0f} ms"
            f"{1e3 * row['warm_s']:>7.0f} ms{row['images_per_s']:>10.1f}{row['rss_gib']:>6.2f} GiB"
        )
    if given.setting in AUTHORS:
        theirs = AUTHORS[given.setting]
        ratio = rows[0]["images_per_s"] / theirs
        print(f"the authors' code, measured elsewhere: {theirs:.1f} images/s (ratio {ratio:.1f})")
    found = {"setting": given.setting, "threads": given.threads, "product_s": product, "rows": rows}
    write(found, given.out, f"data-{given.setting}-{given.threads}", torch.device("cpu"))


def measure(setting: str, count: int, batches: int, cache_gib: float) -> dict[str, Any]:
    size = SETTINGS[setting]
    with tempfile.TemporaryDirectory() as folder:
        root = linked(Path(folder), count)
        start = time.perf_counter()
        table = load_cases(parse_config({"data": {"path": str(root)}}).data)
        train = tuple(case for case in table.cases if case.split == "train")
        labeled = tuple(case for case in train if case.labels)
        listed = time.perf_counter() - start
        split = Split(labeled=labeled, unlabeled=train, test=(), monitor=())
        stream = Stream(
            table, split, sides=size.sides, channels=size.channels, batch=size.batch,
            augment=Augment(), paste_area=(0.02, 0.4), seed=1, device=torch.device("cpu"),
            slice_axis=None, cache_gib=cache_gib, supervised=False,
        )  # fmt: skip
        cold, warm = [], []
        for times in (cold, warm):
            for k in range(batches):
                start = time.perf_counter()
                stream.batch(k)
                times.append(time.perf_counter() - start)
        return {
            "cases": len(train),
            "list_s": listed,
            "cold_s": statistics.median(cold),
            "warm_s": statistics.median(warm),
            "images_per_s": 2 * size.batch / statistics.median(warm),
            "rss_gib": psutil.Process().memory_info().rss / 2**30,
        }


def linked(folder: Path, count: int) -> Path:
    """A data set of `count` cases, ten of them labeled: hard links to a few phantom files."""
    source = write_phantom(folder / "phantom", train_patients=5, test_patients=1)
    images = sorted((source / "scanner_a/train/image").iterdir())
    target = folder / "set" / "site" / "train"
    for name in ("image", "mask"):
        (target / name).mkdir(parents=True)
    for i in range(count):
        image = images[i % len(images)]
        os.link(image, target / "image" / f"{i:06d}.png")
        if i < 10:
            os.link(image.parents[1] / "mask" / image.name, target / "mask" / f"{i:06d}.png")
    return folder / "set"


if __name__ == "__main__":
    main()
