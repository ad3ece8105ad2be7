"""Networks of a line of arithmetic, put together as a run has them."""

from __future__ import annotations

from torch import nn

from synfoc.batches.batch import Sides
from synfoc.models.branch import Branch
from synfoc.models.build import Networks

KEYS = ("unet", "unet_teacher", "medsam", "medsam_teacher")


class Fake(nn.Module):
    """A network without parameters: nothing is trained, nothing is folded."""

    side: int = 16
    """Of its images."""

    def folded(self) -> Fake:
        """Return the network itself."""
        return self


def networks_of(sides: Sides, **fakes: Fake | None) -> Networks:
    """Put fakes together; `fakes` has the keys KEYS, a teacher only beside its student."""
    branches = []
    for name, side in (("unet", sides.unet), ("medsam", sides.medsam)):
        student, teacher = fakes.get(name), fakes.get(f"{name}_teacher")
        if student is not None:
            for fake in filter(None, (student, teacher)):
                fake.side = side
            branches.append(Branch(name, student, teacher))  # type: ignore[arg-type]
    return Networks(tuple(branches), sides)
