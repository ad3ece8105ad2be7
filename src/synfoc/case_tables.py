"""evaluation/cases.csv and bench/PROTOCOL.csv: the scores of every case as a table; no torch."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from os.path import lexists
from pathlib import Path
from typing import Any

from synfoc.answers import ANSWERS
from synfoc.storage import obstacle, refuse_endless, unreadable

METRICS = ("dice", "jaccard", "hd95", "asd")
CASE_COLUMNS = ("case", "patient", "domain", "class", "branch", "role", *METRICS, "unit", "empty")
"""Of evaluation/cases.csv: one line per case, class and answer."""


def read_cases(path: Path, *, fix: str) -> list[dict[str, str]]:
    """Rows of a table of cases as text; [] where it is missing.

    Args:
        path: the file.
        fix: what brings it back.

    Raises:
        UserError: it is damaged.
    """
    if not lexists(path):
        return []
    rows: list[dict[str, str]] = []
    try:
        refuse_endless(path)
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file, strict=True)
            rows = list(table)
        found = _odd_table(table.fieldnames or (), rows)
    except (OSError, ValueError, csv.Error) as error:
        found = str(error)
    if found := obstacle(path) or found:
        expected = "a CSV with the columns " + ", ".join(CASE_COLUMNS)
        raise unreadable(path, found, expected=expected, fix=fix)
    return rows


def _odd_table(columns: Sequence[str], rows: Sequence[Mapping[Any, Any]]) -> str:
    """Return what is wrong with the rows of cases.csv; "" where nothing is."""
    lacking = [name for name in CASE_COLUMNS if name not in columns and name != "empty"]
    if lacking:
        return f"no column {', '.join(lacking)}"
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            return f"line {number} has more or fewer columns than the first"
        if (row["branch"], row["role"]) not in ANSWERS:
            return f"line {number} is of {row['branch']} {row['role']}, which answers nowhere"
        for text in (row[name] for name in METRICS):
            if not _is_number(text):
                return f"line {number}: {text} is no finite number"
    return ""


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
