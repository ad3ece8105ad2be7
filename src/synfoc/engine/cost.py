"""What a step of a run will cost on this machine: memory at its peak, and time, tried out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import psutil
import torch
from torch import Tensor, nn

from synfoc.config import Config
from synfoc.engine.machine import Precision, autocast, free_memory_gib

if TYPE_CHECKING:
    from synfoc.models.build import Networks

QUICK = 1.0  # seconds; what takes less is measured on a whole batch


@dataclass(frozen=True)
class Estimate:
    """What one step will cost: memory at its peak, and time."""

    memory_gib: float
    seconds: float
    free_gib: float

    def text(self, steps: int) -> str:
        """One line for a person."""
        seconds = self.seconds * steps
        length = f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
        if seconds < 120:
            length = f"{max(1.0, seconds):.0f} s"
        return (
            f"estimate: {self.memory_gib:.1f} GiB of {self.free_gib:.0f} GiB free, "
            f"{self.seconds:.2f} s per step, about {length} for {steps} steps"
        )


def estimate_step(
    networks: Networks, config: Config, device: torch.device, precision: Precision
) -> Estimate:
    """Measure some images forward and backward through each student and scale to the whole step.

    Activations that backward needs are counted, not guessed: every tensor that autograd saves
    passes a hook. How many images pass with and without a graph: `About.passes`. Of several
    processes each has its share of the batch.
    """
    batch, channels = config.method.batch // config.train.devices, config.data.channels or 1
    # Read before trying: what is tried and let go is used again by the step.
    started = 0.0 if device.type == "cuda" else psutil.Process().memory_info().rss
    memory = seconds = 0.0
    about = config.method.about
    for branch in networks.branches:
        network, side, passes = branch.student, branch.student.side, about.passes
        if branch.name == "medsam" and len(networks.branches) > 1:
            passes = about.beside_unet or passes
        found = _measure(network, batch, channels, side, device, precision)
        seconds += batch * (passes.learning * found.both + passes.looking * found.forward)
        parameters = sum(p.numel() * p.element_size() for p in network.parameters())
        trained = sum(p.numel() * 4 for p in network.parameters() if p.requires_grad)
        # Gradients, the optimizer's state, the teacher; of several processes also DDP's buckets.
        memory += parameters + (4 if config.train.devices == 1 else 5) * trained
        memory += passes.graphs * found.once + passes.kept * batch * found.each
    if networks.guide is not None:
        boxes = len(config.data.classes or (1,))
        seconds += _look(networks.guide, batch, boxes, networks.sides.medsam, device, precision)
        memory += sum(p.numel() * p.element_size() for p in networks.guide.parameters())
    return Estimate((memory + started) / 2**30, seconds, free_memory_gib(device))


class Measured(NamedTuple):
    """What a student costs."""

    forward: float
    """Seconds per image."""
    both: float
    """The same forward and backward."""
    once: float
    """Bytes that a graph keeps for backward, however many images it is of."""
    each: float
    """Bytes that it keeps for each image."""


def _measure(
    network: nn.Module,
    batch: int,
    channels: int,
    side: int,
    device: torch.device,
    precision: Precision,
) -> Measured:
    def view(images: int) -> Tensor:
        return torch.zeros(images, channels, side, side, device=device)

    def logits_of(images: Tensor) -> Tensor:
        with autocast(device, precision):
            logits: Tensor = network(images)
        return logits

    def timed(images: int) -> tuple[float, float]:
        given, start = view(images), _clock(device)
        logits = logits_of(given)
        forward = _clock(device) - start
        logits.float().sum().backward()  # type: ignore[no-untyped-call]
        return forward / images, (_clock(device) - start) / images

    training = network.training
    network.eval()  # a zero image must not move batch-norm statistics
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    one, two = (_saved(logits_of, view(images), own) for images in (1, 2))
    once, each = 2 * one - two, two - one
    if device.type == "cuda":
        timed(1)  # kernels are loaded and chosen when they are first asked for
    forward, both = timed(1)
    # Small networks take longer per image when they get one alone. A batch that memory does not
    # hold is what this estimate is to warn of, not to die of.
    if both < QUICK and (once + each * batch) / 2**30 < free_memory_gib(device):
        for _ in range(2):
            forward, both = timed(batch)
    network.train(training)
    network.zero_grad(set_to_none=True)
    return Measured(forward, both, once, each)


def _saved(forward: Callable[[Tensor], Tensor], images: Tensor, own: set[int]) -> int:
    """Bytes that a forward keeps for backward, the network's own parameters left out."""
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        # Held until all is counted: an address that is free again may be given to another tensor.
        logits = forward(images)
    counted = sum(n for pointer, n in saved.items() if pointer not in own)
    del logits
    return counted


def _look(
    guide: nn.Module, batch: int, boxes: int, side: int, device: torch.device, precision: Precision
) -> float:
    """Seconds in which the guide answers to a batch with so many boxes in each image."""
    view = torch.zeros(batch, 1, side, side, device=device)
    places = torch.zeros(batch, boxes, 4, device=device)
    for _ in range(2 if device.type == "cuda" else 1):  # see `_measure`
        start = _clock(device)
        with autocast(device, precision):
            guide(view, places)
        seconds = _clock(device) - start
    return seconds


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
