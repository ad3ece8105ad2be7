"""Best, median and worst test case of each domain, kept as arrays for the report's pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from synfoc.answers import Answer
from synfoc.engine.inference import Segmenter
from synfoc.engine.scores import CaseScore
from synfoc.images.cases import Case, CaseTable, load_image, load_label
from synfoc.images.files import to_unit
from synfoc.runs import RunFolder, save_example


def save_examples(
    folder: RunFolder,
    segmenter: Segmenter,
    table: CaseTable,
    cases: Sequence[Case],
    rows: Sequence[CaseScore],
    *,
    recommended: Answer | None,
    slice_axis: int | None = None,
) -> None:
    """Replace the examples of a run; at most nine forwards per domain.

    Args:
        folder: the run.
        segmenter: its networks.
        table: where the cases come from.
        cases: the cases that were scored.
        rows: their scores.
        recommended: whose Dice says what is best and worst, and in which role its branch is drawn;
            None, or one without scores: the mean of all students.
        slice_axis: as in the config.

    Raises:
        UserError: the disk is full, or a file has gone since it was scored.
    """
    for old in folder.example(None, "best").parent.glob("*.npz"):
        old.unlink()
    shown = _shown([row.answer for row in rows], recommended)
    dice = _mean_dice(rows, shown)
    branch = recommended[0] if recommended else ""
    rank = {file: found.get(branch, sum(found.values())) for file, found in dice.items()}
    by_domain: dict[str | None, list[Case]] = {}
    for case in cases:
        by_domain.setdefault(case.domain, []).append(case)
    for domain, members in by_domain.items():
        members.sort(key=lambda case: (rank[case.id], case.id))
        for kind, case in _pick(members).items():
            info = {"case": case.id, "domain": domain, "kind": kind, "dice": dice[case.id]}
            _save(
                folder.example(domain, kind), segmenter, shown,
                table=table, case=case, info=info, slice_axis=slice_axis,
            )  # fmt: skip


def _pick(members: Sequence[Case]) -> dict[str, Case]:
    """Three different cases where there are three; sorted from worst to best."""
    picked = {"median": members[len(members) // 2]}
    if len(members) > 1:
        picked["worst"] = members[0]
    if len(members) > 2:
        picked["best"] = members[-1]
    return picked


def _shown(answers: Sequence[Answer], recommended: Answer | None) -> list[Answer]:
    """One answer per branch: what is recommended, or the student."""
    branches = list(dict.fromkeys(branch for branch, _ in answers))
    chosen = dict([recommended]) if recommended and recommended in answers else {}
    return [(branch, chosen.get(branch, "student")) for branch in branches]


def _mean_dice(rows: Sequence[CaseScore], shown: Sequence[Answer]) -> dict[str, dict[str, float]]:
    """File id -> branch -> mean Dice over classes (and slices)."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row.answer in shown:
            found.setdefault(row.file, {}).setdefault(row.answer[0], []).append(row.scores.dice)
    return {file: {b: float(np.mean(v)) for b, v in dice.items()} for file, dice in found.items()}


def _save(
    path: Path,
    segmenter: Segmenter,
    wanted: Sequence[Answer],
    *,
    table: CaseTable,
    case: Case,
    info: dict[str, Any],
    slice_axis: int | None,
) -> None:
    image = load_image(case, slice_axis=slice_axis)
    label = load_label(case, table, like=image).pixels.astype(np.uint8, copy=False)
    most = int(np.count_nonzero(label, axis=(1, 2)).argmax())
    pixels = to_unit(image)[most : most + 1]
    masks = segmenter.segment(pixels, wanted).labels
    if image.spacing:
        info = info | {"spacing": image.spacing[1:]}
    picture = np.rint(pixels[0] * 255).astype(np.uint8)
    save_example(
        path,
        picture[..., 0] if picture.shape[-1] == 1 else picture,
        label[most],
        {branch: mask[0] for (branch, _), mask in masks.items()},
        info,
    )
