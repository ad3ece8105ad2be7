"""A config for own data from one line: `synfoc train --data DIR --labeled DOMAIN:COUNT`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synfoc.config import Config, load_config, parse_config
from synfoc.engine.machine import choose_device, choose_precision, defaults_for
from synfoc.errors import UserError


@dataclass(frozen=True)
class Composed:
    """A config, and in one line what was decided for the user."""

    config: Config
    summary: str


def compose_config(
    config: Path | None,
    data: Path | None,
    labeled: str | None,
    size: int | None,
    changes: tuple[str, ...] = (),
) -> Composed:
    """Return settings of a run from a config file, from flags, or from both.

    Args:
        config: YAML file; None: defaults fitted to this machine.
        data: folder or CSV; takes the place of data.path.
        labeled: `DOMAIN:COUNT`, or `COUNT` where there are no domains.
        size: side in pixels of both networks' images.
        changes: `key.sub=value`, applied last.

    Raises:
        UserError: neither config nor data, or a value that cannot be used.
    """
    flags = []
    if data is not None:
        flags.append(f"data.path={_yaml_text(str(data))}")
    if labeled is not None:
        flags += _labeled_flags(labeled)
    if size is not None:
        flags += [f"unet.side={size}", f"medsam.side={size}"]
    if config is not None:
        return Composed(load_config(config, (*flags, *changes)), f"from {config}")
    if data is None:
        raise UserError(
            "there is nothing to train on",
            found="neither a config nor --data",
            expected="synfoc train CONFIG.yaml, or synfoc train --data DIR --labeled DOMAIN:COUNT",
            fix="name one of them",
        )
    wanted = parse_config({"data": {"path": "."}}, (*flags, *changes), source="command line")
    device = choose_device(wanted.train.device)
    count = wanted.data.labeled.count or wanted.method.batch * 2
    tree: dict[str, Any] = defaults_for(device, size=size, labeled=count)
    said = any(change.partition("=")[0].strip() == "train.steps" for change in changes)
    every = max(50, (wanted.train.steps if said else tree["train"]["steps"]) // 10)
    tree["train"] |= {"evaluate_every": every, "checkpoint_every": every}
    composed = parse_config(tree, (*flags, *changes), source="command line")
    precision = choose_precision(composed.train.precision, device)
    parts = [f"{device} {precision}", *_networks(composed)]
    parts.append(f"batch {composed.method.batch} + {composed.method.batch}")
    return Composed(composed, ", ".join([*parts, f"{composed.train.steps} steps"]))


def _networks(config: Config) -> list[str]:
    """Those that are trained or asked."""
    medsam = f"{config.medsam.weights} at {config.medsam.side} px"
    unet = config.unet.title
    if config.method.has_guide:
        return [f"{medsam} as a guide", unet]
    branches = config.method.branches
    return [
        text for name, text in (("medsam", medsam), ("unet", unet)) if branches in ("both", name)
    ]


def _labeled_flags(labeled: str) -> list[str]:
    domain, _, count = labeled.rpartition(":")
    if not count.isdigit() or int(count) == 0:
        raise UserError(
            f"cannot read --labeled {labeled}",
            found=labeled,
            expected="DOMAIN:COUNT, e.g. ACDC:10; or COUNT where there are no domains",
            fix="end it with a colon and the number of labeled images",
        )
    flags = [f"data.labeled.count={count}"]
    return [f"data.labeled.domain={_yaml_text(domain)}", *flags] if domain else flags


def _yaml_text(text: str) -> str:
    """Text as YAML that is read back as text, whatever is in it (`1`, `no`, `a: b`)."""
    return "'" + text.replace("'", "''") + "'"
