"""Config -> the page of its method, with constants filled in. A table, not a registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

import torch

from synfoc.batches.augment import draw_regions, strong_views
from synfoc.batches.batch import Batch, to_device
from synfoc.batches.stream import draws_of_step
from synfoc.config import Config, MethodName
from synfoc.methods.ablations import variant_of
from synfoc.methods.bcp import bcp_step
from synfoc.methods.fixmatch import fixmatch_step
from synfoc.methods.interface import Models, Step
from synfoc.methods.mean_teacher import mean_teacher_step
from synfoc.methods.schedules import ramp_up
from synfoc.methods.semisam import semisam_step
from synfoc.methods.supervised import supervised_step
from synfoc.methods.symgd import symgd_step
from synfoc.methods.synfoc import synfoc_step
from synfoc.methods.uamt import uamt_step
from synfoc.methods.unimatch import unimatch_step
from synfoc.methods.ustrun import ustrun_step

Page: TypeAlias = Callable[[Models, Batch, int], Step]
"""(networks, batch, steps done) -> losses."""


def method_of(config: Config) -> Page:
    """Return the page of the method that the config names."""
    return partial(PAGES[config.method.name], config)


def lam_of(config: Config, k: int) -> float:
    """Weight lambda in step k: ramped up, or 1 throughout where the method's paper has no ramp."""
    return ramp_up(k, config.train.steps) if config.method.about.ramp else 1.0


def _draws(config: Config, k: int) -> torch.Generator:
    """Return what a page draws beside its batch."""
    return draws_of_step(config.train.seed, k)


def _synfoc(config: Config, f: Models, b: Batch, k: int) -> Step:
    m, lam = config.method, lam_of(config, k)
    if m.branches != "both":
        return mean_teacher_step(f, b, lam=lam, tau=m.tau)
    return synfoc_step(
        f,
        b,
        lam=lam,
        tau=m.tau,
        nested=config.data.nested,
        variant=variant_of(
            m.fusion, m.consistency, constant=m.alpha, progress=k / config.train.steps
        ),
    )


def _supervised(config: Config, f: Models, b: Batch, k: int) -> Step:
    return supervised_step(f, b)


def _fixmatch(config: Config, f: Models, b: Batch, k: int) -> Step:
    return fixmatch_step(f, b, lam=lam_of(config, k), tau=config.method.tau)


def _unimatch(config: Config, f: Models, b: Batch, k: int) -> Step:
    """Draw a second strong view and a second region beside those of the batch."""
    m, draws = config.method, _draws(config, k)
    U_w = b.U_w_UT if m.branches == "unet" else b.U_w_MS
    M_2 = draw_regions(len(b.M), b.M.shape[-1], m.paste_area, draws)
    U_2 = strong_views(U_w, config.augment, draws)
    M_2 = to_device(M_2, b.M.device)
    return unimatch_step(f, b, U_2=U_2, M_2=M_2, draws=draws, tau=m.tau)


def _uamt(config: Config, f: Models, b: Batch, k: int) -> Step:
    return uamt_step(f, b, lam=lam_of(config, k), draws=_draws(config, k))


def _symgd(config: Config, f: Models, b: Batch, k: int) -> Step:
    return symgd_step(
        f,
        b,
        lam=lam_of(config, k),
        progress=k / config.train.steps,
        draws=_draws(config, k),
        tau=config.method.tau,
    )


def _ustrun(config: Config, f: Models, b: Batch, k: int) -> Step:
    return ustrun_step(
        f,
        b,
        lam=lam_of(config, k),
        progress=k / config.train.steps,
        draws=_draws(config, k),
        tau=config.method.tau,
        nested=config.data.nested,
    )


def _bcp(config: Config, f: Models, b: Batch, k: int) -> Step:
    return bcp_step(f, b, progress=k / config.train.steps, draws=_draws(config, k))


def _semisam(config: Config, f: Models, b: Batch, k: int) -> Step:
    steps = config.train.steps
    return semisam_step(
        f,
        b,
        lam=lam_of(config, k),
        mu=ramp_up(steps - k, steps),
        draws=_draws(config, k),
        nested=config.data.nested,
    )


PAGES: Mapping[MethodName, Callable[[Config, Models, Batch, int], Step]] = {
    "synfoc": _synfoc,
    "supervised": _supervised,
    "fixmatch": _fixmatch,
    "unimatch": _unimatch,
    "uamt": _uamt,
    "symgd": _symgd,
    "ustrun": _ustrun,
    "bcp": _bcp,
    "semisam": _semisam,
}
"""What else is known of them: `config.METHODS`."""
