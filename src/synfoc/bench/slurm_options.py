"""`--slurm key=value` -> what submitit is told of the jobs.

The names are those of sbatch with underscores, as submitit has them: partition, account, time
(minutes), gpus_per_node, cpus_per_task, mem_gb, nodes, array_parallelism (jobs at a time), setup
(a line of shell before the job, may be repeated), signal_delay_s, ...
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from synfoc.errors import UserError

MINUTES = 240
"""Time limit of a job. A cell that takes longer is saved and queued again."""
LISTS = ("setup", "teardown", "srun_args")
OURS = ("job_name", "ntasks_per_node", "stderr_to_stdout", "use_srun", "map_count")
GPUS = ("gpus_per_node", "gpus_per_task", "num_gpus", "gres")
WHOLE = ("time", "nodes", "cpus_per_task", "array_parallelism", "signal_delay_s")


def parse_slurm_options(given: Sequence[str]) -> dict[str, Any]:
    """Read options of the jobs.

    Args:
        given: `key=value`; keys of lists may come more than once.

    Returns:
        Key -> number, true or false, text, or list of texts; mem_gb has become mem.

    Raises:
        UserError: no `=`, a key twice, a number that is none, or a key that is not for users.
    """
    options: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not key or not equals or not value:
            raise _wrong(text, "key=value", "--slurm partition=gpu")
        if key in OURS:
            raise _wrong(text, "an option of sbatch that synfoc does not set itself", "drop it")
        if key in options and key not in LISTS:
            raise _wrong(text, "each key once", f"drop one of the two {key}")
        options[key] = [*options.get(key, []), value] if key in LISTS else _value(key, value)
    if "mem_gb" in options:
        options["mem"] = f"{round(1024 * options.pop('mem_gb'))}M"
    return options


def parameters_of(options: Mapping[str, Any], devices: int, device: str) -> dict[str, Any]:
    """Return what submitit is told for cells of so many processes (`train.devices`).

    Each process is a task.

    Raises:
        UserError: the processes cannot be divided among the nodes, or would not see each other's
            GPUs.
    """
    if devices > 1 and "gpus_per_task" in options:
        raise _wrong(
            f"gpus_per_task={options['gpus_per_task']}",
            f"GPUs that all {devices} processes of a cell see: a process chooses its own",
            "--slurm gpus_per_node=..., as many as the cell has processes on a node",
        )
    nodes = options.get("nodes", 1) if devices > 1 else 1
    if devices % nodes:
        raise UserError(
            f"{devices} processes cannot be divided among {nodes} nodes",
            found=f"train.devices {devices}, --slurm nodes={nodes}",
            expected="train.devices: processes on all nodes together, a multiple of nodes",
            fix=f"--set train.devices={nodes * max(1, devices // nodes)}, or fewer nodes",
        )
    tasks = devices // nodes
    setup, srun = list(options.get("setup", [])), list(options.get("srun_args", []))
    if devices > 1:
        # One that fails would leave the others waiting for it until the time limit.
        srun.append("--kill-on-bad-exit=1")
    if cores := options.get("cpus_per_task"):
        setup.insert(0, f"export OMP_NUM_THREADS={cores}")
        srun.append(f"--cpus-per-task={cores}")  # since Slurm 22.05 srun does not ask sbatch's
    parameters = {"time": MINUTES, **options, "nodes": nodes, "ntasks_per_node": tasks}
    if device == "cuda" and not any(key in options for key in GPUS):
        parameters["gpus_per_node"] = tasks
    return parameters | {"setup": setup, "srun_args": srun}


def _value(key: str, value: str) -> Any:
    if key == "mem_gb":
        with contextlib.suppress(ValueError):
            if 0 < float(value) < math.inf:
                return float(value)
        raise _wrong(f"{key}={value}", "a number of GiB above 0", "--slurm mem_gb=16")
    if key in WHOLE and not (value.isdecimal() and int(value) > 0):
        unit = "minutes" if key == "time" else "1 or more"
        raise _wrong(f"{key}={value}", f"a whole number, {unit}", f"--slurm {key}=60")
    if value.isdecimal():
        return int(value)
    return {"true": True, "false": False}.get(value.lower(), value)


def _wrong(text: str, expected: str, fix: str) -> UserError:
    return UserError(f"--slurm {text} cannot be used", found=text, expected=expected, fix=fix)
