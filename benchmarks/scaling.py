"""How a step's time and arithmetic grow with side, batch, classes and rank.

    python benchmarks/scaling.py                       # minutes; JSON, docs/images/scaling.png
    python benchmarks/scaling.py --only batch rank --plot ""

Around the demo's setting (LiteMedSAM and a U-Net of width 16), one size is changed at a time. The
floor of a step is its FLOP (torch's counter) at the rate of this machine's own matrix product.
Each point is a process of its own; the first one of a series is measured again at its end, so that
a machine that changed its speed meanwhile is seen.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from measure import parser, write
from settings import SETTINGS, Setting
from synfoc.engine.machine import choose_device

BASE = replace(SETTINGS["demo"], side=128, unet_side=128)
SERIES: dict[str, list[tuple[int, Setting, tuple[str, ...]]]] = {
    "image side": [(n, replace(BASE, side=n, unet_side=n), ()) for n in (64, 128, 192, 256, 384)],
    "batch": [(n, replace(BASE, batch=n), ()) for n in (1, 2, 4, 8)],
    "classes": [(n, replace(BASE, classes=n), ()) for n in (2, 3, 5, 9, 17)],
    "rank": [(n, BASE, (f"medsam.rank={n}",)) for n in (1, 4, 16, 64)],
}

KEPT = ("seconds", "peak_memory_gib", "tflop", "parts")
"""Of a step's figures."""


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--only", nargs="+", choices=SERIES, default=list(SERIES))
    arguments.add_argument("--steps", type=int, default=3)
    arguments.add_argument("--plot", default="docs/images/scaling.png", help="empty: none")
    given = arguments.parse_args()
    where = (f"train.precision={given.precision}", f"train.device={given.device}")
    rows: list[dict[str, Any]] = []
    for name in given.only:
        points = SERIES[name]
        print(f"{name:<12}{'seconds':>9}{'floor':>9}{'share':>7}{'memory':>11}")
        for i, (value, setting, changes) in enumerate([*points, points[0]]):
            found = one(setting, (*changes, *where), given.steps)
            floor = found["tflop"] * 1e3 / found["product_gflop_per_second"][found["precision"]]
            row = {"series": name, "value": value, "again": i == len(points), "floor_s": floor}
            rows.append(row | {k: found[k] for k in KEPT})
            seconds, memory = found["seconds"], found["peak_memory_gib"]
            print(f"{value:<12}{seconds:>8.2f}s{floor:>8.2f}s{floor / seconds:>7.0%}", end="")
            print(f"{memory:>7.1f} GiB{'  again' if row['again'] else ''}", flush=True)
    write({"base": vars(BASE), "rows": rows}, given.out, "scaling", choose_device(given.device))
    if given.plot:
        draw(rows, Path(given.plot))
        print(f"-> {given.plot}")


def one(setting: Setting, changes: tuple[str, ...], steps: int) -> dict[str, Any]:
    """Figures of one setting, from benchmarks/step.py in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "step.json"
        command = [sys.executable, str(Path(__file__).with_name("step.py")), "--out", str(out)]
        command += ["--steps", str(steps), "--classes", str(setting.classes)]
        for change in (*setting.changes(), *changes):
            command += ["--set", change]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found: dict[str, Any] = json.loads(out.read_text())
        return found


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """One panel per series: seconds of a step, and their floor."""
    names = list(dict.fromkeys(row["series"] for row in rows))
    figure = Figure(figsize=(2.7 * len(names), 2.7), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        points = [row for row in rows if row["series"] == name and not row["again"]]
        x = [row["value"] for row in points]
        axes.plot(x, [row["seconds"] for row in points], "o-", color="#0072B2", label="measured")
        axes.plot(x, [row["floor_s"] for row in points], "s--", color="#999999", label="floor")
        axes.set_xscale("log", base=2)
        axes.set_xticks(x, [str(value) for value in x])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_title(name, fontsize=10)
        axes.grid(alpha=0.3)
    first = figure.axes[0]
    first.set_ylabel("seconds per step")
    first.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160)


if __name__ == "__main__":
    main()
