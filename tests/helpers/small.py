"""Networks and batches small enough for a twin in loops."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from synfoc.batches.batch import Batch
from synfoc.methods.interface import Step

SAME = (16, 16, 16)  # S, L, P
OTHER = (32, 8, 16)
UNEVEN = (16, 4, 12)


@dataclass
class Net:
    """A network small enough for loops: a class score per place, moved by the mean color there."""

    place: NDArray[Any]  # (K, s, s)
    color: NDArray[Any]  # (K, c)

    def __call__(self, images: Any) -> Any:
        """Logits of one image (c, h, w) in NumPy, or of a batch in torch."""
        side = self.place.shape[-1]
        block = images.shape[-1] // side
        if isinstance(images, np.ndarray):
            small = images.reshape(-1, side, block, side, block).mean((2, 4))
            return self.place + np.einsum("kc,chw->khw", self.color, small)
        small = torch.nn.functional.avg_pool2d(images, block)
        color, place = torch.from_numpy(self.color), torch.from_numpy(self.place)
        return place.float() + torch.einsum("kc,bchw->bkhw", color.float(), small)


def make_case(
    seed: int, K: int, sides: tuple[int, int, int], *, images: int = 2, channels: int = 1
) -> tuple[dict[str, Net], dict[str, NDArray[Any]]]:
    """Networks that mostly agree, with blobs of doubt, and a batch of noise."""
    rng = np.random.default_rng(seed)
    S, L, P = sides
    rough = rng.normal(size=(K, 4, 4))
    color = 4 * rng.normal(size=(K, channels))

    def net(side: int, doubt: float) -> Net:
        place = 5 * rough.repeat(side // 4, 1).repeat(side // 4, 2)
        return Net(place + doubt * rng.normal(size=place.shape), color + rng.normal(size=(K, 1)))

    nets = {"UT": net(P, 1), "UT_hat": net(P, 1), "MS": net(L, 1), "MS_hat": net(L, 1)}
    M = np.zeros((images, P, P), dtype=bool)
    for n in range(images):
        y, x, h, w = rng.integers(1, P // 2, 4)
        M[n, y : y + h, x : x + w] = True
    batch: dict[str, NDArray[Any]] = {"M": M}
    for name in ("X_w", "U_w", "U_s"):
        batch[f"{name}_MS"] = rng.random((images, channels, S, S)).astype(np.float32)
        batch[f"{name}_UT"] = rng.random((images, channels, P, P)).astype(np.float32)
    batch["Y_w_MS"] = rng.integers(K, size=(images, L, L))
    batch["Y_w_UT"] = rng.integers(K, size=(images, P, P))
    return nets, batch


def tensors(batch: dict[str, NDArray[Any]]) -> Batch:
    return Batch(**{f.name: torch.from_numpy(batch[f.name]) for f in fields(Batch)})


def numbers(step: Step) -> dict[str, float]:
    values = {f.name: getattr(step, f.name) for f in fields(Step)}
    return {name: float(value) for name, value in values.items() if value is not None}
