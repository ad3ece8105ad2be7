"""Noise against theory, resolution and registration of the simulated acquisition."""

from dataclasses import replace

import numpy as np
import pytest

from synfoc.phantom.acquire import acquire, coil_shading, store, tukey
from synfoc.phantom.scanner import SCANNERS

PLAIN = replace(
    SCANNERS[0],
    fov=(160, 160),
    acquired=(80, 80),
    matrix=(160, 160),
    noise=0.0,
    filter=0.0,
    decay=0.0,
    ghost=0.0,
    spike=0.0,
    zipper=0.0,
)
EMPTY = np.zeros((160, 160), np.float32)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_empty_air_is_rayleigh_distributed() -> None:
    """s = .2: mean s sqrt(pi / 2) = .2507, deviation s sqrt(2 - pi / 2) = .1310."""
    scanner = replace(PLAIN, acquired=(160, 160), noise=0.2)
    image = np.concatenate([acquire(scanner, EMPTY, np.random.default_rng(i)) for i in range(4)])
    assert image.mean() == pytest.approx(0.2507, rel=0.01)
    assert image.std() == pytest.approx(0.1310, rel=0.02)


def test_tissue_is_rician_distributed() -> None:
    """Second moment A^2 + 2 s^2: 1 + 2 * .09 = 1.18, also after zero filling."""
    image = acquire(replace(PLAIN, noise=0.3), EMPTY + 1, rng())
    assert np.mean(image**2) == pytest.approx(1.18, rel=0.02)


def test_a_filter_lowers_the_noise_by_its_root_mean_square() -> None:
    """The filter acts on each axis: air's mean falls by the product of both."""
    scanner = replace(PLAIN, acquired=(160, 160), noise=0.2, filter=0.8)
    rms = np.mean(tukey(160, 0.8) ** 2)
    image = np.concatenate([acquire(scanner, EMPTY, np.random.default_rng(i)) for i in range(8)])
    assert image.mean() == pytest.approx(0.2507 * rms, rel=0.02)


def test_an_edge_rings_by_nine_percent_and_a_filter_stops_it() -> None:
    """Gibbs: the overshoot of a truncated step is 8.9 % of its height."""
    step = EMPTY.copy()
    step[:, 40:120] = 1
    assert acquire(replace(PLAIN, matrix=(160, 640)), step, rng()).max() == pytest.approx(
        1.09, abs=0.01
    )
    assert acquire(replace(PLAIN, filter=1.0), step, rng()).max() < 1.01


@pytest.mark.parametrize("matrix", [(160, 160), (96, 120), (200, 64)])
def test_a_point_stays_where_it_is_on_any_matrix(matrix: tuple[int, int]) -> None:
    """A blob at (50.5, 97.5) mm has its center of mass there within 0.1 mm."""
    y, x = np.mgrid[:160, :160]
    blob = np.exp(-((y - 50) ** 2 + (x - 97) ** 2) / 128).astype(np.float32)
    image = acquire(replace(PLAIN, matrix=matrix), blob, rng())
    for axis, (n, place) in enumerate(zip(matrix, (50.5, 97.5), strict=True)):
        profile = image.sum(1 - axis)
        found = (profile * (np.arange(n) + 0.5)).sum() / profile.sum() * 160 / n
        assert found == pytest.approx(place, abs=0.1)


def test_motion_repeats_the_image_along_the_rows_only() -> None:
    """A square in the middle rows ghosts above and below itself, not beside."""
    square = EMPTY.copy()
    square[70:90, 70:90] = 1
    image = acquire(replace(PLAIN, ghost=0.5, filter=1.0), square, rng())
    assert image[:, 75:85].sum(1)[[*range(40), *range(120, 160)]].max() > 0.2
    assert image[:, :40].max() < 0.05


def test_coil_shading_is_one_at_the_heart_and_brighter_at_the_coil() -> None:
    axis = np.arange(-100, 101, dtype=np.float32)
    scanner = replace(PLAIN, coils=((-90.0, 0.0),), reach=60.0, normalize=0.0)
    shading = coil_shading(scanner, axis[:, None], axis[None], rng())
    assert shading[100, 100] == pytest.approx(1, abs=1e-4)
    assert shading[10, 100] > 2 > 0.5 > shading[200, 100]
    flat = coil_shading(replace(scanner, normalize=1.0), axis[:, None], axis[None], rng())
    assert np.ptp(flat) == 0


def test_stored_values_by_hand() -> None:
    """Gain 1000: .5 -> 500 and 9 -> 4095, the largest of 12 bits; 8 bits are a window."""
    values = np.array([[0.0, 0.5], [1.0, 9.0]], np.float32)
    scanner = replace(PLAIN, gain=1000.0, window=(0, 100), gamma=1.0)
    assert store(scanner, values, 12).tolist() == [[0, 500], [1000, 4095]]
    assert store(scanner, values, 8).tolist() == [[0, 14], [28, 255]]
