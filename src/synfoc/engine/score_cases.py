"""Networks in memory and cases -> scores and estimates per case, class and answer.

    images -> label maps of every answer -> scores of each class -> mean per domain -> over domains

Images of any size share forwards; a label is read when its image is asked about, and let go.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from synfoc.answers import Answer
from synfoc.batches.resize import resize_labels
from synfoc.engine.estimate import Calibration
from synfoc.engine.inference import Segmenter
from synfoc.engine.metrics import Protocol
from synfoc.engine.scores import (
    CaseEstimate,
    CaseScore,
    estimate_case,
    score_case,
    scored_classes,
    summarize,
)
from synfoc.errors import UnreadableError, UserError
from synfoc.images.cases import Case, CaseTable, load_image, load_label
from synfoc.images.files import Stack, to_unit
from synfoc.images.geometry import SliceAxis

Progress: TypeAlias = Callable[[int, int, str], None]
ONE_DOMAIN = "all"


def evaluate_networks(
    segmenter: Segmenter,
    table: CaseTable,
    cases: Sequence[Case],
    wanted: Sequence[Answer],
    *,
    protocol: Protocol = "honest",
    slice_axis: SliceAxis = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Score networks in memory: {unit, classes, cases, branches} of metrics.json.

    Args:
        segmenter: the networks.
        table: where the cases come from; it knows what their label codes mean.
        cases: cases; those without a label are passed over.
        wanted: the answers to score.
        protocol: honest or paper.
        slice_axis: as in the config.
        seed: of the bootstrap.

    Raises:
        UserError: an image or label cannot be read, or a label does not fit the classes.
    """
    classes = table.classes or tuple(f"class {c + 1}" for c in range(segmenter.classes))
    labeled = [case for case in cases if case.labels]
    rows, _ = score_cases(
        segmenter, table, labeled, wanted, classes=classes, protocol=protocol,
        slice_axis=slice_axis,
    )  # fmt: skip
    return summarize(rows, scored_classes(rows) or classes, seed=seed)


def score_cases(
    segmenter: Segmenter,
    table: CaseTable,
    cases: Sequence[Case],
    wanted: Sequence[Answer],
    *,
    classes: Sequence[str],
    protocol: Protocol = "honest",
    slice_axis: SliceAxis = None,
    calibration: Mapping[Answer, Calibration] | None = None,
    progress: Progress | None = None,
    refuse: Callable[[Case, UserError], None] | None = None,
) -> tuple[list[CaseScore], list[CaseEstimate]]:
    """Scores of every labeled case, class and answer; estimates of every case and answer.

    Arguments and errors as in `evaluate_networks`. An answer without a calibration has no
    estimate. `progress` is called with (done, total, case) before each case and once at the end;
    `refuse` with a case of which a file cannot be read, and why: without it the error ends all.
    """
    side = segmenter.networks.sides.unet
    size = (side, side) if protocol == "paper" else None
    known = calibration or {}
    asked = {answer: known[answer] for answer in wanted if answer in known}
    rows: list[CaseScore] = []
    estimates: list[CaseEstimate] = []
    for group in segmenter.grouped(_read(cases, table, slice_axis, progress, refuse)):
        images = [to_unit(image) for image, _ in group]
        answered = segmenter.segment_all(images, wanted, size=size, evidence=bool(known))
        for (image, (case, pixels)), found in zip(group, answered, strict=True):
            volume = image.volume and protocol == "honest"
            estimates += _estimated(case, found.tallies, asked, volume=volume)
            if pixels is None:
                continue
            label = resize_labels(torch.from_numpy(pixels), side).numpy() if size else pixels
            rows += _scored(
                case,
                found.labels,
                label,
                classes=classes,
                nested=segmenter.nested,
                spacing=image.spacing if protocol == "honest" else None,
                volume=volume,
                protocol=protocol,
            )
    if progress:
        progress(len(cases), len(cases), "")
    rows = _of_classes_that_occur(rows)
    # An estimate stands beside a score: both are means over the same classes.
    counted = [classes.index(name) for name in scored_classes(rows)] or range(len(classes))
    return rows, [replace(e, parts=tuple(e.parts[c] for c in counted)) for e in estimates]


def _estimated(
    case: Case,
    tallies: Mapping[Answer, NDArray[np.float64]],
    asked: Mapping[Answer, Calibration],
    *,
    volume: bool,
) -> list[CaseEstimate]:
    """Estimates of a case, or of each of its slices, for every answer that was calibrated."""
    return [
        CaseEstimate(case.id, index, case.domain or ONE_DOMAIN, answer, tuple(parts.tolist()))
        for answer, calibration in asked.items()
        for index, parts in estimate_case(tallies[answer], calibration, volume=volume)
    ]


def _scored(
    case: Case,
    labels: Mapping[Answer, NDArray[np.uint8]],
    label: NDArray[np.uint8],
    *,
    classes: Sequence[str],
    nested: bool,
    spacing: Sequence[float] | None,
    volume: bool,
    protocol: Protocol,
) -> list[CaseScore]:
    """Scores of a case, or of each of its slices, per class and answer; see `score_case`."""
    scored = score_case(
        labels,
        label,
        classes=len(classes),
        nested=nested,
        spacing=spacing,
        volume=volume,
        protocol=protocol,
    )
    return [
        CaseScore(
            file=case.id,
            slice=index,
            domain=case.domain or ONE_DOMAIN,
            patient=case.patient or case.id,
            class_name=classes[c],
            answer=answer,
            unit="px" if spacing is None else "mm",
            scores=scores,
        )
        for index, c, answer, scores in scored
    ]


def _of_classes_that_occur(rows: list[CaseScore]) -> list[CaseScore]:
    """Leave out classes that occur in no label: an empty prediction would score 1 there."""
    names = scored_classes(rows)
    there = {row.class_name for row in rows if row.scores.empty not in ("both", "label")}
    absent = [name for name in names if name not in there]
    if not absent or not there:
        return rows
    warnings.warn(
        f"{', '.join(absent)}: in none of the labels, so not scored (the others are: "
        f"{', '.join(name for name in names if name in there)})",
        stacklevel=2,
    )
    return [row for row in rows if row.class_name in there]


def _read(
    cases: Sequence[Case],
    table: CaseTable,
    slice_axis: SliceAxis,
    progress: Progress | None,
    refuse: Callable[[Case, UserError], None] | None,
) -> Iterator[tuple[Stack, tuple[Case, NDArray[np.uint8] | None]]]:
    """Yield the image of each case, with the case and its label, if it has one."""
    for done, case in enumerate(cases):
        if progress:
            progress(done, len(cases), case.id)
        label = None
        try:
            image = load_image(case, slice_axis=slice_axis)
            if case.labels:
                label = np.array(load_label(case, table, like=image).pixels, np.uint8)
        except UnreadableError as error:
            if refuse is None:
                raise
            refuse(case, error)
            continue
        yield image, (case, label)
