"""UA-MT by hand, against its twin in loops, and its noise."""

import math

import pytest
import torch
from torch import Tensor

from helpers import baselines as base
from helpers import twin_baselines as twins
from helpers.small import SAME, make_case, numbers, tensors
from synfoc.methods.interface import Models, Network
from synfoc.methods.uamt import PASSES, consistency, noisy, uamt_step, uncertainty


def constant(p: float) -> Network:
    """A network that gives class 1 the probability p everywhere."""

    def network(images: Tensor) -> Tensor:
        z = torch.zeros(len(images), 2, *images.shape[2:])
        z[:, 1] = math.log(p / (1 - p))
        return z

    return network


def test_uncertainty_by_hand() -> None:
    """Looks that answer .9 and .3 in turn: mean .6, entropy -.6 ln .6 - .4 ln .4 = .6730."""
    answers = [constant(0.9), constant(0.3)] * 2

    def teacher(U: Tensor) -> Tensor:
        return answers.pop()(U)

    u = uncertainty(teacher, torch.zeros(1, 1, 2, 2), 4, base.draws())
    assert u.shape == (1, 2, 2)
    assert u.flatten().tolist() == pytest.approx([0.6730] * 4, abs=1e-4)
    assert not answers


def test_consistency_by_hand() -> None:
    """P (.8, .2) and (.4, .6), teacher (.6, .4) and (0, 1): squares .08 and .32, halved for K = 2.

    Both images certain: (.08 + .32) / 4 = .1; the first alone .08 / 2 = .04; none 0.
    """
    P = torch.tensor([[0.8, 0.2], [0.4, 0.6]]).view(2, 2, 1, 1)
    P_hat = torch.tensor([[0.6, 0.4], [0.0, 1.0]]).view(2, 2, 1, 1)
    for W, expected in (([True, True], 0.1), ([True, False], 0.04), ([False, False], 0.0)):
        found = consistency(P, P_hat, torch.tensor(W).view(2, 1, 1))
        assert float(found) == pytest.approx(expected)


@pytest.mark.parametrize(("lam", "trusted"), [(0.0, 0), (0.5, 0), (0.53, 1), (1.0, 1)])
def test_the_threshold_rises_from_three_quarters_of_the_largest_entropy(
    lam: float, trusted: float
) -> None:
    """A teacher at .7 has .6109 nats; (3 + lambda)/4 ln 2 passes that at lambda = .525."""
    _, batch = make_case(1, 2, SAME)
    f = Models(UT=constant(0.5), UT_hat=constant(0.7))
    step = uamt_step(f, tensors(batch), lam=lam, draws=base.draws())
    assert step.trusted is not None
    assert float(step.trusted) == trusted
    # (.5 - .7)^2 for each of the two classes.
    assert step.L_u_UT is not None
    assert float(step.L_u_UT) == pytest.approx(0.04 * trusted, abs=1e-6)
    assert step.L_x_UT is not None
    assert float(step.loss) == pytest.approx(float(step.L_x_UT) + 0.2 * lam * 0.04 * trusted)


def test_noise_is_small_cut_and_seeded() -> None:
    """Standard deviation .0959 is that of N(0, .1^2) cut at two of them; the mean stays."""
    U = torch.full((4, 1, 64, 64), 0.5)
    xi = noisy(U, base.draws()) - U
    assert float(xi.abs().max()) == pytest.approx(0.2, abs=1e-6)
    assert float(xi.std()) == pytest.approx(0.0959, abs=1e-3)
    assert float(xi.mean()) == pytest.approx(0, abs=2e-3)
    assert torch.equal(noisy(U, base.draws()), U + xi)
    assert not torch.equal(noisy(U, base.draws(4)), U + xi)


@base.at_all_sides
@base.on_either_network
def test_uamt_equals_its_twin(name: str, sides: tuple[int, int, int]) -> None:
    nets, batch = make_case(5, 3, sides)
    for net in nets.values():
        net.place /= 4  # doubtful enough for both sides of the threshold
    f, b = base.networks_of(nets, name), tensors(batch)
    ours = numbers(uamt_step(f, b, lam=0.4, draws=base.draws()))
    generator, shape = base.draws(), batch[f"U_w_{name}"].shape
    normal = [torch.randn(shape, generator=generator).double().numpy() for _ in range(PASSES + 1)]
    theirs = twins.twin_uamt(nets, batch, name, lam=0.4, normal=normal)
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert 0.1 < ours["trusted"] < 0.99


def test_the_student_alone_learns() -> None:
    """The teacher's answers are targets, in the consistency and in the threshold."""
    batch = base.black_and_white()
    base.assert_only_the_student_learns(lambda f: uamt_step(f, batch, lam=1.0, draws=base.draws()))


def test_the_teacher_is_asked_nine_times() -> None:
    """Once for what the student follows, eight times for how sure it is. [paper: T = 8]"""
    asked = []

    def teacher(images: Tensor) -> Tensor:
        asked.append(images)
        return constant(0.7)(images)

    f = Models(UT=constant(0.5), UT_hat=teacher)
    uamt_step(f, base.black_and_white(), lam=0.5, draws=base.draws())
    assert len(asked) == 9
    assert not torch.equal(asked[0], asked[1]), "each look has its own noise"


def test_the_labeled_loss_goes_backward_first() -> None:
    base.assert_the_labeled_loss_goes_backward_first(
        lambda f: uamt_step(f, base.black_and_white(), lam=0.5, draws=base.draws()),
        Models(UT=constant(0.5), UT_hat=constant(0.7)),
    )
