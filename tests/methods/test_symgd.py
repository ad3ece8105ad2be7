"""SymGD by hand, against its twin in loops; amplitude mixing against waves and NumPy."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import baselines as base
from helpers import twin_baselines as twins
from helpers.baselines import LN2, draws, sure, undecided
from helpers.small import make_case, numbers, tensors
from synfoc.batches.batch import Batch
from synfoc.methods.interface import Models, Network
from synfoc.methods.symgd import amplitude_mixup, symgd_step


def losses(teacher: Network, b: Batch, lam: float = 0.5) -> tuple[float, float, float]:
    """The sum, L_x, L_u of a U-Net that is undecided everywhere."""
    f = Models(UT=undecided, UT_hat=teacher)
    step = symgd_step(f, b, lam=lam, progress=0.5, draws=draws())
    return float(step.loss), float(step.L_x_UT), float(step.L_u_UT)


@pytest.fixture
def batch() -> Batch:
    batch: Batch = base.black_and_white()
    return batch


def test_four_losses_by_hand(batch: Batch) -> None:
    """The teacher sees white as class 1, whatever is beside it; 4 pixels lie inside M.

    L_ul  12 pixels of class 1, 4 of class 0   ln 2 + 1 - (2(.5)(4)/(4 + 4) + 12/(4 + 12))/2
    L_lu  12 of class 0, 4 of class 1          the same: ln 2 + 3/8
    L_s   all of class 1: ln 2 + 1 - (0 + 16/20)/2 = ln 2 + 3/5, as L_x, all of class 0
    """
    loss, L_x, L_u = losses(sure, batch)
    assert L_x == pytest.approx(LN2 + 3 / 5, abs=1e-5)
    assert L_u == pytest.approx(2 * (LN2 + 3 / 8) + 0.5 * (LN2 + 3 / 5), abs=1e-5)
    assert loss == pytest.approx(L_x + 0.5 * L_u, abs=1e-5)


def test_a_pixel_whose_label_changes_beside_labeled_ones_is_not_trusted(batch: Batch) -> None:
    """A teacher that calls all of an image class 0 as soon as any of it is black.

    Then U is of class 1 by itself, of class 0 in both mixtures: L_s has no trusted pixel, and its
    Dice only the background, labeled 0 throughout: 1 - (16/20 + 1)/2 = .1.
    """

    def context(images: Tensor) -> Tensor:
        return sure(images.amin((2, 3), keepdim=True).expand_as(images))

    loss, L_x, L_u = losses(context, batch)
    assert L_u == pytest.approx(2 * (LN2 + 3 / 8) + 0.5 * 0.1, abs=1e-5)
    assert loss == pytest.approx(L_x + 0.5 * L_u, abs=1e-5)


def test_labeled_pixels_are_trusted_in_both_mixtures(batch: Batch) -> None:
    """A teacher that is never sure: cross-entropy counts 4 pixels inside M, 12 outside.

    All labels are 0. Dice: background 16/20; foreground 0 of the trusted .25 n, so 0.
    """
    _, _, L_u = losses(undecided, batch)
    ul, lu, s = LN2 / 4 + 3 / 5, LN2 * 3 / 4 + 3 / 5, 1 - (16 / 20 + 1) / 2
    assert L_u == pytest.approx(ul + lu + 0.5 * s, abs=1e-5)


def test_amplitude_mixup_by_hand() -> None:
    """200 pixels: waves of 2 cycles are low, waves of 3 are not; phases are those of X.

    Mean .5 and .3 -> .4, wave of .1 and .3 at half share -> .2, the fast wave of .05 stays.
    """
    t = 2 * math.pi * torch.arange(200) / 200
    slow, fast = torch.cos(2 * t + 0.7), torch.cos(3 * t)
    X = (0.5 + 0.1 * slow + 0.05 * fast).expand(1, 1, 200, 200)
    U = (0.3 + 0.3 * torch.cos(2 * t + 1.9) + 0.2 * torch.sin(3 * t)).expand(1, 1, 200, 200)
    expected = 0.4 + 0.2 * slow + 0.05 * fast
    found = amplitude_mixup(X, U.clamp(0), torch.tensor([0.0]))
    assert torch.allclose(found, X, atol=1e-5)
    found = amplitude_mixup(X, U, torch.tensor([0.5]))
    assert torch.allclose(found, expected.expand_as(found), atol=1e-5)


@pytest.mark.parametrize("side", [32, 99, 101, 224])
def test_amplitude_mixup_equals_numpy(side: int, generator: torch.Generator) -> None:
    """Odd and even sides, three channels, one share per image."""
    X, U = torch.rand(2, 2, 3, side, side, generator=generator)
    found = amplitude_mixup(X, U, torch.tensor([0.3, 1.0]))
    for i, share in enumerate([0.3, 1.0]):
        expected = twins.moved_amplitude(X[i].numpy(), U[i].numpy(), share)
        assert np.abs(found[i].numpy() - expected).max() < 1e-5


@base.at_all_sides
@base.on_either_network
def test_symgd_equals_its_twin(name: str, sides: tuple[int, int, int]) -> None:
    for seed in range(3):
        nets, batch = make_case(seed, 3, sides)
        f, b = base.networks_of(nets, name), tensors(batch)
        ours = numbers(symgd_step(f, b, lam=0.4, progress=0.8, draws=draws(), tau=0.8))
        shares = (0.8 * torch.rand(2, generator=draws())).tolist()
        theirs = twins.twin_symgd(nets, batch, name, lam=0.4, tau=0.8, shares=shares)
        assert ours == pytest.approx(theirs, abs=1e-5)
        assert 0.1 < ours["trusted"] < 0.95


def test_the_labeled_image_keeps_its_look_at_the_start(batch: Batch) -> None:
    """At progress 0 no amplitude is taken over: U's weak view matters to the teacher alone."""
    seen = []

    def student(images: Tensor) -> Tensor:
        seen.append(images)
        return undecided(images)

    gray = replace(batch, U_s_UT=torch.full((1, 1, 4, 4), 0.5))
    f = Models(UT=student, UT_hat=sure)
    symgd_step(f, gray, lam=1.0, progress=0.0, draws=draws())
    labeled, ul, lu, strong = (images[0, 0] for images in seen)
    assert torch.equal(labeled, torch.zeros(4, 4))
    assert torch.equal(strong, torch.full((4, 4), 0.5))
    M = batch.M[0]
    assert torch.allclose(ul, 0.5 * (~M).float(), atol=1e-6)
    assert torch.allclose(lu, 0.5 * M.float(), atol=1e-6)


def test_the_student_alone_learns(batch: Batch) -> None:
    base.assert_only_the_student_learns(
        lambda f: symgd_step(f, batch, lam=0.5, progress=0.5, draws=draws())
    )


@pytest.mark.parametrize(("tau", "trusted"), [(0.4999, 1), (0.5, 0)])
def test_a_probability_equal_to_tau_is_not_trusted(
    batch: Batch, tau: float, trusted: float
) -> None:
    """Even odds are exactly .5: above .4999, not above .5."""
    f = Models(UT=undecided, UT_hat=undecided)
    step = symgd_step(f, batch, lam=0.5, progress=0.5, draws=draws(), tau=tau)
    assert step.trusted is not None
    assert float(step.trusted) == trusted


def test_the_labeled_loss_goes_backward_first(batch: Batch) -> None:
    base.assert_the_labeled_loss_goes_backward_first(
        lambda f: symgd_step(f, batch, lam=0.5, progress=0.5, draws=draws()),
        Models(UT=undecided, UT_hat=sure),
    )
