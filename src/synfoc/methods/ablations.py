"""Other ways to fuse the teachers and to tie the students: the paper's Tables 7 and 8.

Each is a function in the place of one of the page's own (synfoc.py: `self_mutual_confidence`,
`consensus_divergence`).
"""

from __future__ import annotations

from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from synfoc.methods.losses import divergence_loss
from synfoc.methods.maps import bilinear, nearest
from synfoc.methods.synfoc import (
    Fuse,
    Tie,
    Variant,
    consensus_divergence,
    fuse,
    self_mutual_confidence,
)

Fusion: TypeAlias = Literal["smc", "constant", "linear", "self", "mutual", "cps", "own"]
Consistency: TypeAlias = Literal["cdcr", "mse", "none"]


def variant_of(
    fusion: Fusion = "smc",
    consistency: Consistency = "cdcr",
    *,
    constant: float = 0.5,
    progress: float = 1.0,
) -> Variant:
    """Choose a fusion and a consistency by their names.

    Args:
        fusion: `smc` is the paper's. `self` and `mutual` weigh by one confidence alone, `constant`
            by a number, `linear` by a number that rises over the run. Under `cps` each teacher
            labels for the other student, under `own` for its own.
        consistency: `cdcr` is the paper's; `mse` ties all pixels; `none` drops both terms.
        constant: alpha of `constant`, and the end of `linear`.
        progress: share of the run that is done, in [0, 1].

    Raises:
        ValueError: there is no such fusion or consistency.
    """
    fusions: dict[Fusion, Fuse] = {
        "smc": self_mutual_confidence,
        "self": partial(_weighted, kind="self"),
        "mutual": partial(_weighted, kind="mutual"),
        "constant": partial(_constant, alpha=constant),
        "linear": partial(_constant, alpha=constant * progress),
        "cps": _cross_pseudo_labels,
        "own": _own_pseudo_labels,
    }
    ties: dict[Consistency, Tie] = {
        "cdcr": consensus_divergence,
        "mse": _mean_squared_difference,
        "none": _nothing,
    }
    if fusion not in fusions:
        raise ValueError(f"no fusion {fusion}")
    if consistency not in ties:
        raise ValueError(f"no consistency {consistency}")
    return Variant(fusions[fusion], ties[consistency])


Fused: TypeAlias = tuple[Tensor, Tensor, Tensor]


def _weighted(
    P_MS: Tensor, P_UT: Tensor, phi_self: Tensor, phi_mut: Tensor, kind: Literal["self", "mutual"]
) -> Fused:
    alpha = phi_self if kind == "self" else phi_mut
    P_EN_P = fuse(P_MS, P_UT, alpha)
    return alpha, P_EN_P, bilinear(P_EN_P, P_MS.shape[-1])


def _constant(P_MS: Tensor, P_UT: Tensor, phi_self: Tensor, phi_mut: Tensor, alpha: float) -> Fused:
    share = torch.full_like(phi_self, alpha)
    P_EN_P = fuse(P_MS, P_UT, share)
    return share, P_EN_P, bilinear(P_EN_P, P_MS.shape[-1])


def _cross_pseudo_labels(P_MS: Tensor, P_UT: Tensor, phi_self: Tensor, phi_mut: Tensor) -> Fused:
    """Let each teacher label for the other student; there is no alpha, so it is logged as NaN."""
    nan = torch.full_like(phi_self, torch.nan)
    return nan, bilinear(P_MS, P_UT.shape[-1]), bilinear(P_UT, P_MS.shape[-1])


def _own_pseudo_labels(P_MS: Tensor, P_UT: Tensor, phi_self: Tensor, phi_mut: Tensor) -> Fused:
    """Let each teacher label for its own student; there is no alpha, so it is logged as NaN."""
    return torch.full_like(phi_self, torch.nan), P_UT, P_MS


def _mean_squared_difference(P_c_MS: Tensor, P_c_UT: Tensor) -> tuple[Tensor, Tensor]:
    P_c_MS_P = nearest(P_c_MS, P_c_UT.shape[-1])
    everywhere = torch.ones_like(P_c_UT[:, 0])
    return P_c_UT.new_zeros(()), divergence_loss(P_c_MS_P, P_c_UT, everywhere)


def _nothing(P_c_MS: Tensor, P_c_UT: Tensor) -> tuple[Tensor, Tensor]:
    zero = P_c_UT.new_zeros(())
    return zero, zero
