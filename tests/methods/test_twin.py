"""The step against a twin in plain loops: random batches, every fusion, every consistency."""

from dataclasses import fields
from inspect import unwrap
from typing import Any

import pytest
import torch

from helpers.baselines import assert_the_labeled_loss_goes_backward_first
from helpers.small import OTHER, SAME, UNEVEN, Net, make_case, numbers, tensors
from helpers.twin import twin_step
from synfoc.batches.batch import Batch
from synfoc.methods.ablations import variant_of
from synfoc.methods.interface import Models
from synfoc.methods.mean_teacher import mean_teacher_step
from synfoc.methods.synfoc import synfoc_step


def assert_twins(
    seed: int,
    K: int,
    sides: tuple[int, int, int],
    *,
    channels: int = 1,
    lam: float = 0.3,
    **options: Any,
) -> dict[str, float]:
    nets, batch = make_case(seed, K, sides, channels=channels)
    names = ("fusion", "consistency", "constant", "progress")
    variant = variant_of(**{name: options[name] for name in names if name in options})
    rest = {name: value for name, value in options.items() if name not in names}
    ours = numbers(synfoc_step(Models(**nets), tensors(batch), lam=lam, variant=variant, **rest))
    theirs: dict[str, float] = twin_step(nets, batch, lam=lam, **options)
    assert ours == pytest.approx(theirs, abs=1e-5, rel=0, nan_ok=True)
    return theirs


@pytest.mark.parametrize("sides", [SAME, OTHER, UNEVEN], ids=["P=S=L", "S>P>L", "uneven"])
@pytest.mark.parametrize(("K", "nested"), [(2, False), (3, True), (3, False), (4, False)])
def test_the_paper_s_step_equals_its_twin(
    K: int, nested: bool, sides: tuple[int, int, int]
) -> None:
    for seed in range(3):
        assert_twins(seed, K, sides, nested=nested, channels=3 if nested else 1)


@pytest.mark.parametrize("fusion", ["constant", "linear", "self", "mutual", "cps", "own"])
def test_other_fusions_equal_their_twin(fusion: str) -> None:
    assert_twins(11, 3, OTHER, fusion=fusion, constant=0.7, progress=0.4)
    assert_twins(12, 4, SAME, fusion=fusion, constant=0.2, progress=0.9)


@pytest.mark.parametrize("consistency", ["mse", "none"])
def test_other_consistencies_equal_their_twin(consistency: str) -> None:
    assert_twins(21, 2, OTHER, consistency=consistency)
    assert_twins(22, 3, UNEVEN, consistency=consistency, nested=True)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"consistency": "cdrc"}, "no consistency cdrc"), ({"fusion": "scm"}, "no fusion scm")],
)
def test_a_word_that_there_is_not_is_no_other_method(wrong: dict[str, Any], told: str) -> None:
    """Nor the paper's own; as without the tests' type checks."""
    with pytest.raises(ValueError, match=told):
        unwrap(variant_of)(**wrong)


@pytest.mark.parametrize("tau", [0.5, 0.8, 0.99])
def test_other_thresholds_equal_their_twin(tau: float) -> None:
    assert_twins(31, 3, OTHER, tau=tau)


def test_the_random_batches_are_worth_comparing() -> None:
    """Some pixels are trusted and some not; teachers agree in part; both kinds of region exist."""
    for seed in range(3):
        step = assert_twins(seed, 3, OTHER)
        assert 0.1 < step["trusted"] < 0.9
        assert 0.3 < step["alpha"] < 0.95
        assert step["L_c"] > 0.01
        assert step["L_d"] > 0.01


@pytest.mark.parametrize("name", ["UT", "MS"])
def test_gradients_equal_the_slope_of_the_twin(name: str) -> None:
    """The twin's loss at place +- 1e-4, against autograd; pseudo-labels have no slope."""
    nets, batch = make_case(71, 3, OTHER)
    net = nets[name]
    place = torch.tensor(net.place, dtype=torch.float32, requires_grad=True)
    moved = place - torch.from_numpy(net.place).float()
    f = Models(**(nets | {name: lambda images: net(images) + moved}))
    (gradient,) = torch.autograd.grad(synfoc_step(f, tensors(batch), lam=0.5).loss, place)

    for where in [(0, 1, 1), (1, 4, 6), (2, 7, 3)]:
        losses = []
        for move in (1e-4, -2e-4):
            net.place[where] += move
            losses.append(twin_step(nets, batch, lam=0.5)["loss"])
        net.place[where] += 1e-4
        slope = (losses[0] - losses[1]) / 2e-4
        assert float(gradient[where]) == pytest.approx(slope, abs=1e-5)
        assert abs(slope) > 1e-4


def test_lambda_weighs_everything_learned_from_unlabeled_images() -> None:
    """Lambda 0 leaves L_x; the rest is linear in lambda."""
    nets, batch = make_case(41, 2, OTHER)
    none, half, full = (
        numbers(synfoc_step(Models(**nets), tensors(batch), lam=lam)) for lam in (0.0, 0.5, 1.0)
    )
    assert none["loss"] == pytest.approx(none["L_x_UT"] + none["L_x_MS"])
    assert half["loss"] - none["loss"] == pytest.approx((full["loss"] - none["loss"]) / 2)


def test_one_branch_alone_is_the_step_that_believes_only_its_teacher() -> None:
    """alpha 1 is the U-Net's own teacher; alpha 0 MedSAM's, where both work at one side."""
    nets, batch = make_case(51, 3, SAME)
    f, b = Models(**nets), tensors(batch)
    both = numbers(synfoc_step(f, b, lam=0.3, variant=variant_of("constant", constant=1.0)))
    alone = numbers(mean_teacher_step(Models(UT=f.UT, UT_hat=f.UT_hat), b, lam=0.3))
    assert alone == pytest.approx({name: both[name] for name in alone} | {"loss": alone["loss"]})
    assert alone["loss"] == pytest.approx(alone["L_x_UT"] + 0.3 * alone["L_u_UT"])

    both = numbers(synfoc_step(f, b, lam=0.3, variant=variant_of("constant", constant=0.0)))
    alone = numbers(mean_teacher_step(Models(MS=f.MS, MS_hat=f.MS_hat), b, lam=0.3))
    assert alone == pytest.approx({name: both[name] for name in alone} | {"loss": alone["loss"]})
    assert alone["loss"] == pytest.approx(alone["L_x_MS"] + 0.3 * alone["L_u_MS"])


@pytest.mark.parametrize(("tau", "trusted"), [(0.4999, 1), (0.5, 0)])
def test_a_probability_equal_to_tau_is_not_trusted(tau: float, trusted: float) -> None:
    """Teachers with even odds: .5 is above .4999, not above .5, in the loss and in the log."""
    nets, batch = make_case(55, 2, OTHER)
    for name in ("UT_hat", "MS_hat"):
        nets[name] = Net(0 * nets[name].place, 0 * nets[name].color)
    batch["M"][:] = False
    ours = numbers(synfoc_step(Models(**nets), tensors(batch), lam=1.0, tau=tau))
    theirs = twin_step(nets, batch, lam=1.0, tau=tau)
    assert ours["trusted"] == trusted
    assert ours == pytest.approx(theirs, abs=1e-5, rel=0)


def test_the_labeled_loss_of_the_unet_goes_backward_first() -> None:
    """MedSAM's is not: both of its views go through one forward."""
    nets, batch = make_case(57, 3, OTHER)
    assert_the_labeled_loss_goes_backward_first(
        lambda f: synfoc_step(f, tensors(batch), lam=0.3), Models(**nets)
    )


@pytest.mark.parametrize("name", [f.name for f in fields(Batch)])
def test_every_field_of_the_batch_matters(name: str) -> None:
    """Changing any view, label or region changes the loss."""
    nets, batch = make_case(61, 3, OTHER)
    before = synfoc_step(
        Models(**nets), tensors(batch), lam=1.0, variant=variant_of("constant")
    ).loss
    value = batch[name]
    batch[name] = ~value if value.dtype == bool else (1 - value if "Y" not in name else value // 2)
    after = synfoc_step(
        Models(**nets), tensors(batch), lam=1.0, variant=variant_of("constant")
    ).loss
    assert abs(float(after - before)) > 1e-4
