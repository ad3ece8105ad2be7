"""What choosing without test labels costs: Dice lost against the best choice on the test set.

A run that watched its test set wrote, at every evaluation, the evidence that needs no test label
and the Dice that the test set would have shown. So any rule can be tried afterwards: it picks the
step at which its product of evidence is largest (of equals the latest), and its regret is the best
test Dice over all evaluations minus that at the step it picked. Dice: mean over domains,
scored as in the protocol `paper`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, TypeAlias

from synfoc.answers import Answer, recommended_answer
from synfoc.bench.folder import CellFolder
from synfoc.runs import log_fault
from synfoc.storage import unreadable

Kind: TypeAlias = Literal["two networks", "one network", "no teacher"]

RULES: dict[str, tuple[str, ...]] = {
    "last": (),
    "score": ("score",),
    "labeled Dice": ("labeled_dice",),
    "agreement": ("agreement",),
    "stability": ("stability",),
    "labeled Dice x agreement": ("labeled_dice", "agreement"),
    "labeled Dice x stability": ("labeled_dice", "stability"),
}
"""Rule -> what it multiplies. `score` is what the run itself went by under `train.rule: honest`."""
DEFAULT, DEFAULT_ALONE = "score", "last"


@dataclass(frozen=True)
class RunRegret:
    """One run: points of Dice (0..100) lost by each rule."""

    cell: str
    data: str
    kind: Kind
    """What is compared without labels: two networks, one and its teacher, or nothing."""
    answer: Answer
    """What the run recommended, whose checkpoint is chosen."""
    rules: Mapping[str, float]
    """Rule -> points; a rule whose evidence this run has not is left out."""
    answer_choice: float | None
    """At the step of the default rule: the best answer, student or teacher, minus the recommended
    one; None where the run has one answer."""


@dataclass(frozen=True)
class Loss:
    """Regret of one choice over several runs, in points."""

    kind: Kind
    choice: str
    mean: float
    worst: float
    runs: int


def run_regret(cell: CellFolder) -> RunRegret | None:
    """One run; None where it did not watch its test set.

    Raises:
        UserError: its log or summary is damaged.
    """
    summary = cell.run.read_summary()
    log, lost = cell.run.read_log()
    if fault := log_fault(log, lost, summary):
        raise unreadable(cell.run.log, fault, expected="one JSON object per line", fix="")
    lines = [line for line in log if line.get("test")]
    if not lines:
        return None
    answers = [(branch, role) for branch, roles in lines[-1]["test"].items() for role in roles]
    named = recommended_answer(summary)
    answer: Answer = named if named in answers else answers[0]
    kind = kind_of(cell)
    picked = {rule: pick(lines, keys) for rule, keys in RULES.items()}
    dice = [_dice(line, answer) for line in lines]
    default = picked[DEFAULT_ALONE if kind == "no teacher" else DEFAULT]
    choice = None
    if len(answers) > 1 and default is not None:
        best = max(_dice(lines[default], a) for a in answers)
        choice = best - dice[default]
    return RunRegret(
        cell=cell.name,
        data=cell.data,
        kind=kind,
        answer=answer,
        rules={rule: max(dice) - dice[i] for rule, i in picked.items() if i is not None},
        answer_choice=choice,
    )


def kind_of(cell: CellFolder) -> Kind:
    """Return what a run can compare without labels."""
    # As it was run: without unlabeled images a run is supervised, whatever the suite says.
    method = cell.run.read_config()[0].method
    if not method.has_teacher:
        return "no teacher"
    return "two networks" if method.branches == "both" else "one network"


def pick(lines: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> int | None:
    """Index of the evaluation that a rule picks, of equals the latest.

    None where any evaluation lacks the evidence.
    """
    if any(line.get(key) is None for line in lines for key in keys):
        return None
    evidence = [[float(line[key]) for key in keys] for line in lines]
    return max(range(len(lines)), key=lambda i: (prod(evidence[i]), i))


def summarize(found: Sequence[RunRegret]) -> list[Loss]:
    """Mean and largest regret per kind of run and choice; within a kind all rules see all runs."""
    losses = []
    for kind in dict.fromkeys(regret.kind for regret in found):
        runs = [regret for regret in found if regret.kind == kind]
        choices = {rule: [r.rules[rule] for r in runs if rule in r.rules] for rule in RULES}
        choices["answer"] = [r.answer_choice for r in runs if r.answer_choice is not None]
        losses += [
            Loss(kind, choice, sum(values) / len(values), max(values), len(values))
            for choice, values in choices.items()
            if values and len(values) == len(runs)
        ]
    return losses


def _dice(line: Mapping[str, Any], answer: Answer) -> float:
    """Percent."""
    branch, role = answer
    return 100 * float(line["test"][branch][role])
