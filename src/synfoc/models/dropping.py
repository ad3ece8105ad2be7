"""Channel dropout whose draws belong to the images, one seed each.

So the same channels are dropped however a batch is divided among processes, and again when a run
is resumed.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from synfoc.batches.batch import to_device


def drop_channels(
    features: Iterable[Float[Tensor, "B _ _ _"]], seeds: Int[Tensor, " B"]
) -> list[Float[Tensor, "B _ _ _"]]:
    """Every channel of every image at zero with probability 1/2, the others doubled.

    Args:
        features: maps of the same B images, of any widths and sides.
        seeds: one per image; on the CPU, so that nothing waits for a GPU.
    """
    draws = [torch.Generator().manual_seed(seed) for seed in seeds.tolist()]
    dropped = []
    for x in features:
        kept = torch.stack([torch.rand(x.shape[1], generator=g) for g in draws]) >= 0.5
        dropped.append(x * to_device((2 * kept).to(x.dtype), x.device)[..., None, None])
    return dropped
