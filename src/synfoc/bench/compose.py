"""Results -> the tables of a suite: which rows and columns, and what their captions say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from synfoc.bench.compare import Compared, Difference, Mean
from synfoc.bench.gather import Comparison, Results, data_title, reference_of, row_title
from synfoc.bench.published import Published
from synfoc.bench.regret import DEFAULT, DEFAULT_ALONE, RULES, Kind, Loss, summarize
from synfoc.bench.suite import Protocol
from synfoc.bench.tables import Number, Row, Table, mark_best
from synfoc.bench.trust import Error, Source, summarize_errors
from synfoc.report.tables import MEASURES, PERCENT
from synfoc.runs import MIN_PATIENTS

PROTOCOLS: dict[Protocol, str] = {
    "honest": "checkpoint and branch were chosen without test labels; scored at the original size, "
    "in mm where spacing is known, a volume as one case, symmetric ASD",
    "paper": "the checkpoint is the one that was best on the test set, as the paper's authors "
    "chose theirs, which flatters, each network of a run by itself; scored slice by slice in "
    "pixels of the U-Net's side, one-sided ASD; to be compared with the paper's numbers and with "
    "nothing else",
}
SOURCES: dict[Source, str] = {
    "estimate": "estimated Dice",
    "labeled views": "Dice on views of the labeled images",
}
HEADS = ("method", "answer")
DASH = (
    "A dash: not there, because a cell is missing or failed. Means over columns are of the seeds "
    "that have all of them; fewer seeds than planned are said."
)
NESTED = "Classes are nested: each is scored together with those before it."


def data_table(results: Results, comparison: Comparison, published: Published) -> Table:
    """All methods on one data set, in the form of the paper's tables.

    Columns: Dice per labeled choice, then means over them of Dice, Jaccard, HD95 and ASD, then the
    difference to the reference.
    """
    suite, key = results.suite, str(comparison.data)
    data, planned = suite.data[key], len(suite.seeds)
    rows = []
    for row in comparison.rows:
        method, branch = suite.methods[row.row[0]], row.row[1]
        choices = [
            _number(found, "dice", planned, published.column(data, labeled, method, branch))
            for found, labeled in zip(row.columns, data.labeled, strict=True)
        ]
        means = _means(results, comparison, published, row, interval=True)
        cells = (*choices, *means, _difference(results, row))
        rows.append(Row((method.title, results.answer(row.row)), cells))
    columns = (
        *comparison.columns,
        *_mean_columns(comparison),
        f"Dice - {row_title(suite, reference_of(suite))}",
    )
    largest = (*(True for _ in comparison.columns), *(m in PERCENT for m in MEASURES), None)
    rows, seeds = _seeds_once(rows, planned)
    return Table(
        name=f"{comparison.protocol}_{key}",
        title=f"{data_title(suite, key)}: Dice (%) by labeled images, protocol "
        f"{comparison.protocol}",
        heads=HEADS,
        columns=columns,
        rows=mark_best(rows, largest),
        notes=(
            _protocol(comparison),
            _size(comparison),
            *seeds,
            "Columns: labeled images, as domain-number.",
            *_paper(comparison.protocol, rows),
        ),
        reading=reading(results, rows),
    )


def class_table(results: Results, comparison: Comparison, published: Published) -> Table | None:
    """Return the paper's form: Dice of each class per labeled choice, then means over classes, too.

    None where fewer than two classes were scored.
    """
    suite, key, names = results.suite, str(comparison.data), comparison.classes
    if len(names) < 2:
        return None
    data, planned = suite.data[key], len(suite.seeds)
    rows = []
    for row in comparison.rows:
        method, branch = suite.methods[row.row[0]], row.row[1]
        choices = []
        for column, labeled in zip(comparison.columns, data.labeled, strict=True):
            ours = comparison.by_class.get((row.row, column), {})
            paper = published.classes(data, labeled, method, branch, nested=comparison.nested)
            for name in names:
                found = {"dice": ours[name]} if name in ours else None
                choices.append(_number(found, "dice", planned, paper.get(name.casefold())))
        cells = (*choices, *_means(results, comparison, published, row))
        rows.append(Row((method.title, results.answer(row.row)), cells))
    rows, seeds = _seeds_once(rows, planned)
    means = _mean_columns(comparison)
    apart = " / ".join(names)
    largest = [True] * len(names) * len(comparison.columns) + [m in PERCENT for m in MEASURES]
    return Table(
        name=f"classes_{comparison.protocol}_{key}",
        title=f"{data_title(suite, key)}: Dice (%) of {apart} by labeled images, protocol "
        f"{comparison.protocol}",
        heads=HEADS,
        columns=(*(f"{c} {name}" for c in comparison.columns for name in names), *means),
        rows=mark_best(rows, largest),
        groups=(
            *((f"{c}: {apart}", len(names)) for c in comparison.columns),
            *((mean, 1) for mean in means),
        ),
        notes=(
            _protocol(comparison),
            *seeds,
            "Columns: labeled images, as domain-number, each class by itself; means are over "
            "classes, too.",
            *([NESTED] if comparison.nested else []),
            *_paper(comparison.protocol, rows),
        ),
        reading=(
            f"Students; mean over cases, then domains. {_chosen(results)}{_spread(results, rows)}"
            f"Intervals and tests are in the table {comparison.protocol}_{key}.",
            DASH,
        ),
    )


def summary_table(results: Results, comparison: Comparison) -> Table:
    """Mean Dice of all methods over labeled choices, per data set and over data sets."""
    suite, planned = results.suite, len(results.suite.seeds)
    rows = []
    for row in comparison.rows:
        cells = [_number(found, "dice", planned) for found in row.columns]
        cells.append(_number(row.mean, "dice", planned, interval=True))
        names = suite.methods[row.row[0]].title, results.answer(row.row)
        rows.append(Row(names, (*cells, _difference(results, row))))
    rows, seeds = _seeds_once(rows, planned)
    columns = (
        *(data_title(suite, key) for key in comparison.columns),
        "mean over data sets",
        f"Dice - {row_title(suite, reference_of(suite))}",
    )
    return Table(
        name=f"summary_{comparison.protocol}",
        title=f"All data sets: mean Dice (%) over labeled images, protocol {comparison.protocol}",
        heads=HEADS,
        columns=columns,
        rows=mark_best(rows, [*[True] * (len(columns) - 1), None]),
        notes=(_protocol(comparison), *seeds),
        reading=reading(results, rows),
    )


def states_table(results: Results) -> Table:
    """How many cells of each method and data set are done; what failed and what is missing."""
    suite = results.suite
    cells = results.folder.cells
    rows = []
    for method, titled in suite.methods.items():
        mine = [c for c in cells if c.method == method]
        per_data = [[c.name for c in mine if c.data == key] for key in suite.data]
        texts = [_state(results, names) for names in ([c.name for c in mine], *per_data)]
        rows.append(Row((titled.title, texts[0]), tuple(Number(words=text) for text in texts[1:])))
    return Table(
        name="cells",
        title=f"Cells: {results.count('done')} of {len(results.states)} done",
        heads=("method", "all"),
        columns=tuple(data_title(suite, key) for key in suite.data),
        rows=tuple(rows),
        notes=("A cell is one run: data set, labeled images, method, seed.",),
    )


def regret_table(results: Results) -> Table | None:
    """Return what choosing without test labels cost; None where no run watched its test set."""
    found = results.regrets
    if not found:
        return None
    keys = [key for key in results.suite.data if any(r.data == key for r in found)]
    groups = [summarize([r for r in found if r.data == key]) for key in keys] + [summarize(found)]
    per_group = [{(loss.kind, loss.choice): loss for loss in losses} for losses in groups]
    rows = [
        Row(
            (loss.kind, _choice(loss.kind, loss.choice)),
            (
                *(c for group in per_group for c in _loss(group.get(at))),
                Number(words=str(loss.runs)),
            ),
        )
        for at, loss in per_group[-1].items()
    ]
    names = [*(data_title(results.suite, key) for key in keys), "all"]
    return Table(
        name="regret",
        title="Points of Dice lost by choosing without test labels",
        heads=("runs", "choice"),
        columns=(*(f"{name}: {what}" for name in names for what in ("mean", "largest")), "runs"),
        rows=tuple(rows),
        notes=(
            "Best test Dice of any evaluation minus that at the step which the rule picked, for "
            "what the run recommended (mean over domains, protocol paper). "
            "The rule as used is the one by which the run kept its checkpoint; the last row is "
            "the choice of branch and role at that step. The best of many evaluations is "
            "itself lucky, so part of every regret is noise.",
            "A rule is shown where all runs of a kind wrote down its evidence: agreement needs two "
            "networks. Runs without a teacher keep their last step, whatever else is shown.",
        ),
    )


def estimate_table(results: Results) -> Table | None:
    """How far off the label-free Dice was; None where no run estimated."""
    found = results.errors
    if not found:
        return None
    keys = [key for key in results.suite.data if any(r.data == key for r in found)]
    groups = [summarize_errors([r for r in found if r.data == k]) for k in keys]
    groups.append(summarize_errors(found))
    per_group = [{(error.kind, error.source): error for error in errors} for errors in groups]
    rows = [
        Row(
            (error.kind, SOURCES[error.source]),
            (
                *(c for group in per_group for c in _error(group.get(at))),
                Number(error.bias, signed=True),
                Number(words=str(error.domains)),
            ),
        )
        for at, error in per_group[-1].items()
    ]
    names = [*(data_title(results.suite, key) for key in keys), "all"]
    per_data = (f"{name}: {what}" for name in names for what in ("mean", "largest"))
    return Table(
        name="estimate",
        title="Points of Dice by which an estimate without labels was off",
        heads=("runs", "estimate"),
        columns=(*per_data, "all: bias", "domains"),
        rows=tuple(rows),
        notes=(
            "Estimated minus measured mean Dice of a domain, for what the run recommended "
            "(protocol honest). Mean: of the sizes of the errors. Largest: with its sign; above 0 "
            "the estimate promised too much. Every domain of every run counts once.",
        ),
    )


def reading(results: Results, rows: Sequence[Row]) -> tuple[str, ...]:
    """How tables of scores are to be read, of which these are the rows."""
    return (
        f"Students; mean over classes, cases, then domains. {_chosen(results)}"
        f"{_spread(results, rows)}a to b: 95 % bootstrap interval over test patients, drawn anew "
        "within each domain. Difference: paired, the same patients drawn for both; p: sign-flip "
        "test of that difference over patients, corrected after Holm for the rows of this table. "
        "Neither covers the draw of the labeled images or the seeds.",
        DASH,
    )


def _chosen(results: Results) -> str:
    """Return what `recommended` is, where a row has it."""
    if not any("recommended" in method.branches for method in results.suite.methods.values()):
        return ""
    return (
        "Recommended: the run's own choice of branch and role, or under protocol paper MedSAM's "
        "student where the run has it. "
    )


def _spread(results: Results, rows: Sequence[Row]) -> str:
    seeds = len(results.suite.seeds)
    if any(cell.sd is not None for row in rows for cell in row.cells):
        return f"After ±: standard deviation over {seeds} seeds. "
    return "" if seeds > 1 else "One seed. "


def _means(
    results: Results,
    comparison: Comparison,
    published: Published,
    row: Compared,
    *,
    interval: bool = False,
) -> list[Number]:
    """Means over labeled choices of every measure; Dice with its interval where it is asked for."""
    suite = results.suite
    data, method = suite.data[str(comparison.data)], suite.methods[row.row[0]]
    return [
        _number(
            None if comparison.unit == "mixed" and m not in PERCENT else row.mean,
            m, len(suite.seeds), published.mean(data, method, row.row[1], m),
            interval=interval and m == "dice",
        )
        for m in MEASURES
    ]  # fmt: skip


def _mean_columns(comparison: Comparison) -> list[str]:
    unit = {"mixed": "mm and px: no mean", "": "px"}.get(comparison.unit, comparison.unit)
    return [f"mean {title} ({'%' if m in PERCENT else unit})" for m, title in MEASURES.items()]


def _number(
    found: Mapping[str, Mean] | None,
    metric: str,
    planned: int,
    paper: float | None = None,
    *,
    interval: bool = False,
) -> Number:
    if found is None:
        return Number(paper=paper)
    factor, one = 100 if metric in PERCENT else 1, found[metric]
    sd, low, high = (None if x is None else x * factor for x in (one.sd, one.low, one.high))
    return Number(
        value=one.value * factor,
        sd=sd,
        low=low if interval else None,
        high=high if interval else None,
        seeds=len(one.seeds),
        planned=planned,
        paper=paper,
    )


def _seeds_once(rows: Sequence[Row], planned: int) -> tuple[list[Row], list[str]]:
    """Where every number is of as many seeds, fewer than planned, one sentence says so."""
    counts = {cell.seeds for row in rows for cell in row.cells if cell.seeds is not None}
    if len(counts) != 1 or max(counts) >= planned:
        return list(rows), []
    bare = [replace(r, cells=tuple(replace(c, planned=None) for c in r.cells)) for r in rows]
    return bare, [f"So far {max(counts)} of {planned} seeds."]


def _difference(results: Results, row: Compared) -> Number:
    if row.row == reference_of(results.suite):
        return Number(words="reference")
    found: Difference | None = row.difference
    if found is None:
        return Number()
    return Number(
        value=100 * found.value, low=_percent(found.low), high=_percent(found.high), p=found.p_holm,
        seeds=len(found.seeds), planned=len(results.suite.seeds), signed=True,
    )  # fmt: skip


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _loss(loss: Loss | None) -> tuple[Number, Number]:
    return (Number(loss.mean), Number(loss.worst)) if loss else (Number(), Number())


def _error(error: Error | None) -> tuple[Number, Number]:
    return (Number(error.mean), Number(error.worst, signed=True)) if error else (Number(), Number())


def _choice(kind: Kind, name: str) -> str:
    if name not in RULES:
        return "branch and role, not step"
    used = DEFAULT_ALONE if kind == "no teacher" else DEFAULT
    return f"{name} (as used)" if name == used else name


def _state(results: Results, names: Sequence[str]) -> str:
    states = [results.states[name] for name in names]
    text = f"{states.count('done')} of {len(names)}"
    failed, begun = states.count("failed"), states.count("begun")
    return text + (f", {failed} failed" if failed else "") + (f", {begun} begun" if begun else "")


def _protocol(comparison: Comparison) -> str:
    return f"Protocol {comparison.protocol}: {PROTOCOLS[comparison.protocol]}."


def _size(comparison: Comparison) -> str:
    if not comparison.cases:
        return "No cell is done."
    low, high = comparison.cases[0], comparison.cases[-1]
    cases = f"{low}" if low == high else f"{low} to {high}, by seed and labeled images,"
    domain, fewest = comparison.fewest
    text = f"{cases} test cases of {comparison.domains} domains; in {domain} of {fewest} patients"
    if fewest >= MIN_PATIENTS:
        return f"{text}, elsewhere of no fewer."
    return f"{text}: a mean that holds a domain of fewer than {MIN_PATIENTS} has no interval."


def _paper(protocol: Protocol, rows: Sequence[Row]) -> list[str]:
    """Whose the numbers marked paper are, where there are any."""
    if all(cell.paper is None for row in rows for cell in row.cells):
        return []
    words = "Numbers marked paper: printed by Ma et al. (CVPR 2025), not measured here"
    if protocol == "paper":
        return [f"{words}; their settings, data preparation and length of training may differ."]
    return [f"{words}; under their protocol, not this one: test labels chose their checkpoints."]
