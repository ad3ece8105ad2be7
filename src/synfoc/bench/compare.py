"""Scores of cells -> means with intervals, and differences to the reference. Pure; no torch.

    cases -> mean per domain -> mean over domains: one cell
    cells -> mean over labeled choices -> over data sets: seed by seed, only where all are there
    seeds -> mean and standard deviation

Intervals: patients are drawn with replacement within each domain, 2,000 times, and everything
above is computed from each draw. Cells that share test patients see the same draws, whatever their
method, seed and labeled images, so that a difference is paired. Its p value is of the same weighted
mean: were two rows equally good, each patient's part of their difference could as well have the
other sign. A domain of fewer than three patients has no interval, and so has a mean that holds one
(engine/metrics.py). Intervals cover the choice of test patients; the standard deviation over seeds
covers the training.
"""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from synfoc.bench.scores import CaseScores
from synfoc.bench.suite import Answering
from synfoc.case_tables import METRICS
from synfoc.engine.metrics import bootstrap_means, has_interval, interval95

SEED = 2025
EXACT = 16
"""Up to so many patients all ways to set the signs of their differences are counted."""
FLIPS = 20_000
"""Ways that are drawn where there are more patients."""
BLOCK = 1_000
"""Ways that are in memory at a time."""
Array: TypeAlias = NDArray[np.float64]
Patient: TypeAlias = tuple[str, str, str]
"""(images of a data set, domain, patient)."""
Row: TypeAlias = tuple[str, Answering]
"""(method, branch)."""
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Resampled:
    """Means of an answer, the same means of resampled patients, and each patient's part in them."""

    means: Array
    """(4,): METRICS."""
    draws: Array
    """(resamples, 4)."""
    patients: Mapping[Patient, float]
    """Parts of the mean Dice: they add up to `means[0]`."""
    enough: bool
    """Every domain has patients enough for an interval."""

    def interval(self, metric: int) -> tuple[float | None, float | None]:
        """Of one of METRICS; None where there is none."""
        return interval95(self.draws[:, metric]) if self.enough else (None, None)


@dataclass(frozen=True)
class Mean:
    """One number with what is known of its spread, in the units of the score files."""

    value: float
    sd: float | None
    """Over seeds, n - 1; None for one seed."""
    low: float | None
    """Of the interval, as `high`; None where there is none."""
    high: float | None
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Difference:
    """Mean Dice of a row minus that of the reference, over the seeds that both have."""

    value: float
    low: float | None
    """Of the interval, as `high`; None where there is none."""
    high: float | None
    p: float
    """Sign-flip test of `value` over patients, two-sided."""
    p_holm: float
    """Corrected for the number of rows of the table."""
    patients: int
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Compared:
    """One row of a table. What is missing is None."""

    row: Row
    columns: tuple[Mapping[str, Mean] | None, ...]
    """metric -> mean over seeds, from the seeds that this column has."""
    mean: Mapping[str, Mean] | None
    """Mean over columns, from the seeds that have all of them."""
    difference: Difference | None
    """To the reference; None for the reference itself."""
    whole: Mapping[int, Resampled] = field(default_factory=dict, repr=False)
    """Seed -> mean over columns: what a table over data sets is made of."""


def resample(data: str, scores: Mapping[K, CaseScores]) -> dict[K, Resampled]:
    """Means over domains of each answer, with its draws.

    Args:
        data: the images that the scores belong to; those of the same name share their patients.
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
        means, draws, enough = [], [], True
        for domain in first.domains():
            here = np.flatnonzero(domains == domain)
            patients = [first.patients[i] for i in here]
            enough = enough and has_interval(patients)
            flat = values[here].reshape(len(here), -1)
            resampled = bootstrap_means(flat, patients, random=_random(data, domain, patients))
            means.append(flat.mean(0))
            draws.append(resampled)
        shape = (len(keys), len(METRICS))
        mean = np.mean(means, axis=0).reshape(shape)
        drawn = np.mean(draws, axis=0).reshape(-1, *shape)
        for i, key in enumerate(keys):
            found[key] = Resampled(mean[i], drawn[:, i], _patients(data, scores[key]), enough)
    return found


def average(parts: Sequence[Resampled]) -> Resampled:
    """Mean of several; where a patient is not in one of them, its part there is 0."""
    sums: dict[Patient, list[float]] = {}
    for part in parts:
        for patient, dice in part.patients.items():
            sums.setdefault(patient, []).append(dice)
    return Resampled(
        means=np.mean([part.means for part in parts], axis=0),
        draws=np.mean([part.draws for part in parts], axis=0),
        patients={patient: sum(values) / len(parts) for patient, values in sums.items()},
        enough=all(part.enough for part in parts),
    )


def minus(a: Resampled, b: Resampled) -> Resampled:
    """Paired difference of two answers to the same patients."""
    both = dict.fromkeys([*a.patients, *b.patients])
    parts = {p: a.patients.get(p, 0.0) - b.patients.get(p, 0.0) for p in both}
    return Resampled(a.means - b.means, a.draws - b.draws, parts, a.enough and b.enough)


def over_seeds(seeds: Mapping[int, Resampled]) -> dict[str, Mean] | None:
    """Mean over seeds per metric; None without a seed."""
    if not seeds:
        return None
    together = average(list(seeds.values()))
    each = np.stack([seen.means for seen in seeds.values()])
    sd = each.std(0, ddof=1) if len(each) > 1 else None
    return {
        metric: Mean(
            float(together.means[i]),
            None if sd is None else float(sd[i]),
            *together.interval(i),
            seeds=tuple(sorted(seeds)),
        )
        for i, metric in enumerate(METRICS)
    }


def class_means(seeds: Mapping[int, CaseScores]) -> dict[str, Mean]:
    """Mean Dice of each class over cases, domains, then seeds; without intervals.

    Classes that every seed has, in the order of the score files.
    """
    scored = list(seeds.values())
    names = [name for name in scored[0].classes if all(name in one.classes for one in scored)]
    found = {}
    for name in names:
        each = np.array([_over_domains(one, one.classes[name]) for one in scored])
        sd = float(each.std(ddof=1)) if len(each) > 1 else None
        found[name] = Mean(float(each.mean()), sd, None, None, seeds=tuple(sorted(seeds)))
    return found


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p that a sum is 0 but for chance: how often it is as large with other signs.

    Up to 16 differences all ways to set their signs are counted; beyond that 20,000 are drawn, and
    the way that was found is one more. [Fisher's randomization test for pairs]

    Args:
        differences: of each patient, weighted as in the sum that is tested.
    """
    # Means over seeds of equal scores differ in their last bits.
    moved = np.array([d for d in differences if abs(d) > 1e-12])
    if not len(moved):
        return 1.0
    found = abs(moved.sum()) - 1e-9 * np.abs(moved).sum()  # sums of tenths are not exact
    if len(moved) <= EXACT:
        sums = np.zeros(1)
        for d in moved:
            sums = np.concatenate([sums + d, sums - d])
        return float((np.abs(sums) >= found).mean())
    random = np.random.default_rng(SEED)
    as_large = 1
    for _ in range(FLIPS // BLOCK):
        signs = random.integers(0, 2, (BLOCK, len(moved)), dtype=np.int8)
        as_large += int((np.abs((2 * signs - 1) @ moved) >= found).sum())
    return as_large / (FLIPS + 1)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p in the order given, times what is left to test, at most 1."""
    corrected = [0.0] * len(p)
    highest = 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = highest
    return corrected


def compare(
    seen: Mapping[tuple[Row, str, int], Resampled],
    rows: Sequence[Row],
    columns: Sequence[str],
    reference: Row,
) -> tuple[Compared, ...]:
    """Return the rows of one table.

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
        means = tuple(over_seeds(there) for there in per_column)
        found.append(Compared(row, means, over_seeds(whole), None, whole))
    return _with_differences(found, reference)


def _with_differences(found: Sequence[Compared], reference: Row) -> tuple[Compared, ...]:
    against = next((c.whole for c in found if c.row == reference), {})
    paired: dict[Row, tuple[Resampled, tuple[int, ...]]] = {}
    for one in found:
        seeds = tuple(sorted(one.whole.keys() & against.keys()))
        if seeds and one.row != reference:
            ours, theirs = (average([w[s] for s in seeds]) for w in (one.whole, against))
            paired[one.row] = minus(ours, theirs), seeds
    raw = [sign_flip(list(seen.patients.values())) for seen, _ in paired.values()]
    differences = {
        row: Difference(
            float(seen.means[0]), *seen.interval(0), p, corrected,
            patients=len(seen.patients), seeds=seeds,
        )
        for (row, (seen, seeds)), p, corrected in zip(paired.items(), raw, holm(raw), strict=True)
    }  # fmt: skip
    return tuple(Compared(c.row, c.columns, c.mean, differences.get(c.row), c.whole) for c in found)


def _over_domains(scores: CaseScores, values: Array) -> float:
    domains = np.array([domain for domain, _ in scores.cases])
    return float(np.mean([values[domains == domain].mean() for domain in scores.domains()]))


def _random(data: str, domain: str, patients: Sequence[str]) -> np.random.Generator:
    """Of the patients' names, so that equal patients are drawn equally wherever they are scored."""
    text = "\n".join([data, domain, *dict.fromkeys(patients)])
    return np.random.default_rng([SEED, zlib.crc32(text.encode())])


def _patients(data: str, scores: CaseScores) -> dict[Patient, float]:
    """Each patient's part of the mean Dice over domains."""
    cases = Counter(domain for domain, _ in scores.cases)
    found: dict[Patient, float] = defaultdict(float)
    for (domain, _), patient, dice in zip(
        scores.cases, scores.patients, scores.values[:, 0].tolist(), strict=True
    ):
        found[data, domain, patient] += dice / cases[domain] / len(cases)
    return dict(found)
