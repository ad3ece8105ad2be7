"""Score files of a suite -> arrays: one row per test case for every answer that a table shows.

Only cells that are done. No torch.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from synfoc.answers import Answer, as_answer, deployed_by_paper, recommended_answer
from synfoc.bench.folder import DAMAGED, CellFolder, SuiteFolder, damage
from synfoc.bench.suite import Answering, Protocol
from synfoc.case_tables import CASE_COLUMNS
from synfoc.errors import UserError
from synfoc.storage import obstacle, refuse_endless

COLUMNS = tuple(name for name in CASE_COLUMNS if name != "empty")


class Key(NamedTuple):
    """One answer of one cell."""

    data: str
    labeled: str
    method: str
    branch: Answering
    """As the suite asks for it: `recommended` stays `recommended`."""
    seed: int


@dataclass(frozen=True)
class CaseScores:
    """Scores of one answer on the n test cases of a cell, sorted by domain and case."""

    cases: tuple[tuple[str, str], ...]
    """(domain, case)."""
    patients: tuple[str, ...]
    values: NDArray[np.float64]
    """(n, 4): Dice and Jaccard in [0, 1], HD95 and ASD in `unit`; means over classes."""
    unit: str
    """mm, px, or mixed."""
    answer: Answer
    """Who answered: unet, medsam or fused; student, or the teacher that a run recommended."""
    classes: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Class -> (n,): its Dice in [0, 1]. A class that some case lacks is left out."""

    def domains(self) -> list[str]:
        """Names of the domains, sorted."""
        return list(dict.fromkeys(domain for domain, _ in self.cases))

    def fewest(self) -> tuple[str, int]:
        """Return the domain with the fewest patients, and how many it has."""
        pairs = {(domain, p) for (domain, _), p in zip(self.cases, self.patients, strict=True)}
        counts = Counter(domain for domain, _ in sorted(pairs))
        return min(counts.items(), key=lambda item: item[1])


Scores: TypeAlias = dict[Key, CaseScores]


def read_scores(folder: SuiteFolder, protocol: Protocol) -> tuple[Scores, dict[str, str]]:
    """Scores of all cells that are done, for the branches that the suite shows.

    A branch that a run does not have is left out, and so is a cell whose scores cannot be read.

    Returns:
        The scores, and by name of each cell that was left out what is wrong with its files.

    Raises:
        UserError: two methods that must be compared case by case were scored on different cases.
    """
    found: Scores = {}
    damaged: dict[str, str] = {}
    first: dict[tuple[str, str, int], tuple[str, CaseScores]] = {}
    for cell in folder.cells:
        if cell.state != "done":
            continue
        try:
            cell.read_done()
            answers = list(_answers(cell, folder, protocol))
        except DAMAGED as error:
            damaged[cell.name] = damage(cell, error)
            continue
        for branch, scores in answers:
            task = cell.data, cell.labeled, cell.seed
            name, other = first.setdefault(task, (cell.name, scores))
            _check_same_cases(cell.name, scores, name, other)
            found[Key(cell.data, cell.labeled, cell.method, branch, cell.seed)] = scores
    return found, damaged


def read_cell(path: Path) -> dict[Answer, CaseScores]:
    """Scores of every answer, from one file with the columns of evaluation/cases.csv.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    try:
        refuse_endless(path)
        with path.open(newline="", encoding="utf-8") as file:
            return _collect(csv.reader(file))
    except FileNotFoundError:
        found = "no such file"
    except (OSError, ValueError, IndexError, StopIteration, csv.Error) as error:
        found = obstacle(path) or str(error)
    raise UserError(
        f"cannot read the scores {path}",
        found=found,
        expected="a CSV with the columns " + ", ".join(COLUMNS),
        fix="delete bench/cell.json beside it and run the suite again: the cell is scored anew",
    )


def answering(
    branch: Answering, recommended: Answer | None, had: Mapping[Answer, object]
) -> Answer:
    """Return the answer shown in a row.

    It is the student of the branch, or for `recommended` the run's choice.

    Args:
        branch: what the suite shows.
        recommended: the run's own choice; None under the protocol `paper`, see
            `deployed_by_paper`.
        had: the answers that the run has.
    """
    if branch != "recommended":
        return branch, "student"
    if recommended is not None and recommended in had:
        return recommended
    return deployed_by_paper([branch for branch, role in had if role == "student"]), "student"


def _answers(
    cell: CellFolder, folder: SuiteFolder, protocol: Protocol
) -> Iterator[tuple[Answering, CaseScores]]:
    had = read_cell(cell.scores(protocol))
    metrics = cell.read_metrics(protocol)
    _check_count(cell.scores(protocol), had, metrics)
    recommended = recommended_answer(metrics) if protocol == "honest" else None
    for branch in folder.suite.methods[cell.method].branches:
        name = answering(branch, recommended, had)
        if name in had:
            yield branch, had[name]


def _collect(rows: Iterator[list[str]]) -> dict[Answer, CaseScores]:
    head = next(rows)
    case, patient, domain, part, branch, role, *metrics, unit = map(head.index, COLUMNS)
    sums: dict[Answer, dict[tuple[str, str], NDArray[np.float64]]] = {}
    classes: dict[Answer, dict[str, dict[tuple[str, str], float]]] = {}
    patients: dict[tuple[str, str], str] = {}
    units: set[str] = set()
    for row in rows:
        key = (row[domain], row[case])
        patients[key] = row[patient]
        units.add(row[unit])
        # The last number counts the classes.
        numbers = np.array([*(float(row[at]) for at in metrics), 1.0])
        if not np.isfinite(numbers).all():
            raise ValueError(f"a score of {row[case]} that is no finite number")
        answer = as_answer(row[branch], row[role])
        per_case = sums.setdefault(answer, {})
        per_case[key] = per_case[key] + numbers if key in per_case else numbers
        classes.setdefault(answer, {}).setdefault(row[part], {})[key] = float(numbers[0])
    return {
        name: _sorted(name, per_case, classes[name], patients, units)
        for name, per_case in sums.items()
    }


def _sorted(
    answer: Answer,
    sums: Mapping[tuple[str, str], NDArray[np.float64]],
    classes: Mapping[str, Mapping[tuple[str, str], float]],
    patients: Mapping[tuple[str, str], str],
    units: set[str],
) -> CaseScores:
    cases = tuple(sorted(sums))
    table = np.stack([sums[key] for key in cases])
    return CaseScores(
        cases=cases,
        patients=tuple(patients[key] for key in cases),
        values=table[:, :-1] / table[:, -1:],
        unit=next(iter(units)) if len(units) == 1 else "mixed",
        answer=answer,
        classes={
            name: np.array([dice[key] for key in cases])
            for name, dice in classes.items()
            if len(dice) == len(cases)
        },
    )


def _check_count(path: Path, had: Mapping[Answer, CaseScores], metrics: Mapping[str, Any]) -> None:
    """Stop at a file that was cut between two lines: it reads well, but lacks cases."""
    counts = {len({case for _, case in scores.cases}) for scores in had.values()} or {0}
    told = metrics.get("cases", max(counts))
    if counts != {told} or not told:
        raise UserError(
            f"cannot read the scores {path}",
            found=f"{min(counts)} cases, of {told} that were scored",
            expected="the file as it was written",
            fix="delete bench/cell.json beside it and run the suite again",
        )


def _check_same_cases(name: str, scores: CaseScores, other_name: str, other: CaseScores) -> None:
    if (scores.cases, scores.patients) == (other.cases, other.patients):
        return
    extra = sorted(set(scores.cases) ^ set(other.cases))
    raise UserError(
        f"cells {name} and {other_name} were scored on different test cases",
        found=f"{len(extra)} cases that only one of them has" if extra else "other patients",
        expected="the same data for all methods, so that they can be compared case by case",
        fix=f"delete the folder of the one that is out of date below cells/ ({name}, or "
        f"{other_name}) and run the suite again",
    )
