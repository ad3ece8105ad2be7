"""Supervised only: the labeled half alone, for the networks that are there."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from synfoc.batches.batch import Batch
from synfoc.methods.interface import Models, missing_network
from synfoc.methods.losses import ce_dice
from synfoc.methods.supervised import supervised_step


def two_classes(images: Tensor) -> Tensor:
    """Logits (0, brightness)."""
    return torch.cat([torch.zeros_like(images), images], 1)


@pytest.fixture
def batch(generator: torch.Generator) -> Batch:
    """Two labeled images and an unlabeled half of none."""
    X, none = torch.rand(2, 1, 8, 8, generator=generator), torch.empty(0, 1, 8, 8)
    Y = torch.randint(2, (2, 8, 8), generator=generator)
    M = torch.empty(0, 8, 8, dtype=torch.bool)
    return Batch(X, 1 - X, Y, 1 - Y, none, none, none, none, M)


def test_both_networks_add_up(batch: Batch) -> None:
    step = supervised_step(Models(UT=two_classes, MS=two_classes), batch)
    L_x_UT = ce_dice(two_classes(batch.X_w_UT), batch.Y_w_UT)
    L_x_MS = ce_dice(two_classes(batch.X_w_MS), batch.Y_w_MS)
    assert step.L_x_UT == L_x_UT
    assert step.L_x_MS == L_x_MS
    assert step.loss == L_x_UT + L_x_MS


def test_supervised_loss_by_hand(batch: Batch) -> None:
    """Even odds, half the pixels of each class: ln 2, and Dice 1 - 2(.5 n) / (.5 n + n) = 1/3."""
    X = torch.zeros(2, 1, 8, 8)
    Y = torch.arange(2).repeat(64).view(2, 8, 8)
    step = supervised_step(Models(UT=two_classes), replace(batch, X_w_UT=X, Y_w_UT=Y))
    assert float(step.loss) == pytest.approx(0.693147 + 1 / 3, abs=1e-5)


@pytest.mark.parametrize("branch", ["UT", "MS"])
def test_one_network_alone(batch: Batch, branch: str) -> None:
    """The absent one is never asked, its loss is None."""
    step = supervised_step(Models(**{branch: two_classes}), batch)
    parts = {"UT": step.L_x_UT, "MS": step.L_x_MS}
    assert parts.pop(branch) is step.loss
    assert list(parts.values()) == [None]
    assert step.L_u_UT is None


def test_no_network_is_an_error(batch: Batch) -> None:
    with pytest.raises(ValueError, match="at least one network"):
        supervised_step(Models(), batch)


def test_an_absent_network_refuses_to_answer() -> None:
    with pytest.raises(RuntimeError, match="no such network"):
        missing_network(torch.zeros(1, 1, 2, 2))
