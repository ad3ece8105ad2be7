"""Decoded images in bounded memory: every file is read and resized once while there is room."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from synfoc.batches.resize import resize_labels, to_channels, working_images
from synfoc.images.cases import Case, CaseTable, load_label
from synfoc.images.files import read_image, to_unit
from synfoc.images.geometry import SliceAxis

GIB = 2**30

Key = TypeVar("Key")


class Kept(Generic[Key]):
    """Tensors by key up to a number of bytes; past it the least recently used go first.

    Several threads may ask at once. Two that miss the same key both make it, with one result.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.size = limit, 0
        self._values: OrderedDict[Key, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def get_or_make(self, key: Key, make: Callable[[], Tensor]) -> Tensor:
        """Return the kept tensor, or what `make` gives, which is kept if it fits at all."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            if key not in self._values and value.nbytes <= self.limit:
                self._values[key] = value
                self.size += value.nbytes
                while self.size > self.limit:
                    self.size -= self._values.popitem(last=False)[1].nbytes
        return value


class ImageCache:
    """Slices of cases at the working side.

    Images of 8 bits are kept as bytes (after resizing rounded to 1/255), all others as float16
    in [0, 1]; labels as bytes. A volume is kept whole, since reading one slice reads the file.

    Args:
        table: where the cases come from; it knows how their labels are coded.
        side: working side R in pixels.
        channels: 1 or 3, what the networks are fed.
        slice_axis: see `config.Data.slice_axis`.
        gib: memory for images and labels together. With 0 every access decodes.
    """

    def __init__(
        self, table: CaseTable, *, side: int, channels: int, slice_axis: SliceAxis, gib: float
    ) -> None:
        self.table, self.side, self.channels, self.slice_axis = table, side, channels, slice_axis
        self._kept: Kept[tuple[str, str]] = Kept(int(gib * GIB))

    @property
    def size(self) -> int:
        """Bytes in use."""
        return self._kept.size

    def image(self, case: Case, index: int) -> Float[Tensor, "c R R"]:
        """One slice in [0, 1].

        Raises:
            UserError: the file is missing or cannot be used.
        """
        stored = self._kept.get_or_make(("image", case.id), lambda: self._read_image(case))[index]
        unit = stored.float()
        if stored.dtype == torch.uint8:
            unit /= 255
        return to_channels(unit[None], self.channels)[0]

    def label(self, case: Case, index: int) -> UInt8[Tensor, "R R"]:
        """Class indices of one slice.

        Raises:
            UserError: the file is missing, of another size than the image, or cannot be used.
        """
        return self._kept.get_or_make(("label", case.id), lambda: self._read_label(case))[index]

    def _read_image(self, case: Case) -> Tensor:
        stack = read_image(case.image, slice_axis=self.slice_axis)
        images = working_images(to_unit(stack), self.side, self.channels)
        if stack.pixels.dtype == np.uint8:
            return (images * 255).round_().clamp_(0, 255).byte()
        return images.half()

    def _read_label(self, case: Case) -> Tensor:
        stack = load_label(case, self.table, slice_axis=self.slice_axis)
        pixels = torch.from_numpy(np.require(stack.pixels, np.uint8, ["C", "W"]))
        return resize_labels(pixels, self.side)
