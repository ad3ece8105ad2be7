"""Save and restore everything that a run is, so that a resumed run equals an unbroken one.

A checkpoint is one safetensors file: students, teachers, optimizers, what the method carries from
step to step, and in its header the step, what was best so far and the config (headers.py). Random
numbers need no place in it: batch k follows from (seed, k). What is frozen lies once in the run
folder, in base.safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from synfoc.answers import NETWORKS
from synfoc.config import Config
from synfoc.engine.checkpoint_files import (
    check_finite,
    config_of_networks,
    find_base,
    find_checkpoint,
    other_fix,
    sum_of,
    sums_of,
)
from synfoc.engine.machine import (
    Precision,
    choose_device,
    choose_precision,
    emulated,
    keep_freed_memory,
)
from synfoc.errors import UserError
from synfoc.headers import FORMAT, header_config, header_json, read_header
from synfoc.models.build import Networks, build_networks
from synfoc.records import Count, Number, Record, fault
from synfoc.runs import RunFolder
from synfoc.storage import AnyPath, replacing, unreadable

MEMORY = "memory/"


@dataclass
class Progress:
    """Where a run stands."""

    step: int = 0
    """Steps done."""
    skipped: int = 0
    """Steps left out because their loss was not finite."""
    best_step: int = 0
    best_score: float = float("-inf")
    test_step: int = 0
    """Where the run watches the test set: when the network that the paper deploys was best."""
    test_scores: dict[str, float] = field(default_factory=dict)
    """BranchName -> best Dice of its student on the test set, at `on_test(branch)`."""
    seconds: float = 0.0
    """Time spent in training so far."""
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadedRun:
    """A trained run, ready to answer."""

    path: Path
    config: Config
    networks: Networks
    classes: tuple[str, ...]
    channels: int
    step: int
    device: torch.device
    precision: Precision


def network_state(networks: Networks) -> dict[str, Tensor]:
    """Every tensor that training changes, named `unet.student/...`, `medsam.teacher/...`."""
    state: dict[str, Tensor] = {}
    for name, network in networks.by_name().items():
        state |= {f"{name}/{k}": v for k, v in network.trained_state().items()}
    return state


def save_checkpoint(
    path: Path,
    networks: Networks,
    optimizers: Mapping[str, Optimizer],
    progress: Progress,
    config: Config,
    memory: Mapping[str, Tensor] | None = None,
    *,
    base: str | None = None,
) -> None:
    """Write one checkpoint atomically; `config` goes into its header.

    `memory` is what the method carries from step to step (`methods.interface.Models`), `base` the
    sum of what is frozen (`sum_of_base`), by which the two files know each other.

    Raises:
        UserError: the disk is full; the older checkpoint is untouched.
    """
    state = network_state(networks)
    for name, optimizer in optimizers.items():
        for index, kept in optimizer.state_dict()["state"].items():
            tensors = {k: v for k, v in kept.items() if isinstance(v, Tensor)}
            state |= {f"optimizer.{name}/{index}/{k}": v for k, v in tensors.items()}
    state |= {f"{MEMORY}{name}": tensor for name, tensor in (memory or {}).items()}
    plain = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    sums = {"networks": sum_of(plain)} | ({"base": base} if base else {})
    header = {
        "format": FORMAT,
        "progress": json.dumps(vars(progress)),
        "config": config.model_dump_json(),
        "sums": json.dumps(sums),
    }
    with replacing(path) as part:
        save_file(plain, part, metadata=header)


def load_checkpoint(
    path: Path,
    networks: Networks,
    optimizers: Mapping[str, Optimizer] | None = None,
    memory: dict[str, Tensor] | None = None,
) -> Progress:
    """Restore networks (and optimizers, and on the CPU the method's memory) in place.

    Raises:
        UserError: no such file, damaged, or a checkpoint of other networks.
    """
    header, state = _read(path)
    own = network_state(networks)
    # Earlier versions kept a teacher of every student; one that is not asked stays in the file.
    unasked = {f"{name}.teacher" for name in NETWORKS} - networks.by_name().keys()
    found = {
        k: v
        for k, v in state.items()
        if not k.startswith(("optimizer.", MEMORY)) and k.partition("/")[0] not in unasked
    }
    _check_fit(path, own, found)
    for name, network in networks.by_name().items():
        network.load_trained_state(_part(state, f"{name}/"))
    for name, optimizer in (optimizers or {}).items():
        _restore_optimizer(path, optimizer, _part(state, f"optimizer.{name}/"))
    if memory is not None:
        memory.update(_part(state, MEMORY))
    return _progress(path, header)


def on_test(branch: str) -> str:
    """Name of the checkpoint at which a branch's student was best on the test set."""
    return f"best_on_test_{branch}"


def checkpoint_config(path: Path) -> Config:
    """Return the config that a checkpoint was made with.

    Raises:
        UserError: no such file, damaged, or no checkpoint.
    """
    return header_config(path, fix=other_fix(path))


def read_progress(path: Path) -> Progress:
    """Where the run stood when a checkpoint was made.

    Raises:
        UserError: no such file, damaged, or no checkpoint.
    """
    return _progress(path, read_header(path, fix=other_fix(path)))


def load_run(
    run: AnyPath, *, checkpoint: str = "best", device: str = "auto", precision: str | None = None
) -> LoadedRun:
    """Open a run folder for evaluation or prediction.

    Args:
        run: folder written by `synfoc train`.
        checkpoint: `best`, `last`, or a name such as `step_000500`.
        device: auto, cpu or cuda.
        precision: None: that of the run, or `auto` where this device has no such arithmetic.

    Raises:
        UserError: no run folder, no such checkpoint, device or precision, files that are damaged
            or do not belong together, or weights that are not finite.
    """
    run = Path(run)
    folder = RunFolder.open(run)
    path = find_checkpoint(folder, checkpoint)
    config = config_of_networks(folder, path)
    place = choose_device(device)
    precision = choose_precision(precision or _at_home(config, place), place)
    keep_freed_memory(place)
    classes, channels = config.data.classes, config.data.channels
    if classes is None or channels is None:
        raise UserError(
            f"{folder.config} is not a resolved config",
            found=f"data.classes {classes}, data.channels {channels}",
            expected="names and a number, as `synfoc train` writes them",
            fix="restore config.yaml of this run from a copy",
        )
    networks = build_networks(
        config,
        classes=len(classes),
        channels=channels,
        generator=torch.Generator().manual_seed(config.train.seed),
        base=find_base(folder, path) if config.method.branches != "unet" else None,
        guide=False,
    ).to(place)
    progress = load_checkpoint(path, networks)
    check_finite(path, network_state(networks))
    return LoadedRun(
        path=run,
        config=config,
        networks=networks,
        classes=classes,
        channels=channels,
        step=progress.step,
        device=place,
        precision=precision,
    )


def _at_home(config: Config, device: torch.device) -> str:
    """Return the precision of a run, unless its arithmetic is not that of this device."""
    wanted = config.train.precision
    if wanted == "fp16":
        return "auto" if device.type == "cpu" else wanted
    return "auto" if wanted == "bf16" and emulated(wanted, device) else wanted


class Standing(Record):
    """`Progress` as a header holds it."""

    step: Count
    skipped: Count = 0
    best_step: Count = 0
    best_score: float = 0.0
    test_step: Count = 0
    test_scores: dict[str, float] = Field(default_factory=dict)
    seconds: Number = 0.0
    extra: dict[str, Any] = Field(default_factory=dict)


def _progress(path: Path, header: dict[str, str]) -> Progress:
    """Return what a header tells; earlier versions wrote down more."""
    fix = other_fix(path)
    found = header_json(header, "progress", path, fix=fix)
    if wrong := fault(found, Standing):
        key, value, expected = wrong
        raise unreadable(path, f"{key} = {value}", expected=f"{key}: {expected}", fix=fix)
    known = {f.name for f in fields(Progress)}
    return Progress(**{name: value for name, value in found.items() if name in known})


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of a checkpoint, which must be those that were written."""
    fix = other_fix(path)
    header = read_header(path, fix=fix)
    try:
        with safe_open(path, framework="pt") as file:
            state = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise unreadable(path, str(error), expected="a whole safetensors file", fix=fix) from None
    kept = sums_of(path, header).get("networks")
    if kept is not None and (now := sum_of(state)) != kept:
        raise unreadable(
            path,
            f"numbers that changed since they were written (CRC-32 {now})",
            expected=f"CRC-32 {kept}, as its header says",
            fix=fix,
        )
    return header, state


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _check_fit(path: Path, own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    def shapes(state: Mapping[str, Tensor]) -> set[tuple[str, tuple[int, ...], str]]:
        kinds = {k: str(v.dtype).removeprefix("torch.") for k, v in state.items()}
        return {(k, tuple(v.shape), kinds[k]) for k, v in state.items()}

    odd = sorted(shapes(found) ^ shapes(own))
    if odd:
        name, shape, kind = odd[0]
        raise UserError(
            f"{path} belongs to other networks",
            found=f"{len(odd)} tensors that do not fit, first {name} {list(shape)} {kind}",
            expected="the networks of the run's config.yaml",
            fix=f"restore the config.yaml of this checkpoint, or {other_fix(path)}",
        )


def _restore_optimizer(path: Path, optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition("/")
        if not index.isdecimal() or int(index) >= len(parameters):
            raise unreadable(
                path,
                f"the tensor {key} of an optimizer",
                expected=f"those of {len(parameters)} parameters",
                fix=other_fix(path),
            )
        parameter = parameters[int(index)]
        # Fused kernels pair numbers by their place in memory: channels last where it is so.
        alike = value.shape == parameter.shape
        placed = torch.empty_like(parameter, requires_grad=False).copy_(value) if alike else value
        state.setdefault(int(index), {})[name] = placed
    whole = optimizer.state_dict()
    whole["state"] = state
    optimizer.load_state_dict(whole)
