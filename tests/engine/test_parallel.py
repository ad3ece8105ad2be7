"""Two processes give the losses of one, with the same global batch."""

from collections.abc import Callable

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from synfoc.config import Config
from synfoc.engine.parallel import GlobalBatchNorm2d, Sharded, make_fabric, share_batch_norm
from synfoc.errors import UserError

Settings = Callable[..., Config]


def test_sharing_batch_norm_keeps_the_parameters_that_optimizers_hold() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Sequential(nn.BatchNorm2d(3)))
    network[1][0].running_mean.fill_(2)
    before = list(network.parameters())
    share_batch_norm(network)
    assert isinstance(network[1][0], GlobalBatchNorm2d)
    assert all(one is other for one, other in zip(before, network.parameters(), strict=True))
    assert network[1][0].running_mean.tolist() == [2, 2, 2]


def test_one_process_sees_its_network_unchanged() -> None:
    network, x = nn.Conv2d(1, 2, 3), torch.rand(2, 1, 8, 8)
    assert torch.equal(Sharded(network, Fabric(accelerator="cpu", devices=1))(x), network(x))


def test_a_batch_that_cannot_be_divided_is_refused(settings: Settings) -> None:
    with pytest.raises(UserError, match="a batch of 2 cannot be divided among 3 processes"):
        make_fabric(settings("train.devices=3"), torch.device("cpu"))


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(
    settings: Settings, losses_on: Callable[[Config, int], list[float]]
) -> None:
    """The same global batch on 1 and on 2 CPU processes (gloo): losses within 1e-4."""
    config = settings("train.log_every=1")
    one, two = losses_on(config, 1), losses_on(config, 2)
    assert len(one) == 6
    assert one == pytest.approx(two, abs=1e-4)
