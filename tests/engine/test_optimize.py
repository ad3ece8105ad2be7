"""The fused optimizers of a run against torch's plain ones; steps that are left out."""

import copy
from collections.abc import Iterator

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment

from synfoc.config import Config, parse_config
from synfoc.engine.optimize import (
    SharedScaler,
    Skips,
    forget_gradients,
    learn,
    make_optimizers,
)
from synfoc.methods.schedules import learning_rate_factor
from synfoc.models.build import Networks, build_networks


@pytest.fixture
def config() -> Config:
    return parse_config(
        {
            "data": {"path": "."},
            "unet": {"side": 32, "width": 4},
            "medsam": {"weights": "random:vit-tiny", "side": 48},
        }
    )


def networks_of(config: Config) -> Networks:
    generator = torch.Generator().manual_seed(0)
    return build_networks(config, classes=2, channels=1, generator=generator)


def learned(networks: Networks, config: Config, factors: list[float]) -> list[torch.Tensor]:
    """Learn from a loss per factor; the students' parameters afterwards."""
    optimizers, fabric = (
        make_optimizers(networks, config),
        Fabric(accelerator="cpu", plugins=[LightningEnvironment()]),
    )
    for k, loss in enumerate(losses(networks, factors)):
        forget_gradients(optimizers)
        finite = learn(
            loss, k, networks=networks, optimizers=optimizers, config=config, fabric=fabric
        )
        assert finite.item() == (abs(factors[k]) < torch.inf)
    return trained(networks)


def losses(networks: Networks, factors: list[float]) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    for factor in factors:
        x, y = (torch.rand(2, 1, side, side, generator=generator) for side in (32, 48))
        yield factor * (
            networks["unet"].student(x).square().mean()
            + networks["medsam"].student(y).square().mean()
        )


def trained(networks: Networks) -> list[torch.Tensor]:
    students = (networks["unet"].student, networks["medsam"].student)
    return [p for n in students if n is not None for p in n.parameters() if p.requires_grad]


def test_fused_steps_equal_plain_ones(config: Config) -> None:
    """Three steps; the U-Net lies in memory channels last, so its momentum must, too."""
    networks = networks_of(config)
    plain, factors = copy.deepcopy(networks), [1.0, 2.0, -1.0]
    u, m, students = config.unet, config.medsam, trained(plain)
    own = {id(p) for p in plain["unet"].student.parameters()}
    unet = [p for p in students if id(p) in own]
    medsam = [p for p in students if id(p) not in own]
    sgd = torch.optim.SGD(
        unet, u.lr, u.momentum, weight_decay=u.weight_decay, foreach=False, fused=False
    )
    adamw = torch.optim.AdamW(
        medsam, m.lr, m.betas, weight_decay=m.weight_decay, foreach=False, fused=False
    )
    rates = {optimizer: optimizer.param_groups[0]["lr"] for optimizer in (sgd, adamw)}
    for k, loss in enumerate(losses(plain, factors)):
        factor = learning_rate_factor(config.train.schedule, k, config.train.steps)
        for optimizer, rate in rates.items():
            optimizer.zero_grad()
            optimizer.param_groups[0]["lr"] = rate * factor
        loss.backward()
        sgd.step(), adamw.step()
    got = learned(networks, config, factors)
    assert any(not p.is_contiguous() for p in got)
    for one, other in zip(got, trained(plain), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_loss_that_is_not_finite_leaves_students_as_they_were(config: Config) -> None:
    networks = networks_of(config)
    before = [p.clone() for p in trained(networks)]
    after = learned(networks, config, [torch.inf])
    assert all(torch.equal(one, other) for one, other in zip(after, before, strict=True))


def test_an_overflow_halves_the_scale_of_fp16_and_keeps_its_own_network_alone() -> None:
    """Two weights at 1: the gradient of the first is infinite, that of the second is 1."""
    precision = SharedScaler("16-mixed", "cpu")
    weights = [torch.ones(1, requires_grad=True) for _ in range(2)]
    optimizers = [torch.optim.SGD([w], 0.5) for w in weights]
    before = precision.scale()
    loss = weights[0] * torch.inf + weights[1]
    precision.backward(loss.sum(), None)
    for optimizer in optimizers:
        precision.optimizer_step(optimizer)
    precision.update()
    assert [w.item() for w in weights] == [1, 0.5]
    assert precision.scale() == before / 2


def test_skips_are_counted_in_all_and_in_a_row() -> None:
    skips = Skips(torch.device("cpu"), total=3)
    for finite in (False, True, False, False):
        skips.count(torch.tensor(finite))
    assert (skips.total(), skips.in_a_row()) == (6, 2)


def test_the_schedule_scales_the_rates_of_both(config: Config) -> None:
    """A cosine over 4 steps: (1 + cos(pi / 2)) / 2 = 1/2 where two are done."""
    train = config.train.model_copy(update={"schedule": "cosine", "steps": 4})
    config = config.model_copy(update={"train": train})
    networks = networks_of(config)
    optimizers = make_optimizers(networks, config)
    fabric = Fabric(accelerator="cpu", plugins=[LightningEnvironment()])
    for k in (2, 2):  # the second time as the first: a rate is not scaled twice
        forget_gradients(optimizers)
        (loss,) = losses(networks, [1.0])
        learn(loss, k, networks=networks, optimizers=optimizers, config=config, fabric=fabric)
        rates = {name: o.param_groups[0]["lr"] for name, o in optimizers.items()}
        assert rates == pytest.approx({"unet": config.unet.lr / 2, "medsam": config.medsam.lr / 2})


@pytest.mark.parametrize(("k", "decay"), [(0, 0.0), (1, 0.5), (9, 0.6)])
def test_teachers_follow_by_the_decay_of_the_step(config: Config, k: int, decay: float) -> None:
    """1 - 1/(k + 1) up to the limit that is set, .6; the student is the one that has moved."""
    method = config.method.model_copy(update={"ema_decay": 0.6})
    config = config.model_copy(update={"method": method})
    networks = networks_of(config)
    optimizers = make_optimizers(networks, config)
    fabric = Fabric(accelerator="cpu", plugins=[LightningEnvironment()])
    unet, medsam = networks["unet"].teacher, networks["medsam"].teacher
    assert unet is not None
    assert medsam is not None
    teachers = [*unet.parameters(), *medsam.mask_decoder.transformer.parameters()]
    before = [p.clone() for p in teachers]
    (loss,) = losses(networks, [1.0])
    learn(loss, k, networks=networks, optimizers=optimizers, config=config, fabric=fabric)
    moved = [
        *networks["unet"].student.parameters(),
        *networks["medsam"].student.mask_decoder.transformer.parameters(),
    ]
    for old, new, student in zip(before, teachers, moved, strict=True):
        torch.testing.assert_close(new, decay * old + (1 - decay) * student)
    assert any(not torch.equal(old, student) for old, student in zip(before, moved, strict=True))
