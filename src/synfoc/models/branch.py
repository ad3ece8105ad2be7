"""A branch of a run: one network that learns, with the moving average that teaches it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from synfoc.answers import BranchName, Role
from synfoc.models.network import SegmentationNetwork


@dataclass(frozen=True)
class Branch:
    """A student and its teacher; what is asked of either is in `SegmentationNetwork`."""

    name: BranchName
    student: SegmentationNetwork
    teacher: SegmentationNetwork | None = None
    """None where the method asks no teacher."""

    def find(self, role: Role) -> SegmentationNetwork | None:
        """Return the network in a role; None where there is none."""
        return self.student if role == "student" else self.teacher

    def networks(self) -> Iterator[tuple[Role, SegmentationNetwork]]:
        """Yield the roles that there are, with their networks."""
        yield "student", self.student
        if self.teacher is not None:
            yield "teacher", self.teacher

    def trained_parameters(self) -> list[nn.Parameter]:
        """Return what the optimizer of the branch moves."""
        return [p for p in self.student.parameters() if p.requires_grad]

    def folded(self) -> Branch:
        """Return the branch for inference: the same answers with less arithmetic."""
        teacher = None if self.teacher is None else self.teacher.folded()
        return replace(self, student=self.student.folded(), teacher=teacher)

    def to(self, device: torch.device) -> None:
        """Move both networks, in place."""
        for _, network in self.networks():
            network.to(device)
