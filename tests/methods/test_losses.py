"""Losses by hand, by property, by error; the reference is in test_golden_misc and test_twin."""

import math
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError

from synfoc.methods.losses import (
    ce_dice,
    consensus_loss,
    cross_entropy,
    dice_loss,
    divergence_loss,
)

LN2 = math.log(2)


def probabilities(*pixels: tuple[float, ...]) -> torch.Tensor:
    """One image of one row: (1, K, 1, pixels)."""
    return torch.tensor(pixels).T[None, :, None]


def row(*values: Any) -> torch.Tensor:
    """One image of one row: (1, 1, pixels)."""
    return torch.tensor([[values]])


def random_case(
    generator: torch.Generator, K: int = 3
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    z = torch.randn(2, K, 6, 6, generator=generator)
    Q = torch.randint(K, (2, 6, 6), generator=generator)
    return z, Q, (torch.rand(2, 6, 6, generator=generator) > 0.4).float()


def test_cross_entropy_by_hand() -> None:
    """P = (1/2, 1/2) costs ln 2 = .6931; P = (3/4, 1/4), true class 1, costs ln 4 = 1.3863."""
    z = probabilities((0.5, 0.5), (0.75, 0.25)).log()
    assert float(cross_entropy(z, row(0, 1))) == pytest.approx((LN2 + 2 * LN2) / 2)


def test_cross_entropy_divides_by_all_pixels_also_the_untrusted() -> None:
    """Two pixels that cost ln 2 each, one trusted: ln 2 / 2, not ln 2."""
    z = probabilities((0.5, 0.5), (0.5, 0.5)).log()
    assert float(cross_entropy(z, row(0, 1), row(1.0, 0.0))) == pytest.approx(LN2 / 2)


def test_cross_entropy_takes_fractions_of_trust() -> None:
    """A quarter of trust is a quarter of the cost."""
    z = probabilities((0.5, 0.5)).log()
    assert float(cross_entropy(z, row(1), row(0.25))) == pytest.approx(LN2 / 4)


def test_dice_loss_by_hand() -> None:
    """Two pixels, P = (.8, .2) and (.4, .6), true classes 0 and 1.

    class 0: 2(.8) / (.64 + .16 + 1) = .8889     class 1: 2(.6) / (.04 + .36 + 1) = .8571
    """
    P = probabilities((0.8, 0.2), (0.4, 0.6))
    expected = 1 - (0.8889 + 0.8571) / 2
    assert float(dice_loss(P, row(0, 1))) == pytest.approx(expected, abs=1e-4)
    assert float(dice_loss(P, row(0, 1), row(1.0, 1.0))) == pytest.approx(expected, abs=1e-4)


def test_dice_loss_masks_the_foreground_and_never_the_background() -> None:
    """As above, the second pixel not trusted: class 1 has no true pixel left, class 0 is as before.

    class 0: 2(.8) / (.64 + .16 + 1) = .8889     class 1: 0 / .04 = 0
    """
    P = probabilities((0.8, 0.2), (0.4, 0.6))
    loss = dice_loss(P, row(0, 1), row(1.0, 0.0))
    assert float(loss) == pytest.approx(1 - 0.8889 / 2, abs=1e-4)


def test_dice_loss_sums_over_the_batch_before_it_divides() -> None:
    """An image with no lesion is no division by zero: both images share one fraction per class.

    class 1: 2(1) / (1 + 0.25 + 1) = .8889 over both; alone the second image would give 0.
    class 0: 2(.5) / (.25 + 1) = .8
    """
    P = torch.cat([probabilities((0.0, 1.0)), probabilities((0.5, 0.5))])
    loss = dice_loss(P, torch.tensor([[[1]], [[0]]]))
    assert float(loss) == pytest.approx(1 - (0.8889 + 0.8) / 2, abs=1e-4)


def test_dice_loss_is_nothing_where_prediction_is_the_label(generator: torch.Generator) -> None:
    """Also where one of the classes is absent everywhere."""
    Q = torch.randint(2, (2, 5, 5), generator=generator)
    P = torch.nn.functional.one_hot(Q, 3).movedim(-1, 1).float()
    assert float(dice_loss(P, Q)) == pytest.approx(0, abs=1e-6)
    assert float(dice_loss(P.roll(1, 1), Q)) == pytest.approx(1, abs=1e-6)


def test_losses_of_foreground_do_not_see_untrusted_pixels(generator: torch.Generator) -> None:
    """Where trust is 0, foreground scores may trade places freely (background stays)."""
    z, _, W = random_case(generator)
    Q = torch.randint(1, 3, W.shape, generator=generator)
    P = z.softmax(1)
    swapped = torch.where(W[:, None] > 0, P, P[:, [0, 2, 1]])
    torch.testing.assert_close(dice_loss(P, Q, W), dice_loss(swapped, Q, W))
    noise = torch.randn(z.shape, generator=generator)
    other = torch.where(W[:, None] > 0, z, noise)
    torch.testing.assert_close(cross_entropy(z, Q, W), cross_entropy(other, Q, W))


@pytest.mark.parametrize("K", [2, 3, 4])
def test_full_trust_is_no_trust_argument(generator: torch.Generator, K: int) -> None:
    """Eq. 7 with W = 1 is the supervised loss."""
    z, Q, W = random_case(generator, K)
    torch.testing.assert_close(ce_dice(z, Q, torch.ones_like(W)), ce_dice(z, Q))
    torch.testing.assert_close(ce_dice(z, Q), cross_entropy(z, Q) + dice_loss(z.softmax(1), Q))


def test_losses_do_not_depend_on_the_order_of_images_or_classes(
    generator: torch.Generator,
) -> None:
    """Images may be shuffled, classes renamed (all of them, where every pixel counts)."""
    z, Q, W = random_case(generator)
    torch.testing.assert_close(ce_dice(z, Q, W), ce_dice(z.flip(0), Q.flip(0), W.flip(0)))
    torch.testing.assert_close(ce_dice(z, Q), ce_dice(z.flip(1), 2 - Q))


def test_consensus_loss_by_hand() -> None:
    """-1/2 ln 1/2 per entry: .3466. MedSAM agrees on its one pixel, the U-Net on 1 of 4.

    (.3466 + .3466 / 4) / 2 = .2166
    """
    P_s, P_u = torch.full((1, 2, 1, 1), 0.5), torch.full((1, 2, 2, 2), 0.5)
    agree_u = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    loss = consensus_loss(P_s, P_u, torch.ones(1, 1, 1), agree_u)
    assert float(loss) == pytest.approx(LN2 / 2 * (1 + 1 / 4) / 2)


def test_consensus_loss_of_certainty_is_nothing_and_finite() -> None:
    """0 ln 0 is 0 in value; its slope is finite because probabilities are clamped."""
    P = torch.tensor([[[[1.0]], [[0.0]]]], requires_grad=True)
    loss = consensus_loss(P, P, torch.ones(1, 1, 1), torch.ones(1, 1, 1))
    (slope,) = torch.autograd.grad(loss, P)
    assert float(loss.detach()) == pytest.approx(0, abs=1e-8)
    assert slope.isfinite().all()


def test_divergence_loss_by_hand() -> None:
    """P = (.9, .1) against (.4, .6) differs by .5 in both classes: .25 where it counts, 1 of 2."""
    P_s = probabilities((0.9, 0.1), (0.9, 0.1))
    P_u = probabilities((0.4, 0.6), (0.4, 0.6))
    assert float(divergence_loss(P_s, P_u, row(1.0, 0.0))) == pytest.approx(0.25 / 2)
    assert float(divergence_loss(P_s, P_u, row(0.0, 0.0))) == 0


def test_divergence_loss_pulls_both_students() -> None:
    """Equal and opposite slopes: neither network is a constant for the other."""
    P_s = probabilities((0.9, 0.1)).requires_grad_()
    P_u = probabilities((0.4, 0.6)).requires_grad_()
    slopes = torch.autograd.grad(divergence_loss(P_s, P_u, row(1.0)), (P_s, P_u))
    torch.testing.assert_close(slopes[0], -slopes[1])
    assert slopes[0].abs().min() > 0


def test_every_loss_has_the_gradient_of_its_own_slope(generator: torch.Generator) -> None:
    """Finite differences in float64."""
    z, Q, W = random_case(generator)
    z, W = z[:, :, :3, :3].double(), W[:, :3, :3].double()
    Q = Q[:, :3, :3]
    other = torch.randn(z.shape, generator=generator, dtype=torch.float64).softmax(1)
    for loss in (
        lambda z: cross_entropy(z, Q, W),
        lambda z: dice_loss(z.softmax(1), Q, W),
        lambda z: consensus_loss(z.softmax(1), other, W, W),
        lambda z: divergence_loss(z.softmax(1), other, W),
    ):
        assert torch.autograd.gradcheck(loss, z.clone().requires_grad_())


def test_a_class_outside_the_logits_is_an_error() -> None:
    """Class 2 of K = 2."""
    P = probabilities((0.5, 0.5))
    with pytest.raises(RuntimeError, match="smaller than num_classes"):
        dice_loss(P, row(2))
    with pytest.raises(IndexError, match="out of bounds"):
        cross_entropy(P.log(), row(2))


def test_shapes_that_do_not_fit_are_an_error() -> None:
    """A label map of another size would broadcast in silence; the type check of tests sees it."""
    P = torch.full((2, 2, 4, 4), 0.5)
    with pytest.raises(TypeCheckError):
        dice_loss(P, torch.zeros(2, 4, 1, dtype=torch.long))
    with pytest.raises(TypeCheckError):
        divergence_loss(P, P, torch.ones(2, 1, 4))
