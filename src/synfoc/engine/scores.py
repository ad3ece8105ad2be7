"""Label maps of a case -> its scores; scores of all cases -> means and 95 % intervals. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synfoc.answers import Answer
from synfoc.case_tables import METRICS
from synfoc.engine.estimate import Calibration
from synfoc.engine.metrics import (
    Protocol,
    Scores,
    bootstrap_means,
    has_interval,
    interval95,
    parts,
    score,
)

DISTANCES = ("hd95", "asd")


@dataclass(frozen=True)
class CaseScore:
    """Scores of one class of one case in one answer: a row of cases.csv."""

    file: str
    """Id of the case in its table."""
    slice: int | None
    """Slice of the file that was scored; None where the whole file was."""
    domain: str
    patient: str
    """Cases of one patient are resampled together; the file's own id where none is known."""
    class_name: str
    answer: Answer
    unit: str
    scores: Scores

    @property
    def case(self) -> str:
        """What was scored: a file, or one slice of it."""
        return case_name(self.file, self.slice)


@dataclass(frozen=True)
class CaseEstimate:
    """What one case is estimated to score in one answer: a row of estimates.csv."""

    file: str
    slice: int | None
    domain: str
    answer: Answer
    parts: tuple[float, ...]
    """Dice of each class, in [0, 1]."""

    @property
    def dice(self) -> float:
        """Mean over classes, in [0, 1]."""
        return sum(self.parts) / len(self.parts)

    @property
    def case(self) -> str:
        """As in `CaseScore`."""
        return case_name(self.file, self.slice)


def case_name(file: str, slice: int | None) -> str:
    """Return what was scored: a file, or one slice of it."""
    return file if slice is None else f"{file}:{slice}"


def score_case(
    labels: Mapping[Answer, NDArray[np.uint8]],
    label: NDArray[np.uint8],
    *,
    classes: int,
    nested: bool = False,
    spacing: Sequence[float] | None = None,
    volume: bool = False,
    protocol: Protocol = "honest",
) -> list[tuple[int | None, int, Answer, Scores]]:
    """Score the answers of one case against its label.

    Args:
        labels: answer -> (n, h, w), class indices 0..C.
        label: (n, h, w), class indices 0..C.
        classes: C.
        nested: see `metrics.parts`.
        spacing: (slices, rows, columns) in mm; None: pixels.
        volume: score the stack as one 3-D case, else slice by slice.
        protocol: honest or paper.

    Returns:
        (slice or None where the case has but one, class from 0, answer, scores).
    """
    # A stack of one slice is a 2-D case; a volume is one 3-D case.
    pieces: list[tuple[int | None, Any]] = [(None, slice(None))]
    if not volume:
        pieces = list(zip(slices(len(label)), range(len(label)), strict=True))
        spacing = spacing and spacing[1:]
    true = parts(label, classes, nested=nested)
    found = []
    for answer, prediction in labels.items():
        predicted = parts(prediction, classes, nested=nested)
        found += [
            (i, c, answer, score(predicted[c, where], true[c, where], spacing, protocol=protocol))
            for i, where in pieces
            for c in range(classes)
        ]
    return found


def estimate_case(
    tallies: NDArray[np.float64], calibration: Calibration, *, volume: bool = False
) -> list[tuple[int | None, NDArray[np.float64]]]:
    """Estimate the Dice of each part of one answer to one case.

    Args:
        tallies: (n, C, 5), see `evidence.tally`.
        calibration: of this answer.
        volume: estimate the stack as one 3-D case, else slice by slice.

    Returns:
        (slice or None where the case has but one, estimated Dice in [0, 1] of each class: (C,)).
    """
    if volume:
        return [(None, calibration.estimate_parts(tallies.sum(0)))]
    return list(zip(slices(len(tallies)), calibration.estimate_parts(tallies), strict=True))


def slices(count: int) -> list[int | None]:
    """Numbers of the slices of a stack; None for the only one."""
    return list(range(count)) if count > 1 else [None]


def summarize_estimates(rows: Sequence[CaseEstimate]) -> dict[str, Any]:
    """Means per domain and over domains: {cases, branches}, in the shape of `summarize`."""
    grouped: dict[Answer, dict[str, list[float]]] = {}
    for row in rows:
        grouped.setdefault(row.answer, {}).setdefault(row.domain, []).append(row.dice)
    branches: dict[str, dict[str, Any]] = {}
    for (branch, role), domains in grouped.items():
        found = {
            name: {"cases": len(domains[name]), "dice": float(np.mean(domains[name]))}
            for name in sorted(domains)
        }
        mean = float(np.mean([domain["dice"] for domain in found.values()]))
        branches.setdefault(branch, {})[role] = {
            "mean_over_domains": {"dice": mean},
            "domains": found,
        }
    return {"cases": len({row.case for row in rows}), "branches": branches}


def scored_classes(rows: Sequence[CaseScore]) -> list[str]:
    """Names of the classes that have scores, in their order."""
    return list(dict.fromkeys(row.class_name for row in rows))


def summarize(rows: Sequence[CaseScore], classes: Sequence[str], *, seed: int) -> dict[str, Any]:
    """Means per class, domain and over domains: {unit, classes, cases, branches} of metrics.json.

    A domain of fewer than three patients has no interval, and so has a mean that holds one; px and
    mm have no mean.

    Args:
        rows: scores of the same cases for every answer.
        classes: names of the foreground classes.
        seed: of the bootstrap; every answer is seen through the same resampled cases.
    """
    grouped: dict[Answer, dict[str, dict[str, list[CaseScore]]]] = {}
    for row in rows:
        domains = grouped.setdefault(row.answer, {})
        domains.setdefault(row.domain, {}).setdefault(row.case, []).append(row)
    branches: dict[str, dict[str, Any]] = {}
    for (branch, role), domains in grouped.items():
        random = np.random.default_rng(seed)
        scored = {name: _domain(domains[name], classes, random) for name in sorted(domains)}
        spread = np.mean([means for _, means in scored.values()], axis=0)
        known = all(domain["dice_ci95"] for domain, _ in scored.values())
        one_unit = len({domain["unit"] for domain, _ in scored.values()}) == 1
        mean: dict[str, Any] = {
            metric: float(np.mean([d[metric] for d, _ in scored.values()]))
            if one_unit or metric not in DISTANCES
            else None
            for metric in METRICS
        }
        branches.setdefault(branch, {})[role] = {
            "mean_over_domains": mean | {"dice_ci95": interval95(spread) if known else None},
            "domains": {name: domain for name, (domain, _) in scored.items()},
        }
    return {
        "unit": _unit(rows),
        "classes": list(classes),
        "cases": len({row.case for row in rows}),
        "branches": branches,
    }


def _domain(
    cases: Mapping[str, Sequence[CaseScore]], classes: Sequence[str], random: np.random.Generator
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Scores of one domain, and its bootstrap means of Dice."""
    table = np.array(
        [[[getattr(r.scores, m) for m in METRICS] for r in rows] for rows in cases.values()]
    )  # cases x classes x metrics
    patients = [rows[0].patient for rows in cases.values()]
    means = bootstrap_means(table[:, :, 0].mean(1), patients, random=random)
    per_class = table.mean(0)
    unit = _unit([row for rows in cases.values() for row in rows])
    found: dict[str, Any] = {"cases": len(cases), "patients": len(set(patients)), "unit": unit}
    found |= dict(zip(METRICS, per_class.mean(0).tolist(), strict=True))
    found["dice_ci95"] = interval95(means) if has_interval(patients) else None
    found["classes"] = {
        name: dict(zip(METRICS, values, strict=True))
        for name, values in zip(classes, per_class.tolist(), strict=True)
    }
    return found, means


def _unit(rows: Sequence[CaseScore]) -> str:
    units = {row.unit for row in rows}
    return units.pop() if len(units) == 1 else "mixed"
