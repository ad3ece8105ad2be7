"""A suite from beginning to end: its cells on this machine or on a cluster, then its tables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from rich.console import Console

from synfoc.bench.folder import SuiteFolder
from synfoc.bench.gather import gather
from synfoc.bench.results import write_gathered
from synfoc.bench.slurm import run_on_slurm
from synfoc.bench.slurm_options import parse_slurm_options
from synfoc.bench.suite import load_suite
from synfoc.bench.workers import run_here
from synfoc.errors import Interrupted, UserError
from synfoc.storage import AnyPath, told


def run_suite(
    suite: AnyPath,
    *,
    root: AnyPath = ".",
    out: AnyPath | None = None,
    changes: str | Sequence[str] = (),
    engine: Literal["local", "slurm"] = "local",
    workers: int = 1,
    slurm: Sequence[str] = (),
    device: str = "auto",
    tables_only: bool = False,
    console: Console | None = None,
) -> tuple[dict[str, str], list[Path]]:
    """Run what is left to do of a suite and write its tables.

    Args:
        suite: YAML file.
        root: folder that its data sets are below.
        out: folder of the suite; None: bench/NAME.
        changes: `key.sub=value`, one or several, of every cell's config.
        engine: processes on this machine, or jobs of a cluster.
        workers: cells at a time on this machine.
        slurm: `key=value`, options of the jobs.
        device: auto, cpu or cuda.
        tables_only: run nothing.
        console: where progress is shown.

    Returns:
        Name -> error of the cells that failed or whose files cannot be read, and the files that
        were written.

    Raises:
        UserError: a suite that cannot be run, or another process is running it.
        Interrupted: Ctrl-C or SIGTERM; all cells are saved, and the tables hold what is done.
    """
    _refuse_idle_flags(engine, workers, slurm, tables_only=tables_only)
    options = parse_slurm_options(slurm)
    found = load_suite(Path(suite), changes)
    path = Path(out or Path("bench") / found.name)
    folder = SuiteFolder.matching(path, found, Path(root))
    finished = True
    if tables_only:
        folder.check_begun()
    else:
        with told(path):
            path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(path / ".lock", timeout=0):
                # Cells read what is stored: another process must not find it replaced.
                folder.store()
                if engine == "slurm":
                    run_on_slurm(folder, device=device, options=options, console=console)
                else:
                    finished = run_here(
                        folder, workers=workers, device=device, gpus=_gpus(device), console=console
                    )
        except Timeout:
            raise UserError(
                f"{path} is in use",
                found="another `synfoc bench` that runs this suite",
                expected="one at a time",
                fix="wait for it, or choose another --out",
            ) from None
    results = gather(folder)
    files = write_gathered(results)
    if not finished:
        raise Interrupted("stopped, all cells are saved; go on with the same command")
    return dict(results.failures), files


def _refuse_idle_flags(
    engine: Literal["local", "slurm"], workers: int, slurm: Sequence[str], *, tables_only: bool
) -> None:
    """Stop at a flag that would change nothing."""
    if slurm and engine != "slurm":
        raise UserError(
            "--slurm is for jobs of a cluster",
            found=f"{' '.join(slurm)}, without --engine slurm",
            expected="both, or none of them",
            fix="add --engine slurm, or leave --slurm out",
        )
    if workers > 1 and engine == "slurm":
        raise UserError(
            "--workers is for cells on this machine",
            found=f"--workers {workers} --engine slurm",
            expected="one of the two",
            fix=f"--slurm array_parallelism={workers} runs so many jobs at a time",
        )
    if tables_only and (workers > 1 or engine == "slurm"):
        raise UserError(
            "--tables runs no cell",
            found="--workers or --engine slurm beside it",
            expected="--tables alone",
            fix="drop one of them",
        )


def _gpus(device: str) -> list[str]:
    """Return the GPUs of this process, as CUDA_VISIBLE_DEVICES names them."""
    if device == "cpu":
        return []
    import torch

    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[:count] or [str(i) for i in range(count)]
