"""SUITE.yaml -> what is compared, as cells: data set x labeled images x method x seed.

suites/small.yaml is an example, docs/bench.md names every key. Every cell's config is built
when the suite is read, so that a wrong setting is told before the first run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import yaml
from pydantic import Field, ValidationError, model_validator

from synfoc.config import (
    Config,
    Labeled,
    Section,
    changed,
    listed,
    parse_config,
    read_tree,
)
from synfoc.config_errors import config_error
from synfoc.errors import UserError

Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Protocol: TypeAlias = Literal["honest", "paper"]
Answering: TypeAlias = Literal["recommended", "unet", "medsam", "fused"]
OWN = ("data.path", "data.labeled", "train.seed", "train.watch_test")
"""Settings that a suite gives to each cell."""
MOST_CELLS = 10_000
"""Years of training; more are a mistake in `seeds`."""
Tree: TypeAlias = dict[str, Any]
"""Settings as in a config: section -> key -> value."""


class DataSet(Section):
    """Images, and which of them are labeled."""

    path: Path
    """Below the folder that `--data` names."""
    title: str | None = None
    labeled: Annotated[tuple[Labeled, ...], Field(min_length=1)]
    """One column of the table each."""
    config: Path | None = None
    """A config whose settings this data set begins with; relative to the suite's file."""
    settings: Tree = Field(default_factory=dict)
    published: str | None = None
    """Name of this data set in the paper's tables."""


class MethodRow(Section):
    """One run per cell, and one row of the table per branch of it."""

    title: str
    settings: Tree = Field(default_factory=dict)
    branches: Annotated[tuple[Answering, ...], Field(min_length=1)] = ("recommended",)
    """Whose scores are shown. `recommended`: the run's own choice under `honest`; under `paper`
    the foundation model, as in the paper, or the only network there is."""
    published: dict[Answering, str] = Field(default_factory=dict)
    """BranchName -> name of this method in the paper's tables."""


class Suite(Section):
    """What is compared with what."""

    name: Key
    data: Annotated[dict[Key, DataSet], Field(min_length=1)]
    methods: Annotated[dict[Key, MethodRow], Field(min_length=1)]
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (1,)
    protocols: Annotated[tuple[Protocol, ...], Field(min_length=1)] = ("honest",)
    """`honest`: checkpoint and branch chosen without test labels, `evaluate`'s default scoring.
    `paper`: the checkpoint that is best on the test set, slices in pixels, to stand beside the
    paper's numbers."""
    reference: Key | None = None
    """Method that the others are tested against; None: `synfoc` if there is one, else the first."""
    base: Tree = Field(default_factory=dict)
    """Settings of every cell; those of the data set, then of the method, come on top."""
    changes: tuple[str, ...] = ()
    """`key.sub=value` on top of all these: what `--set` named."""

    @model_validator(mode="after")
    def _consistent(self) -> Suite:
        if self.reference is not None and self.reference not in self.methods:
            raise ValueError(f"reference {self.reference} is none of the methods")
        for numbers in (self.seeds, self.protocols):
            if len(set(numbers)) < len(numbers):
                raise ValueError(f"named twice: {numbers}")
        settings: dict[str, Tree] = {"base": self.base}
        settings |= {f"data.{key}.settings": data.settings for key, data in self.data.items()}
        settings |= {f"methods.{key}.settings": row.settings for key, row in self.methods.items()}
        for place, tree in settings.items():
            if _without_own(tree) != tree:
                raise ValueError(
                    f"{place} cannot name {', '.join(OWN)}: the suite gives these to each cell, by "
                    "data, seeds and protocols (paper watches the test set)"
                )
        for key, data in self.data.items():
            if len({label_name(choice) for choice in data.labeled}) < len(data.labeled):
                raise ValueError(f"data.{key}.labeled names one choice twice")
        labeled = sum(len(data.labeled) for data in self.data.values())
        cells = labeled * len(self.methods) * len(self.seeds)
        if cells > MOST_CELLS:
            raise ValueError(f"{cells} cells: a suite has at most {MOST_CELLS}")
        return self

    @property
    def against(self) -> str:
        """Key of the method that the others are tested against."""
        return self.reference or (
            "synfoc" if "synfoc" in self.methods else next(iter(self.methods))
        )

    def to_yaml(self) -> str:
        """YAML that `load_suite` reads back to an equal suite."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


@dataclass(frozen=True)
class Cell:
    """One run of a suite."""

    data: str
    labeled: str
    method: str
    seed: int
    config: Config

    @property
    def name(self) -> str:
        """`fundus_disc/IDRiD-10/synfoc/seed1`: its place below `cells/`."""
        return f"{self.data}/{self.labeled}/{self.method}/seed{self.seed}"


def label_name(labeled: Labeled) -> str:
    """`IDRiD-10`, `IDRiD-3-patients`, `all`, or the name of the list."""
    if labeled.list:
        return labeled.list.stem
    number = labeled.count or labeled.patients
    parts = [labeled.domain or "all", str(number) if number else ""]
    parts.append("patients" if labeled.patients else "")
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join(part for part in parts if part))


def load_suite(path: Path, changes: str | Sequence[str] = ()) -> Suite:
    """Read a suite; `changes` are `key.sub=value` on top of what it says of every cell.

    Raises:
        UserError: no such file, not YAML, an unknown key, a value of the wrong type or range, or a
            change of what tells the cells apart.
    """
    changes = listed(changes)
    for change in changes:
        _refuse_own(change)
    tree = read_tree(
        path,
        "suite",
        example="suites/small.yaml",
        expected="name, data, methods, and perhaps base, seeds, protocols, reference",
    )
    try:
        suite = Suite.model_validate(tree)
    except ValidationError as error:
        raise config_error(error.errors()[0], str(path), _known(tree)) from None
    data = {key: _with_config(data, path.parent) for key, data in suite.data.items()}
    return suite.model_copy(update={"data": data, "changes": (*suite.changes, *changes)})


def cells_of(suite: Suite, root: Path) -> list[Cell]:
    """All cells, the seeds outermost, so that a suite that is stopped early has whole tables.

    Args:
        suite: what is compared.
        root: folder that the data sets' paths are below.

    Raises:
        UserError: the settings of a cell are no config.
    """
    return [
        Cell(
            key, label_name(labeled), method, seed, _config(suite, root, key, labeled, method, seed)
        )
        for seed in suite.seeds
        for key, data in suite.data.items()
        for labeled in data.labeled
        for method in suite.methods
    ]


def _refuse_own(change: str) -> None:
    """Stop at a change of every cell that says what differs from cell to cell."""
    key = change.partition("=")[0].strip()
    if key.startswith(OWN):
        raise UserError(
            f"--set {change} cannot hold for every cell",
            found=key,
            expected="a setting that all cells share, such as train.steps",
            fix="edit data, seeds or protocols in the suite's file",
        )


def _with_config(data: DataSet, beside: Path) -> DataSet:
    """Return the data set with the settings of its config file written out."""
    if data.config is None:
        return data
    tree = read_tree(
        beside / data.config,
        "config",
        example="configs/fundus.yaml",
        expected="sections of a config",
    )
    settings = _merged(_without_own(tree), data.settings)
    return data.model_copy(update={"config": None, "settings": settings})


def _without_own(tree: Tree) -> Tree:
    """Return settings without those that a suite gives to each cell."""
    return {
        section: {key: value for key, value in keys.items() if f"{section}.{key}" not in OWN}
        if isinstance(keys, dict)
        else keys
        for section, keys in tree.items()
    }


def _known(tree: Tree) -> list[str]:
    """Every key that this suite may have."""
    found = list(Suite.model_fields)
    for section, model in (("data", DataSet), ("methods", MethodRow)):
        entries = tree.get(section)
        for key in entries if isinstance(entries, dict) else ():
            found += [f"{section}.{key}.{name}" for name in model.model_fields]
    return found


def _config(suite: Suite, root: Path, key: str, labeled: Labeled, method: str, seed: int) -> Config:
    data = suite.data[key]
    own: Tree = {
        "data": {"path": str(root / data.path), "labeled": labeled.model_dump(mode="json")},
        "train": {"seed": seed, "watch_test": "paper" in suite.protocols},
    }
    tree: Tree = {}
    for settings in (suite.base, data.settings, suite.methods[method].settings):
        tree = _merged(tree, settings)
    for change in suite.changes:
        tree = changed(tree, change)
    source = f"suite {suite.name}: {key}, {method}"
    if flat := {k: value for k, value in tree.items() if not isinstance(value, dict)}:
        parse_config({**own, **flat}, source=source)  # merged, `own` would take its place
    return parse_config(_merged(tree, own), source=source)


def _merged(tree: Tree, other: Tree) -> Tree:
    both = {
        k: _merged(tree[k], other[k])
        for k in tree.keys() & other.keys()
        if _mappings(tree[k], other[k])
    }
    return {**tree, **other, **both}


def _mappings(*values: object) -> bool:
    return all(isinstance(value, dict) for value in values)
