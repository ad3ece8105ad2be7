"""Best, median and worst test case of each domain, kept as arrays for the report's pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

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
    branch: str | None,
    slice_axis: int | None = None,
) -> None:
    """Replace the examples of a run; at most nine forwards per domain.

    Args:
        folder: the run.
        segmenter: its networks.
        table: where the cases come from.
        cases: the cases that were scored.
        rows: their scores.
        branch: whose Dice says what is best and worst; one without scores: the mean of all.
        slice_axis: as in the config.

    Raises:
        UserError: the disk is full, or a file has gone since it was scored.
    """
    for old in folder.example(None, "best").parent.glob("*.npz"):
        old.unlink()
    dice = _mean_dice(rows)
    rank = {file: found.get(branch or "", sum(found.values())) for file, found in dice.items()}
    by_domain: dict[str | None, list[Case]] = {}
    for case in cases:
        by_domain.setdefault(case.domain, []).append(case)
    for domain, members in by_domain.items():
        members.sort(key=lambda case: (rank[case.id], case.id))
        for kind, case in _pick(members).items():
            info = {"case": case.id, "domain": domain, "kind": kind, "dice": dice[case.id]}
            _save(
                folder.example(domain, kind), segmenter,
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


def _mean_dice(rows: Sequence[CaseScore]) -> dict[str, dict[str, float]]:
    """File id -> branch -> mean Dice of its students over classes (and slices)."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        branch, role = row.answer
        if role == "student":
            found.setdefault(row.file, {}).setdefault(branch, []).append(row.scores.dice)
    return {file: {b: float(np.mean(v)) for b, v in dice.items()} for file, dice in found.items()}


def _save(
    path: Path,
    segmenter: Segmenter,
    *,
    table: CaseTable,
    case: Case,
    info: dict[str, Any],
    slice_axis: int | None,
) -> None:
    image = load_image(case, slice_axis=slice_axis)
    label = load_label(case, table, like=image).pixels.astype(np.uint8, copy=False)
    shown = int(np.count_nonzero(label, axis=(1, 2)).argmax())
    pixels = to_unit(image)[shown : shown + 1]
    wanted = [a for a in segmenter.answers() if a[1] == "student" and a[0] in info["dice"]]
    masks = segmenter.segment(pixels, wanted).labels
    if image.spacing:
        info = info | {"spacing": image.spacing[1:]}
    picture = np.rint(pixels[0] * 255).astype(np.uint8)
    save_example(
        path,
        picture[..., 0] if picture.shape[-1] == 1 else picture,
        label[shown],
        {branch: mask[0] for (branch, _), mask in masks.items()},
        info,
    )
