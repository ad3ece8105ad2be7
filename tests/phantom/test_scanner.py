"""Signal equations by hand, and the contrast that each scanner must show."""

import numpy as np
import pytest

from synfoc.phantom.scanner import (
    BLOOD,
    FAT,
    MYOCARDIUM,
    SCANNERS,
    SCAR,
    TISSUES,
    balanced_echo,
    inversion_recovery,
    spin_echo,
    spoiled_echo,
)

ONE = np.ones(1)
LN2 = np.log(2)


def test_spin_echo_by_hand() -> None:
    """TR = T1 ln 2 and TE = T2 ln 2: half recovers, half decays, 1/4 is left."""
    signal = spin_echo(ONE, 1000 * ONE, 50 * ONE, tr=1000 * LN2, te=50 * LN2)
    assert signal == pytest.approx(0.25)


def test_spoiled_echo_by_hand() -> None:
    """E1 = 1/2, flip 60: .8660 * .5 / (1 - .5 * .5) = .5774; TE = 0."""
    signal = spoiled_echo(ONE, 10 * ONE, 50 * ONE, tr=10 * LN2, te=0, flip=60)
    assert signal == pytest.approx(0.57735, abs=1e-5)


def test_spoiled_echo_is_brightest_at_the_ernst_angle() -> None:
    """arccos(exp(-6 / 1000)) = 6.27 degrees."""
    flips = np.arange(1, 20, 0.01)
    signals = [float(spoiled_echo(ONE, 1e3 * ONE, ONE, tr=6, te=0, flip=f)[0]) for f in flips]
    assert flips[np.argmax(signals)] == pytest.approx(6.27, abs=0.02)


def test_balanced_echo_by_hand() -> None:
    """TR much shorter than T1 = T2, flip 90: sin / (1 + cos + (1 - cos) T1 / T2) = 1/2."""
    assert balanced_echo(ONE, 1e3 * ONE, 1e3 * ONE, tr=0.01, flip=90) == pytest.approx(
        0.5, abs=1e-4
    )


def test_inversion_recovery_is_black_at_t1_ln_2_and_never_negative() -> None:
    t1 = 500 * ONE
    assert inversion_recovery(ONE, t1, ONE, ti=500 * LN2, tr=1e5) == pytest.approx(0, abs=1e-9)
    assert inversion_recovery(ONE, t1, ONE, ti=0, tr=1e5) == pytest.approx(1)


@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda s: s.name)
def test_cavity_and_muscle_differ_on_every_scanner_and_patient(scanner) -> None:
    """A person must see both classes: the signals differ by more than twice the noise."""
    for seed in range(50):
        signals = scanner.signals(np.random.default_rng(seed))
        assert abs(signals[BLOOD] - signals[MYOCARDIUM]) > 2 * scanner.noise
        assert signals.shape == (len(TISSUES),)
        assert signals[0] == 0  # Air.


def test_scanners_differ_in_contrast() -> None:
    """Blood against muscle: more than 3 fold on a, below 1 on d; fat is brighter than both on b."""
    a, b, c, d = (s.signals(np.random.default_rng(0)) for s in SCANNERS)
    assert a[BLOOD] > 3 * a[MYOCARDIUM]
    assert b[MYOCARDIUM] < b[BLOOD] < b[FAT]
    assert c[SCAR] > 2 * c[MYOCARDIUM]
    assert d[BLOOD] < d[MYOCARDIUM]


def test_resized_keeps_the_field_of_view_and_the_shape() -> None:
    """260 x 340 mm on 196 x 256 pixels; at 128 the rows become 196 / 2 = 98."""
    d = SCANNERS[3]
    assert d.resized(128).matrix == (98, 128)
    assert d.resized(128).fov == d.fov
