"""Activation checkpointing of an encoder's blocks: less memory for one more forward of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Again: TypeAlias = Callable[[], AbstractContextManager[None]]
"""Opens what must be open while a block is computed again, e.g. the LoRA of its network."""


def run_block(block: nn.Module, x: Tensor, again: Again | None) -> Tensor:
    """Return the block's answer. With `again`, backward keeps its input alone and computes it anew.

    The two ways give the same numbers, bit for bit where the device's kernels repeat themselves.
    """
    y: Tensor
    if again is None or not torch.is_grad_enabled():
        y = block(x)
    else:
        y = checkpoint(
            block,
            x,
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=lambda: (nullcontext(), again()),
        )
    return y
