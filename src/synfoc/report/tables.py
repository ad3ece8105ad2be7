"""Scores as tables: one content for the terminal, the page and the tables of a suite.

Rows are run x branch, columns are means over domains, then domains. Dice and Jaccard are percent
here; hd95 and asd are in the run's unit. The best number of a column is marked, ties included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from synfoc.answers import Answer, BranchName, Role, answer_name, answer_title
from synfoc.report.view import LABELED, RunView

MEASURES = {"dice": "Dice", "jaccard": "Jaccard", "hd95": "HD95", "asd": "ASD"}
ESTIMATE = "estimate"
PERCENT = ("dice", "jaccard", ESTIMATE)
MEAN, MEAN_OTHER = "mean over domains", "mean without the labeled domain"
NONE = "–"


@dataclass(frozen=True)
class Cell:
    """A number of a table, already in percent, mm or px; None where there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    best: bool = False

    @property
    def text(self) -> str:
        """One decimal, the precision that a test set of some dozen cases carries."""
        return NONE if self.value is None else one_decimal(self.value)

    @property
    def interval(self) -> str:
        """The 95 % interval, `79.2 to 86.0`, or an empty text."""
        if self.low is None or self.high is None:
            return ""
        return f"{one_decimal(self.low)} to {one_decimal(self.high)}"


@dataclass(frozen=True)
class Row:
    """Scores of one branch of one run."""

    run: str
    answer: Answer
    cells: tuple[Cell, ...]
    recommended: bool = False


@dataclass(frozen=True)
class ScoreTable:
    """One measure: rows run x branch, columns means and domains."""

    measure: str
    """A key of MEASURES, or ESTIMATE."""
    unit: str
    columns: tuple[str, ...]
    standing: tuple[str, ...]
    """Per column: `labeled`, `no labels` or `unseen`; empty for a mean."""
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        """For example `Dice (%)`."""
        if self.measure == ESTIMATE:
            return "Estimated Dice (%), made without labels"
        return f"{MEASURES[self.measure]} ({self.unit})"

    def texts(self) -> list[list[str]]:
        """Header and rows as text; the recommended branch of a run has a star."""
        marks = [f" [{s}]" if s else "" for s in self.standing]
        head = ["run", "branch", *(c + m for c, m in zip(self.columns, marks, strict=True))]
        body = []
        for row in self.rows:
            star = " *" if row.recommended else ""
            body.append(
                [row.run, answer_name(row.answer) + star, *(cell.text for cell in row.cells)]
            )
        return [head, *body]


def score_table(
    views: Sequence[RunView], measure: str = "dice", *, role: Role = "student"
) -> ScoreTable:
    """One measure of several runs, side by side.

    Args:
        views: runs; those without scores are left out.
        measure: dice, jaccard, hd95 or asd.
        role: student or teacher. Among students stands a teacher that a run recommends.
    """
    scored = [view for view in views if view.branches]
    found = [
        {answer: v.scores(*answer) for answer in _answers(v, v.branches, role)} for v in scored
    ]
    return _table(scored, found, measure)


def estimate_table(views: Sequence[RunView]) -> ScoreTable:
    """Dice of the students as estimated without labels, for runs that have estimates."""
    estimated = [view for view in views if view.estimated]
    found = [
        {answer: v.estimates(*answer) for answer in _answers(v, v.estimated, "student")}
        for v in estimated
    ]
    return _table(estimated, found, ESTIMATE)


def _answers(view: RunView, branches: Sequence[BranchName], role: Role) -> list[Answer]:
    """Return the rows of a run: its branches in one role, and a teacher that it recommends."""
    shown: list[Answer] = []
    for branch in branches:
        shown.append((branch, role))
        if role == "student" and view.recommended == (branch, "teacher"):
            shown.append(view.recommended)
    return shown


def _table(
    views: Sequence[RunView],
    found: Sequence[dict[Answer, dict[str, Any]]],
    measure: str,
) -> ScoreTable:
    """Rows of {answer: {mean_over_domains, domains}} of each run; answers without are left out."""
    domains = list(
        dict.fromkeys(
            d for rows in found for scores in rows.values() for d in scores.get("domains", {})
        )
    )
    # A domain counts as labeled if it is for the main run: the others are measured against it.
    standing = {d: views[0].standing(d) for d in domains}
    others = [d for d in domains if standing[d] != LABELED]
    means = [MEAN] if len(domains) > 1 else []
    if 1 < len(others) < len(domains):
        means.append(MEAN_OTHER)
    key = "dice" if measure == ESTIMATE else measure
    rows = []
    for view, answers in zip(views, found, strict=True):
        for answer, scores in answers.items():
            if not scores:
                continue
            per_domain = {d: _cell(scores["domains"].get(d, {}), key) for d in domains}
            head = [_cell(scores.get("mean_over_domains", {}), key)] if means else []
            if len(means) > 1:
                head.append(_mean([per_domain[d] for d in others]))
            cells = (*head, *per_domain.values())
            marked = answer == view.recommended and len(answers) > 1
            rows.append(Row(view.name, answer, cells, marked))
    unit = "%" if measure in PERCENT else _unit(views)
    columns = (*means, *(d if standing[d] else "all cases" for d in domains))
    marks = (*("" for _ in means), *(standing[d] for d in domains))
    ranked = rows if measure == ESTIMATE else _mark_best(rows, measure)
    return ScoreTable(measure, unit, columns, marks, tuple(ranked))


def class_table(view: RunView, branch: BranchName) -> list[list[str]]:
    """Header and rows domain x class with all four measures, for one student of one run."""
    unit = _unit([view])
    units = {m: "%" if m in PERCENT else unit for m in MEASURES}
    rows = [["domain", "cases", "class", *(f"{MEASURES[m]} ({units[m]})" for m in MEASURES)]]
    for domain, scores in view.scores(branch).get("domains", {}).items():
        for name, per_class in scores.get("classes", {}).items():
            numbers = [_cell(per_class, measure).text for measure in MEASURES]
            rows.append(
                [
                    domain if view.standing(domain) else "all cases",
                    str(scores.get("cases", NONE)),
                    name,
                    *numbers,
                ]
            )
    return rows


def row_name(row: Row, runs: Sequence[str]) -> str:
    """Run and branch in as few words as tell the rows apart."""
    name = answer_title(row.answer)
    if len(runs) == 1:
        return name
    return row.run if row.run.endswith(name) else f"{row.run}: {name}"


def one_decimal(value: float) -> str:
    """83.1; never -0.0."""
    return f"{round(value, 1) + 0.0:.1f}"  # + 0.0 turns -0.0 into 0.0


def _cell(scores: dict[str, Any], measure: str) -> Cell:
    factor = 100 if measure in PERCENT else 1
    value = scores.get(measure)
    low, high = (scores.get(f"{measure}_ci95") or (None, None))[:2]
    if value is None or low is None or high is None:
        return Cell(None if value is None else value * factor)
    return Cell(value * factor, low * factor, high * factor)


def _mean(cells: Sequence[Cell]) -> Cell:
    """Mean over domains; None unless every domain has a number, so that rows stay comparable."""
    values = [cell.value for cell in cells if cell.value is not None]
    return Cell(sum(values) / len(values) if values and len(values) == len(cells) else None)


def _unit(views: Sequence[RunView]) -> str:
    units = list(dict.fromkeys(v.metrics.get("unit", "px") for v in views))
    return units[0] if len(units) == 1 else "mm or px" if units else "px"


def _mark_best(rows: Sequence[Row], measure: str) -> list[Row]:
    columns = zip(*(row.cells for row in rows), strict=True)
    best = [best_text([cell.value for cell in c], largest=measure in PERCENT) for c in columns]
    return [
        replace(
            row,
            cells=tuple(
                replace(cell, best=cell.text == top)
                for cell, top in zip(row.cells, best, strict=True)
            ),
        )
        for row in rows
    ]


def best_text(column: Sequence[float | None], *, largest: bool) -> str | None:
    """Return the best number as printed (equal to one decimal is equal).

    None where nothing competes.
    """
    values = [value for value in column if value is not None]
    if len(values) < 2:
        return None
    return one_decimal(max(values) if largest else min(values))


def markdown_line(cells: Sequence[str]) -> str:
    """One row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
