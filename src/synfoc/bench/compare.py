"""Scores of cells -> means with intervals, and differences to the reference. Pure; no torch.

    cases -> mean per domain -> mean over domains: one cell
    cells -> mean over labeled choices -> over data sets: seed by seed, only where all are there
    seeds -> mean and standard deviation

Intervals: patients are drawn with replacement within each domain, 2,000 times, and everything
above is computed from each draw. Cells that share test patients see the same draws, whatever their
method, seed and labeled images, so that a difference is paired. Intervals cover the choice of test
patients; the standard deviation over seeds covers the training.
"""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from synfoc.bench.scores import METRICS, CaseScores
from synfoc.bench.suite import Answering
from synfoc.engine.metrics import bootstrap_means, interval95

SEED = 2025
EXACT = 50
"""Up to so many differences the signed-rank test counts all signs."""
Array: TypeAlias = NDArray[np.float64]
Patient: TypeAlias = tuple[str, str, str]
"""(data set, domain, patient)."""
Row: TypeAlias = tuple[str, Answering]
"""(method, branch)."""
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Seen:
    """Means of an answer, the same means of resampled patients, and the Dice of each patient."""

    means: Array
    """(4,): METRICS."""
    draws: Array
    """(resamples, 4)."""
    patients: Mapping[Patient, float]


@dataclass(frozen=True)
class Estimate:
    """One number with what is known of its spread, in the units of the score files."""

    value: float
    sd: float | None
    """Over seeds, n - 1; None for one seed."""
    low: float
    high: float
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Difference:
    """Mean Dice of a row minus that of the reference, over the seeds that both have."""

    value: float
    low: float
    high: float
    p: float
    """Wilcoxon signed-rank test over the patients' differences, two-sided."""
    p_holm: float
    """Corrected for the number of rows of the table."""
    patients: int
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Compared:
    """One row of a table. What is missing is None."""

    row: Row
    columns: tuple[Mapping[str, Estimate] | None, ...]
    """metric -> estimate, from the seeds that this column has."""
    mean: Mapping[str, Estimate] | None
    """Mean over columns, from the seeds that have all of them."""
    difference: Difference | None
    """To the reference; None for the reference itself."""
    whole: Mapping[int, Seen] = field(default_factory=dict, repr=False)
    """Seed -> mean over columns: what a table over data sets is made of."""


def see(data: str, scores: Mapping[K, CaseScores]) -> dict[K, Seen]:
    """Means over domains of each answer, with its draws.

    Args:
        data: the data set that the scores belong to.
        scores: answers; those with the same cases are seen through the same draws.
    """
    groups: dict[tuple[object, ...], list[K]] = {}
    for key, scored in scores.items():
        groups.setdefault((scored.cases, scored.patients), []).append(key)
    found = {}
    for keys in groups.values():
        first = scores[keys[0]]
        values = np.stack([scores[key].values for key in keys], axis=1)  # cases x keys x metrics
        domains = np.array([domain for domain, _ in first.cases])
        means, draws = [], []
        for domain in first.domains():
            here = np.flatnonzero(domains == domain)
            patients = [first.patients[i] for i in here]
            flat = values[here].reshape(len(here), -1)
            resampled = bootstrap_means(flat, patients, random=_random(data, domain, patients))
            means.append(flat.mean(0))
            draws.append(resampled)
        shape = (len(keys), len(METRICS))
        mean = np.mean(means, axis=0).reshape(shape)
        drawn = np.mean(draws, axis=0).reshape(-1, *shape)
        for i, key in enumerate(keys):
            found[key] = Seen(mean[i], drawn[:, i], _patients(data, scores[key]))
    return found


def average(parts: Sequence[Seen]) -> Seen:
    """Mean of several; a patient counts with the mean of those in which it is."""
    sums: dict[Patient, list[float]] = {}
    for part in parts:
        for patient, dice in part.patients.items():
            sums.setdefault(patient, []).append(dice)
    return Seen(
        means=np.mean([part.means for part in parts], axis=0),
        draws=np.mean([part.draws for part in parts], axis=0),
        patients={patient: sum(values) / len(values) for patient, values in sums.items()},
    )


def minus(a: Seen, b: Seen) -> Seen:
    """Paired difference of two answers to the same patients."""
    shared = {p: a.patients[p] - b.patients[p] for p in a.patients if p in b.patients}
    return Seen(a.means - b.means, a.draws - b.draws, shared)


def estimate(seeds: Mapping[int, Seen]) -> dict[str, Estimate] | None:
    """Mean over seeds per metric; None without a seed."""
    if not seeds:
        return None
    together = average(list(seeds.values()))
    each = np.stack([seen.means for seen in seeds.values()])
    sd = each.std(0, ddof=1) if len(each) > 1 else None
    return {
        metric: Estimate(
            float(together.means[i]),
            None if sd is None else float(sd[i]),
            *interval95(together.draws[:, i]),
            seeds=tuple(sorted(seeds)),
        )
        for i, metric in enumerate(METRICS)
    }


def wilcoxon(differences: Sequence[float]) -> float:
    """Two-sided p of the signed-rank test that differences are symmetric about 0.

    Zeros are left out, as Wilcoxon does; 1 where nothing is left. Up to 50 differences all ways to
    set their signs are counted, ties included; beyond that the normal approximation.
    """
    # Means over seeds of equal scores differ in their last bits.
    moved = np.array([d for d in np.round(differences, 9) if d != 0.0])
    if not len(moved):
        return 1.0
    if len(moved) > EXACT:
        return float(stats.wilcoxon(moved, method="approx").pvalue)
    ranks = np.rint(2 * stats.rankdata(np.abs(moved))).astype(int)  # ties have half ranks
    total = int(ranks.sum())
    chance = np.zeros(total + 1)
    chance[0] = 1.0
    for rank in ranks:
        chance = (chance + np.concatenate([np.zeros(rank), chance[:-rank]])) / 2
    smaller = min(int(ranks[moved > 0].sum()), int(ranks[moved < 0].sum()))
    return min(1.0, 2 * float(chance[: smaller + 1].sum()))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p in the order given, times what is left to test, at most 1."""
    corrected = [0.0] * len(p)
    highest = 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = highest
    return corrected


def compare(
    seen: Mapping[tuple[Row, str, int], Seen],
    rows: Sequence[Row],
    columns: Sequence[str],
    reference: Row,
) -> tuple[Compared, ...]:
    """The rows of one table.

    Args:
        seen: (row, column, seed) -> what is there.
        rows: all rows, in order.
        columns: labeled choices of a data set, or data sets.
        reference: the row that the others are measured against.
    """
    found = []
    for row in rows:
        per_column = [
            {seed: s for (r, c, seed), s in seen.items() if (r, c) == (row, column)}
            for column in columns
        ]
        seeds = sorted(set.intersection(*(set(there) for there in per_column)))
        whole = {seed: average([there[seed] for there in per_column]) for seed in seeds}
        estimates = tuple(estimate(there) for there in per_column)
        found.append(Compared(row, estimates, estimate(whole), None, whole))
    return _with_differences(found, reference)


def _with_differences(found: Sequence[Compared], reference: Row) -> tuple[Compared, ...]:
    against = next((c.whole for c in found if c.row == reference), {})
    paired: dict[Row, tuple[Seen, tuple[int, ...]]] = {}
    for one in found:
        seeds = tuple(sorted(one.whole.keys() & against.keys()))
        if seeds and one.row != reference:
            ours, theirs = (average([w[s] for s in seeds]) for w in (one.whole, against))
            paired[one.row] = minus(ours, theirs), seeds
    raw = [wilcoxon(list(seen.patients.values())) for seen, _ in paired.values()]
    differences = {
        row: Difference(
            float(seen.means[0]), *interval95(seen.draws[:, 0]), p, corrected,
            patients=len(seen.patients), seeds=seeds,
        )
        for (row, (seen, seeds)), p, corrected in zip(paired.items(), raw, holm(raw), strict=True)
    }  # fmt: skip
    return tuple(Compared(c.row, c.columns, c.mean, differences.get(c.row), c.whole) for c in found)


def _random(data: str, domain: str, patients: Sequence[str]) -> np.random.Generator:
    """Of the patients' names, so that equal patients are drawn equally wherever they are scored."""
    text = "\n".join([data, domain, *dict.fromkeys(patients)])
    return np.random.default_rng([SEED, zlib.crc32(text.encode())])


def _patients(data: str, scores: CaseScores) -> dict[Patient, float]:
    """Mean Dice over the cases of each patient."""
    found: dict[Patient, list[float]] = {}
    for (domain, _), patient, dice in zip(
        scores.cases, scores.patients, scores.values[:, 0].tolist(), strict=True
    ):
        found.setdefault((data, domain, patient), []).append(dice)
    return {patient: sum(values) / len(values) for patient, values in found.items()}
