"""A run and its test cases -> scores per case, class and domain, with their intervals.

Two protocols. `honest`: at the original size, in mm where spacing is known, a volume as one case,
symmetric ASD. `paper`: slice by slice at the U-Net's side P, in pixels, one-sided ASD, to compare
with the paper's tables. Rules for empty masks: `metrics.EMPTY_POLICY`. Labels are only scored
here: which branch is recommended was decided by training, without them.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synfoc.answers import BRANCHES, BranchName, recommended_answer
from synfoc.config import check_word, listed
from synfoc.engine.cases_to_score import cases_to_score
from synfoc.engine.checkpoint import load_run
from synfoc.engine.estimate import read_calibration
from synfoc.engine.evaluation_files import Evaluation, scores_folder, write_evaluation
from synfoc.engine.examples import make_examples
from synfoc.engine.inference import Segmenter
from synfoc.engine.machine import full_gpu_told
from synfoc.engine.metrics import EMPTY_POLICY, Protocol
from synfoc.engine.score_cases import Progress, score_cases
from synfoc.engine.scores import (
    scored_classes,
    summarize,
    summarize_estimates,
)
from synfoc.errors import UserError
from synfoc.images.cases import Case
from synfoc.runs import RunFolder, one_line
from synfoc.storage import AnyPath


def evaluate(
    run: AnyPath,
    *,
    data: AnyPath | None = None,
    changes: str | Sequence[str] = (),
    branches: BranchName | Sequence[BranchName] | None = None,
    protocol: Protocol | None = None,
    checkpoint: str = "best",
    device: str = "auto",
    out: AnyPath | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score a run on its test cases; writes metrics.json, two tables of cases and examples.

    Cases without a label are not scored, but their Dice is estimated like that of all others.
    Those of which a file cannot be read are passed over and listed in metrics.json.

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
        out: a folder for the scores, new or of an earlier evaluation, where the run is to stay as
            it is; `write_report` takes it in the place of a run.
        progress: called with (done, total, case) before each case and once at the end.

    Returns:
        What metrics.json holds (see runs.py).

    Raises:
        UserError: no such run, branch or protocol, no test case or none that can be read, a label
            that does not fit the classes, a change of another setting or without `data`, or no
            label at all and a run that cannot estimate (not at its best checkpoint, or an older
            one). Earlier scores stay then.
    """
    _check_words(branches, protocol)
    folder = RunFolder.open(Path(run))
    images = [Path(path) for path in (folder.read_config()[0].data.path, data) if path]
    place = scores_folder(folder, Path(out) if out else None, images)
    found = score_run(
        run, data=data, changes=changes, branches=branches, protocol=protocol,
        checkpoint=checkpoint, device=device, progress=progress,
    )  # fmt: skip
    if out is not None:
        found.metrics["run"] = str(folder.path.resolve())
    write_evaluation(place, found)
    return found.metrics


@full_gpu_told(fix="--device cpu, or end what else uses the GPU")
def score_run(
    run: AnyPath,
    *,
    data: AnyPath | None = None,
    changes: str | Sequence[str] = (),
    branches: BranchName | Sequence[BranchName] | None = None,
    protocol: Protocol | None = None,
    checkpoint: str = "best",
    device: str = "auto",
    progress: Progress | None = None,
) -> Evaluation:
    """Score a run on its test cases and write nothing. Arguments and errors as in `evaluate`."""
    asked, changes = _check_words(branches, protocol), listed(changes)
    run, data = Path(run), None if data is None else Path(data)
    folder = RunFolder.open(run)
    loaded = load_run(run, checkpoint=checkpoint, device=device)
    config = loaded.config
    protocol = protocol or ("paper" if config.train.rule == "paper" else "honest")
    segmenter = Segmenter.of_run(loaded)
    segmenter.check([(branch, "student") for branch in asked or ()])
    wanted = [a for a in segmenter.answers() if asked is None or a[0] in asked]
    table, cases, seen = cases_to_score(folder, config, data, changes)
    summary = _summary(folder)
    known = read_calibration(summary, loaded.step)
    labeled = [case for case in cases if case.labels]
    if not labeled and not (known and cases):
        raise _nothing_to_score(len(cases), checkpoint)
    unread: list[tuple[Case, UserError]] = []
    rows, estimates = score_cases(
        segmenter, table, cases if known else labeled, wanted, classes=loaded.classes,
        protocol=protocol, slice_axis=config.data.slice_axis, calibration=known,
        progress=progress, refuse=lambda case, error: unread.append((case, error)),
    )  # fmt: skip
    if unread and not rows and not estimates:
        raise unread[0][1]
    lost = {case.id for case, _ in unread}
    labeled = [case for case in labeled if case.id not in lost]
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
        "skipped_without_label": sum(not case.labels for case in cases),
        "unreadable": [{"case": case.id, "why": one_line(error)} for case, error in unread],
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


def _summary(folder: RunFolder) -> dict[str, Any]:
    """Return what training has found; where it cannot be read a note says what is done without."""
    try:
        return folder.read_summary()
    except UserError as error:
        warnings.warn(
            f"{one_line(error)}: scored without estimates of Dice and without a recommended "
            f"answer; {error.fix}",
            stacklevel=3,
        )
        return {}


def _check_words(
    branches: BranchName | Sequence[BranchName] | None, protocol: Protocol | None
) -> Sequence[BranchName] | None:
    """Return the branches that are named, one or several.

    Raises:
        UserError: there is no such branch or protocol, or no branch is named.
    """
    if protocol is not None:
        check_word("protocol", protocol, tuple(EMPTY_POLICY))
    if branches is None:
        return None
    named: Sequence[BranchName] = [branches] if isinstance(branches, str) else branches
    unknown = [str(branch) for branch in named if branch not in BRANCHES]
    if unknown or not named:
        raise UserError(
            "no such branch to score",
            found=", ".join(unknown) or "an empty list",
            expected="some of " + ", ".join(BRANCHES),
            fix="name those to score, or leave `branches` out for all",
        )
    return named


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
