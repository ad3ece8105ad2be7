"""Agreement of label maps and the weight made of it, by hand, by property, by error."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synfoc.methods.ablations import Fusion, variant_of
from synfoc.methods.confidence import dice_agreement, mutual_confidence, parts, self_confidence
from synfoc.methods.synfoc import fuse


def label_map(*values: int) -> torch.Tensor:
    """One image of one row: (1, 1, pixels)."""
    return torch.tensor([[values]])


def test_parts_are_one_map_per_foreground_class() -> None:
    Q = label_map(0, 1, 2, 2)
    assert parts(Q, 2)[0, :, 0].tolist() == [
        [False, True, False, False],
        [False, False, True, True],
    ]


def test_nested_parts_contain_each_other() -> None:
    """Fundus: the cup is class 1, the disc is cup and rim, classes 1 and 2."""
    Q = label_map(0, 1, 2, 2)
    assert parts(Q, 2, nested=True)[0, :, 0].tolist() == [
        [False, True, False, False],
        [False, True, True, True],
    ]


def test_dice_agreement_by_hand() -> None:
    """|A| = 2, |B| = 1, |A & B| = 1: (2 + 1) / (3 + 1.001) = .7498."""
    phi = dice_agreement(label_map(1, 1, 0), label_map(1, 0, 0), 1)
    assert float(phi) == pytest.approx(3 / 4.001)


def test_the_unet_is_compared_at_its_side_and_the_teachers_at_l() -> None:
    """At P = 4 the student misses one of the teacher's two pixels: (2 + 1) / (3 + 1.001) = .7498.

    At L = 2 every second row and column is left, and with them one of the two, which MedSAM has,
    too: (2 + 1) / (2 + 1.001).
    """
    Q_UT_hat = torch.zeros(1, 4, 4, dtype=torch.int64)
    Q_UT_hat[0, 0, 0] = Q_UT_hat[0, 1, 1] = 1
    Q_UT = Q_UT_hat.clone()
    Q_UT[0, 1, 1] = 0
    phi_self = self_confidence(Q_UT, Q_UT_hat, 1)
    phi_mut = mutual_confidence(Q_UT_hat, Q_UT_hat[:, ::2, ::2], 1)
    assert phi_self.tolist() == pytest.approx([3 / 4.001])
    assert phi_mut.tolist() == pytest.approx([3 / 3.001])


def test_dice_agreement_is_the_mean_over_parts() -> None:
    """Class 1: (2 + 1) / (3 + 1.001) = .7498; class 2, |A| = 1, |B| = 2: the same; class 3: 1."""
    phi = dice_agreement(label_map(1, 1, 2), label_map(1, 2, 2), 3)
    assert float(phi) == pytest.approx((3 / 4.001 + 3 / 4.001 + 1) / 3)


def test_nested_dice_agreement_by_hand() -> None:
    """Cup: 3 / 4.001. Disc: all three pixels in both, (6 + 1) / (6 + 1.001)."""
    phi = dice_agreement(label_map(1, 1, 2), label_map(1, 2, 2), 2, nested=True)
    assert float(phi) == pytest.approx((3 / 4.001 + 7 / 7.001) / 2)


def test_two_empty_maps_agree_fully_and_one_empty_map_hardly() -> None:
    """Both empty: 1 exactly. One empty against 3 pixels: (0 + 1) / (3 + 1.001) = .2499."""
    empty, full = label_map(0, 0, 0), label_map(1, 1, 1)
    assert float(dice_agreement(empty, empty, 1)) == 1
    assert float(dice_agreement(empty, full, 1)) == pytest.approx(1 / 4.001)


def test_images_are_scored_one_by_one() -> None:
    A = torch.tensor([[[1, 1]], [[0, 1]]])
    B = torch.tensor([[[1, 1]], [[1, 0]]])
    expected = [5 / 5.001, 1 / 3.001]
    assert dice_agreement(A, B, 1).tolist() == pytest.approx(expected)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), classes=st.integers(1, 3), nested=st.booleans())
def test_dice_agreement_is_symmetric_and_a_share(seed: int, classes: int, nested: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    A, B = torch.randint(classes + 1, (2, 3, 5, 5), generator=generator)
    phi = dice_agreement(A, B, classes, nested=nested)
    torch.testing.assert_close(phi, dice_agreement(B, A, classes, nested=nested))
    assert bool((phi > 0).all())
    assert bool((phi <= 1).all())
    assert bool((dice_agreement(A, A, classes, nested=nested) >= phi).all())


@pytest.mark.parametrize(
    ("fusion", "expected"),
    [("smc", 0.4), ("self", 0.8), ("mutual", 0.5), ("constant", 0.3), ("linear", 0.06)],
)
def test_the_share_of_the_unet_by_hand(fusion: Fusion, expected: float) -> None:
    """phi_self .8, phi_mut .5, constant .3, a fifth of the run done."""
    variant = variant_of(fusion, constant=0.3, progress=0.2)
    P = torch.full((2, 2, 1, 1), 0.5)
    alpha, _, _ = variant.fuse(P, P, torch.tensor([0.8, 0.8]), torch.tensor([0.5, 0.5]))
    assert alpha.tolist() == pytest.approx([expected, expected])


@pytest.mark.parametrize("fusion", ["cps", "own"])
def test_teachers_that_are_not_fused_have_no_share(fusion: Fusion) -> None:
    P = torch.full((1, 2, 1, 1), 0.5)
    alpha, _, _ = variant_of(fusion).fuse(P, P, torch.ones(1), torch.ones(1))
    assert alpha.isnan().all()


def test_fuse_by_hand() -> None:
    """alpha = 1/4 belongs to the U-Net: 3/4 of (.8, .2) and 1/4 of (.4, .6) is (.7, .3)."""
    P_MS, P_UT = torch.tensor([0.8, 0.2]), torch.tensor([0.4, 0.6])
    fused = fuse(P_MS.view(1, 2, 1, 1), P_UT.view(1, 2, 1, 1), torch.tensor([0.25]))
    assert fused.flatten().tolist() == pytest.approx([0.7, 0.3])


def test_fuse_weighs_each_image_by_its_own_share() -> None:
    P_MS, P_UT = torch.zeros(2, 2, 2, 2), torch.ones(2, 2, 4, 4)
    fused = fuse(P_MS, P_UT, torch.tensor([0.0, 1.0]))
    assert fused.shape == P_UT.shape
    assert fused.mean((1, 2, 3)).tolist() == [0, 1]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_fused_probabilities_still_sum_to_one(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    P_MS = torch.randn(2, 3, 4, 4, generator=generator).softmax(1)
    P_UT = torch.randn(2, 3, 12, 12, generator=generator).softmax(1)
    fused = fuse(P_MS, P_UT, torch.rand(2, generator=generator))
    torch.testing.assert_close(fused.sum(1), torch.ones(2, 12, 12))
