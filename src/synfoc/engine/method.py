"""Config -> the page of its method, with constants filled in. An if, not a registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from synfoc.batches.augment import draw_regions, strong_views
from synfoc.batches.batch import Batch, to_device
from synfoc.batches.stream import draws_of_step
from synfoc.config import Config
from synfoc.methods.bcp import bcp_step
from synfoc.methods.fixmatch import fixmatch_step
from synfoc.methods.models import Models, Release, Step
from synfoc.methods.schedules import ramp_up
from synfoc.methods.semisam import semisam_step
from synfoc.methods.single import single_step
from synfoc.methods.supervised import supervised_step
from synfoc.methods.symgd import symgd_step
from synfoc.methods.synfoc import synfoc_step
from synfoc.methods.uamt import uamt_step
from synfoc.methods.unimatch import unimatch_step

Method: TypeAlias = Callable[[Models, Batch, int, Release], Step]
"""(networks, batch, steps done, release) -> losses."""


def lam_of(config: Config, k: int) -> float:
    """Weight lambda in step k: ramped up, or 1 throughout where the method's paper has no ramp."""
    return ramp_up(k, config.train.steps) if config.method.about.ramp else 1.0


def method_of(config: Config) -> Method:
    """The page of the method that the config names."""
    m, steps, nested = config.method, config.train.steps, config.data.nested
    if m.name == "supervised":
        return lambda f, b, k, release: supervised_step(f, b)
    if m.name != "synfoc":
        return _baseline_of(config)
    if m.branches != "both":
        return lambda f, b, k, release: single_step(
            f, b, lam=lam_of(config, k), tau=m.tau, release=release
        )
    return lambda f, b, k, release: synfoc_step(
        f,
        b,
        lam=lam_of(config, k),
        tau=m.tau,
        nested=nested,
        fusion=m.fusion,
        alpha=m.alpha,
        progress=k / steps,
        consistency=m.consistency,
        release=release,
    )


def _baseline_of(config: Config) -> Method:
    m, steps, seed = config.method, config.train.steps, config.train.seed
    if m.name == "fixmatch":
        return lambda f, b, k, release: fixmatch_step(
            f, b, lam=lam_of(config, k), tau=m.tau, release=release
        )
    if m.name == "unimatch":
        return _unimatch_of(config)
    if m.name == "uamt":
        return lambda f, b, k, release: uamt_step(
            f, b, lam=lam_of(config, k), draws=draws_of_step(seed, k), release=release
        )
    if m.name == "symgd":
        return lambda f, b, k, release: symgd_step(
            f,
            b,
            lam=lam_of(config, k),
            progress=k / steps,
            draws=draws_of_step(seed, k),
            tau=m.tau,
            release=release,
        )
    if m.name == "semisam":
        return lambda f, b, k, release: semisam_step(
            f,
            b,
            lam=lam_of(config, k),
            mu=ramp_up(steps - k, steps),
            draws=draws_of_step(seed, k),
            nested=config.data.nested,
            release=release,
        )
    assert m.name == "bcp"
    return lambda f, b, k, release: bcp_step(f, b, progress=k / steps, draws=draws_of_step(seed, k))


def _unimatch_of(config: Config) -> Method:
    """UniMatch draws a second strong view and a second region beside those of the batch."""
    m, seed = config.method, config.train.seed

    def step(f: Models, b: Batch, k: int, release: Release) -> Step:
        draws = draws_of_step(seed, k)
        U_w = b.U_w_UT if m.branches == "unet" else b.U_w_MS
        M_2 = draw_regions(len(b.M), b.M.shape[-1], m.paste_area, draws)
        U_2 = strong_views(U_w, config.augment, draws)
        M_2 = to_device(M_2, b.M.device)
        return unimatch_step(f, b, U_2=U_2, M_2=M_2, draws=draws, tau=m.tau, release=release)

    return step
