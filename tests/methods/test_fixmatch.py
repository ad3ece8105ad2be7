"""FixMatch by hand, against its twin in loops, and what it may not look at."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from helpers import baselines as base
from helpers import twin_baselines as twins
from helpers.small import make_case, numbers, tensors
from synfoc.batches.batch import Batch
from synfoc.methods.fixmatch import fixmatch_step
from synfoc.methods.interface import Models


def bright(images: Tensor) -> Tensor:
    """Class 1 where it is white (probability .9975), class 0 where it is black, even on gray."""
    z = 12 * images - 6
    return torch.cat([-z / 2, z / 2], 1)


@pytest.fixture
def batch() -> Batch:
    return base.half_white_batch()


def test_the_student_learns_its_sure_labels_on_the_strong_view(batch: Batch) -> None:
    """8 of 16 pixels are sure of class 1; on the gray strong view the odds are even.

    L_x = ln 2 + 1 - mean(2(.5)(16) / (.25(16) + 16), 0)                           = ln 2 + 3/5
    L_u = ln 2 (8/16) + 1 - mean(2(.5)(8) / (.25(16) + 8), 2(.5)(8) / (.25(8) + 8))
        = ln 2 / 2 + 1 - (2/3 + 4/5) / 2                                         = ln 2 / 2 + 4/15
    """
    for f, name in ((Models(UT=bright), "UT"), (Models(MS=bright), "MS")):
        step = fixmatch_step(f, batch, lam=0.5)
        L_x, L_u = getattr(step, f"L_x_{name}"), getattr(step, f"L_u_{name}")
        assert float(L_x) == pytest.approx(base.LN2 + 3 / 5, abs=1e-5)
        assert float(L_u) == pytest.approx(base.LN2 / 2 + 4 / 15, abs=1e-5)
        assert float(step.loss) == pytest.approx(float(L_x + 0.5 * L_u))
        assert step.trusted is not None
        assert float(step.trusted) == 0.5


@base.at_all_sides
@base.on_either_network
def test_fixmatch_equals_its_twin(name: str, sides: tuple[int, int, int]) -> None:
    for seed in range(3):
        nets, batch = make_case(seed, 3, sides)
        f, b = Models(**{name: nets[name]}), tensors(batch)
        ours = numbers(fixmatch_step(f, b, lam=0.7, tau=0.8))
        theirs = twins.twin_fixmatch(nets, batch, name, lam=0.7, tau=0.8)
        assert ours == pytest.approx(theirs, abs=1e-5)
        assert 0.05 < ours["trusted"] < 0.95


def test_neither_the_region_nor_a_teacher_matters(batch: Batch) -> None:
    """The teacher is absent: asking it would raise."""
    one = fixmatch_step(Models(UT=bright), batch)
    other = fixmatch_step(Models(UT=bright), replace(batch, M=~batch.M))
    assert one.loss == other.loss


def test_labels_have_no_slope(batch: Batch) -> None:
    """The weak view is learned from, not through."""
    weak = batch.U_w_UT.clone().requires_grad_()
    strong = batch.U_s_UT.clone().requires_grad_()
    loss = fixmatch_step(Models(UT=bright), replace(batch, U_w_UT=weak, U_s_UT=strong)).loss
    slopes = torch.autograd.grad(loss, (weak, strong), allow_unused=True)
    assert slopes[0] is None
    assert slopes[1] is not None
    assert slopes[1].abs().max() > 0


def test_the_labeled_loss_goes_backward_first(batch: Batch) -> None:
    base.assert_the_labeled_loss_goes_backward_first(
        lambda f: fixmatch_step(f, batch), Models(UT=bright)
    )


@pytest.mark.parametrize(("tau", "trusted"), [(0.4999, 1), (0.5, 0)])
def test_a_probability_equal_to_tau_is_not_sure(batch: Batch, tau: float, trusted: float) -> None:
    """Even odds are exactly .5: above .4999, not above .5."""
    step = fixmatch_step(Models(UT=base.undecided), batch, tau=tau)
    assert step.trusted is not None
    assert float(step.trusted) == trusted
