"""The paper's own numbers (Ma et al., CVPR 2025, arXiv 2503.16997), to stand beside ours.

published.csv: dataset, labels (labeled images), method, labeled_domain (or `mean`), class (or
`mean`), metric, value. Dice and Jaccard in percent, HD95 and ASD in pixels. The paper chose its
checkpoints on the test set; `docs/departures.md` says what else is its own.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TypeAlias

from synfoc.answers import deployed_by_paper
from synfoc.bench.suite import Answering, DataSet, MethodRow
from synfoc.config import Labeled
from synfoc.images.paper_sets import PAPER_SETS

MEAN = "mean"
Tables: TypeAlias = dict[tuple[str, int, str], dict[tuple[str, str], dict[str, float]]]
"""(data set, labels, method) -> (labeled domain, metric) -> class -> value."""


@dataclass(frozen=True)
class Published:
    """The numbers, by our names."""

    tables: Tables

    def column(
        self, data: DataSet, labeled: Labeled, method: MethodRow, branch: Answering
    ) -> float | None:
        """Dice in percent of one labeled choice, mean over classes; None where not printed."""
        return _mean(list(self._dice(data, labeled, method, branch).values()))

    def classes(
        self,
        data: DataSet,
        labeled: Labeled,
        method: MethodRow,
        branch: Answering,
        *,
        nested: bool,
    ) -> Mapping[str, float]:
        """Class, in small letters -> Dice in percent of one labeled choice; {} where not printed.

        Args:
            data: the data set; what the paper calls it says which classes there are.
            labeled: the choice.
            method: of the row.
            branch: of the row.
            nested: ours are scored as nested classes. A disc is no rim: what the paper scores
                otherwise is left out.
        """
        known = next((known for known in PAPER_SETS if known.name == data.published), None)
        if known is None or known.nested != nested:
            return {}
        found = self._dice(data, labeled, method, branch)
        return {name: found[name] for name in known.classes if name in found}

    def _dice(
        self, data: DataSet, labeled: Labeled, method: MethodRow, branch: Answering
    ) -> Mapping[str, float]:
        if labeled.domain is None or labeled.count is None:
            return {}
        table = self._table(data, labeled.count, method, branch)
        return table.get((labeled.domain, "dice"), {})

    def mean(
        self, data: DataSet, method: MethodRow, branch: Answering, metric: str = "dice"
    ) -> float | None:
        """Mean over the labeled choices of the data set, in percent or px.

        As printed, where these are the choices of one of the paper's tables; of others the mean of
        what is printed for each, which is Dice alone. None where a number is missing.
        """
        counts = {labeled.count for labeled in data.labeled}
        domains = {labeled.domain for labeled in data.labeled}
        count = next(iter(counts)) if len(counts) == 1 else None
        if count is not None and domains == self._domains(str(data.published), count):
            table = self._table(data, count, method, branch)
            return _mean(list(table.get((MEAN, metric), {}).values()))
        columns = [self.column(data, labeled, method, branch) for labeled in data.labeled]
        known = [value for value in columns if value is not None]
        return _mean(known) if metric == "dice" and len(known) == len(columns) else None

    def _domains(self, data: str, labels: int) -> set[str]:
        """Return the labeled domains of the paper's table.

        Some of its rows are printed as a mean only.
        """
        tables = (t for (d, n, _), t in self.tables.items() if (d, n) == (data, labels))
        return {domain for table in tables for domain, _ in table} - {MEAN}

    def _table(
        self, data: DataSet, labels: int, method: MethodRow, branch: Answering
    ) -> dict[tuple[str, str], dict[str, float]]:
        """Return what is printed for one row; {} where the paper has no such row.

        `recommended` stands beside what the paper deploys.
        """
        names = method.published
        name = names.get(branch)
        if branch == "recommended" and name is None:
            name = names.get(deployed_by_paper(names))
        return self.tables.get((str(data.published), labels, str(name)), {})


def load_published() -> Published:
    """Read the packaged numbers."""
    tables: Tables = {}
    lines = files("synfoc.bench").joinpath("published.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(lines.splitlines()):
        table = tables.setdefault((row["dataset"], int(row["labels"]), row["method"]), {})
        domain = _our_domain(row["dataset"], row["labeled_domain"])
        table.setdefault((domain, row["metric"]), {})[row["class"]] = float(row["value"])
    return Published(tables)


def _our_domain(data: str, name: str) -> str:
    return next((known.domain(name) for known in PAPER_SETS if known.name == data), name)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
