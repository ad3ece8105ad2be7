"""Means, intervals, differences and tests, against numbers that a person can check."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from synfoc.bench.compare import (
    Difference,
    Mean,
    Resampled,
    Row,
    average,
    class_means,
    compare,
    holm,
    minus,
    over_seeds,
    resample,
    sign_flip,
)
from synfoc.bench.scores import CaseScores

SUP: Row = ("sup", "unet")
OURS: Row = ("ours", "recommended")


def scores(dice: dict[str, Sequence[float]], patients: Sequence[str] | None = None) -> CaseScores:
    """Domain -> Dice of its cases; each its own patient where nothing is said."""
    cases = tuple((domain, f"{i}") for domain, values in dice.items() for i in range(len(values)))
    flat = np.array([value for values in dice.values() for value in values])
    values = np.stack([flat, flat / 2, 10 * (1 - flat), 1 - flat], axis=1)
    return CaseScores(cases, tuple(patients or [case for _, case in cases]), values, "px", "unet")


def sure(mean: Mean | Difference | None) -> tuple[float, float]:
    """Both ends of an interval that is there."""
    assert mean is not None
    assert mean.low is not None
    assert mean.high is not None
    return mean.low, mean.high


def random_scores(seed: int, shift: float = 0.0, cases: int = 20) -> CaseScores:
    random = np.random.default_rng(seed)
    return scores({d: (random.uniform(0.2, 0.7, cases) + shift).tolist() for d in "AB"})


def test_domains_count_equally() -> None:
    """A: (.2 + .4 + .6) / 3 = .4; B: .8; mean .6. The mean over the four cases would be .5."""
    seen = resample("eyes", {"x": scores({"A": [0.2, 0.4, 0.6], "B": [0.8]})})["x"]
    assert seen.means.tolist() == pytest.approx([0.6, 0.3, 4.0, 0.4])


def test_two_seeds_by_hand() -> None:
    """.60 and .64: mean .62, standard deviation .04 / sqrt 2 = .0283."""
    seen = resample("eyes", {seed: scores({"A": [dice]}) for seed, dice in ((1, 0.60), (2, 0.64))})
    found = over_seeds(seen)
    assert found is not None
    dice = found["dice"]
    assert (dice.value, dice.sd) == (pytest.approx(0.62), pytest.approx(0.02828, abs=1e-5))
    assert (dice.low, dice.high) == (None, None)  # one patient
    assert dice.seeds == (1, 2)
    one = over_seeds({1: seen[1]})
    assert one is not None
    assert one["dice"].sd is None
    assert over_seeds({}) is None


@given(st.integers(0, 1000))
def test_the_interval_contains_the_mean(seed: int) -> None:
    found = over_seeds({1: resample("eyes", {"x": random_scores(seed)})["x"]})
    assert found is not None
    for one in found.values():
        low, high = sure(one)
        assert low <= one.value <= high


def test_slices_of_one_patient_are_drawn_together() -> None:
    """Ten equal slices of each of 6 patients: the interval is that of 6 cases, not of 60."""
    six = np.linspace(0.3, 0.8, 6)
    sixty = np.repeat(six, 10).tolist()
    patients = [f"p{i // 10}" for i in range(60)]
    parts = {
        "six": scores({"A": six.tolist()}, [f"p{i}" for i in range(6)]),
        "together": scores({"A": sixty}, patients),
        "apart": scores({"A": sixty}),
    }
    width = {}
    for name, part in parts.items():
        found = over_seeds({1: resample("eyes", {name: part})[name]})
        assert found is not None
        low, high = sure(found["dice"])
        width[name] = high - low
    assert width["together"] == pytest.approx(width["six"], rel=1e-9)
    assert width["apart"] < width["six"] / 2


@pytest.mark.parametrize(("patients", "there"), [("pqr", True), ("pqq", False), ("ppp", False)])
def test_a_mean_that_holds_a_domain_of_two_patients_has_no_interval(
    patients: str, there: bool
) -> None:
    """A has 20 patients, B three cases of three, two or one. So for cells, seeds, differences."""
    both = scores({"A": [0.5] * 20, "B": [0.4, 0.5, 0.6]}, [*map(str, range(20)), *patients])
    alone = scores({"A": [0.5] * 20})
    seen = resample("eyes", {"both": both, "alone": alone})
    assert (seen["both"].enough, seen["alone"].enough) == (there, True)
    assert average([seen["alone"], seen["both"]]).enough == there
    assert minus(seen["alone"], seen["both"]).enough == there
    means = over_seeds({1: seen["alone"], 2: seen["both"]})
    assert means is not None
    assert all((mean.low is not None) == there for mean in means.values())
    ours, _ = compare(
        {(OURS, "A-2", 1): seen["alone"], (SUP, "A-2", 1): seen["both"]}, [OURS, SUP], ["A-2"], SUP
    )
    assert ours.difference is not None
    assert (ours.difference.high is not None) == there
    assert ours.difference.p <= 1


def test_differences_are_paired() -> None:
    """Hard cases are hard for both: a constant gain of .1 has no interval at all."""
    seen = resample("eyes", {"a": random_scores(1, 0.1), "b": random_scores(1)})
    gain = minus(seen["a"], seen["b"])
    found = over_seeds({1: gain})
    assert found is not None
    assert found["dice"].low == pytest.approx(0.1)
    assert found["dice"].high == pytest.approx(0.1)
    assert seen["a"].draws[:, 0].std() > 0.01


def test_equal_patients_are_drawn_equally_in_every_call() -> None:
    """Two choices of labeled images share their test patients: their mean is no surer than one."""
    first = resample("eyes", {"x": random_scores(1)})["x"]
    second = resample("eyes", {"y": random_scores(2), "x": random_scores(1)})["x"]
    assert np.allclose(first.draws, second.draws)
    other_set = resample("hearts", {"x": random_scores(1)})["x"]
    assert not np.allclose(first.draws, other_set.draws)
    assert np.allclose(average([first, second]).draws, first.draws)


def test_seeds_with_other_test_patients_are_averaged_per_patient() -> None:
    """Where each seed holds out its own patients: p0 in both, p1 in one. Parts are of the mean."""
    a = resample("eyes", {"x": scores({"A": [0.2, 0.4]}, ["p0", "p1"])})["x"]
    b = resample("eyes", {"x": scores({"A": [0.6]}, ["p0"])})["x"]
    both = average([a, b])
    parts = {("eyes", "A", "p0"): (0.1 + 0.6) / 2, ("eyes", "A", "p1"): (0.2 + 0) / 2}
    assert both.patients == pytest.approx(parts)
    assert both.means[0] == pytest.approx((0.3 + 0.6) / 2) == pytest.approx(sum(parts.values()))


def cells(missing: Sequence[tuple[Row, str, int]] = ()) -> dict[tuple[Row, str, int], Resampled]:
    found = {}
    for column in ("A-2", "B-2"):
        keys = [(row, column, seed) for row in (SUP, OURS) for seed in (1, 2)]
        parts = {
            key: random_scores(7, 0.2 * (key[0] == OURS) + 0.01 * key[2])
            for key in keys
            if key not in missing
        }
        found |= resample("eyes", parts)
    return found


def test_all_cells_there() -> None:
    """The gain is .2 in every cell."""
    ours, sup = compare(cells(), [OURS, SUP], ["A-2", "B-2"], SUP)
    assert sup.difference is None
    assert ours.mean is not None
    assert sup.mean is not None
    assert ours.mean["dice"].value - sup.mean["dice"].value == pytest.approx(0.2)
    gain = ours.difference
    assert gain is not None
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.2, 0.2, 0.2))
    assert (gain.patients, gain.seeds) == (40, (1, 2))
    assert gain.p == gain.p_holm == pytest.approx(1 / 20_001)  # none of the ways that were drawn


def test_a_mean_takes_only_seeds_that_have_all_columns() -> None:
    """Ours has no seed 2 on B-2: column A-2 is of both seeds, mean and difference of seed 1."""
    ours, sup = compare(cells([(OURS, "B-2", 2)]), [OURS, SUP], ["A-2", "B-2"], SUP)
    first, second = ours.columns
    assert first is not None
    assert second is not None
    assert ours.mean is not None
    assert (first["dice"].seeds, second["dice"].seeds) == ((1, 2), (1,))
    assert ours.mean["dice"].seeds == (1,)
    assert ours.mean["dice"].sd is None
    assert ours.difference is not None
    assert ours.difference.seeds == (1,)
    assert ours.difference.value == pytest.approx(0.2)
    assert sup.mean is not None
    assert sup.mean["dice"].seeds == (1, 2)


def test_without_a_whole_seed_there_is_no_mean() -> None:
    lost = [(OURS, "B-2", 2), (OURS, "A-2", 1)]
    ours, _ = compare(cells(lost), [OURS, SUP], ["A-2", "B-2"], SUP)
    assert (ours.mean, ours.difference) == (None, None)
    assert None not in ours.columns
    nothing = compare({}, [OURS, SUP], ["A-2", "B-2"], SUP)
    assert [(c.columns, c.mean, c.difference) for c in nothing] == [((None, None), None, None)] * 2


def test_no_difference_without_the_reference() -> None:
    lost = [(SUP, column, seed) for column in ("A-2", "B-2") for seed in (1, 2)]
    ours, _ = compare(cells(lost), [OURS, SUP], ["A-2", "B-2"], SUP)
    assert ours.mean is not None
    assert ours.difference is None


def test_the_order_of_cells_does_not_matter() -> None:
    parts = {
        (r, "A-2", n): random_scores(n, 0.2 * (r == OURS)) for r in (SUP, OURS) for n in (1, 2)
    }
    backward = dict(reversed(list(parts.items())))
    found = [compare(resample("eyes", p), [OURS, SUP], ["A-2"], SUP)[0] for p in (parts, backward)]
    a, b = (one.mean for one in found)
    assert a is not None
    assert b is not None
    for metric in a:
        assert a[metric].seeds == b[metric].seeds
        for name in ("value", "sd", "low", "high"):
            assert getattr(a[metric], name) == pytest.approx(getattr(b[metric], name), rel=1e-12)
    one, other = (x.difference for x in found)
    assert one is not None
    assert other is not None
    assert one.p == other.p
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))


def test_a_patient_counts_as_in_the_mean() -> None:
    """A: two slices of p and one of q; B: one of r. Domains count equally, slices within them."""
    part = CaseScores(
        (("A", "0"), ("A", "1"), ("A", "2"), ("B", "0")),
        ("p", "p", "q", "r"),
        np.array([[0.3, 0, 0, 0], [0.6, 0, 0, 0], [0.9, 0, 0, 0], [0.5, 0, 0, 0]]),
        "px",
        ("unet", "student"),
    )
    seen = resample("eyes", {"x": part})["x"]
    parts = {name: value for (_, _, name), value in seen.patients.items()}
    assert parts == pytest.approx({"p": 0.9 / 6, "q": 0.9 / 6, "r": 0.5 / 2})
    assert sum(parts.values()) == pytest.approx(seen.means[0])


def by_class(**dice: Sequence[float]) -> CaseScores:
    """Two cases of A, one of B."""
    arrays = {name: np.array(values) for name, values in dice.items()}
    cases, patients = (("A", "0"), ("A", "1"), ("B", "2")), ("p", "q", "r")
    values = np.zeros((3, 4))
    return CaseScores(cases, patients, values, "px", ("unet", "student"), arrays)


def test_classes_by_hand() -> None:
    """Cup: A (.2 + .4) / 2 = .3 and B .7, so .5; seed 2 has .6: mean .55, sd .1 / sqrt 2 = .0707.

    The mean over the three cases of seed 1 would be .4333. A rim is in one seed alone.
    """
    first = by_class(cup=[0.2, 0.4, 0.7], disc=[0.8, 0.8, 0.9])
    second = by_class(cup=[0.6, 0.6, 0.6], disc=[0.8, 0.8, 0.9], rim=[0.1, 0.1, 0.1])
    found = class_means({1: first, 2: second})
    assert list(found) == ["cup", "disc"]
    cup = found["cup"]
    assert (cup.value, cup.sd) == (pytest.approx(0.55), pytest.approx(0.07071, abs=1e-5))
    assert (cup.low, cup.high, cup.seeds) == (None, None, (1, 2))
    assert found["disc"].value == pytest.approx(0.85)
    assert class_means({1: first})["cup"].sd is None


def test_sign_flip_by_hand() -> None:
    """Five gains: 2 of the 32 ways to set signs are as extreme, p = .0625. Zeros change nothing."""
    assert sign_flip([0.1, 0.2, 0.3, 0.4, 0.5]) == pytest.approx(2 / 32)
    assert sign_flip([0.1, 0.2, 0.3, 0.4, 0.5, 0.0]) == pytest.approx(2 / 32)
    assert sign_flip([-0.1] * 4) == pytest.approx(2 / 16)
    assert sign_flip([0.0, 0.0]) == 1.0
    assert sign_flip([]) == 1.0
    assert sign_flip([0.3]) == 1.0


def test_p_is_of_the_difference_that_is_printed() -> None:
    """90 patients lose half a point, ten of another domain gain 20: the mean gains 9.75 points.

    A test of ranks would call the losses certain and stand beside a gain.
    """
    lost, won = [-0.005 / 180] * 90, [0.2 / 20] * 10
    assert sum(lost) + sum(won) == pytest.approx(0.0975)
    assert 0.0005 < sign_flip(lost + won) < 0.005  # 2 of the 1,024 signs of the ten
    assert sign_flip([-d for d in lost + won]) == sign_flip(lost + won)


@given(st.lists(st.integers(-6, 6), min_size=1, max_size=9))
def test_sign_flip_equals_counting_all_signs(differences: list[int]) -> None:
    ours = abs(sum(differences))
    ways = list(product((-1, 1), repeat=len(differences)))
    sums = [sum(s * d for s, d in zip(way, differences, strict=True)) for way in ways]
    share = sum(abs(total) >= ours for total in sums) / len(ways)
    assert sign_flip([d / 10 for d in differences]) == pytest.approx(share)


def test_sign_flip_of_many_is_scipys() -> None:
    """Both draw their signs: within four standard errors of one another."""
    differences = np.random.default_rng(0).normal(0.2, 1, 40)
    found = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=20_000,
        random_state=np.random.default_rng(1),
    )  # fmt: skip
    p = float(found.pvalue)
    assert 0.01 < p < 0.99
    assert sign_flip(differences.tolist()) == pytest.approx(p, abs=4 * (2 * p / 20_000) ** 0.5)


def test_holm_by_hand() -> None:
    """.01 x 3, .03 x 2, .04 x 1, and none below the one before it: .03, .06, .06."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_is_never_below_p(p: list[float]) -> None:
    """And equals the definition: the largest of (m - j + 1) p_(j) over all j up to one's own."""
    corrected = holm(p)
    order = sorted(range(len(p)), key=lambda i: p[i])
    assert [corrected[i] for i in order] == sorted(corrected)
    for rank, i in enumerate(order):
        assert corrected[i] >= p[i]
        steps = ((len(p) - j) * p[order[j]] for j in range(rank + 1))
        assert corrected[i] == pytest.approx(min(1.0, max(steps)))


def test_domains_are_drawn_apart_though_their_patients_have_the_same_names() -> None:
    """Twice as many patients: the mean of two equal domains varies 1 / sqrt 2 as much as one."""
    dice = np.linspace(0.2, 0.8, 20).tolist()
    one, two = (
        resample("eyes", {"x": scores(dict.fromkeys(domains, dice))})["x"].draws[:, 0].std()
        for domains in ("A", "AB")
    )
    assert two / one == pytest.approx(0.5**0.5, abs=0.05)
