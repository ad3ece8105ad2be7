"""A table as one content for Markdown, LaTeX, CSV and HTML.

Two columns of names, then numbers. Text has one decimal and may join columns (`59.5 / 73.9`); the
CSV has every number by itself.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from html import escape
from itertools import islice

from synfoc.report.tables import NONE, best_text, markdown_line, one_decimal

PAPER = "paper"
BETWEEN = " / "
"""Numbers of one column in text."""
NO_BREAK = "\u00a0"
TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "`": r"\textasciigrave{}", "±": r"$\pm$", "×": r"$\times$", NONE: "--", "−": "$-$",
    "≤": r"$\leq$", "≥": r"$\geq$", "→": r"$\to$",
}  # fmt: skip


@dataclass(frozen=True)
class Number:
    """A number with what stands beside it, in percent, points, px or mm; or words instead."""

    value: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    seeds: int | None = None
    """Seeds that the number is of."""
    paper: float | None = None
    """The number printed in the paper."""
    words: str = ""
    planned: int | None = None
    """Seeds of the suite; said where `seeds` are fewer."""
    signed: bool = False
    best: bool = False

    @property
    def text(self) -> str:
        """`83.1 ± 0.4`, `+1.2`, the words, or a dash."""
        if self.words or self.value is None:
            return self.words or NONE
        number = _signed(self.value) if self.signed else one_decimal(self.value)
        return number if self.sd is None else f"{number} ± {one_decimal(self.sd)}"

    @property
    def beside(self) -> list[str]:
        """Interval, p, seeds where some are missing, and the paper's number."""
        found = []
        if self.value is not None and self.low is not None and self.high is not None:
            show = _signed if self.signed else one_decimal
            found.append(f"{show(self.low)} to {show(self.high)}")
        if self.p is not None:
            found.append(p_text(self.p))
        if self.seeds is not None and self.planned is not None and self.seeds < self.planned:
            found.append(f"{self.seeds} of {self.planned} seeds")
        if self.paper is not None:
            found.append(f"{PAPER} {one_decimal(self.paper)}")
        return found


@dataclass(frozen=True)
class Row:
    """Two names and one cell per column."""

    names: tuple[str, str]
    cells: tuple[Number, ...]


@dataclass(frozen=True)
class Table:
    """What one table says, whatever the format."""

    name: str
    """Of its files, without suffix."""
    title: str
    heads: tuple[str, str]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    groups: tuple[tuple[str, int], ...] = ()
    """In text: (name, columns that stand as one), from left to right; (): each by itself."""
    notes: tuple[str, ...] = ()
    """Sentences of the caption."""
    reading: tuple[str, ...] = ()
    """Sentences that the tables of a suite share; a page says them once."""

    @property
    def shown(self) -> tuple[str, ...]:
        """Names of the columns in text."""
        return tuple(name for name, _ in self.groups) or self.columns

    def joined(self, row: Row) -> list[tuple[Number, ...]]:
        """Return the numbers of each column in text."""
        sizes = [size for _, size in self.groups] or [1] * len(self.columns)
        cells = iter(row.cells)
        return [tuple(islice(cells, size)) for size in sizes]


NUMBERS = [f.name for f in fields(Number) if f.name not in ("planned", "signed", "best")]


def mark_best(rows: Sequence[Row], largest: Sequence[bool | None]) -> tuple[Row, ...]:
    """Mark the best number of each column, ties as printed included.

    Args:
        rows: rows with one cell per column.
        largest: per column True: the largest is best, False: the smallest, None: no mark.
    """
    marked = [list(row.cells) for row in rows]
    for at, up in enumerate(largest):
        values = [cells[at].value for cells in marked]
        best = None if up is None else best_text(values, largest=up)
        for cells, value in zip(marked, values, strict=True):
            if best is not None and value is not None and one_decimal(value) == best:
                cells[at] = replace(cells[at], best=True)
    return tuple(replace(row, cells=tuple(cells)) for row, cells in zip(rows, marked, strict=True))


def markdown(table: Table) -> str:
    """Title, table, caption; the best number of each column bold."""
    head = [*table.heads, *table.shown]
    lines = [
        f"**{_plain_markdown(table.title)}**\n",
        markdown_line([_plain_markdown(name) for name in head]),
        markdown_line(["---", "---", *["---:"] * len(table.shown)]),
    ]
    for row in table.rows:
        names = [_plain_markdown(name) for name in row.names]
        lines.append(markdown_line([*names, *map(_markdown_cell, table.joined(row))]))
    caption = " ".join(_plain_markdown(note) for note in (*table.notes, *table.reading))
    return "\n".join(lines) + "\n" + (f"\n{caption}\n" if caption else "")


def latex(table: Table) -> str:
    r"""Return a `table` (`\usepackage{booktabs,graphicx}`), never wider than a line.

    Text is escaped.

    Letters of other scripts need XeLaTeX or LuaLaTeX.
    """
    head = _tex_line([*map(_tex, table.heads), *map(_tex, table.shown)])
    rows = [
        _tex_line([*map(_tex, row.names), *map(_tex_cell, table.joined(row))]) for row in table.rows
    ]
    texts = (f"{table.title}.", *table.notes, *table.reading)
    caption = " ".join(_tex(text) for text in texts)
    # A minus sign, which is a hyphen outside mathematics.
    body = "\n".join(re.sub(r"(?<![\w.}])-(?=\d)", "$-$", row) for row in rows)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\footnotesize",
            rf"\caption{{{caption}}}",
            # Smaller where it is wider than a line; never larger.
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{ll{'r' * len(table.shown)}}}",
            r"\toprule",
            head,
            r"\midrule",
            *([body] if body else []),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


def as_csv(table: Table) -> str:
    """One line per row; per column `COLUMN` (its value), `COLUMN sd`, `COLUMN low` and so on.

    Only what some row has; an empty field where this row has nothing.
    """
    wanted = [
        (at, name)
        for at in range(len(table.columns))
        for name in NUMBERS
        if any(getattr(row.cells[at], name) not in (None, "") for row in table.rows)
    ]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    heads = [table.columns[at] + ("" if name == "value" else f" {name}") for at, name in wanted]
    writer.writerow([*table.heads, *heads])
    for row in table.rows:
        numbers = [_number(getattr(row.cells[at], name)) for at, name in wanted]
        writer.writerow([*row.names, *numbers])
    return buffer.getvalue()


def html(table: Table) -> str:
    """Return the table and its caption without `reading`, for a page with report/page.css."""
    names = (*table.heads, *table.shown)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    rows, before = [], ""
    for row in table.rows:
        first, second = row.names
        name = escape(first) if first != before else ""
        mark = ' class="first"' if name else ""
        cells = "".join(map(_html_cell, table.joined(row)))
        rows.append(f'<tr{mark}><td>{name}</td><th scope="row">{escape(second)}</th>{cells}</tr>')
        before = first
    notes = f'<p class="note">{escape(" ".join(table.notes))}</p>' if table.notes else ""
    return (
        f'<div class="wide"><table class="scores"><caption>{escape(table.title)}</caption>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>"
        + "\n".join(rows)
        + "</tbody></table></div>\n"
        + notes
    )


def p_text(p: float) -> str:
    """`p = 0.041`, `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _signed(value: float) -> str:
    text = one_decimal(value)
    return text if text.startswith("-") or text == "0.0" else f"+{text}"


def _beside(cells: Sequence[Number]) -> list[str]:
    """Return what stands beside the numbers of one column in text; what they share is said once."""
    if len(cells) == 1:
        return cells[0].beside
    found = [words for cell in cells for words in replace(cell, paper=None).beside]
    printed = [None if cell.paper is None else one_decimal(cell.paper) for cell in cells]
    if any(printed):
        found.append(f"{PAPER} {BETWEEN.join(text or NONE for text in printed)}")
    return list(dict.fromkeys(found))


def _text(cells: Sequence[Number], shown: Callable[[str], str], bold: str) -> str:
    """Numbers of one column in text, the best in bold; one dash where there is none."""
    if all(cell.text == NONE for cell in cells):
        return shown(NONE)
    texts = (shown(cell.text) for cell in cells)
    return BETWEEN.join(
        bold.format(text) if cell.best else text for cell, text in zip(cells, texts, strict=True)
    )


def _markdown_cell(cells: Sequence[Number]) -> str:
    text, beside = _text(cells, _plain_markdown, "**{}**"), _beside(cells)
    return f"{text} ({'; '.join(beside)})" if beside else text


def _html_cell(cells: Sequence[Number]) -> str:
    words = any(cell.words for cell in cells)
    text = _text(cells, escape, "<b>{}</b>")
    beside = "".join(f"<small>{escape(note)}</small>" for note in _beside(cells))
    return f"<td>{text if words else text.replace(' ', NO_BREAK)}{beside}</td>"


def _tex_cell(cells: Sequence[Number]) -> str:
    text, beside = _text(cells, _tex, r"\textbf{{{}}}"), _tex("; ".join(_beside(cells)))
    return rf"{text} {{\scriptsize ({beside})}}" if beside else text


def _tex_line(cells: Sequence[str]) -> str:
    r"""One row; `\\` and `\midrule` would take a `[` or `*` that follows for their own."""
    guard = "{}" if cells[0].startswith(("[", "*")) else ""
    return guard + " & ".join(cells) + r" \\"


def _tex(text: str) -> str:
    """On one line: an empty one would end a paragraph, which a table cannot."""
    return "".join(TEX.get(letter, letter) for letter in " ".join(text.split()))


def _plain_markdown(text: str) -> str:
    """Names as they are: no emphasis, code or HTML from them."""
    return re.sub(r"([\\`*_<\[\]])", r"\\\1", text)


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)
