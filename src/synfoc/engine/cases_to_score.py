"""Which cases an evaluation scores: a run's own test cases, or those of other data."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from synfoc.batches.split import load_split
from synfoc.batches.unlearned import Unlearned, without_labeled
from synfoc.config import Config, parse_config
from synfoc.errors import UserError
from synfoc.images.cases import Case, CaseTable, load_cases, published_codes
from synfoc.images.codes import some
from synfoc.images.paper_sets import paper_set
from synfoc.runs import RunFolder

CODES = ("data.remap", "data.colors")
"""Settings that say what the codes in labels mean."""


def cases_to_score(
    folder: RunFolder, config: Config, data: Path | None, changes: Sequence[str] = ()
) -> tuple[CaseTable, tuple[Case, ...], int]:
    """Find the cases, and tell what was left out of other data and why.

    Args:
        folder: the run.
        config: its config.
        data: other data; None: the test cases of the run.
        changes: `data.remap=...` and `data.colors=...` of the other data.

    Returns:
        Where the cases come from, the cases, and how many of them were in training without a label.

    Raises:
        UserError: a change of another setting or without `data`, or data that cannot be read.
    """
    for change in changes:
        if data is None or change.partition("=")[0].strip() not in CODES:
            raise UserError(
                f"cannot evaluate with --set {change}",
                found="a setting of the run" if data else "no other data",
                expected="data.remap or data.colors beside --data: what the other labels mean",
                fix="leave it out: a run is scored with the settings that it was trained with",
            )
    if data is None:
        own = load_cases(config.data)
        return own, load_split(folder.split, root=own.root, fix=folder.split_fix).test, 0
    # Classes and nesting stay those of the run; layout and codes are found anew: the run may have
    # seen the published files of a set, and these be class indices, or the reverse.
    told = parse_config({"data": config.data.model_dump()}, tuple(changes), source="--set").data
    table = load_cases(told.model_copy(update={"path": data, "set": None}))
    cases = tuple(c for c in table.cases if c.split == "test") or table.cases
    known = paper_set(told.set) if told.set and not told.remap and not told.colors else None
    if known and table.paper is None and published_codes(cases, known):
        table = replace(table, decode=known.decode)
    found = without_labeled(cases, folder.read_split())
    for note in _notes(found):
        warnings.warn(note, stacklevel=3)
    return table, found.cases, found.seen


def _notes(found: Unlearned) -> list[str]:
    notes = []
    if found.labeled:
        names = (
            f"; of {some(found.by_name)} only the names are known: if these are other patients, "
            "name another domain for them in a CSV with columns domain and patient"
        )
        notes.append(
            f"{found.labeled} images are not scored: they, or other images of their patients, were "
            f"labeled in training{names if found.by_name else ''}"
        )
    if found.namesakes:
        notes.append(
            f"patients are scored that have the names of labeled ones ({some(found.namesakes)}), "
            "since no image shows them to be the same; if they are, list the others alone in a CSV "
            "with columns domain and patient"
        )
    if found.seen:
        notes.append(
            f"{found.seen} of {len(found.cases)} images were in training without their label: the "
            "networks know them, and new ones may score lower"
        )
    return notes
