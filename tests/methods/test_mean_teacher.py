"""One branch alone, by hand; its equality with the whole step is in test_twin."""

from dataclasses import replace

import pytest
import torch

from helpers import baselines as base
from helpers.baselines import LN2, sure, undecided
from synfoc.batches.batch import Batch
from synfoc.methods.interface import Models
from synfoc.methods.mean_teacher import mean_teacher_step


@pytest.fixture
def batch() -> Batch:
    return base.black_and_white()


def test_teacher_and_paste_make_the_copy_paste_label(batch: Batch) -> None:
    """Student even, teacher sure: 12 pixels of class 1, 4 pasted ones of class 0, all trusted.

    L_u = ln 2 + 1 - mean(2(.5)(4) / (.25(16) + 4), 2(.5)(12) / (.25(16) + 12)) = ln 2 + 3/8
    L_x = ln 2 + 1 - mean(2(.5)(16) / (.25(16) + 16), 0)                         = ln 2 + 3/5
    """
    steps = {
        "UT": mean_teacher_step(Models(UT=undecided, UT_hat=sure), batch, lam=0.5),
        "MS": mean_teacher_step(Models(MS=undecided, MS_hat=sure), batch, lam=0.5),
    }
    for branch, step in steps.items():
        assert float(getattr(step, f"L_x_{branch}")) == pytest.approx(LN2 + 3 / 5, abs=1e-5)
        assert float(getattr(step, f"L_u_{branch}")) == pytest.approx(LN2 + 3 / 8, abs=1e-5)
        assert float(step.loss) == pytest.approx(1.5 * LN2 + 3 / 5 + 3 / 16, abs=1e-5)
        assert step.trusted is not None
        assert float(step.trusted) == 1


def test_a_teacher_that_is_not_sure_teaches_the_pasted_pixels_only(batch: Batch) -> None:
    """Even odds are never above tau: of 16 pixels 4 count in the cross-entropy, ln 2 / 4.

    Dice, all labels 0 (the first of two equals): 1 - mean(2(.5)(16) / (.25(16) + 16), 0) = 3/5.
    """
    for step in (
        mean_teacher_step(Models(UT=undecided, UT_hat=undecided), batch, lam=1.0),
        mean_teacher_step(Models(MS=undecided, MS_hat=undecided), batch, lam=1.0),
    ):
        L_u = step.L_u_UT if step.L_u_MS is None else step.L_u_MS
        assert L_u is not None
        assert float(L_u) == pytest.approx(LN2 / 4 + 3 / 5, abs=1e-5)
        assert step.trusted is not None
        assert float(step.trusted) == 0


@pytest.mark.parametrize(("tau", "trusted"), [(0.4999, 16), (0.5, 4)])
def test_a_probability_equal_to_tau_is_not_trusted(batch: Batch, tau: float, trusted: int) -> None:
    """Even odds are exactly .5: above .4999, not above .5, where only 4 pasted pixels count."""
    for f in (
        Models(UT=undecided, UT_hat=undecided),
        Models(MS=undecided, MS_hat=undecided),
    ):
        step = mean_teacher_step(f, batch, lam=1.0, tau=tau)
        L_u = step.L_u_UT if step.L_u_MS is None else step.L_u_MS
        assert L_u is not None
        assert float(L_u) == pytest.approx(LN2 * trusted / 16 + 3 / 5, abs=1e-5)
        assert step.trusted is not None
        assert float(step.trusted) == (trusted == 16)


def test_the_other_branch_is_never_asked(batch: Batch) -> None:
    """Its images may have any side, its networks may be absent."""
    small = torch.zeros(1, 1, 2, 2)
    other = replace(batch, X_w_MS=small, U_w_MS=small, U_s_MS=small, Y_w_MS=small[0].long())
    step = mean_teacher_step(Models(UT=undecided, UT_hat=sure), other, lam=1.0)
    assert step.L_x_MS is None
    assert step.L_c is None
    assert step.alpha is None


def test_teachers_get_no_gradient(batch: Batch) -> None:
    """Pseudo-labels are constants: only the student's bias has a slope."""
    base.assert_only_the_student_learns(lambda f: mean_teacher_step(f, batch, lam=1.0))


def test_the_labeled_loss_goes_backward_first(batch: Batch) -> None:
    f = Models(UT=undecided, UT_hat=sure)
    base.assert_the_labeled_loss_goes_backward_first(
        lambda f: mean_teacher_step(f, batch, lam=0.5), f
    )
