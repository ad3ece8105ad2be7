"""A suite in any state -> everything that its tables, figures and results.json show."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from synfoc.bench.compare import Compared, Mean, Resampled, Row, class_means, compare, resample
from synfoc.bench.folder import DAMAGED, CellFolder, State, SuiteFolder, doubt
from synfoc.bench.regret import RunRegret, run_regret
from synfoc.bench.scores import CaseScores, Scores, read_scores
from synfoc.bench.suite import Answering, Protocol, Suite, label_name
from synfoc.bench.trust import RunErrors, run_errors
from synfoc.errors import UserError

ANSWERS: dict[Answering, str] = {
    "recommended": "recommended",
    "unet": "U-Net",
    "medsam": "MedSAM",
    "fused": "fused",
}


@dataclass(frozen=True)
class Comparison:
    """All methods on one data set, or over all of them, under one protocol."""

    protocol: Protocol
    data: str | None
    """Key of the data set; None: the columns are data sets, and their means are over all."""
    columns: tuple[str, ...]
    """Labeled choices, or keys of data sets."""
    rows: tuple[Compared, ...]
    unit: str = ""
    """Of the distances: px, mm or mixed."""
    cases: tuple[int, ...] = ()
    """Numbers of test cases, one where all cells have the same."""
    domains: int = 0
    fewest: tuple[str, int] = ("", 0)
    """The domain with the fewest test patients, and how many; unknown ones count as one each."""
    classes: tuple[str, ...] = ()
    """Names of the classes that were scored."""
    nested: bool = False
    """Each class was scored together with those before it, as the disc with the cup."""
    by_class: Mapping[tuple[Row, str], Mapping[str, Mean]] = field(default_factory=dict)
    """(row, labeled choice) -> class -> its Dice."""

    @property
    def ranked(self) -> list[Compared]:
        """Rows that have a mean, best Dice first."""
        return sorted(
            (row for row in self.rows if row.mean is not None),
            key=lambda row: -row.mean["dice"].value if row.mean else 0.0,
        )


@dataclass(frozen=True)
class Results:
    """What a suite has shown so far."""

    folder: SuiteFolder
    comparisons: tuple[Comparison, ...]
    """By protocol, then data set."""
    summaries: tuple[Comparison, ...]
    """Over data sets, by protocol; none for a suite of one data set."""
    states: Mapping[str, State]
    """Name of each cell -> how far it is; a cell whose files cannot be read counts as failed."""
    failures: Mapping[str, str]
    """Name -> what went wrong, or is wrong with the files; of a cell whose scores stand, too."""
    regrets: tuple[RunRegret, ...]
    errors: tuple[RunErrors, ...]
    """Of the Dice estimated without labels."""

    @property
    def suite(self) -> Suite:
        """What is compared."""
        return self.folder.suite

    @property
    def first(self) -> Comparison:
        """The widest comparison of the first protocol, of which the headline speaks."""
        return (self.summaries or self.comparisons)[0]

    def answer(self, row: Row) -> str:
        """Who answers in a row: `recommended` or a branch; of runs of one network, that one."""
        for cell in self.folder.cells:
            alone = cell.config.method.branches
            if cell.method == row[0] and row[1] == "recommended" and alone != "both":
                return ANSWERS[alone]
        return ANSWERS[row[1]]

    def count(self, state: State) -> int:
        """Cells in this state."""
        return sum(found == state for found in self.states.values())


@dataclass(frozen=True)
class _Stored:
    """What the cells that are done have left behind."""

    scores: Mapping[Protocol, Scores]
    regrets: tuple[RunRegret, ...]
    errors: tuple[RunErrors, ...]
    damaged: Mapping[str, str]
    """Name -> what is wrong with the scores of a cell; nothing else is of these cells."""
    doubtful: Mapping[str, str]
    """Name -> what is wrong with another file of a cell, whose scores stand."""


def gather(folder: SuiteFolder) -> Results:
    """Read and compare all that is done; a cell whose files cannot be read counts as failed.

    Raises:
        UserError: methods were scored on different cases.
    """
    stored = _read(folder)
    comparisons, summaries = [], []
    for protocol, scores in stored.scores.items():
        found = _protocol(folder.without(stored.damaged), protocol, scores)
        comparisons += found
        if len(found) > 1:
            summaries.append(_summary(folder.suite, protocol, found))
    return Results(
        folder=folder,
        comparisons=tuple(comparisons),
        summaries=tuple(summaries),
        states={c.name: "failed" if c.name in stored.damaged else c.state for c in folder.cells},
        failures={**folder.failures(), **stored.doubtful, **stored.damaged},
        regrets=stored.regrets,
        errors=stored.errors,
    )


def rows_of(suite: Suite) -> list[Row]:
    """Return (method, branch) of every row of a table."""
    return [(key, branch) for key, method in suite.methods.items() for branch in method.branches]


def reference_of(suite: Suite) -> Row:
    """Return the row that the others are tested against: the first of its method."""
    return suite.against, suite.methods[suite.against].branches[0]


def row_title(suite: Suite, row: Row) -> str:
    """`SynFoC (fused)`; the method's title alone where it has one row."""
    method = suite.methods[row[0]]
    return f"{method.title} ({ANSWERS[row[1]]})" if len(method.branches) > 1 else method.title


def data_title(suite: Suite, key: str) -> str:
    """Title of a data set."""
    return suite.data[key].title or key


def _read(folder: SuiteFolder) -> _Stored:
    scores: dict[Protocol, Scores] = {}
    damaged: dict[str, str] = {}
    for protocol in folder.suite.protocols:
        scores[protocol], without = read_scores(folder, protocol)
        damaged |= without
    doubtful: dict[str, str] = {}
    regrets: list[RunRegret] = []
    errors: list[RunErrors] = []
    for cell in folder.without(damaged).cells:
        if cell.state != "done":
            continue
        try:
            regret, error = run_regret(cell), run_errors(cell)
        except DAMAGED as wrong:
            doubtful[cell.name] = doubt(cell, wrong)
        else:
            regrets += [regret] if regret else []
            errors += [error] if error else []
            doubtful |= _without_environment(cell)
    out = {(c.data, c.labeled, c.method, c.seed) for c in folder.cells if c.name in damaged}
    kept = {
        protocol: {key: one for key, one in found.items() if (*key[:3], key.seed) not in out}
        for protocol, found in scores.items()
    }
    return _Stored(kept, tuple(regrets), tuple(errors), damaged, doubtful)


def _without_environment(cell: CellFolder) -> dict[str, str]:
    """Name -> what is wrong with environment.json, where anything is."""
    try:
        cell.run.read_environment()
    except UserError as error:
        return {cell.name: doubt(cell, error)}
    return {}


def _protocol(folder: SuiteFolder, protocol: Protocol, scores: Scores) -> list[Comparison]:
    suite, found = folder.suite, []
    for key, data in suite.data.items():
        here = {at: scored for at, scored in scores.items() if at.data == key}
        # By its path: two data sets of the same images have the same patients.
        seen = resample(data.path.as_posix(), here)
        columns = tuple(label_name(labeled) for labeled in data.labeled)
        by_row: dict[tuple[Row, str, int], Resampled] = {
            ((at.method, at.branch), at.labeled, at.seed): one for at, one in seen.items()
        }
        units = {scored.unit for scored in here.values()}
        comparison = Comparison(
            protocol=protocol,
            data=key,
            columns=columns,
            rows=compare(by_row, rows_of(suite), columns, reference_of(suite)),
            unit=next(iter(units)) if len(units) == 1 else "mixed" if units else "",
            cases=tuple(sorted({len(scored.cases) for scored in here.values()})),
            domains=max((len(scored.domains()) for scored in here.values()), default=0),
            fewest=min((scored.fewest() for scored in here.values()), key=lambda f: f[1])
            if here
            else ("", 0),
            classes=tuple(dict.fromkeys(name for one in here.values() for name in one.classes)),
            nested=_nested(folder, key),
            by_class=_by_class(here),
        )
        found.append(comparison)
    return found


def _by_class(scores: Scores) -> dict[tuple[Row, str], dict[str, Mean]]:
    seeds: dict[tuple[Row, str], dict[int, CaseScores]] = {}
    for at, scored in scores.items():
        seeds.setdefault(((at.method, at.branch), at.labeled), {})[at.seed] = scored
    return {at: class_means(per_seed) for at, per_seed in seeds.items()}


def _nested(folder: SuiteFolder, data: str) -> bool:
    """As the config of a run says, which knows what its images were recognized as."""
    for cell in folder.cells:
        if cell.data == data and cell.state == "done":
            with suppress(UserError):
                return cell.run.read_config()[0].data.nested
    return False


def _summary(suite: Suite, protocol: Protocol, found: list[Comparison]) -> Comparison:
    seen = {
        (row.row, str(one.data), seed): whole
        for one in found
        for row in one.rows
        for seed, whole in row.whole.items()
    }
    columns = tuple(str(one.data) for one in found)
    rows = compare(seen, rows_of(suite), columns, reference_of(suite))
    return Comparison(protocol, None, columns, rows)
