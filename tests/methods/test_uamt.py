"""UA-MT by hand, against its twin in loops, and its noise."""

import math
import runpy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from synfoc.methods.models import Models, Network
from synfoc.methods.uamt import PASSES, consistency, noisy, uamt_step, uncertainty

HERE = Path(__file__)
small = runpy.run_path(str(HERE.with_name("small.py")))
twins = runpy.run_path(str(HERE.with_name("twin_baselines.py")))
OTHER, UNEVEN, SAME = small["OTHER"], small["UNEVEN"], small["SAME"]


def constant(p: float) -> Network:
    """A network that gives class 1 the probability p everywhere."""

    def network(images: Tensor) -> Tensor:
        z = torch.zeros(len(images), 2, *images.shape[2:])
        z[:, 1] = math.log(p / (1 - p))
        return z

    return network


def draws(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_uncertainty_by_hand() -> None:
    """Looks that answer .9 and .3 in turn: mean .6, entropy -.6 ln .6 - .4 ln .4 = .6730."""
    answers = [constant(0.9), constant(0.3)] * 2

    def teacher(U: Tensor) -> Tensor:
        return answers.pop()(U)

    u = uncertainty(teacher, torch.zeros(1, 1, 2, 2), 4, draws())
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
    _, batch = small["make_case"](1, 2, SAME)
    f = Models(UT=constant(0.5), UT_hat=constant(0.7))
    step = uamt_step(f, small["tensors"](batch), lam=lam, draws=draws())
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
    xi = noisy(U, draws()) - U
    assert float(xi.abs().max()) == pytest.approx(0.2, abs=1e-6)
    assert float(xi.std()) == pytest.approx(0.0959, abs=1e-3)
    assert float(xi.mean()) == pytest.approx(0, abs=2e-3)
    assert torch.equal(noisy(U, draws()), U + xi)
    assert not torch.equal(noisy(U, draws(4)), U + xi)


@pytest.mark.parametrize("sides", [SAME, OTHER, UNEVEN], ids=["P=S=L", "S>P>L", "uneven"])
@pytest.mark.parametrize("name", ["UT", "MS"])
def test_uamt_equals_its_twin(name: str, sides: tuple[int, int, int]) -> None:
    nets, batch = small["make_case"](5, 3, sides)
    for net in nets.values():
        net.place /= 4  # doubtful enough for both sides of the threshold
    f = Models(**{key: nets[key] for key in (name, f"{name}_hat")})
    ours = small["numbers"](uamt_step(f, small["tensors"](batch), lam=0.4, draws=draws()))
    generator, shape = draws(), batch[f"U_w_{name}"].shape
    normal = [torch.randn(shape, generator=generator).double().numpy() for _ in range(PASSES + 1)]
    theirs = twins["twin_uamt"](nets, batch, name, lam=0.4, normal=normal)
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert 0.1 < ours["trusted"] < 0.99


def test_the_student_alone_learns() -> None:
    """The teacher's answers are targets, in the consistency and in the threshold."""
    _, batch = small["make_case"](1, 2, SAME)
    student, teacher = torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)
    student.requires_grad_()
    teacher.requires_grad_()
    f = Models(UT=lambda x: constant(0.5)(x) + student, UT_hat=lambda x: constant(0.9)(x) + teacher)
    step = uamt_step(f, small["tensors"](batch), lam=1.0, draws=draws())
    slopes = torch.autograd.grad(step.loss, (student, teacher), allow_unused=True)
    assert slopes[0] is not None
    assert slopes[0].abs().max() > 0
    assert slopes[1] is None
