"""What the command line prints as tables: scores, findings about data, weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synfoc.errors import visible
from synfoc.report.load import load_views
from synfoc.report.tables import MEASURES, ScoreTable, estimate_table, score_table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from synfoc.images.findings import Findings
    from synfoc.models.weights import Status
    from synfoc.report.view import RunView


def print_scores(runs: Path | Sequence[Path], *, console: Console) -> None:
    """Print the scores of one run, or of several in one table.

    Raises:
        UserError: a folder is no run folder, or a file in it is damaged.
    """
    views = load_views([runs] if isinstance(runs, Path) else runs)
    scored = [view for view in views if view.branches]
    if scored:
        others = [score_table(scored, measure) for measure in MEASURES if measure != "dice"]
        console.print(terminal(score_table(scored)))
        console.print(terminal_means(others))
    if (estimates := estimate_table(views)).rows:
        console.print(terminal(estimates))
    said = [
        f"{v.name}: protocol {v.metrics.get('protocol')}, rule {v.rule}, "
        f"{v.metrics.get('cases')} test cases{_unread(v)}; "
        f"empty masks: {v.metrics.get('empty_policy')}"
        for v in scored
    ]
    for line in [*said, "* what the run recommends"]:
        console.print(visible(line), style="dim", markup=False, highlight=False)


def _unread(view: RunView) -> str:
    lost = len(view.metrics.get("unreadable", ()))
    return f" ({lost} could not be read)" if lost else ""


def print_findings(findings: Findings, *, console: Console) -> None:
    """Print what `synfoc data check` found: groups, class shares, notes, problems."""
    sets = {f"{findings.root} ({findings.layout})": findings.rows()}
    sets["Share of labeled pixels"] = findings.class_rows()
    for title, rows in sets.items():
        if rows:
            console.print(_grid(title, rows))
    for note in findings.notes:
        console.print(f"note: {visible(note)}", markup=False, highlight=False)
    for problem in findings.problems:
        console.print(
            f"problem: {visible(problem)}", style="bold red", markup=False, highlight=False
        )
    if not findings.problems:
        console.print("no problem found", style="green")


def print_weights(found: Sequence[Status], *, console: Console) -> None:
    """Print what `synfoc weights list` and `check` found, one row per name."""
    head = ["name", "what", "from", "MB", "state"]
    rows = [[s.name, s.what, s.source, str(s.megabytes), s.state] for s in found]
    console.print(_grid("Weights", [head, *rows]))


def print_info(found: Mapping[str, Any], *, console: Console) -> None:
    """Print what `synfoc info` found, one row per fact."""
    device = found["device"]
    versions = {name: version for name, version in found["versions"].items() if version}
    ready = [status["name"] for status in found["weights"] if status["state"] == "ready"]
    rows = [
        ["versions", ", ".join(f"{name} {version}" for name, version in versions.items())],
        ["python", f"{found['python']} on {found['platform']}"],
        ["machine", f"{found['cpus']} cores, {found['memory_gib']} GiB"],
        ["device", f"{device['name']}, {device['precision']}, {device['free_gib']} GiB free"],
        ["weights here", ", ".join(ready) or "none"],
        ["methods", ", ".join(found["methods"])],
        ["foundation models", ", ".join(found["networks"]["foundation"])],
        ["conventional models", ", ".join(found["networks"]["conventional"])],
    ]
    console.print(_grid("Installation", [["fact", ""], *rows]))


def terminal(table: ScoreTable) -> Table:
    """Return the table for Rich's console; the best numbers bold."""
    best = [[False, False, *(cell.best for cell in row.cells)] for row in table.rows]
    return _grid(table.title, table.texts(), [[], *best])


def terminal_means(tables: Sequence[ScoreTable]) -> Table:
    """Return the means over domains of several measures, one column each; the best numbers bold."""
    first = tables[0]
    head = [*first.texts()[0][:2], *(table.title for table in tables)]
    rows = [[*texts[:2]] for texts in first.texts()[1:]]
    cells = [[table.rows[i].cells[0] for table in tables] for i in range(len(rows))]
    texts = [[*row, *(c.text for c in line)] for row, line in zip(rows, cells, strict=True)]
    best = [[False, False, *(c.best for c in line)] for line in cells]
    return _grid("Means over domains", [head, *texts], [[], *best])


def _grid(title: str, rows: Sequence[Sequence[str]], bold: Sequence[Sequence[bool]] = ()) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    head, *body = rows
    # Text everywhere, because a domain may be called [red] and must not be read as markup.
    shown = Table(title=Text(visible(title)), box=box.SIMPLE_HEAD, title_justify="left")
    for i, name in enumerate(head):
        # A number cut short is worse than a line too long.
        shown.add_column(
            Text(visible(name)), justify="left" if i < 2 else "right", no_wrap=False, min_width=5
        )
    for i, row in enumerate(body, start=1):
        marks = bold[i] if bold else [False] * len(row)
        cells = (
            Text(visible(t), style="bold" if b else "") for t, b in zip(row, marks, strict=True)
        )
        shown.add_row(*cells)
    return shown
