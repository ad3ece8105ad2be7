"""The largest component of a part, by hand and against a flood fill."""

import numpy as np

from helpers.twin_baselines import only_largest
from synfoc.methods.components import largest_component


def test_the_largest_component_by_hand() -> None:
    """Three pixels that touch by a corner against two in a row; of two pairs the upper one."""
    part = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [1, 0, 0, 0]], bool)
    assert np.argwhere(largest_component(part)).tolist() == [[0, 0], [1, 1], [2, 0]]
    pairs = np.array([[0, 1, 1], [0, 0, 0], [1, 1, 0]], bool)
    assert np.argwhere(largest_component(pairs)).tolist() == [[0, 1], [0, 2]]
    assert not largest_component(np.zeros((3, 3), bool)).any()


def test_it_equals_a_flood_fill() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        part = rng.random((12, 12)) < 0.4
        assert np.array_equal(largest_component(part), only_largest(part, 2) == 1)
