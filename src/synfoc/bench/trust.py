"""How far off the label-free Dice was: estimated minus measured, per domain of every run.

Beside the estimate stands what a lab without test labels would otherwise go by: the Dice on views
of the labeled images, from plain to strong, one number for all domains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from synfoc.answers import Answer, recommended_answer
from synfoc.bench.folder import CellFolder
from synfoc.bench.regret import Kind, kind_of
from synfoc.report.view import estimate_errors

Source: TypeAlias = Literal["estimate", "labeled views"]


@dataclass(frozen=True)
class RunErrors:
    """The deployed answer of one run: points of Dice (0..100) that each source says too much."""

    cell: str
    data: str
    kind: Kind
    answer: Answer
    errors: dict[Source, dict[str, float]]
    """Source -> domain -> points."""


@dataclass(frozen=True)
class Error:
    """Errors of one source over several runs and their domains, in points."""

    kind: Kind
    source: Source
    mean: float
    """Mean of the absolute errors."""
    worst: float
    """The largest by its size, with its sign."""
    bias: float
    """Mean with sign: above 0 it promises too much."""
    domains: int


def run_errors(cell: CellFolder) -> RunErrors | None:
    """One run; None where it was not scored by protocol honest, or its Dice not estimated.

    Raises:
        UserError: its metrics or its summary is damaged.
    """
    if not cell.metrics("honest").is_file():
        return None
    metrics = cell.read_metrics("honest")
    summary = cell.run.read_summary()
    answer = recommended_answer(metrics)
    errors = estimate_errors(metrics, answer) if answer else {}
    if not answer or not errors:
        return None
    views = 100 * float(summary["calibration"][answer[0]][answer[1]]["views"])
    measured = metrics["branches"][answer[0]][answer[1]]["domains"]
    return RunErrors(
        cell=cell.name,
        data=cell.data,
        kind=kind_of(cell),
        answer=answer,
        errors={
            "estimate": errors,
            "labeled views": {name: views - 100 * measured[name]["dice"] for name in errors},
        },
    )


def summarize_errors(found: Sequence[RunErrors]) -> list[Error]:
    """Errors per kind of run and source; every domain of every run counts once."""
    summary = []
    for kind in dict.fromkeys(run.kind for run in found):
        runs = [run for run in found if run.kind == kind]
        for source in runs[0].errors:
            points = [e for run in runs for e in run.errors[source].values()]
            mean = sum(map(abs, points)) / len(points)
            bias = sum(points) / len(points)
            summary.append(Error(kind, source, mean, max(points, key=abs), bias, len(points)))
    return summary
