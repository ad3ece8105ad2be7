"""Where the scores of a run are written: into the run, or into a folder of their own.

Both have the same files: metrics.json, evaluation/cases.csv, evaluation/estimates.csv and
evaluation/pictures/ (runs.py). A folder of its own also says which run was scored.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synfoc.case_tables import CASE_COLUMNS, METRICS
from synfoc.engine.scores import CaseEstimate, CaseScore
from synfoc.errors import UserError
from synfoc.example_files import Example, save_example
from synfoc.runs import RunFolder
from synfoc.storage import write_json, write_table

OWN = {"metrics.json", "evaluation", "pictures", "report.html"}
"""All that a folder of scores may hold."""


@dataclass(frozen=True)
class Evaluation:
    """What was found of a run, by file of its folder; nothing is written yet."""

    metrics: dict[str, Any]
    """metrics.json."""
    rows: Sequence[CaseScore]
    """evaluation/cases.csv."""
    estimates: Sequence[CaseEstimate]
    """evaluation/estimates.csv."""
    examples: Sequence[Example]
    """evaluation/pictures/."""


def scores_folder(folder: RunFolder, out: Path | None, images: Sequence[Path]) -> RunFolder:
    """Return the folder that takes the scores of a run, looked at before anything is scored.

    Args:
        folder: the run.
        out: a new folder, or one of an earlier evaluation; None: the run.
        images: folders of images, in which nothing may be written; a CSV is none.

    Raises:
        UserError: it cannot be written, or holds something else.
    """
    if out is None:
        _check_writable(folder, f"synfoc evaluate {folder.quoted} --out DIR")
        return folder
    target = RunFolder(out, scored=folder.path)
    real = out.resolve()
    if real == folder.path.resolve():
        raise _not_for_scores(out, "the run itself", "leave --out out: the run takes its scores")
    for images_of in images:
        if images_of.is_dir() and real.is_relative_to(images_of.resolve()):
            found = f"a place among the images of {images_of}"
            raise _not_for_scores(out, found, "choose another --out")
    if out.is_file():
        raise _not_for_scores(out, "a file", "choose another --out")
    names = {p.name for p in out.iterdir() if p.name[0] != "."} if out.is_dir() else set()
    if names - OWN or (names and "metrics.json" not in names):
        found = ", ".join(sorted(names)[:4])
        raise _not_for_scores(out, found, "choose another --out")
    _check_writable(target, "choose another --out")
    return target


def _not_for_scores(out: Path, found: str, fix: str) -> UserError:
    expected = "a new or an empty folder, or one of an earlier `synfoc evaluate --out`"
    return UserError(f"scores cannot go to {out}", found=found, expected=expected, fix=fix)


def _check_writable(folder: RunFolder, fix: str) -> None:
    """Make sure that files can be made in a folder, which may not be there yet."""
    there = folder.path.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    for place in (there, folder.cases.parent, folder.example_folder):
        if place.exists() and not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
            raise UserError(
                f"cannot write scores into {place}",
                found="a file" if place.is_file() else "a folder that may only be read",
                expected="a folder in which you may create files",
                fix=fix,
            )
    for file in (folder.metrics, folder.cases, folder.estimates):
        if file.is_dir():
            raise UserError(
                f"cannot write {file}",
                found="a folder of this name",
                expected="a file, or nothing",
                fix=f"move it away: mv {shlex.quote(str(file))} elsewhere",
            )


def write_evaluation(folder: RunFolder, found: Evaluation) -> None:
    """Put scores, estimates and examples in the place of earlier ones.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    write_cases(folder.cases, found.rows)
    write_estimates(folder.estimates, found.estimates)
    _replace_examples(folder, found.examples)
    write_json(folder.metrics, found.metrics)


def _replace_examples(folder: RunFolder, examples: Sequence[Example]) -> None:
    """Write examples in the place of those that a run has.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    before = set(folder.example_folder.glob("*.npz"))
    for example in examples:
        path = folder.example(example.domain, example.kind)
        save_example(path, example)
        before.discard(path)
    for old in before:
        old.unlink()


def write_cases(path: Path, rows: Sequence[CaseScore]) -> None:
    """One line per case, class and answer."""
    lines = []
    for row in rows:
        numbers = [f"{getattr(row.scores, metric):.6g}" for metric in METRICS]
        names = [row.case, row.patient, row.domain, row.class_name, *row.answer]
        lines.append([*names, *numbers, row.unit, row.scores.empty])
    write_table(path, CASE_COLUMNS, lines)


def write_estimates(path: Path, rows: Sequence[CaseEstimate]) -> None:
    """One line per case and answer: the columns of evaluation/estimates.csv (runs.py)."""
    columns = ["case", "domain", "branch", "role", "estimated_dice"]
    write_table(path, columns, [[r.case, r.domain, *r.answer, f"{r.dice:.4f}"] for r in rows])
