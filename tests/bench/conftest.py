"""A suite of small squares, each cell of which takes a second, and suite folders made by hand."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from synfoc.bench.folder import CellFolder, SuiteFolder, write_failure
from synfoc.bench.scores import COLUMNS
from synfoc.bench.suite import Suite
from synfoc.storage import append_line, write_json, write_text

# domain -> case -> patient
CASES = {"A": {"a1": "p1", "a2": "p1", "a3": "p2"}, "B": {"b1": "q1", "b2": "q2"}}
EYES: dict[str, Any] = {
    "name": "eyes-and-more",
    "data": {
        "eyes": {
            "title": "Eyes_1 & 50 %",
            "path": "eyes",
            "labeled": [{"domain": "A", "count": 2}, {"domain": "B", "count": 2}],
        }
    },
    "methods": {
        "sup": {
            "title": "Supervised",
            "settings": {"method": {"name": "supervised", "branches": "unet"}},
        },
        "synfoc": {"title": "SynFoC", "branches": ["recommended", "unet"]},
    },
    "seeds": [1, 2],
    "protocols": ["honest", "paper"],
}
BASE = {"unet": 0.7, "medsam": 0.8, "fused": 0.75}
Dice = Callable[[CellFolder, str, str, str, str], float]


def plain_dice(cell: CellFolder, branch: str, domain: str, case: str, protocol: str) -> float:
    """0.6 supervised, 0.7 to 0.8 by branch; -0.2 outside the labeled domain; +0.02 per seed; +0.02
    per case of a domain; `paper` has 0.03 more, because it looks at the test set.
    """
    base = 0.6 if cell.method == "sup" else BASE[branch]
    outside = 0.2 * (domain != cell.labeled[0])
    extra = 0.02 * (cell.seed - 1) + 0.02 * (int(case[1:]) - 1)
    return base - outside + extra + 0.03 * (protocol == "paper")


def branches_of(cell: CellFolder) -> tuple[str, ...]:
    alone = cell.config.method.branches
    return ("unet", "medsam", "fused") if alone == "both" else (alone,)


def write_cell(cell: CellFolder, dice: Dice, protocols: tuple[str, ...], cases: Any) -> None:
    """Everything that a finished cell leaves behind, as far as tables read it."""
    run = cell.run
    write_text(run.config, cell.config.to_yaml())
    recommended = branches_of(cell)[-1]
    write_json(run.summary, {"recommended": recommended, "best_step": 200, "steps": 300})
    write_json(run.environment, {"commit": "abc", "device": "cpu", "precision": "fp32"})
    for protocol in protocols:
        write_scores(cell, dice, protocol, cases)
        write_json(cell.metrics(protocol), {"recommended": recommended, "protocol": protocol})
    for step in (100, 200, 300):
        write_evaluation(cell, step)
    write_json(cell.done, {"settings": cell.config.model_dump(mode="json"), "seconds": 1.0})


def write_scores(cell: CellFolder, dice: Dice, protocol: str, cases: Any) -> None:
    """Two classes, 0.05 above and below the Dice of the case; teachers at 0."""
    path = cell.scores(protocol)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, "empty"])
        for domain, patients in cases.items():
            for case, patient in patients.items():
                for branch in branches_of(cell):
                    middle = dice(cell, branch, domain, case, protocol)
                    for name, d in (("cup", middle + 0.05), ("disc", middle - 0.05)):
                        numbers = [d, d - 0.1, 20 * (1 - d), 5 * (1 - d)]
                        first = [case, patient, domain, name, branch]
                        writer.writerow([*first, "student", *numbers, "px", ""])
                        writer.writerow([*first, "teacher", 0, 0, 0, 0, "px", ""])


def write_evaluation(cell: CellFolder, step: int) -> None:
    """Test Dice is best at step 100, every piece of evidence at step 200, equal labels after."""
    t = step / 100
    supervised = cell.method == "sup"
    test = {1: 0.60, 2: 0.58, 3: 0.55}[int(t)]
    evidence = {1: 0.5, 2: 0.7, 3: 0.6}[int(t)]
    append_line(
        cell.run.log,
        {
            "step": step,
            "kind": "evaluation",
            "score": 0.8 if supervised else evidence,
            "labeled_dice": 0.8,
            "agreement": None if supervised else evidence,
            "stability": None if supervised else evidence,
            "test_dice": test,
            "test": {
                branch: {"student": test + 0.01 * i} | ({} if supervised else {"teacher": 0.0})
                for i, branch in enumerate(branches_of(cell))
            },
        },
    )


def merged(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        key: merged(tree[key], value)
        for key, value in changes.items()
        if isinstance(value, dict) and isinstance(tree.get(key), dict)
    }
    return {**tree, **changes, **both}


@pytest.fixture
def make_suite(tmp_path: Path) -> Callable[..., SuiteFolder]:
    """Write the folder of a suite.

    `make_suite({changes of EYES}, dice=..., states={cell name: "failed" | "begun" | "open"})`;
    cells not named are done; `states=None`: none is.
    """

    def make(
        changes: Mapping[str, Any] | None = None,
        *,
        name: str = "out",
        dice: Dice = plain_dice,
        states: Mapping[str, str] | None = {},
        cases: Any = CASES,
    ) -> SuiteFolder:
        suite = Suite.model_validate(merged(EYES, changes or {}))
        folder = SuiteFolder.begin(tmp_path / name, suite, tmp_path / "data")
        for cell in folder.cells:
            state = "open" if states is None else states.get(cell.name, "done")
            if state == "done":
                write_cell(cell, dice, suite.protocols, cases)
            elif state == "failed":
                write_failure(cell, "no memory <left>")
            elif state == "begun":
                write_text(cell.run.config, cell.config.to_yaml())
        return folder

    return make


SUITE = {
    "name": "squares",
    "base": {
        "method": {"batch": 2, "branches": "unet"},
        "unet": {"side": 32, "width": 4},
        "train": {
            "steps": 6,
            "precision": "fp32",
            "log_every": 2,
            "evaluate_every": 3,
            "evaluate_images": 4,
            "checkpoint_every": 2,
        },
    },
    "data": {
        "squares": {
            "path": ".",
            "labeled": [{"domain": "alpha", "count": 4}, {"domain": "beta", "count": 4}],
        }
    },
    "methods": {
        "supervised": {"title": "Supervised U-Net", "settings": {"method": {"name": "supervised"}}},
        "synfoc": {"title": "U-Net alone", "branches": ["recommended"]},
    },
    "seeds": [1],
    "protocols": ["honest", "paper"],
}


@pytest.fixture
def suite_file(tmp_path: Path) -> Callable[..., Path]:
    """Write the suite with some keys replaced."""

    def write(**changes: object) -> Path:
        path = tmp_path / "suite.yaml"
        path.write_text(yaml.safe_dump(SUITE | changes))
        return path

    return write
