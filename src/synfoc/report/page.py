"""The report: one self-contained HTML file that opens from a mail, offline, and prints.

    headline, facts, changed constants -> scores -> cases -> curves -> what to check -> repeat it

How a page is built and what it may not hold: html.py.
"""

from __future__ import annotations

import os
import shlex
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from synfoc.answers import BRANCH_NAMES, BRANCHES
from synfoc.errors import UserError
from synfoc.report.facts import changes_html, facts_html, repeat_html
from synfoc.report.figures import curves_figure, scores_figure
from synfoc.report.html import bullets, document, fold, section
from synfoc.report.load import load_views
from synfoc.report.notes import checks, headline
from synfoc.report.pictures import example_html, legend_html, write_pictures
from synfoc.report.tables import (
    MEASURES,
    NONE,
    ScoreTable,
    class_table,
    estimate_table,
    row_name,
    score_table,
)
from synfoc.report.view import RunView
from synfoc.runs import one_line
from synfoc.storage import AnyPath, write_text


@dataclass(frozen=True)
class Reported:
    """What a report has written, and what it could not read."""

    page: Path
    damaged: tuple[UserError, ...]


def write_report(
    out: AnyPath, runs: AnyPath | Sequence[AnyPath], *, title: str | None = None
) -> Path:
    """Write the report of one run, or of several side by side.

    A file of a run that is damaged is left out; the page says so, and a warning.

    Args:
        out: the HTML file, replaced if it exists.
        runs: run folders, folders of `evaluate(out=...)`, or one of them; the first is the main
            one, the others are measured against it.
        title: heading of the page; by default the names of the runs.

    Returns:
        `out`.

    Raises:
        UserError: no run given, a folder is no run folder, the disk is full or `out` cannot be
            written.
    """
    given = [runs] if isinstance(runs, str | os.PathLike) else runs
    views = load_views([Path(run) for run in given])
    for view in views:
        for error in view.damaged:
            warnings.warn(one_line(error), stacklevel=2)
    return _write_page(Path(out), views, title)


def report(runs: Sequence[Path], out: Path | None = None) -> Reported:
    """Write the page of runs; beside it, where it goes into the first of them, PNG pictures.

    Nothing is written into a run but the first, and into that only where the page goes there.

    Args:
        runs: run folders, or folders of `evaluate --out`.
        out: the page; None: report.html in the first folder.

    Raises:
        UserError: see `write_report`; a folder that may only be read and no `out`.
    """
    views = load_views(runs)
    first = views[0].scored
    if out is None:
        _check_writable(runs)
    page = out or runs[0] / "report.html"
    _check_page(page)
    if page.resolve().parent == first.path:
        write_pictures(first, views[0].examples)
    _write_page(page, views, None)
    return Reported(page, tuple(error for view in views for error in view.damaged))


def _check_writable(runs: Sequence[Path]) -> None:
    if not os.access(runs[0], os.W_OK | os.X_OK):
        names = " ".join(shlex.quote(str(run)) for run in runs)
        raise UserError(
            f"cannot write a report into {runs[0]}",
            found="a folder that may only be read",
            expected="a folder in which you may create files, or a place for the page",
            fix=f"synfoc report {names} -o FILE.html",
        )


def _check_page(out: Path) -> None:
    """Make sure that the page takes no other file's place."""
    if out.is_dir():
        found, fix = "a folder", f"-o {shlex.quote(str(out / 'report.html'))}"
    elif out.suffix.lower() not in (".html", ".htm"):
        found, fix = out.name, "-o " + shlex.quote(f"{out}.html")
    else:
        return
    raise UserError(
        f"{out} is no page", found=found, expected="a name that ends with .html", fix=fix
    )


def _write_page(out: Path, views: Sequence[RunView], title: str | None) -> Path:
    _check_page(out)
    title = title or " and ".join(view.name for view in views)
    sections = (
        section("What was run", facts_html(views) + changes_html(views)),
        _scores(views),
        *(_cases(view, i, opened=i == 0) for i, view in enumerate(views)),
        *(_curves(view, opened=i == 0) for i, view in enumerate(views)),
        section("What to check", bullets(checks(views))),
        section("Repeat it", "".join(repeat_html(view) for view in views)),
    )
    write_text(out, document(title, headline(views), "".join(sections)))
    return out


def _scores(views: Sequence[RunView]) -> str:
    scored = [view for view in views if view.branches]
    if not scored:
        return section("Scores", _estimates(views)) if any(v.estimated for v in views) else ""
    dice = score_table(scored)
    policies = dict.fromkeys(v.metrics.get("empty_policy") for v in scored)
    note = (
        "Students, mean over cases. Small numbers: 95 % bootstrap interval over patients. Bold: "
        "best of its column. Star: the branch that the run recommends. Marks under a domain say "
        "what training saw of it: labeled images, images without labels, or nothing (unseen). "
    )
    note += "".join(f"Empty masks: {policy}. " for policy in policies if policy)
    others = "".join(_table(score_table(scored, m)) for m in MEASURES if m != "dice")
    teachers = "".join(
        _table(table) for m in MEASURES if (table := score_table(scored, m, role="teacher")).rows
    )
    classes = "".join(
        f"<h3>{escape(f'{view.name}: {BRANCH_NAMES[branch]}')}</h3>"
        + _plain_table(class_table(view, branch))
        for view in scored
        for branch in view.branches
    )
    body = (
        f'{_table(dice)}<p class="note">{escape(note)}</p><figure>{scores_figure(dice)}</figure>'
        + _estimates(views)
        + fold("Jaccard and surface distances", others, opened=True)
        + fold("Every class by itself", classes)
    )
    return section("Scores", body + (fold("Teachers", teachers) if teachers else ""))


def _estimates(views: Sequence[RunView]) -> str:
    """Return what the Dice would be by the networks' own probabilities; empty where unknown."""
    table = estimate_table(views)
    if not table.rows:
        return ""
    note = (
        "Not measured: made of the networks' probabilities and of their agreement, calibrated on "
        "views of the labeled images, for all test images, with a label or without. "
    )
    errors = [error for view in views for error in view.estimate_errors.values()]
    if errors:
        mean = sum(map(abs, errors)) / len(errors)
        note += (
            f"Where labels allow a check, the recommended answers' estimates were off by "
            f"{mean:.1f} points in the mean over domains, {max(errors, key=abs):+.1f} at worst. "
        )
    note += "A mask that is empty counts as much as empty masks were right on those views."
    return f'{_table(table)}<p class="note">{escape(note)}</p>'


def _table(table: ScoreTable) -> str:
    marks = [
        f'<span class="standing {standing.replace(" ", "-")}">{standing}</span>' if standing else ""
        for standing in table.standing
    ]
    head = "".join(
        f'<th scope="col">{escape(name)}{mark}</th>'
        for name, mark in zip(table.columns, marks, strict=True)
    )
    rows, before = [], ""
    for row in table.rows:
        star = '<abbr title="recommended">*</abbr>' if row.recommended else ""
        cells = "".join(
            f"<td>{f'<b>{cell.text}</b>' if cell.best else cell.text}"
            f"{f'<small>{cell.interval}</small>' if cell.interval else ''}</td>"
            for cell in row.cells
        )
        name = escape(row.run) if row.run != before else ""
        first = ' class="first"' if name else ""
        branch = f'<th scope="row">{row_name(row, [row.run])}{star}</th>'
        rows.append(f"<tr{first}><td>{name}</td>{branch}{cells}</tr>")
        before = row.run
    return (
        f'<div class="wide"><table class="scores"><caption>{escape(table.title)}</caption><thead>'
        f'<tr><th scope="col">run</th><th scope="col">branch</th>{head}</tr></thead>\n<tbody>'
        + "\n".join(rows)
        + "</tbody></table></div>\n"
    )


def _plain_table(texts: Sequence[Sequence[str]]) -> str:
    head, *body = texts
    if not body:
        return f"<p>{NONE}</p>"
    top = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    rows = (
        "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>\n" for row in body
    )
    return (
        f'<div class="wide"><table class="classes"><thead><tr>{top}</tr></thead>\n'
        f"<tbody>{''.join(rows)}</tbody></table></div>\n"
    )


def _cases(view: RunView, number: int, *, opened: bool) -> str:
    examples = view.examples
    if not examples:
        return ""
    parts = [legend_html(view.metrics.get("classes") or ())] if opened else []
    found = {example.domain for example in examples}
    order = list(view.scores(view.branches[0]).get("domains", {})) if view.branches else []
    for domain in sorted(found, key=lambda d: order.index(d) if d in order else len(order)):
        rows = "".join(
            example_html(example, f"image-{number}-{i}", view.branches or BRANCHES)
            for i, example in enumerate(examples)
            if example.domain == domain
        )
        standing = f" ({view.standing(domain)})" if domain else ""
        parts.append(f"<h3>{escape((domain or 'All cases') + standing)}</h3>{rows}")
    chosen = BRANCH_NAMES[view.recommended[0]] if view.recommended else "the students, on average"
    text = f"Best, median and worst test case of each domain by the Dice of {chosen}. "
    text += "The number is the Dice of the case in percent, mean over classes."
    body = f'<p class="note">{escape(text)}</p>{"".join(parts)}'
    return section(f"Cases: {view.name}", body if opened else fold("Show these cases", body))


def _curves(view: RunView, *, opened: bool) -> str:
    figure = curves_figure(view)
    if not figure:
        return ""
    text = "Dotted line: the step of the checkpoint that was kept. λ weighs the unlabeled losses."
    if any(line.get("alpha") is not None for line in view.steps):
        fusion = view.config.method.fusion
        rule = "α = φ self × φ mutual" if fusion == "smc" else f"by method.fusion = {fusion}"
        text += f" α is the U-Net's share of the fused pseudo-label, {rule}."
    body = f'<figure>{figure}</figure><p class="note">{escape(text)}</p>'
    return section(f"Learning: {view.name}", body if opened else fold("Show these curves", body))
