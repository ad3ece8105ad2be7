"""What the package asks of a network, whatever family it is from.

A network maps images of its own side to the logits of K classes, without points or boxes. It knows
how to make its teacher, which of its tensors are trained, averaged and frozen, and how to become
faster for inference. Everything outside `models/` goes by this class alone.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from typing_extensions import Self

from synfoc.errors import UserError


@dataclass(frozen=True)
class Frozen:
    """What of a network never changes: kept once in a run folder, beside the checkpoints."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What builds the network of these tensors again; `family` names its module."""


class SegmentationNetwork(nn.Module, ABC):
    """Images to the logits of K = C + 1 classes; class 0 is background."""

    title: str
    """Name of the network for people: "U-Net", "LiteMedSAM"."""
    side: int
    """Side of its images, in pixels."""
    recompute: bool = False
    """Whether backward computes activations again instead of keeping them, where it can."""

    @property
    def logits_side(self) -> int:
        """Side of its logits, in pixels."""
        return self.side

    @abstractmethod
    def forward(
        self, x: Float[Tensor, "B c s s"], seeds: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B K l l"]:
        """Return the logits of every class.

        Args:
            x: images in [0, 1], gray (c = 1) or color (c = 3), s = `side`.
            seeds: where given, half of the features are dropped, drawn per image [UniMatch].
        """

    def make_teacher(self) -> Self:
        """Copy all that is trained; what is frozen is shared. The copy takes no gradient."""
        return copy.deepcopy(self, self._shared()).requires_grad_(False)

    def averaged_parameters(self) -> list[nn.Parameter]:
        """Return what the EMA averages, in an order that student and teacher share."""
        return list(self.parameters())

    def trained_state(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint keeps, by name; no copy is made."""
        return self.state_dict()

    def load_trained_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `trained_state` gave.

        Raises:
            UserError: the tensors are those of another architecture, rank or number of classes.
        """
        own = self.trained_state()
        wrong = [k for k in own.keys() | state.keys() if _shape(own, k) != _shape(state, k)]
        if wrong:
            name = min(wrong)
            raise UserError(
                "the checkpoint is of another network",
                found=f"{name}: {_shape(state, name)} ({len(wrong)} such tensors)",
                expected=f"{name}: {_shape(own, name)}, of {self.title}",
                fix="use the config that the checkpoint was trained with",
            )
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state[name])

    def frozen(self) -> Frozen:
        """Return what never changes, for the run folder; nothing where all is trained."""
        return Frozen()

    def folded(self) -> Self:
        """Copy the network for inference: evaluation mode, no gradients, less arithmetic."""
        return copy.deepcopy(self, self._shared()).eval().requires_grad_(False)

    def _shared(self) -> dict[int, object]:
        """Return what copies share, as the memo of `copy.deepcopy`."""
        return {}


def _shape(state: Mapping[str, Tensor], name: str) -> str:
    return " x ".join(map(str, state[name].shape)) if name in state else "absent"
