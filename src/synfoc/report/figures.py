"""Figures as inline SVG: scores with their intervals, and learning curves.

Drawn with matplotlib's Figure alone (no pyplot, no global state kept). Text stays text, ink takes
the page's color, so that a figure is legible in dark mode and for a screen reader.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import matplotlib as mpl
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray

from synfoc.report.tables import Cell, Row, ScoreTable, row_name
from synfoc.report.view import RunView

# Okabe and Ito's palette, told apart by people with any color vision.
BLUE, ORANGE, GREEN, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"
BRANCH_COLORS = {"unet": BLUE, "medsam": ORANGE, "fused": GREEN}
MARKERS = "osD^v"
# Stand-ins that become the page's own colors in the SVG.
INK, FAINT = "#010203", "#040506"
POINTS = 250
Source: TypeAlias = Literal["steps", "evaluations", "pseudo-labels", "speed"]
"""What of metrics.jsonl a panel draws: lines of steps, of evaluations, the Dice of pseudo-labels in
those, or the pace, which the log has as seconds since the start."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.35,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 1.0,
    "legend.handletextpad": 0.4,
    "legend.columnspacing": 1.0,
    "legend.borderaxespad": 0.2,
    "lines.linewidth": 1.6,
}


@dataclass(frozen=True)
class Look:
    """How one row of a table is drawn."""

    name: str
    color: str
    marker: str
    filled: bool = True


@dataclass(frozen=True)
class Panel:
    """One small chart: lines over the optimizer step."""

    title: str
    series: tuple[tuple[str, str, str], ...]
    """(key in the source, name, color)."""
    unit: bool = False
    """The values are shares in [0, 1]."""
    source: Source = "steps"


@dataclass(frozen=True)
class Line:
    """Values over the steps."""

    name: str
    color: str
    steps: NDArray[Any]
    values: NDArray[Any]


PANELS = (
    Panel("Loss, labeled", (("L_x_UT", "U-Net", BLUE), ("L_x_MS", "MedSAM", ORANGE))),
    Panel(
        "Loss, unlabeled",
        (
            ("L_u_UT", "U-Net", BLUE),
            ("L_u_MS", "MedSAM", ORANGE),
            ("L_c", "consensus", GREEN),
            ("L_d", "divergence", PURPLE),
        ),
    ),
    Panel(
        "Mutual confidence",
        (("phi_self", "φ self", SKY), ("phi_mut", "φ mutual", PURPLE), ("alpha", "α", BLUE)),
        unit=True,
    ),
    Panel(
        "Trusted share and λ",
        (("trusted", "trusted share", GREEN), ("lam", "λ", PURPLE)),
        unit=True,
    ),
    Panel(
        "Dice of the pseudo-labels",
        (("unet", "U-Net", BLUE), ("medsam", "MedSAM", ORANGE), ("fused", "fused", GREEN)),
        unit=True,
        source="pseudo-labels",
    ),
    Panel(
        "Choice of the checkpoint",
        (
            ("labeled_dice", "Dice on labeled", BLUE),
            ("agreement", "agreement", ORANGE),
            ("stability", "stability", SKY),
            ("score", "score", GREEN),
            ("test_dice", "Dice on test", PURPLE),
        ),
        unit=True,
        source="evaluations",
    ),
    Panel("Seconds per step", (("seconds_per_step", "seconds", BLUE),), source="speed"),
)


def curves_figure(view: RunView) -> str:
    """Learning curves of one run as SVG; "" where nothing was logged. Dotted: the chosen step."""
    drawn = [(panel, lines) for panel in PANELS if (lines := _lines(view, panel))]
    if not drawn:
        return ""
    best = view.summary.get("best_step") or view.metrics.get("step")
    columns = min(3, len(drawn))
    rows = -(-len(drawn) // columns)
    with mpl.rc_context(STYLE | {"svg.hashsalt": f"curves {str(view.folder.path)!a}"}):
        figure = Figure(
            figsize=(10.6 * max(columns, 2) / max(columns, 3), 2.45 * rows), layout="constrained"
        )
        for i, (panel, lines) in enumerate(drawn):
            axes = figure.add_subplot(rows, columns, i + 1)
            _draw(axes, panel, lines, best)
            axes.set_xlabel("step")
        return svg(figure, f"Learning curves of {view.name}")


def scores_figure(table: ScoreTable) -> str:
    """One measure as SVG: color by branch, shape by run; "" without rows."""
    runs = list(dict.fromkeys(row.run for row in table.rows))
    marks = [f"\n{s}" if s else "" for s in table.standing]
    return dots_figure(
        [column + mark for column, mark in zip(table.columns, marks, strict=True)],
        [(_look(row, runs), row.cells) for row in table.rows],
        title=table.title,
        label=f"{table.title} per domain with 95 percent intervals",
    )


def dots_figure(
    columns: Sequence[str],
    rows: Sequence[tuple[Look, Sequence[Cell]]],
    *,
    title: str,
    label: str,
) -> str:
    """Scores per column with 95 % intervals as SVG: one dot per row; "" without rows.

    Args:
        columns: names, from top to bottom.
        rows: how a row is drawn, and its cells, one per column.
        title: measure and unit.
        label: what a screen reader says; differs between the figures of a page.
    """
    if not rows:
        return ""
    step = 0.72 / len(rows)
    with mpl.rc_context(STYLE | {"svg.hashsalt": f"scores {label}"}):
        height = 0.7 + len(columns) * max(0.34, 0.15 * len(rows))
        figure = Figure(figsize=(10.2, height), layout="constrained")
        axes = figure.add_subplot()
        for i, (look, cells) in enumerate(rows):
            _dots(axes, cells, step * (i + 0.5) - 0.36, look)
        axes.set_yticks(range(len(columns)), columns)
        axes.set_ylim(len(columns) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        for line in np.arange(len(columns) - 1) + 0.5:
            axes.axhline(line, color=FAINT, linewidth=0.5, alpha=0.35)
        axes.set_xlabel(title)
        figure.legend(loc="outside upper left", ncols=min(4, len(rows)))
        return svg(figure, label)


def _look(row: Row, runs: Sequence[str]) -> Look:
    """Later runs are hollow and of another shape, for any color vision."""
    run = runs.index(row.run)
    color = BRANCH_COLORS[row.answer[0]]
    return Look(row_name(row, runs), color, MARKERS[run % len(MARKERS)], filled=run == 0)


def _dots(axes: Axes, cells: Sequence[Cell], shift: float, look: Look) -> None:
    """Dots with whiskers."""
    found = [(c, i + shift) for i, c in enumerate(cells) if c.value is not None]
    for cell, at in found:
        if cell.low is not None and cell.high is not None:
            axes.plot([cell.low, cell.high], [at, at], color=look.color, linewidth=1.1, alpha=0.8)
    axes.plot(
        [cell.value or 0.0 for cell, _ in found],
        [at for _, at in found],
        linestyle="none",
        marker=look.marker,
        markersize=5,
        color=look.color,
        markerfacecolor=look.color if look.filled else "none",
        label=look.name,
    )


def _lines(view: RunView, panel: Panel) -> list[Line]:
    """Return the lines of a panel that the run has."""
    logged, found = _logged(view, panel.source), []
    for key, name, color in panel.series:
        pairs = [
            (line["step"], line[key])
            for line in logged
            if line.get(key) is not None and "step" in line
        ]
        if pairs:
            steps, numbers = np.array(pairs, dtype=float).T
            found.append(Line(name, color, *_thin(steps, numbers)))
    return found


def _logged(view: RunView, source: Source) -> Sequence[Mapping[str, Any]]:
    """Return the lines that a panel of this source draws."""
    if source == "evaluations":
        return view.evaluations
    if source == "pseudo-labels":
        return [line | (line.get("pseudo_dice") or {}) for line in view.evaluations]
    if source == "speed":
        return _speed(view.steps)
    return view.steps


def _speed(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Seconds per step between two lines; the log holds seconds since the start."""
    known = [(line["step"], line["seconds"]) for line in lines if line.get("seconds") is not None]
    return [
        {"step": step, "seconds_per_step": (now - before) / (step - last)}
        for (last, before), (step, now) in pairwise(known)
        if step > last
    ]


def _thin(steps: NDArray[Any], values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """At most POINTS points: means of equal stretches, so that a long run stays small to send."""
    if len(steps) <= POINTS:
        return steps, values
    parts = np.array_split(np.arange(len(steps)), POINTS)
    return np.array([steps[p].mean() for p in parts]), np.array([values[p].mean() for p in parts])


def _draw(axes: Axes, panel: Panel, lines: Sequence[Line], best: int | None) -> None:
    for line in lines:
        marker = "o" if len(line.steps) < 12 else ""
        axes.plot(
            line.steps, line.values, color=line.color, label=line.name, marker=marker, markersize=3
        )
    if best is not None:
        axes.axvline(best, color=INK, linewidth=0.9, linestyle=(0, (1, 2)))
    # Names stand in one row between title and axes, where they cover no line.
    axes.set_title(panel.title, pad=19)
    low = min(float(line.values.min()) for line in lines)
    if panel.unit:
        axes.set_ylim(min(0.0, low), 1.02)
    elif low >= 0:
        axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5, integer=True))
    if len(lines) > 1:
        legend = axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.985), ncols=len(lines))
        # A wide legend must not squeeze its panel: all panels keep one width.
        legend.set_in_layout(False)


def svg(figure: Figure, label: str) -> str:
    """Return the figure as an `<svg>` that can stand inside HTML5.

    It has no prolog, and no names of the outside.
    """
    buffer = io.StringIO()
    FigureCanvasSVG(figure)
    with warnings.catch_warnings():
        # The browser has the glyphs of other scripts; only the measured width is a guess.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # A <style> would reach the whole page.
    text = re.sub(r"<(metadata|style)\b.*?</\1>|<!--.*?-->", "", text, flags=re.S)
    # Its groups are numbered from 1 in every figure; an id may stand in a page once.
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = text.replace(INK, "currentColor").replace(FAINT, "var(--faint)")
    text = re.sub(r"font:[^;\"]*?([\d.]+)px[^;\"]*", r"font-size: \1px", text)
    text = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" LABEL>', text, count=1)
    return text.replace("LABEL", f'role="img" aria-label="{escape(label)}"', 1)
