"""From a loss to moved weights: backward, SGD and AdamW, then the teachers follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor, nn

from synfoc.config import Config, FoundationModel, UNet
from synfoc.methods.ema import ema_update
from synfoc.methods.schedules import ema_decay, learning_rate_factor

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch.optim import Optimizer

    from synfoc.models.build import Networks


class SharedScaler(MixedPrecision):  # type: ignore[misc]
    """fp16 with one loss scale for two optimizers.

    Fabric's own plugin changes the scale after each optimizer, so that the second one would
    divide its gradients by another number than the loss was multiplied with.
    """

    def optimizer_step(self, optimizer: Any, **kwargs: Any) -> Any:
        """Move the weights unless a gradient overflowed; the scale waits for `update`."""
        assert self.scaler is not None
        return self.scaler.step(optimizer, **kwargs)

    def update(self) -> None:
        """Set the scale of the next step."""
        assert self.scaler is not None
        self.scaler.update()

    def scale(self) -> float:
        """Return what losses are multiplied with now.

        Halved by each step in which a gradient overflowed.

        This waits for the device.
        """
        assert self.scaler is not None
        return float(self.scaler.get_scale())


class Skips:
    """Steps without a finite loss, counted on the device so that no step waits for its number."""

    def __init__(self, device: torch.device, total: int = 0) -> None:
        self._total = torch.tensor(total, device=device)
        self._row = torch.zeros_like(self._total)

    def count(self, finite: Tensor) -> None:
        """Take note of one step."""
        bad = ~finite
        self._total += bad
        self._row.add_(1).mul_(bad)

    def total(self) -> int:
        """All of the run."""
        return int(self._total.item())

    def in_a_row(self) -> int:
        """Those since the last finite loss, or since the run was gone on with."""
        return int(self._row.item())


def make_optimizers(networks: Networks, config: Config) -> dict[str, Optimizer]:
    """Make the optimizer of each branch: SGD or AdamW, as its settings say. [paper, Sec. 4.2]"""
    optimizers: dict[str, Optimizer] = {}
    for branch in networks.branches:
        optimizer = _optimizer(branch.trained_parameters(), config.settings_of(branch.name))
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        # Fused optimizers read on the device whether to leave a step out. [torch.amp.GradScaler]
        device = optimizer.param_groups[0]["params"][0].device
        optimizer.found_inf = torch.zeros((), device=device)  # type: ignore[attr-defined]
        optimizers[branch.name] = optimizer
    return optimizers


def _optimizer(trained: list[nn.Parameter], settings: UNet | FoundationModel) -> Optimizer:
    if isinstance(settings, FoundationModel):
        return torch.optim.AdamW(
            trained,
            lr=settings.lr,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )
    optimizer = torch.optim.SGD(
        trained,
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    for p in trained:
        # torch leaves them unset in a first step that `found_inf` skips.
        optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    return optimizer


def forget_gradients(optimizers: dict[str, Optimizer]) -> None:
    """Begin a step: what an earlier one left behind must not be learned from."""
    for optimizer in optimizers.values():
        optimizer.zero_grad(set_to_none=True)


def learn(
    loss: Tensor,
    k: int,
    *,
    networks: Networks,
    optimizers: dict[str, Optimizer],
    config: Config,
    fabric: Fabric,
) -> Tensor:
    """Backward, one step of each optimizer, one step of each teacher; nothing waits for the device.

    Where the loss is not finite, students stay as they are. In fp16 a student stays where one of
    its own gradients is not finite, which the loss scale alone may cause; one whose gradients are
    finite moves, whatever the loss.

    Args:
        loss: with graph; its gradients are added to those that are there already.
        k: steps done before this one.
        networks: students and teachers; changed in place.
        optimizers: of the students.
        config: schedule and EMA decay.
        fabric: scales and averages gradients where needed.

    Returns:
        Whether the loss was finite, on the device.
    """
    finite = loss.detach().isfinite()
    fabric.backward(loss)
    precision = fabric.strategy.precision
    factor = learning_rate_factor(config.train.schedule, k, config.train.steps)
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        if not isinstance(precision, SharedScaler):  # which looks at the gradients by itself
            optimizer.found_inf.copy_(~finite)  # type: ignore[attr-defined]
        optimizer.step()
    if isinstance(precision, SharedScaler):
        precision.update()
    decay = ema_decay(k, config.method.ema_decay)
    for branch in networks.branches:
        if branch.teacher is not None:
            student = branch.student.averaged_parameters()
            ema_update(branch.teacher.averaged_parameters(), student, decay)
    return finite
