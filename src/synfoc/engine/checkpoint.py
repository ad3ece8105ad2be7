"""Save and restore everything that a run is, so that a resumed run equals an unbroken one.

A checkpoint is one safetensors file: students, teachers, optimizers, what the method carries from
step to step, and in its header the step, what was best so far and the config. Random numbers need
no place in it: batch k follows from (seed, k). What is frozen lies once in the run folder, in
base.safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from synfoc.config import Config, load_config, parse_config
from synfoc.engine.machine import (
    Precision,
    choose_device,
    choose_precision,
    emulated,
    keep_freed_memory,
)
from synfoc.errors import UserError
from synfoc.models.build import Networks, build_networks
from synfoc.models.sam import PromptFreeSam
from synfoc.runs import RunFolder
from synfoc.storage import AnyPath, replacing

FORMAT = "synfoc checkpoint 2"
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
    """Branch -> best Dice of its student on the test set, at `on_test(branch)`."""
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
    for name, network in networks.present().items():
        own = (
            network.trained_state() if isinstance(network, PromptFreeSam) else network.state_dict()
        )
        state |= {f"{name}/{k}": v for k, v in own.items()}
    return state


def save_checkpoint(
    path: Path,
    networks: Networks,
    optimizers: Mapping[str, Optimizer],
    progress: Progress,
    config: Config,
    memory: Mapping[str, Tensor] | None = None,
) -> None:
    """Write one checkpoint atomically; `config` goes into its header.

    `memory` is what the method carries from step to step (`methods.interface.Models`).

    Raises:
        UserError: the disk is full; the older checkpoint is untouched.
    """
    state = network_state(networks)
    for name, optimizer in optimizers.items():
        for index, kept in optimizer.state_dict()["state"].items():
            tensors = {k: v for k, v in kept.items() if isinstance(v, Tensor)}
            state |= {f"optimizer.{name}/{index}/{k}": v for k, v in tensors.items()}
    state |= {f"{MEMORY}{name}": tensor for name, tensor in (memory or {}).items()}
    header = {
        "format": FORMAT,
        "progress": json.dumps(vars(progress)),
        "config": config.model_dump_json(),
    }
    plain = {k: v.detach().cpu().contiguous() for k, v in state.items()}
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
    unasked = {"unet.teacher", "medsam.teacher"} - networks.present().keys()
    found = {
        k: v
        for k, v in state.items()
        if not k.startswith(("optimizer.", MEMORY)) and k.partition("/")[0] not in unasked
    }
    _check_fit(path, own, found)
    for name, network in networks.present().items():
        own = _part(state, f"{name}/")
        if isinstance(network, PromptFreeSam):
            network.load_trained_state(own)
        else:
            network.load_state_dict(own)
    for name, optimizer in (optimizers or {}).items():
        _restore_optimizer(optimizer, _part(state, f"optimizer.{name}/"))
    if memory is not None:
        memory.update(_part(state, MEMORY))
    return _progress(header)


def on_test(branch: str) -> str:
    """Name of the checkpoint at which a branch's student was best on the test set."""
    return f"best_on_test_{branch}"


def checkpoint_config(path: Path) -> Config:
    """The config that a checkpoint was made with.

    Raises:
        UserError: no such file, damaged, or no checkpoint.
    """
    header, _ = _read(path, tensors=False)
    return parse_config(json.loads(header["config"]), source=str(path))


def read_progress(path: Path) -> Progress:
    """Where the run stood when a checkpoint was made.

    Raises:
        UserError: no such file, damaged, or no checkpoint.
    """
    header, _ = _read(path, tensors=False)
    return _progress(header)


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
        UserError: no run folder, no such checkpoint, device or precision, or files that do not
            belong together.
    """
    run = Path(run)
    folder = RunFolder.open(run)
    config = load_config(folder.config)
    place = choose_device(device)
    precision = choose_precision(precision or _at_home(config, place), place)
    keep_freed_memory(place)
    classes, channels = config.data.classes, config.data.channels
    if classes is None or channels is None:
        raise UserError(
            f"{folder.config} is not a resolved config",
            found=f"data.classes {classes}, data.channels {channels}",
            expected="names and a number, as `synfoc train` writes them",
            fix="restore config.yaml of this run, or train again",
        )
    networks = build_networks(
        config,
        classes=len(classes),
        channels=channels,
        generator=torch.Generator().manual_seed(config.train.seed),
        base=folder.base if folder.base.is_file() else None,
        guide=False,
    ).to(place)
    progress = load_checkpoint(find_checkpoint(folder, checkpoint), networks)
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
    """The precision of a run, unless its arithmetic is not that of this device."""
    wanted = config.train.precision
    if wanted == "fp16":
        return "auto" if device.type == "cpu" else wanted
    return "auto" if wanted == "bf16" and emulated(wanted, device) else wanted


def find_checkpoint(folder: RunFolder, name: str) -> Path:
    """Path of a checkpoint by name.

    Raises:
        UserError: it is not there; names those that are.
    """
    path = folder.checkpoint(name)
    if not path.is_file():
        names = sorted(p.stem for p in folder.checkpoints.glob("[!.]*.safetensors"))
        raise UserError(
            f"{folder.path} has no checkpoint {name}",
            found=", ".join(names) or "none",
            expected="a file in checkpoints/",
            fix="wait for the first checkpoint, or name one of those found",
        )
    return path


def _progress(header: Mapping[str, str]) -> Progress:
    """What a header tells; earlier versions wrote down more."""
    found, known = json.loads(header["progress"]), {f.name for f in fields(Progress)}
    return Progress(**{name: value for name, value in found.items() if name in known})


def _read(path: Path, *, tensors: bool = True) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of a checkpoint."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state = {k: file.get_tensor(k) for k in file.keys()} if tensors else {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"cannot read checkpoint {path}",
            found=str(error),
            expected="a whole safetensors file",
            fix="use another checkpoint of this run",
        ) from None
    if header.get("format") != FORMAT:
        raise UserError(
            f"{path} is not a checkpoint of this synfoc",
            found=f"format {header.get('format')}",
            expected=FORMAT,
            fix="name a file in the checkpoints/ folder of a run of this version",
        )
    return header, state


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _check_fit(path: Path, own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    def shapes(state: Mapping[str, Tensor]) -> set[tuple[str, tuple[int, ...]]]:
        return {(k, tuple(v.shape)) for k, v in state.items()}

    odd = sorted(shapes(found) ^ shapes(own))
    if odd:
        name, shape = odd[0]
        raise UserError(
            f"{path} belongs to other networks",
            found=f"{len(odd)} tensors that do not fit, first {name} {list(shape)}",
            expected="the networks of the run's config.yaml",
            fix="restore the config.yaml of this checkpoint, or train again",
        )


def _restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split("/")
        parameter = parameters[int(index)]
        # Fused kernels pair numbers by their place in memory: channels last where it is so.
        alike = value.shape == parameter.shape
        placed = torch.empty_like(parameter, requires_grad=False).copy_(value) if alike else value
        state.setdefault(int(index), {})[name] = placed
    whole = optimizer.state_dict()
    whole["state"] = state
    optimizer.load_state_dict(whole)
