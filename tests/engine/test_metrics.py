"""Surface and overlap scores: by hand, by property, against MedPy's numbers and MONAI's code."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synfoc.engine import metrics as m

GOLDEN = Path(__file__).resolve().parents[2] / ".." / "shared" / "golden" / "misc.pt"


def box(shape: tuple[int, ...], *edges: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*e) for e in edges)] = True
    return mask


def blobs(
    seed: int, shape: tuple[int, ...] = (20, 24), noise: float = 0.2
) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    a, b = (random.random((2, *shape)) < noise) | box(shape, *[(5, 9)] * len(shape))
    return a, b


def test_overlap_by_hand() -> None:
    """4x4 and 4x4 squares shifted by 2: 8 pixels common, 24 in the union."""
    a, b = box((9, 9), (0, 4), (0, 4)), box((9, 9), (2, 6), (0, 4))
    assert m.dice(a, b) == 2 * 8 / 32
    assert m.jaccard(a, b) == 8 / 24


def test_distances_of_two_points_are_their_distance() -> None:
    """3 rows and 4 columns apart: 5 px; with 2 mm rows and 0.5 mm columns sqrt(36 + 4) mm."""
    a, b = box((9, 9), (1, 2), (1, 2)), box((9, 9), (4, 5), (5, 6))
    assert m.hd95(a, b) == m.asd(a, b) == m.asd_one_sided(a, b) == 5
    assert m.hd95(a, b, (2, 0.5)) == pytest.approx(40**0.5)


def test_asd_by_hand() -> None:
    """A line of 3 against its middle pixel: there 1, 0, 1; back 0. Together 2/4, one-sided 2/3."""
    a, b = box((5, 5), (2, 3), (1, 4)), box((5, 5), (2, 3), (2, 3))
    assert m.asd(a, b) == 2 / 4
    assert m.asd_one_sided(a, b) == pytest.approx(2 / 3)
    assert m.asd_one_sided(b, a) == 0


def test_the_inside_of_a_mask_is_not_surface() -> None:
    """A 5x5 square and the same with its center missing: only that hole's rim is far away.

    The hole adds 4 inner surface pixels at distance 1 from the outer surface, out of 16 + 20.
    """
    a, b = box((7, 7), (1, 6), (1, 6)), box((7, 7), (1, 6), (1, 6))
    b[3, 3] = False
    assert m.asd(a, b) == pytest.approx(4 / 36)


def test_a_3d_distance_uses_all_three_spacings() -> None:
    a, b = box((4, 6, 6), (0, 1), (2, 3), (2, 3)), box((4, 6, 6), (2, 3), (2, 3), (2, 3))
    assert m.hd95(a, b, (8.0, 1.0, 1.0)) == 16


def test_nested_parts_are_cup_and_disc() -> None:
    label = np.array([[0, 1, 2]])
    assert m.parts(label, 2).tolist() == [[[False, True, False]], [[False, False, True]]]
    assert m.parts(label, 2, nested=True).tolist() == [
        [[False, True, False]],
        [[False, True, True]],
    ]


@pytest.mark.parametrize(
    ("prediction", "label", "empty", "honest", "paper"),
    [
        (False, False, "both", (1, 1, 0, 0), (1, 1, 100, 100)),
        (True, False, "label", (0, 0, 5, 5), (0, 0, 100, 100)),
        (False, True, "prediction", (0, 0, 5, 5), (0, 0, 100, 100)),
    ],
)
def test_empty_masks_follow_the_stated_rule(
    prediction: bool, label: bool, empty: str, honest: tuple[int, ...], paper: tuple[int, ...]
) -> None:
    """An image of 3 x 8 pixels of 1 x 0.5 mm has a diagonal of 5 mm."""
    a, b = np.zeros((2, 3, 8), bool)
    a[1, 1], b[1, 1] = prediction, label
    for protocol, expected in (("honest", honest), ("paper", paper)):
        got = m.score(a, b, (1.0, 0.5), protocol=protocol)
        assert (got.dice, got.jaccard, got.hd95, got.asd) == expected
        assert got.empty == empty


def test_score_joins_the_single_functions() -> None:
    a, b = blobs(0)
    honest, paper = m.score(a, b), m.score(a, b, protocol="paper")
    assert honest == m.Scores(m.dice(a, b), m.jaccard(a, b), m.hd95(a, b), m.asd(a, b))
    assert paper.asd == m.asd_one_sided(a, b)
    assert paper.asd != honest.asd


def test_distances_to_nothing_are_an_error() -> None:
    a = box((4, 4), (1, 2), (1, 2))
    with pytest.raises(ValueError, match="empty"):
        m.asd(a, np.zeros_like(a))
    with pytest.raises(ValueError, match="shapes differ"):
        m.hd95(a, a[:2])


def test_cropping_to_the_union_changes_nothing() -> None:
    """Far away zeros around the same masks leave every distance as it is."""
    a, b = blobs(1, (9, 10, 11))
    wide_a, wide_b = np.pad(a, 7), np.pad(b, 7)
    spacing = (3.0, 1.0, 0.5)
    near, far = m.score(a, b, spacing), m.score(wide_a, wide_b, spacing)
    # At the image's edge mask pixels are surface already, so padding adds none.
    assert near == far


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000))
def test_scores_are_symmetric_and_in_range(seed: int) -> None:
    a, b = blobs(seed)
    there, back = m.score(a, b), m.score(b, a)
    assert there.hd95 == pytest.approx(back.hd95)
    assert there.asd == pytest.approx(back.asd)
    assert there.jaccard == pytest.approx(there.dice / (2 - there.dice))
    assert 0 <= there.asd <= max(map(np.max, m.surface_distances(a, b)))
    assert m.score(a, a) == m.Scores(1, 1, 0, 0)


@pytest.mark.skipif(not GOLDEN.is_file(), reason="needs the shared folder beside the project")
def test_scores_equal_medpy() -> None:
    """MedPy's dc, jc, hd95 and (one-sided) asd of three recorded pairs."""
    import torch

    for pair in torch.load(GOLDEN, weights_only=False)["medpy"]:
        a, b = pair["pred"].numpy(), pair["target"].numpy()
        got = m.score(a, b, protocol="paper")
        assert got.dice == pytest.approx(float(pair["dc"]), abs=1e-5)
        assert got.jaccard == pytest.approx(float(pair["jc"]), abs=1e-5)
        assert got.hd95 == pytest.approx(float(pair["hd95"]), abs=1e-5)
        assert got.asd == pytest.approx(float(pair["asd"]), abs=1e-5)


@pytest.mark.skipif(not GOLDEN.is_file(), reason="needs the shared folder beside the project")
def test_dice_is_the_authors_without_their_smoothing() -> None:
    """Theirs is (2 |A & B| + 1) / (|A| + |B| + 1.001), or 1 where both are empty."""
    import torch

    for pair in torch.load(GOLDEN, weights_only=False)["dice_numpy"]:
        a, b = pair["pred"].numpy(), pair["target"].numpy()
        size = int(a.sum() + b.sum())
        smoothed = (m.dice(a, b) * size + 1) / (size + 1.001) if size else 1.0
        assert smoothed == pytest.approx(pair["dice"], abs=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("noise", [0.2, 0.01])
@pytest.mark.parametrize("shape", [(20, 24), (7, 9, 8)])
def test_distances_equal_monai(shape: tuple[int, ...], noise: float) -> None:
    """Symmetric ASD is MONAI's; its HD95 is the larger of the two directed percentiles.

    Much noise is measured with distance maps, little with search trees.
    """
    monai = pytest.importorskip("monai.metrics")
    import torch

    spacing = (2.0, 0.5, 1.5)[: len(shape)]
    for seed in range(3):
        a, b = blobs(seed, shape, noise)
        there, back = m.surface_distances(a, b, spacing)
        t = [torch.from_numpy(x)[None, None] for x in (a, b)]
        asd = monai.compute_average_surface_distance(*t, symmetric=True, spacing=spacing)
        one = monai.compute_average_surface_distance(*t, spacing=spacing)
        hd95 = monai.compute_hausdorff_distance(*t, percentile=95, spacing=spacing)
        assert m.asd(a, b, spacing) == pytest.approx(asd.item(), rel=1e-5)
        assert m.asd_one_sided(a, b, spacing) == pytest.approx(one.item(), rel=1e-5)
        directed = [np.percentile(d, 95) for d in (there, back)]
        assert max(directed) == pytest.approx(hd95.item(), rel=1e-5)
        # Percentiles of few distances are interpolated: hence the margin.
        assert 0.99 * min(directed) <= m.hd95(a, b, spacing) <= 1.01 * max(directed)


def test_the_interval_of_many_cases_is_the_normal_one() -> None:
    """400 values of standard deviation 1: the mean's 95 % interval is +- 1.96 / 20 = 0.098."""
    random = np.random.default_rng(0)
    values = random.normal(size=400)
    low, high = m.interval95(m.bootstrap_means(values, None, random=random))
    assert (high - low) / 2 == pytest.approx(0.098, abs=0.01)
    assert (high + low) / 2 == pytest.approx(values.mean(), abs=0.01)


def test_slices_of_few_patients_have_a_wider_interval() -> None:
    """Ten equal slices of each of 8 patients know no more than one slice of each."""
    values = np.repeat(np.random.default_rng(0).normal(size=8), 10)
    patients = [f"p{i // 10}" for i in range(80)]

    def width(groups: list[str] | None) -> float:
        random = np.random.default_rng(1)
        low, high = m.interval95(m.bootstrap_means(values, groups, random=random))
        return high - low

    assert width(patients) == pytest.approx(width(None) * 10**0.5, rel=0.1)


def test_one_seed_gives_one_interval() -> None:
    values = np.array([0.1, 0.5, 0.9])
    means = [m.bootstrap_means(values, None, random=np.random.default_rng(3)) for _ in range(2)]
    assert (means[0] == means[1]).all()


def test_resamples_are_drawn_in_blocks_and_none_is_lost() -> None:
    values = np.arange(6.0).reshape(3, 2)
    means = m.bootstrap_means(values, None, random=np.random.default_rng(0), resamples=70)
    assert means.shape == (70, 2)
    assert means[:, 1] - means[:, 0] == pytest.approx(np.ones(70))
    assert len(np.unique(means[:, 0])) > 5


def test_a_patient_of_many_slices_weighs_more_in_a_resample() -> None:
    """p has three slices of 0, q one of 1. Drawn are p and p: 0, q and q: 1, or both: 1 / 4."""
    means = m.bootstrap_means(
        np.array([0.0, 0.0, 0.0, 1.0]), list("pppq"), random=np.random.default_rng(0)
    )
    assert np.unique(means).tolist() == [0, 0.25, 1]
