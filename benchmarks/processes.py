"""Strong scaling: the same run on one process with all cores, and on several that divide them.

    python benchmarks/processes.py                     # 1 and 2 processes, some minutes

Phantom data, random weights, the demo's networks with a batch that can be divided. Each run is
`synfoc train` as a user starts it; its seconds per step leave start-up, logging and evaluation out.
In turn, so that a machine that changes its speed does not favor one of them.
"""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from measure import parser, write
from settings import SETTINGS
from synfoc.engine.machine import choose_device
from synfoc.phantom.data_set import write_phantom
from synfoc.runs import RunFolder
from synfoc.storage import read_lines


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    arguments.add_argument("--steps", type=int, default=12)
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--batch", type=int, default=4)
    given = arguments.parse_args()
    cores = os.cpu_count() or 1
    seconds: dict[int, list[float]] = {n: [] for n in given.processes}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write_phantom(data, train_patients=4, test_patients=2, seed=1)
        setting = replace(SETTINGS["demo"], batch=given.batch)
        changes = (
            f"train.steps={given.steps}",
            "train.log_every=1",
            f"train.precision={given.precision}",
            "train.evaluate_images=1",
            f"train.device={given.device}",
        )
        config = Path(folder) / "config.yaml"
        config.write_text(setting.config(data, changes).to_yaml())
        for repeat in range(given.repeats):
            for n in given.processes:
                out = Path(folder) / f"{n}-{repeat}"
                seconds[n].append(one(config, out, n, max(1, cores // n)))
                print(f"{n} processes: {seconds[n][-1]:.2f} s per step", flush=True)
    medians = {n: statistics.median(times) for n, times in seconds.items()}
    first = medians[given.processes[0]]
    for n, median in medians.items():
        print(f"{n:>2} processes {median:>7.2f} s per step {first / median:>6.2f} times as fast")
    rows = [{"processes": n, "seconds": times} for n, times in seconds.items()]
    found = {"setting": vars(setting), "rows": rows, "cores": cores}
    write(found, given.out, "processes", choose_device(given.device))


def one(config: Path, out: Path, processes: int, threads: int) -> float:
    """Median seconds of a step, the first three left out."""
    command = [sys.executable, "-m", "synfoc", "train", str(config), "--out", str(out), "--quiet"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    subprocess.run([*command, "--devices", str(processes)], check=True, env=environment)
    ends = [line["seconds"] for line in read_lines(RunFolder(out).log) if "loss" in line][2:]
    return statistics.median(b - a for a, b in itertools.pairwise(ends))


if __name__ == "__main__":
    main()
