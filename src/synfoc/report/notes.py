"""What a reader should check before believing a table: computed where possible, plain words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from synfoc.answers import BRANCH_NAMES, deployed_by_paper
from synfoc.report.tables import Row, row_name, score_table
from synfoc.report.view import LABELED, RunView
from synfoc.runs import MIN_PATIENTS, one_line

FEW_PATIENTS = 20
PROTOCOLS = {
    "honest": "scored at the original size, in mm where spacing is known, a volume as one case",
    "paper": "scored slice by slice in pixels, as in the paper's tables, to be compared with them "
    "and with nothing else",
}
RULES = {
    "honest": "chosen without labels outside the labeled images: Dice on these, times the "
    "agreement of the networks on unlabeled images where there are two",
    "last": "the last checkpoint, no choice made",
    "paper": "the best checkpoint on the test set, as the authors chose it; this flatters",
}


def headline(views: Sequence[RunView]) -> str:
    """One sentence with the result: the main run's recommended branch against the other runs."""
    table = score_table(views)
    runs = [view.name for view in views]
    mine = [row for row in table.rows if row.run == runs[0]]
    if not mine:
        return _estimated_headline(views[0])
    top = _deployed(mine)
    column = 1 if len(table.columns) > 1 and not table.standing[1] else 0
    where = "the test cases"
    if column == 1:
        where = f"the {sum(s not in ('', LABELED) for s in table.standing)} domains without labels"
    elif len(table.columns) > 1:
        where = f"{len(table.columns) - 1} domains"
    name = row_name(top, runs)
    text = f"{name} reaches a mean Dice of {top.cells[column].text} % on {where}"
    for other in dict.fromkeys(row.run for row in table.rows if row.run != runs[0]):
        rows = [row for row in table.rows if row.run == other]
        best = _deployed(rows)
        a, b = top.cells[column].value, best.cells[column].value
        if a is not None and b is not None:
            # Of the printed numbers, so that a reader who subtracts gets the same.
            gain = round(a, 1) - round(b, 1)
            words = f"{abs(gain):.1f} points {'above' if gain >= 0 else 'below'}"
            text += f", {words} {row_name(best, runs)} ({best.cells[column].text} %)"
    return text + "."


def _estimated_headline(view: RunView) -> str:
    scores = view.estimates(*view.recommended) if view.recommended else {}
    estimate = scores.get("mean_over_domains", {}).get("dice")
    if estimate is None:
        return "This run has not been evaluated yet."
    return (
        f"An estimate without labels: a mean Dice of {100 * estimate:.1f} %. Nothing was measured."
    )


def _deployed(rows: Sequence[Row]) -> Row:
    """Return the recommended branch.

    Without a recommendation the paper's choice, or what was scored.
    """
    first = [row for row in rows if row.recommended]
    paper = deployed_by_paper([row.answer[0] for row in rows])
    return (first or [row for row in rows if row.answer[0] == paper] or list(rows))[0]


def checks(views: Sequence[RunView]) -> list[str]:
    """Limits of these runs, the specific ones first."""
    scored = [view for view in views if view.branches]
    notes = [note for view in views for note in _run_notes(view, several=len(views) > 1)]
    notes += _comparison(scored)
    if scored:
        notes.append(
            "Intervals are 95 % bootstrap intervals over test patients: all cases of a patient are "
            "drawn together, and a case whose patient is not known stands for itself. They do not "
            "cover the draw of the labeled images or the seed: one run is one sample of both. "
            "Where intervals overlap widely, the order of two rows may be chance."
        )
        notes.append(
            "Look at the worst cases, not only at means: a mean hides a scan on which the "
            "method fails altogether."
        )
    notes.append("Research software, not a medical device.")
    return notes


def _run_notes(view: RunView, *, several: bool) -> list[str]:
    who = f"{view.name}: " if several else ""
    notes = [f"{who}left out, since damaged: {one_line(error)}." for error in view.damaged]
    notes += [f"{who}{notice}" for notice in view.environment.get("notices", [])]
    if not view.branches and view.estimated:
        return [*notes, f"{who}no test image has a label, so every Dice is an estimate."]
    if not view.branches:
        fix = f"`{view.scored.evaluate_command}`"
        return [*notes, f"{who}no scores, because the run has not been evaluated ({fix})."]
    if view.rule == "paper":
        notes.append(
            f"{who}the checkpoint was chosen on the test set, as the authors did. That flatters: "
            "an independent rerun measured 0.6 to 14 Dice points against the mean of the last ten "
            "evaluations."
        )
    if (data := view.metrics.get("data")) not in (None, str(view.config.data.path)):
        notes.append(f"{who}scored on other data than the run's own: {data}.")
    first = view.scores(view.branches[0]).get("domains", {})
    patients = {d or "all": s.get("patients", s["cases"]) for d, s in first.items()}
    few = [f"{domain} ({count})" for domain, count in patients.items() if count < FEW_PATIENTS]
    if few:
        notes.append(
            f"{who}few test patients, so wide intervals, and none below {MIN_PATIENTS}: "
            f"{', '.join(few)}."
        )
    notes += [who + note for note in (_empty(view), _skipped(view), _trust(view)) if note]
    return notes


def _empty(view: RunView) -> str:
    """Empty predictions move distances by rule, not by measurement; so they are counted."""
    counts = []
    for branch in view.branches:
        rows = [r for r in view.cases if r["branch"] == branch and r["role"] == "student"]
        missed = sum(r.get("empty") == "prediction" for r in rows)
        if missed:
            counts.append(f"{BRANCH_NAMES[branch]} {missed} of {len(rows)}")
    if not counts:
        return ""
    return f"empty predictions where the label is not empty (case x class): {', '.join(counts)}."


def _skipped(view: RunView) -> str:
    skipped = view.summary.get("skipped_steps")
    return f"{skipped} steps were skipped because their loss was not finite." if skipped else ""


def _trust(view: RunView) -> str:
    """Two ways in which training on unlabeled images stalls unseen."""
    late = view.steps[-max(1, len(view.steps) // 10) :]
    found = []
    for key, words in (
        ("trusted", "hardly a pseudo-label was trusted (tau too high, or too few steps)"),
        ("alpha", "the U-Net had no say in the pseudo-labels"),
    ):
        values = [line[key] for line in late if line.get(key) is not None]
        if values and sum(values) / len(values) < 0.02:
            found.append(f"in the last tenth of training {words}.")
    return " ".join(found)


def _comparison(views: Sequence[RunView]) -> list[str]:
    """Return what keeps runs from being compared like with like."""
    if len(views) < 2:
        return []
    notes = []
    settings: dict[str, list[Any]] = {
        "protocol": [v.metrics.get("protocol") for v in views],
        "rule that chose the checkpoint": [v.rule for v in views],
        "unit of distances": [v.metrics.get("unit") for v in views],
        "number of test cases": [v.metrics.get("cases") for v in views],
        "number of labeled images": [sum(v.images("labeled").values()) for v in views],
        "number of steps": [v.summary.get("steps", v.config.train.steps) for v in views],
    }
    for words, values in settings.items():
        if len(set(values)) > 1:
            listed = ", ".join(f"{v.name} {x}" for v, x in zip(views, values, strict=True))
            notes.append(f"The runs differ in the {words}: {listed}.")
    return notes
