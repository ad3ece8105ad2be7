"""Numbers that change over a run, by hand and by property."""

import math

import pytest

from synfoc.methods.schedules import ema_decay, learning_rate_factor, ramp_up


def test_ramp_up_by_hand() -> None:
    """t = 0: e^-5 = .00674; t = 100: e^-1.25 = .2865; t = 199: e^(-5/40000) = .99988."""
    assert ramp_up(0, 60_000) == pytest.approx(math.exp(-5))
    assert ramp_up(30_000, 60_000) == pytest.approx(0.2865, abs=1e-4)
    assert ramp_up(59_999, 60_000) == pytest.approx(0.999875, abs=1e-6)


def test_ramp_up_stands_still_on_200_plateaus() -> None:
    """30,000 steps: 150 steps each."""
    values = [ramp_up(step, 30_000) for step in range(30_000)]
    assert len(set(values)) == 200
    assert len(set(values[:150])) == 1
    assert values[149] < values[150]


@pytest.mark.parametrize("steps", [1, 7, 100, 300, 450, 30_000])
def test_ramp_up_rises_and_stays_below_one(steps: int) -> None:
    """Also for runs shorter than 200 steps."""
    values = [ramp_up(step, steps) for step in range(steps)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(math.exp(-5))
    assert values[-1] < 1


def test_ramp_up_stays_at_one_past_the_end() -> None:
    """A run that is continued past t_max does not fall again."""
    assert ramp_up(500, 400) == 1


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0), (1, 0.5), (3, 0.75), (98, 98 / 99), (99, 0.99), (5000, 0.99)]
)
def test_ema_decay_by_hand(step: int, expected: float) -> None:
    """1 - 1/(step + 1) until it reaches .99 at step 99."""
    assert ema_decay(step) == pytest.approx(expected)


def test_ema_decay_keeps_to_its_limit() -> None:
    assert ema_decay(5000, 0.5) == 0.5
    assert ema_decay(5000, 0.0) == 0


def test_constant_learning_rate_is_constant() -> None:
    assert {learning_rate_factor("constant", step, 10) for step in range(10)} == {1.0}


def test_late_learning_rate_stays_for_seventy_percent_and_ends_at_nothing() -> None:
    assert {learning_rate_factor("late", step, 100) for step in range(71)} == {1.0}
    assert learning_rate_factor("late", 85, 100) == pytest.approx(0.5)
    assert learning_rate_factor("late", 100, 100) == pytest.approx(0)


def test_cosine_learning_rate_falls_from_one_to_nothing() -> None:
    """Half way down at half time."""
    assert learning_rate_factor("cosine", 0, 100) == 1
    assert learning_rate_factor("cosine", 50, 100) == pytest.approx(0.5)
    assert learning_rate_factor("cosine", 100, 100) == pytest.approx(0)
