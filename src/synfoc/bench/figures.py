"""Figures of a suite as inline SVG: scores with intervals, and learning curves of all methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from synfoc.bench.compare import Mean
from synfoc.bench.folder import CellFolder
from synfoc.bench.gather import Comparison, Results, data_title, row_title
from synfoc.bench.suite import label_name
from synfoc.errors import UserError
from synfoc.report.figures import (
    BLUE,
    GREEN,
    MARKERS,
    ORANGE,
    PURPLE,
    SKY,
    STYLE,
    Look,
    dots_figure,
    svg,
)
from synfoc.report.tables import Cell

COLORS = (BLUE, ORANGE, GREEN, PURPLE, SKY, "#7A5C00")
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
ON_TEST, SCORE = "Dice on test (%)", "score without test labels (%)"


@dataclass(frozen=True)
class Curve:
    """What one method showed at its evaluations, mean over seeds."""

    method: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    """Percent."""


def dots(results: Results, comparison: Comparison) -> str:
    """Dice with its 95 % interval, per labeled choice and on average; "" where nothing is done."""
    suite = results.suite
    several = len(comparison.columns) > 1
    rows = []
    for i, one in enumerate(comparison.rows):
        found = (one.mean, *one.columns) if several else one.columns
        if not any(found):
            continue
        rows.append((_look(row_title(suite, one.row), i), [_cell(seen) for seen in found]))
    columns = (*(("mean",) if several else ()), *comparison.columns)
    data = data_title(suite, str(comparison.data))
    label = f"{data}, protocol {comparison.protocol}: Dice with intervals"
    return dots_figure(columns, rows, title="Dice (%)", label=label)


def curves(results: Results, data: str) -> str:
    """Learning curves of one data set, a panel per labeled choice; "" where nothing was logged.

    Dice on test where every run watched its test set, else the score that chose the checkpoint.
    """
    suite = results.suite
    labels = [label_name(labeled) for labeled in suite.data[data].labeled]
    per_label = {name: _lines_by_method(results, data, name) for name in labels}
    lines = [
        line for runs in per_label.values() for seeds in runs.values() for s in seeds for line in s
    ]
    watched = bool(lines) and all(line.get("test_dice") is not None for line in lines)
    key = "test_dice" if watched else "score"
    panels = {
        name: [curve for method, seeds in runs.items() if (curve := mean_curve(method, seeds, key))]
        for name, runs in per_label.items()
    }
    panels = {name: drawn for name, drawn in panels.items() if drawn}
    if not panels:
        return ""
    methods = list(suite.methods)
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    with mpl.rc_context(STYLE | {"svg.hashsalt": f"curves {data}"}):
        figure = Figure(figsize=(10.2, 0.5 + 2.7 * rows), layout="constrained")
        for i, (name, drawn) in enumerate(panels.items()):
            axes = figure.add_subplot(rows, columns, i + 1)
            for curve in drawn:
                axes.plot(curve.steps, curve.values, **_line(methods.index(curve.method)))
            axes.set_title(name)
            axes.set_xlabel("step")
            axes.set_ylabel(ON_TEST if watched else SCORE)
            axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4, integer=True))
        shown = [
            m for m in methods if any(c.method == m for drawn in panels.values() for c in drawn)
        ]
        handles = [Line2D([], [], **_line(methods.index(m))) for m in shown]
        names = [suite.methods[m].title for m in shown]
        figure.legend(handles, names, loc="outside upper left", ncols=min(4, len(names)))
        return svg(figure, f"{data_title(suite, data)}: learning curves of all methods")


def mean_curve(method: str, seeds: Sequence[Sequence[Mapping[str, Any]]], key: str) -> Curve | None:
    """Mean over seeds at the steps that all of them have; None where there is no such step.

    Args:
        method: key of the method.
        seeds: evaluations of each seed, as in metrics.jsonl.
        key: `test_dice` or `score`.
    """
    values = [
        {int(line["step"]): float(line[key]) for line in lines if line.get(key) is not None}
        for lines in seeds
    ]
    steps = sorted(set.intersection(*(set(known) for known in values))) if values else []
    if not steps:
        return None
    means = tuple(100 * float(np.mean([known[step] for known in values])) for step in steps)
    return Curve(method, tuple(steps), means)


def _lines_by_method(
    results: Results, data: str, labeled: str
) -> dict[str, list[list[dict[str, Any]]]]:
    """Return method -> evaluations of each run that is done."""
    found: dict[str, list[list[dict[str, Any]]]] = {}
    for cell in results.folder.cells:
        here = (cell.data, cell.labeled) == (data, labeled)
        if here and results.states[cell.name] == "done":
            lines = [x for x in _log(cell) if x.get("kind") == "evaluation"]
            found.setdefault(cell.method, []).append(lines)
    return found


def _log(cell: CellFolder) -> list[dict[str, Any]]:
    """Return what was logged, as far as it can be read."""
    with suppress(UserError):
        return cell.run.read_log()[0]
    return []


def _cell(found: Mapping[str, Mean] | None) -> Cell:
    if found is None:
        return Cell(None)
    dice = found["dice"]
    low, high = (None if end is None else 100 * end for end in (dice.low, dice.high))
    return Cell(100 * dice.value, low, high)


def _look(name: str, i: int) -> Look:
    """Color and shape by the row's place; their numbers have no common divisor."""
    filled = i < len(COLORS)
    return Look(name, COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)], filled=filled)


def _line(i: int) -> dict[str, Any]:
    return {
        "color": COLORS[i % len(COLORS)],
        "linestyle": DASHES[i // len(COLORS) % len(DASHES)],
        "marker": MARKERS[i % len(MARKERS)],
        "markersize": 3,
    }
