"""From a config as the user wrote it to one in which nothing is left open."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synfoc.batches.split import Split, load_split, make_split
from synfoc.config import Config, load_config
from synfoc.errors import UserError
from synfoc.images.cases import CaseTable, load_cases, name_classes
from synfoc.images.files import read_image
from synfoc.runs import RunFolder


@dataclass(frozen=True)
class Prepared:
    """Data read and split, and the config with classes, channels and method decided."""

    config: Config
    table: CaseTable
    split: Split
    notices: tuple[str, ...]
    """What the user should know before the first step."""


def prepare(config: Config, stored_split: Path | None = None) -> Prepared:
    """Find the cases, split them, and fill in what the data decide.

    Args:
        config: as the user wrote it, or the resolved one of a run.
        stored_split: split.json of the run that goes on; its files must not have changed.

    Raises:
        UserError: see `load_cases`, `make_split` and `load_split`.
    """
    table = load_cases(config.data)
    if stored_split is None:
        split = make_split(table, config.data, config.train.seed)
    else:
        split = load_split(stored_split, verify=True)
    table = name_classes(table, split.labeled, slice_axis=config.data.slice_axis)
    method: dict[str, Any] = {}
    notices = list(table.notices)
    if not split.unlabeled and config.method.name != "supervised":
        notices.append(
            "no unlabeled image was found: training is supervised only "
            "(images without label go into the same folders, see docs/data.md)"
        )
        method["name"] = "supervised"
    paper = table.paper
    data = {
        "classes": table.classes,
        "nested": table.nested,
        "channels": config.data.channels or (paper.channels if paper else _channels(split)),
    }
    resolved = config.model_copy(
        update={
            "data": config.data.model_copy(update=data),
            "method": config.method.model_copy(update=method),
        }
    )
    return Prepared(resolved, table, split, tuple(notices))


def _channels(split: Split) -> int:
    """3 if any of a few images of each kind is in color, else 1."""
    few = [*split.labeled[:4], *split.unlabeled[:: max(1, len(split.unlabeled) // 8)][:8]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return 3 if any(read_image(case.image).pixels.ndim == 4 for case in few) else 1


def stored_config(folder: RunFolder, config: Config | None) -> Config:
    """The config that a run was begun with.

    Args:
        folder: a run.
        config: None, or what the user gives again; it must say the same.

    Raises:
        UserError: the given config differs; the run cannot go on with it.
    """
    stored = load_config(folder.config)
    if config is None:
        return stored
    data = {k: getattr(stored.data, k) for k in ("classes", "nested", "channels")}
    same = config.model_copy(update={"data": config.data.model_copy(update=data)})
    old, new = stored.model_dump(), same.model_dump()
    changed = [(s, k) for s in old for k in old[s] if old[s][k] != new[s][k]]
    if changed:
        section, key = changed[0]
        raise UserError(
            f"{folder.path} was begun with other settings",
            found=f"{section}.{key} = {new[section][key]} ({len(changed)} differ)",
            expected=f"{section}.{key} = {old[section][key]}",
            fix=f"synfoc train --resume {folder.path}, without settings; or choose a new --out",
        )
    return stored
