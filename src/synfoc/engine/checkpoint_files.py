"""The checkpoints of a run by name, and whether they and what lies beside them are whole.

A checkpoint knows the sum of its tensors, that of base.safetensors, and the config. One that was
cut or flipped, and files of two runs, are told here; what to do without them, too.
"""

from __future__ import annotations

import json
import shlex
import warnings
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from synfoc.config import Config, differences
from synfoc.errors import UserError
from synfoc.headers import header_config, header_json, read_header
from synfoc.models.checkpoints import described, read_tensors
from synfoc.runs import RunFolder, one_line
from synfoc.storage import obstacle, unreadable

NEVER_ASKED = (
    *("data.labeled", "data.test_fraction", "data.split_seed", "data.monitor"),
    *("unet.lr", "unet.momentum", "unet.weight_decay"),
    *("medsam.lr", "medsam.betas", "medsam.weight_decay", "medsam.tokens"),
)
"""Settings that a network which is trained does not need; nor those of `train` and `augment`."""


def find_checkpoint(folder: RunFolder, name: str) -> Path:
    """Path of a checkpoint by name.

    Raises:
        UserError: it is not there; names those that are.
    """
    names = folder.checkpoint_names()
    if name in names:
        return folder.checkpoint(name)
    fix = f"--checkpoint with one of: {', '.join(names)}"
    if name == "best" and names:
        other = "last" if "last" in names else names[-1]
        fix = (
            f"--checkpoint {other}; `best` comes with the first evaluation in the training, which "
        )
        fix += f"goes on with: {folder.resume_command}"
    if not names:
        fix = f"train it again: {_train_again(folder)}"
    raise UserError(
        f"{folder.path} has no checkpoint {name}",
        found=", ".join(names) or "none",
        expected="a file NAME.safetensors in checkpoints/",
        fix=fix,
    )


def other_fix(path: Path) -> str:
    """Return what to do without a checkpoint: name those beside it, or how to train anew."""
    folder, others = RunFolder(path.parent.parent), []
    with suppress(UserError):
        others = [name for name in folder.checkpoint_names() if name != path.stem]
    if others:
        others.sort(key=lambda name: name != "last")
        return f"--checkpoint {others[0]}" + (
            f" (or {', '.join(others[1:])})" if others[1:] else ""
        )
    return f"restore it from a copy, or train again: {_train_again(folder)}"


def _train_again(folder: RunFolder) -> str:
    return f"synfoc train {shlex.quote(str(folder.config))} -o NEW"


def config_of_networks(folder: RunFolder, path: Path) -> Config:
    """Return the config of a run, which must be the one that a checkpoint was made with.

    Where config.yaml cannot be read, a note says so, and that of the checkpoint counts.

    Raises:
        UserError: a setting was changed by which networks answer, or labels are read.
    """
    config, damaged = folder.read_config()
    begun = header_config(path, fix=other_fix(path))
    if damaged:
        note = f"{one_line(damaged)}: the settings are those of the checkpoint; {damaged.fix}"
        warnings.warn(note, stacklevel=3)
        return begun
    changed = [
        one
        for one in differences(begun, config)
        if not one.key.startswith(("train.", "augment.")) and one.key not in NEVER_ASKED
    ]
    if changed:
        key, old, new = changed[0]
        raise UserError(
            f"{folder.config} and {path.name} do not belong together",
            found=f"{key} = {new} in config.yaml ({len(changed)} settings differ)",
            expected=f"{key} = {old}, with which the checkpoint was trained",
            fix=f"set {key} back if it was changed there; if the checkpoint was, restore it",
        )
    return config


def find_base(folder: RunFolder, path: Path) -> Path:
    """Return the file of what is frozen, as it was when a checkpoint was made.

    Raises:
        UserError: it is missing, damaged, or that of another run.
    """
    config = shlex.quote(str(folder.config))
    fix = (
        f"`synfoc train {config} --steps 1 -o NEW` writes the same one, from the same "
        "medsam.weights: copy NEW/base.safetensors to its place"
    )
    expected = "the frozen encoder of this run"
    found = obstacle(folder.base)
    try:
        found = found or _doubt_of_base(folder.base, path)
    except (UserError, SafetensorError, ValueError, KeyError, TypeError) as error:
        found = error.found if isinstance(error, UserError) else str(error)
    if found:
        raise unreadable(folder.base, found, expected=expected, fix=fix)
    return folder.base


def sum_of_base(path: Path) -> str:
    """Sum of the tensors and the header of base.safetensors."""
    with safe_open(path, framework="pt") as file:
        return sum_of(read_tensors(path), file.metadata())


def sum_of(tensors: Mapping[str, Tensor], header: Mapping[str, str] | None = None) -> str:
    """CRC-32 of names, types, shapes and numbers, in which one flipped bit is another sum."""
    total = zlib.crc32(json.dumps(dict(header or {}), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        total = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, total)
    return f"{total:08x}"


def _doubt_of_base(base: Path, path: Path) -> str:
    """Return what is wrong with the frozen tensors beside a checkpoint.

    "" where nothing is known.
    """
    with safe_open(base, framework="pt") as file:
        described((file.metadata() or {})["shape"])
    header = read_header(path, fix=other_fix(path))
    kept = sums_of(path, header).get("base")
    if kept is None:
        infinite = [k for k, v in read_tensors(base).items() if not v.isfinite().all()]
        return f"numbers in {infinite[0]} that are not finite" if infinite else ""
    now = sum_of_base(base)
    return "" if now == kept else f"a damaged file, or that of another run (CRC-32 {now})"


def sums_of(path: Path, header: Mapping[str, str]) -> dict[str, Any]:
    """Return what the header of a checkpoint says of tensors: {networks, base?}."""
    if "sums" not in header:
        return {}  # of an earlier version
    return header_json(dict(header), "sums", path, fix=other_fix(path))


def check_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    """Make sure that networks can answer: a mask of NaN is all background."""
    odd = [k for k, v in state.items() if v.is_floating_point() and not v.isfinite().all()]
    if odd:
        raise UserError(
            f"the networks of {path} cannot answer",
            found=f"numbers that are not finite in {len(odd)} tensors, first {odd[0]}",
            expected="finite weights",
            fix=f"{other_fix(path)}; where training has lost its numbers: --set "
            "train.precision=fp32 in a new run",
        )
