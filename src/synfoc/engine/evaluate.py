"""A run and its test cases -> scores per case, class and domain, with their intervals.

    images -> label maps of every branch -> scores per part -> mean per domain -> mean over domains

Two protocols. `honest`: at the original size, in mm where spacing is known, a volume as one case,
symmetric ASD. `paper`: slice by slice at the U-Net's side P, in pixels, one-sided ASD, to compare
with the paper's tables. Rules for empty masks: `metrics.EMPTY_POLICY`. Labels are only scored
here: which branch is recommended was decided by training, without them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from synfoc.answers import BRANCHES, Answer, Branch, recommended_answer
from synfoc.batches.resize import resize_labels
from synfoc.config import check_word, listed
from synfoc.engine.checkpoint import load_run
from synfoc.engine.estimate import Calibration, read_calibration
from synfoc.engine.examples import make_examples, replace_examples
from synfoc.engine.inference import Segmenter
from synfoc.engine.machine import full_gpu_told
from synfoc.engine.metrics import EMPTY_POLICY, Protocol
from synfoc.engine.scored_cases import cases_to_score
from synfoc.engine.scores import (
    CaseEstimate,
    CaseScore,
    estimate_case,
    score_case,
    scored_classes,
    summarize,
    summarize_estimates,
)
from synfoc.errors import UserError
from synfoc.images.cases import Case, CaseTable, load_image, load_label
from synfoc.images.files import Stack, to_unit
from synfoc.runs import CASE_COLUMNS, METRICS, Example, RunFolder
from synfoc.storage import AnyPath, write_json, write_table

Progress: TypeAlias = Callable[[int, int, str], None]
ONE_DOMAIN = "all"


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


def evaluate(
    run: AnyPath,
    *,
    data: AnyPath | None = None,
    changes: str | Sequence[str] = (),
    branches: Branch | Sequence[Branch] | None = None,
    protocol: Protocol | None = None,
    checkpoint: str = "best",
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score a run on its test cases; writes metrics.json, two tables of cases and examples.

    Cases without a label are not scored, but their Dice is estimated like that of all others.

    Args:
        run: folder written by `synfoc train`.
        data: other data to score, a folder or a CSV; its test cases, or all where it names none.
            Images whose label this run was trained with, and other images of their patients, are
            left out; those that were in training without a label are counted.
        changes: `data.remap=...` of the other data, where their codes are not those of the run.
        branches: unet, medsam, fused, one or several; None: all that the run has.
        protocol: None: `paper` for a run of `rule: paper`, else `honest`.
        checkpoint: best, last, or a name such as step_000500.
        device: auto, cpu or cuda.
        progress: called with (done, total, case) before each case and once at the end.

    Returns:
        What metrics.json holds (see runs.py).

    Raises:
        UserError: no such run, branch or protocol, no test case, a label that does not fit the
            classes, a change of another setting or without `data`, or no label at all and a run
            that cannot estimate (not at its best checkpoint, or an older one). Earlier scores stay
            then.
    """
    found = score_run(
        run, data=data, changes=changes, branches=branches, protocol=protocol,
        checkpoint=checkpoint, device=device, progress=progress,
    )  # fmt: skip
    write_evaluation(RunFolder(Path(run)), found)
    return found.metrics


@full_gpu_told(fix="--device cpu, or end what else uses the GPU")
def score_run(
    run: AnyPath,
    *,
    data: AnyPath | None = None,
    changes: str | Sequence[str] = (),
    branches: Branch | Sequence[Branch] | None = None,
    protocol: Protocol | None = None,
    checkpoint: str = "best",
    device: str = "auto",
    progress: Progress | None = None,
) -> Evaluation:
    """Score a run on its test cases and write nothing. Arguments and errors as in `evaluate`."""
    asked, changes = _asked(branches), listed(changes)
    if protocol is not None:
        check_word("protocol", protocol, tuple(EMPTY_POLICY))
    run, data = Path(run), None if data is None else Path(data)
    folder = RunFolder.open(run)
    loaded = load_run(run, checkpoint=checkpoint, device=device)
    config = loaded.config
    protocol = protocol or ("paper" if config.train.rule == "paper" else "honest")
    segmenter = Segmenter.of_run(loaded)
    segmenter.check([(branch, "student") for branch in asked or ()])
    wanted = [a for a in segmenter.answers() if asked is None or a[0] in asked]
    table, cases, seen = cases_to_score(folder, config, data, changes)
    summary = folder.read_summary()
    known = read_calibration(summary, loaded.step)
    labeled = [case for case in cases if case.labels]
    if not labeled and not (known and cases):
        raise _nothing_to_score(len(cases), checkpoint)
    rows, estimates = score_cases(
        segmenter, table, cases if known else labeled, wanted, classes=loaded.classes,
        protocol=protocol, slice_axis=config.data.slice_axis, calibration=known,
        progress=progress,
    )  # fmt: skip
    recommended = recommended_answer(summary)
    branch, role = recommended or (None, None)
    metrics = {
        "protocol": protocol,
        "rule": summary.get("rule", config.train.rule) if checkpoint == "best" else checkpoint,
        "checkpoint": checkpoint,
        "step": loaded.step,
        "data": str(data or config.data.path),
        "changes": list(changes),
        "empty_policy": EMPTY_POLICY[protocol],
        "skipped_without_label": len(cases) - len(labeled),
        "seen_in_training": seen,
        **summarize(rows, scored_classes(rows) or loaded.classes, seed=config.train.seed),
        "recommended": branch,
        "recommended_role": role,
        "estimate": summarize_estimates(estimates) if estimates else None,
    }
    examples = make_examples(
        segmenter, table, labeled, rows, recommended=recommended, slice_axis=config.data.slice_axis
    )
    return Evaluation(metrics, rows, estimates, examples)


def write_evaluation(folder: RunFolder, found: Evaluation) -> None:
    """Put scores, estimates and examples in the place of earlier ones.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    write_cases(folder.cases, found.rows)
    write_estimates(folder.estimates, found.estimates)
    replace_examples(folder, found.examples)
    write_json(folder.metrics, found.metrics)


def _asked(branches: Branch | Sequence[Branch] | None) -> Sequence[Branch] | None:
    """The branches that are named, one or several.

    Raises:
        UserError: there is no such branch, or none is named.
    """
    if branches is None:
        return None
    named: Sequence[Branch] = [branches] if isinstance(branches, str) else branches
    unknown = [str(branch) for branch in named if branch not in BRANCHES]
    if unknown or not named:
        raise UserError(
            "no such branch to score",
            found=", ".join(unknown) or "an empty list",
            expected="some of " + ", ".join(BRANCHES),
            fix="name those to score, or leave `branches` out for all",
        )
    return named


def evaluate_networks(
    segmenter: Segmenter,
    table: CaseTable,
    cases: Sequence[Case],
    wanted: Sequence[Answer],
    *,
    protocol: Protocol = "honest",
    slice_axis: int | None = None,
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
    slice_axis: int | None = None,
    calibration: Mapping[Answer, Calibration] | None = None,
    progress: Progress | None = None,
) -> tuple[list[CaseScore], list[CaseEstimate]]:
    """Scores of every labeled case, class and answer; estimates of every case and answer.

    Arguments and errors as in `evaluate_networks`. An answer without a calibration has no
    estimate. `progress` is called with (done, total, case) before each case and once at the end.
    """
    side = segmenter.networks.sides.unet
    size = (side, side) if protocol == "paper" else None
    known = calibration or {}
    asked = {answer: known[answer] for answer in wanted if answer in known}
    rows: list[CaseScore] = []
    estimates: list[CaseEstimate] = []
    for group in segmenter.grouped(_read(cases, table, slice_axis, progress)):
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
    cases: Sequence[Case], table: CaseTable, slice_axis: int | None, progress: Progress | None
) -> Iterator[tuple[Stack, tuple[Case, NDArray[np.uint8] | None]]]:
    """The image of each case, with the case and its label, if it has one."""
    for done, case in enumerate(cases):
        if progress:
            progress(done, len(cases), case.id)
        image = load_image(case, slice_axis=slice_axis)
        label = None
        if case.labels:
            label = np.array(load_label(case, table, like=image).pixels, np.uint8)
        yield image, (case, label)


def _nothing_to_score(cases: int, checkpoint: str) -> UserError:
    if cases:
        return UserError(
            "no test case has a label",
            found=f"{cases} test cases, none with a label, and no calibration of checkpoint "
            f"{checkpoint} by which Dice could be estimated",
            expected="a labeled image that was kept out of training, or a run that has ended and "
            "its checkpoint `best`",
            fix="add labels to test cases or give --data with labeled images; a run of an earlier "
            "version is calibrated by: synfoc train --resume RUN",
        )
    return UserError(
        "no test case",
        found="no image that was kept out of training",
        expected="at least one image",
        fix="give --data with other images",
    )


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
