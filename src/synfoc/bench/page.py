"""A suite as one HTML page: who is first, tables, figures, curves, failures, how to repeat it.

As every page of synfoc it holds no script and no address of the outside (report/html.py).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from contextlib import suppress
from html import escape
from typing import Any

from synfoc.bench.compare import Compared
from synfoc.bench.compose import PROTOCOLS, reading
from synfoc.bench.figures import curves, dots
from synfoc.bench.gather import Comparison, Results, data_title, reference_of, row_title
from synfoc.bench.tables import Table, html, p_text
from synfoc.errors import UserError
from synfoc.report.html import bullets, document, fold, section
from synfoc.report.tables import one_decimal
from synfoc.runs import RunFolder


def page(results: Results, tables: Sequence[Table]) -> str:
    """Return the page.

    Args:
        results: what the suite has shown so far.
        tables: all of its tables; each stands where its name belongs.
    """
    by_name = {table.name: table for table in tables}
    summaries = [by_name[f"summary_{s.protocol}"] for s in results.summaries]
    sections = [
        section("What was compared", _about(results, tables) + html(by_name["cells"])),
        section("All data sets", "".join(map(html, summaries))),
        *(
            section(data_title(results.suite, key), _data(results, key, by_name))
            for key in results.suite.data
        ),
        section("The choice without test labels", html(by_name["regret"]))
        if "regret" in by_name
        else "",
        section("The Dice estimated without labels", html(by_name["estimate"]))
        if "estimate" in by_name
        else "",
        section("What failed", _failures(results)),
        section("What to check", bullets(_checks(results))),
        section("Repeat it", _repeat(results)),
    ]
    return document(f"Suite {results.suite.name}", headline(results), "".join(sections))


def headline(results: Results) -> str:
    """Who is first, and how far behind the reference is, or the next method."""
    done, cells = results.count("done"), len(results.states)
    if not done:
        return f"No cell is done yet, of {cells}."
    first = results.first
    left = f" {done} of {cells} cells are done." if done < cells else ""
    ranked = first.ranked
    if not ranked:
        return f"No method has all its labeled images with one seed yet.{left}"
    missing = len(first.rows) - len(ranked)
    among = f" {missing} of {len(first.rows)} rows have no mean yet." if missing else ""
    if len({row.mean["dice"].seeds for row in ranked if row.mean}) > 1:
        among += " Not all rows have the same seeds yet."
    return _who(results, first, ranked) + among + left


def _who(results: Results, first: Comparison, ranked: Sequence[Compared]) -> str:
    suite, best = results.suite, ranked[0]
    where = f"{len(first.columns)} data sets"
    if first.data is not None:
        where = data_title(suite, first.data)
    text = (
        f"{row_title(suite, best.row)} is first on {where} with a mean Dice of "
        f"{_percent(best)} % ({'; '.join([*_interval(best), f'protocol {first.protocol}'])})"
    )
    reference = reference_of(suite)
    other = next((row for row in ranked if row.row == reference), None)
    role = "the reference, "
    if best.row == reference:
        text += "; it is the reference"
        other = next((row for row in ranked if row.row[0] != reference[0]), None)
        role = "the next method, "
    if other is None:
        return text + "."
    gap = best.difference if other.row == reference else other.difference
    if gap is None:
        return f"{text}; {role}{row_title(suite, other.row)}, has {_percent(other)} %."
    # The one of the two that is not the reference, minus the reference: behind is above 0 in both.
    sign = 100 if other.row == reference else -100
    sure = ", ".join([*_ends(gap.low, gap.high, sign), p_text(gap.p_holm)])
    return (
        f"{text}; {role}{row_title(suite, other.row)} with {_percent(other)} %, is "
        f"{one_decimal(sign * gap.value)} points behind, by the same patients ({sure})."
    )


def _interval(row: Compared) -> list[str]:
    return _ends(row.mean["dice"].low, row.mean["dice"].high, 100) if row.mean else []


def _ends(low: float | None, high: float | None, factor: int) -> list[str]:
    """`79.2 to 86.0`, or nothing where there is no interval."""
    if low is None or high is None:
        return []
    low, high = sorted((factor * low, factor * high))
    return [f"{one_decimal(low)} to {one_decimal(high)}"]


def _percent(row: Compared) -> str:
    return one_decimal(100 * row.mean["dice"].value) if row.mean else ""


def _about(results: Results, tables: Sequence[Table]) -> str:
    suite = results.suite
    choices = sum(len(data.labeled) for data in suite.data.values())
    seeds = ", ".join(map(str, suite.seeds))
    facts = [
        f"{len(suite.methods)} methods on {len(suite.data)} data sets with {choices} choices of "
        f"labeled images, seeds {seeds}: {len(results.states)} runs, "
        f"{results.count('done')} done, {results.count('failed')} failed.",
        *(f"Protocol {name}: {PROTOCOLS[name]}." for name in suite.protocols),
        f"Reference: {row_title(suite, reference_of(suite))}.",
        *reading(results, [row for table in tables for row in table.rows]),
    ]
    return bullets(facts)


def _data(results: Results, key: str, tables: dict[str, Table]) -> str:
    parts = []
    for comparison in results.comparisons:
        if comparison.data != key:
            continue
        figure = dots(results, comparison)
        parts.append(f"<h3>Protocol {comparison.protocol}</h3>\n")
        parts.append(html(tables[f"{comparison.protocol}_{key}"]))
        by_class = tables.get(f"classes_{comparison.protocol}_{key}")
        parts.append(fold("Classes apart", html(by_class)) if by_class else "")
        parts.append(f"<figure>{figure}</figure>\n" if figure else "")
    drawn = curves(results, key)
    note = (
        "Mean over the seeds that are done, a panel per choice of labeled images. Dice on test is "
        "that of MedSAM where the run has it, else of its only network; it chose no checkpoint of "
        "protocol honest."
    )
    learning = f'<figure>{drawn}</figure><p class="note">{escape(note)}</p>'
    return "".join(parts) + (fold("Learning curves", learning, opened=True) if drawn else "")


def _failures(results: Results) -> str:
    rows = (
        f"<h3>{escape(name)}</h3>\n<pre>{escape(error)}</pre>\n"
        for name, error in results.failures.items()
    )
    return "".join(rows)


def _checks(results: Results) -> list[str]:
    seeds = len(results.suite.seeds)
    found = [
        "Intervals and p values are about the test patients. They do not cover the draw of the "
        "labeled images, and not the seeds, whose spread stands after ±.",
        "A suite is a comparison at its own settings: its methods may rank otherwise with more "
        "steps, larger networks or other labels.",
    ]
    if seeds < 3:
        found.insert(0, f"{seeds} {'seed' if seeds == 1 else 'seeds'}: few to tell runs from luck.")
    missing = len(results.states) - results.count("done")
    if missing:
        found.insert(0, f"{missing} cells are missing, so parts of the tables are, too.")
    found += _unlike(results)
    if "paper" in results.suite.protocols:
        found.append(
            "Under protocol paper each network has its best checkpoint on the test set: what is "
            "gained that way cannot be had without test labels. The table of points lost says how "
            "much that is."
        )
    return [*found, "Research software, not a medical device."]


def _unlike(results: Results) -> list[str]:
    """Return what keeps the runs from being compared like with like."""
    runs = [c.run for c in results.folder.cells if results.states[c.name] == "done"]
    found = []
    for key in ("commit", "device", "precision"):
        values = {str(_environment(run).get(key)) for run in runs}
        if len(values) > 1:
            found.append(f"The runs differ in the {key}: {', '.join(sorted(values))}.")
    return found


def _environment(run: RunFolder) -> dict[str, Any]:
    """Return what a run ran on; nothing is known where its file is damaged."""
    with suppress(UserError):
        return run.read_environment()
    return {}


def _repeat(results: Results) -> str:
    command = f"synfoc bench suite.yaml --data DIR --out {shlex.quote(results.suite.name)}"
    parts = [f"<pre>{escape(command)}</pre>\n"]
    done = [cell for cell in results.folder.cells if results.states[cell.name] == "done"]
    texts = {"suite.yaml": results.suite.to_yaml()}
    for cell in done[:1]:
        about = json.dumps(_environment(cell.run), indent=1, ensure_ascii=False)
        texts[f"Environment of {cell.name}"] = about
    for title, text in texts.items():
        shown = f"<summary>{escape(title)}</summary>\n<pre>{escape(text)}</pre>"
        parts.append(f'<details class="raw">{shown}</details>\n')
    return "".join(parts)
