"""Best, median and worst test case of each domain, kept as arrays for the report's pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from synfoc.answers import Answer, BranchName
from synfoc.engine.inference import Segmenter
from synfoc.engine.scores import CaseScore
from synfoc.example_files import Example, Kind
from synfoc.images.cases import Case, CaseTable, load_image, load_label
from synfoc.images.files import to_unit
from synfoc.images.geometry import SliceAxis


def make_examples(
    segmenter: Segmenter,
    table: CaseTable,
    cases: Sequence[Case],
    rows: Sequence[CaseScore],
    *,
    recommended: Answer | None,
    slice_axis: SliceAxis = None,
) -> list[Example]:
    """Examples of each domain; at most nine forwards per domain. Nothing is written.

    Args:
        segmenter: networks.
        table: where the cases come from.
        cases: the cases that were scored.
        rows: their scores.
        recommended: whose Dice says what is best and worst, and in which role its branch is drawn;
            None, or one without scores: the mean of all students.
        slice_axis: as in the config.

    Raises:
        UserError: a file has gone since it was scored.
    """
    shown = _shown([row.answer for row in rows], recommended)
    dice = _mean_dice(rows, shown)
    first = recommended[0] if recommended else None
    rank = {
        file: found[first] if first in found else sum(found.values())
        for file, found in dice.items()
    }
    by_domain: dict[str | None, list[Case]] = {}
    for case in cases:
        by_domain.setdefault(case.domain, []).append(case)
    made = []
    for members in by_domain.values():
        members.sort(key=lambda case: (rank[case.id], case.id))
        for kind, case in _pick(members).items():
            made.append(
                _example(segmenter, shown, table, case, kind, dice[case.id], slice_axis=slice_axis)
            )
    return made


def _pick(members: Sequence[Case]) -> dict[Kind, Case]:
    """Three different cases where there are three; sorted from worst to best."""
    picked: dict[Kind, Case] = {"median": members[len(members) // 2]}
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


def _mean_dice(
    rows: Sequence[CaseScore], shown: Sequence[Answer]
) -> dict[str, dict[BranchName, float]]:
    """File id -> branch -> mean Dice over classes (and slices)."""
    found: dict[str, dict[BranchName, list[float]]] = {}
    for row in rows:
        if row.answer in shown:
            found.setdefault(row.file, {}).setdefault(row.answer[0], []).append(row.scores.dice)
    return {file: {b: float(np.mean(v)) for b, v in dice.items()} for file, dice in found.items()}


def _example(
    segmenter: Segmenter,
    wanted: Sequence[Answer],
    table: CaseTable,
    case: Case,
    kind: Kind,
    dice: Mapping[BranchName, float],
    *,
    slice_axis: SliceAxis,
) -> Example:
    image = load_image(case, slice_axis=slice_axis)
    label = load_label(case, table, like=image).pixels.astype(np.uint8, copy=False)
    most = int(np.count_nonzero(label, axis=(1, 2)).argmax())
    pixels = to_unit(image)[most : most + 1]
    masks = segmenter.segment(pixels, wanted).labels
    picture = np.rint(pixels[0] * 255).astype(np.uint8)
    return Example(
        case=case.id,
        domain=case.domain,
        kind=kind,
        image=picture[..., 0] if picture.shape[-1] == 1 else picture,
        label=label[most].copy(),  # not with all other slices of its volume
        masks={branch: mask[0] for (branch, _), mask in masks.items()},
        dice=dice,
        spacing=image.spacing and image.spacing[1:],
    )
