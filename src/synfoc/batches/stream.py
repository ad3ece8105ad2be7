"""Cases -> endless batches. Batch k depends on the seed and k alone: nothing is carried along.

So a resumed run sees what an unbroken one sees, and so does every process of a parallel run.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synfoc.batches.augment import WeakViews, draw_regions, strong_views, warp_images, warp_labels
from synfoc.batches.batch import Batch, Sides, to_device
from synfoc.batches.cache import ImageCache
from synfoc.batches.resize import resize_images, working_side
from synfoc.batches.split import Split
from synfoc.config import Augment, Interval
from synfoc.errors import UserError
from synfoc.images.cases import Case, CaseTable
from synfoc.images.files import slice_count
from synfoc.images.geometry import SliceAxis

# What a stream of random numbers is for; part of its seed, so that no two are alike.
_VIEWS, _LABELED, _UNLABELED, _METHOD = range(4)


class Order:
    """An endless order of `count` things: one seeded permutation after another.

    Position p lies in permutation p // count, which is made from the seed and its number when it
    is asked for; so any position can be asked for at any time.
    """

    def __init__(self, count: int, seed: int, purpose: int) -> None:
        self.count = count

        @lru_cache(maxsize=2)
        def permutation(number: int) -> NDArray[np.int64]:
            rng = np.random.default_rng(np.random.SeedSequence([seed, purpose, number]))
            return rng.permutation(count)

        self._permutation = permutation

    def take(self, start: int, length: int) -> list[int]:
        """Return the things at positions start, ..., start + length - 1."""
        return [
            int(self._permutation(p // self.count)[p % self.count])
            for p in range(start, start + length)
        ]


class Items:
    """The slices of all cases in one row; a 2-D image is one slice."""

    def __init__(self, cases: Sequence[Case], slice_axis: SliceAxis) -> None:
        self.cases = cases
        self._ends = list(accumulate(slice_count(case.image, slice_axis) for case in cases))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, position: int) -> tuple[Case, int]:
        number = bisect_right(self._ends, position)
        return self.cases[number], position - (self._ends[number - 1] if number else 0)


class Stream:
    """Endless batches of weak and strong views on the device.

    Args:
        table: where the cases come from; it knows how their labels are coded.
        split: its labeled and unlabeled cases are used; no label of an unlabeled one is read.
        sides: S, L, P in pixels.
        channels: 1 or 3.
        batch: labeled images per batch, and as many unlabeled ones.
        augment: ranges of the views.
        paste_area: area of the pasted region as shares of the image.
        seed: with the batch's number it decides everything.
        device: where batches are made and stay.
        slice_axis: see `config.Data.slice_axis`.
        cache_gib: memory for decoded images.
        supervised: labeled images only; the unlabeled half has 0 images.

    Raises:
        UserError: no labeled case, no unlabeled case though not supervised, or a volume whose
            header cannot be read.
    """

    def __init__(
        self,
        table: CaseTable,
        split: Split,
        *,
        sides: Sides,
        channels: int,
        batch: int,
        augment: Augment,
        paste_area: Interval,
        seed: int,
        device: torch.device,
        slice_axis: SliceAxis,
        cache_gib: float,
        supervised: bool,
    ) -> None:
        self.sides, self.size, self.augment, self.seed = sides, batch, augment, seed
        self.paste_area, self.supervised = paste_area, supervised
        # A thread has its own current device, so "cuda" must say which one.
        index = torch.cuda.current_device() if device.type == "cuda" else None
        self.device = device if device.index is not None else torch.device(device.type, index)
        side = working_side(sides)
        self.cache = ImageCache(
            table, side=side, channels=channels, slice_axis=slice_axis, gib=cache_gib
        )
        self._weak = WeakViews(augment, side, self.device)
        self._labeled = Items(split.labeled, slice_axis)
        self._unlabeled = Items(() if supervised else split.unlabeled, slice_axis)
        _require(self._labeled, "labeled", "name a domain and a count that exist: data.labeled")
        if not supervised:
            _require(self._unlabeled, "unlabeled", "add images, or set method.name = supervised")
        self._labeled_order = Order(len(self._labeled), seed, _LABELED)
        self._unlabeled_order = Order(len(self._unlabeled), seed, _UNLABELED)

    @torch.no_grad()
    def batch(self, k: int) -> Batch:
        """Batch k = 0, 1, ...; the same whenever it is asked for.

        Raises:
            UserError: an image or label cannot be read.
        """
        generator = _generator(self.seed, _VIEWS, k)
        labeled = self._labeled_half(k, generator)
        if self.supervised:
            return Batch(**labeled, **_nothing_unlabeled(labeled))
        return Batch(**labeled, **self._unlabeled_half(k, generator))

    def iterate(self, start: int, stop: int) -> Iterator[Batch]:
        """Batches start, ..., stop - 1; the next one is made in a thread meanwhile.

        An error in the thread is raised here, at the batch that it belongs to. The thread ends with
        the iterator, however that ends, once the batch in its hands is done.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
            ahead = thread.submit(self.batch, start) if start < stop else None
            for k in range(start + 1, stop + 1):
                assert ahead is not None
                ready = ahead.result()
                ahead = thread.submit(self.batch, k) if k < stop else None
                yield ready

    def _labeled_half(self, k: int, generator: torch.Generator) -> dict[str, Tensor]:
        items = [self._labeled[i] for i in self._labeled_order.take(k * self.size, self.size)]
        grids = self._weak.grids(self.size, generator)
        X_w = warp_images(self._images(items), grids)
        Y = to_device(torch.stack([self.cache.label(*item) for item in items]), self.device)
        Y_w_UT = warp_labels(Y, grids, self.sides.unet)
        same = self.sides.logits == self.sides.unet
        return {
            **self._at_both_sides("X_w", X_w),
            "Y_w_MS": Y_w_UT if same else warp_labels(Y, grids, self.sides.logits),
            "Y_w_UT": Y_w_UT,
        }

    def _unlabeled_half(self, k: int, generator: torch.Generator) -> dict[str, Tensor]:
        items = [self._unlabeled[i] for i in self._unlabeled_order.take(k * self.size, self.size)]
        U_w = warp_images(self._images(items), self._weak.grids(self.size, generator))
        U_s = strong_views(U_w, self.augment, generator)
        M = draw_regions(self.size, self.sides.unet, self.paste_area, generator)
        return {
            **self._at_both_sides("U_w", U_w),
            **self._at_both_sides("U_s", U_s),
            "M": to_device(M, self.device),
        }

    def _images(self, items: list[tuple[Case, int]]) -> Tensor:
        images = torch.stack([self.cache.image(*item) for item in items])
        return to_device(images, self.device)

    def _at_both_sides(self, name: str, view: Tensor) -> dict[str, Tensor]:
        return {
            f"{name}_MS": resize_images(view, self.sides.medsam),
            f"{name}_UT": resize_images(view, self.sides.unet),
        }


def draws_of_step(seed: int, k: int) -> torch.Generator:
    """Return what a method draws for itself in step k (noise, a box), on the CPU.

    Like the batch it depends on the seed and k alone, and it leaves the batch as it is.
    """
    return _generator(seed, _METHOD, k)


def _generator(seed: int, purpose: int, k: int) -> torch.Generator:
    words = np.random.SeedSequence([seed, purpose, k]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0]))


def _nothing_unlabeled(labeled: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return an unlabeled half of 0 images, on the device and of the sides of the labeled one."""
    X_w_MS, X_w_UT = labeled["X_w_MS"][:0], labeled["X_w_UT"][:0]
    M = labeled["Y_w_UT"][:0].bool()
    return {"U_w_MS": X_w_MS, "U_w_UT": X_w_UT, "U_s_MS": X_w_MS, "U_s_UT": X_w_UT, "M": M}


def _require(items: Items, kind: str, fix: str) -> None:
    if not len(items):
        raise UserError(
            f"there is no {kind} image to train on",
            found=f"0 {kind} images",
            expected="one or more",
            fix=fix,
        )
