"""Write what a suite has shown: tables/, results.json, report.html. Works in any state of it.

tables/PROTOCOL_DATA.{md,tex,csv}    one table per data set and protocol
tables/classes_PROTOCOL_DATA.*       the same with the classes apart, where there are several
tables/summary_PROTOCOL.*            over data sets, where there are several
tables/cells.*                       what is done
tables/regret.*, tables/estimate.*   what choosing without test labels cost; how far off the Dice
                                     was that runs estimate without them
results.json                         everything as numbers: fractions, px or mm, points of Dice
                                     for regrets; what is missing is null
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from synfoc.bench.compare import Compared, Difference, Mean
from synfoc.bench.compose import (
    class_table,
    data_table,
    estimate_table,
    regret_table,
    states_table,
    summary_table,
)
from synfoc.bench.folder import SuiteFolder
from synfoc.bench.gather import Comparison, Results, gather, reference_of, row_title
from synfoc.bench.page import page
from synfoc.bench.published import load_published
from synfoc.bench.regret import summarize
from synfoc.bench.tables import Table, as_csv, latex, markdown
from synfoc.bench.trust import summarize_errors
from synfoc.storage import write_json, write_text


def write_results(folder: SuiteFolder) -> list[Path]:
    """Write tables, numbers and the page of a suite; files of an earlier time are replaced.

    Returns:
        The files, report.html last.

    Raises:
        UserError: methods were scored on different cases, or the disk does not take the files.
    """
    return write_gathered(gather(folder))


def write_gathered(results: Results) -> list[Path]:
    """Return the same of a suite that was read already."""
    folder = results.folder
    tables = all_tables(results)
    written = []
    for table in tables:
        for suffix, text in (
            ("md", markdown(table)),
            ("tex", latex(table)),
            ("csv", as_csv(table)),
        ):
            written.append(folder.tables / f"{table.name}.{suffix}")
            write_text(written[-1], text)
    write_json(folder.results, numbers(results))
    write_text(folder.report, page(results, tables))
    return [*written, folder.results, folder.report]


def all_tables(results: Results) -> list[Table]:
    """Every table of a suite."""
    published = load_published()
    classes = [class_table(results, one, published) for one in results.comparisons]
    trust = [regret_table(results), estimate_table(results)]
    return [
        *(summary_table(results, one) for one in results.summaries),
        *(data_table(results, one, published) for one in results.comparisons),
        *(table for table in classes + trust if table is not None),
        states_table(results),
    ]


def numbers(results: Results) -> dict[str, Any]:
    """Return what results.json holds."""
    reference = reference_of(results.suite)
    return {
        "suite": results.suite.name,
        "seeds": results.suite.seeds,
        "reference": {"method": reference[0], "branch": reference[1]},
        "cells": dict(results.states),
        "failures": dict(results.failures),
        "tables": [_comparison(results, one) for one in results.comparisons],
        "summaries": [_comparison(results, one) for one in results.summaries],
        "regret": {
            "runs": [asdict(regret) for regret in results.regrets],
            "summary": [asdict(loss) for loss in summarize(results.regrets)],
        },
        "estimate": {
            "runs": [asdict(errors) for errors in results.errors],
            "summary": [asdict(error) for error in summarize_errors(results.errors)],
        },
    }


def _comparison(results: Results, one: Comparison) -> dict[str, Any]:
    return {
        "protocol": one.protocol,
        "data": one.data,
        "unit": one.unit or None,
        "cases": one.cases,
        "domains": one.domains,
        "rows": [_row(results, one, row) for row in one.rows],
    }


def _row(results: Results, one: Comparison, row: Compared) -> dict[str, Any]:
    return {
        "method": row.row[0],
        "branch": row.row[1],
        "title": row_title(results.suite, row.row),
        "columns": {
            name: _means(found) for name, found in zip(one.columns, row.columns, strict=True)
        },
        "classes": {
            name: _means(one.by_class[row.row, name])
            for name in one.columns
            if (row.row, name) in one.by_class
        },
        "mean": _means(row.mean),
        "difference": _difference(row.difference),
    }


def _means(found: Mapping[str, Mean] | None) -> dict[str, Any] | None:
    return None if found is None else {name: asdict(one) for name, one in found.items()}


def _difference(found: Difference | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)
