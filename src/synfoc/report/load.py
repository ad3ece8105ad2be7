"""Run folders, and folders of scores, become views; what is damaged is left out and told."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from os.path import lexists
from pathlib import Path
from typing import Any, TypeVar

from synfoc.answers import BRANCH_NAMES
from synfoc.config import Config, differences
from synfoc.errors import UserError
from synfoc.headers import header_config
from synfoc.report.view import RunView
from synfoc.runs import RunFolder, log_fault

T = TypeVar("T")


def load_views(paths: Sequence[Path]) -> list[RunView]:
    """Read runs, the main one first; names are made distinct by the folder where needed.

    A file that is damaged is left out, and `RunView.damaged` says so.

    Args:
        paths: run folders, or folders of `evaluate --out`.

    Raises:
        UserError: a path is neither, or its run has gone.
    """
    if not paths:
        raise UserError(
            "no run to report",
            found="an empty list",
            expected="at least one run folder",
            fix="synfoc report RUN [RUN ...]",
        )
    # Resolved, or `synfoc report .` would know no name for the run.
    views = [_load(path.resolve()) for path in paths]
    places = {
        name: [v.scored.path for v in views if v.name == name] for name in {v.name for v in views}
    }
    ends = {name: iter(_told_apart(paths)) for name, paths in places.items()}
    return [
        replace(view, name=f"{view.name} ({next(ends[view.name])})")
        if len(places[view.name]) > 1
        else view
        for view in views
    ]


def _told_apart(paths: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths that differ.

    A path that is named twice gets numbers.
    """
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        ends = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(ends)) == len(paths):
            return ends
    return [f"{path.name} {number}" for number, path in enumerate(paths, 1)]


def _load(path: Path) -> RunView:
    """Read a run, or a folder of scores and its run; what is damaged is left out."""
    scored = RunFolder(path)
    run = scored.scored_run()
    if run is not None:
        scored = RunFolder(path, scored=run)
    try:
        folder = RunFolder.open(run or path)
    except UserError as error:
        if run is None:
            raise
        raise UserError(
            f"the run of the scores in {path} is not there",
            found=f"{run}: {error.found}",
            expected="the run folder that was scored, where it lay then",
            fix=f"put it back, or score it where it is now: synfoc evaluate RUN --out "
            f"{shlex.quote(str(path))}",
        ) from None
    config, unread = folder.read_config()
    damaged = [unread] if unread else _changed_since(folder, config)
    reading = _Reading(damaged)
    nothing: tuple[list[dict[str, Any]], int] = ([], 0)
    log, lost = reading.read(folder.read_log, nothing)
    summary: dict[str, Any] = reading.read(folder.read_summary, {})
    if wrong := log_fault(log, lost, summary):
        damaged.append(_torn_log(folder, wrong))
    examples, torn = scored.read_examples()
    damaged += torn
    return RunView(
        folder=folder,
        name=_name(config),
        config=config,
        scored=scored,
        environment=reading.read(folder.read_environment, {}),
        summary=summary,
        metrics=reading.read(scored.read_metrics, {}) if lexists(scored.metrics) else {},
        steps=[line for line in log if line.get("kind", "step") == "step"],
        evaluations=[line for line in log if line.get("kind") == "evaluation"],
        cases=reading.read(scored.read_cases, []),
        examples=examples,
        counts=reading.read(lambda: _counts(folder), {}),
        damaged=tuple(damaged),
    )


class _Reading:
    """Reads files one by one and keeps the errors of those that are damaged."""

    def __init__(self, damaged: list[UserError]) -> None:
        self.damaged = damaged

    def read(self, reader: Callable[[], T], instead: T) -> T:
        """Return what a reader returns, or something instead."""
        try:
            return reader()
        except UserError as error:
            self.damaged.append(error)
            return instead


def _torn_log(folder: RunFolder, found: str) -> UserError:
    return UserError(
        f"{folder.log} is damaged",
        found=found,
        expected="one JSON object per line, from the first step to the last",
        fix="restore it from a copy; the curves are drawn from the lines that are left",
    )


def _changed_since(folder: RunFolder, config: Config) -> list[UserError]:
    """Return what of config.yaml is not as the last checkpoint was trained."""
    try:
        changed = differences(header_config(folder.checkpoint("last"), fix=""), config)
    except UserError:
        return []  # a report needs no checkpoint
    return [
        UserError(
            f"{folder.config} was changed since the run was trained",
            found=f"{one.key} = {one.new}",
            expected=f"{one.key} = {one.old}",
            fix="set it back",
        )
        for one in changed[:1]
    ]


def _name(config: Config) -> str:
    about, branches = config.method.about, config.method.branches
    if branches == "both":
        return about.title
    one = BRANCH_NAMES[branches]
    if not about.unlabeled:
        return f"{about.title} {one}"
    return f"{about.title}, {one}" + (" alone" if about.networks == "any" else "")


def _counts(folder: RunFolder) -> dict[str, dict[str, int]]:
    if not lexists(folder.split):
        return {}
    split, counts = folder.read_split(), {}
    for part in ("labeled", "unlabeled", "test"):
        domains: dict[str, int] = {}
        for case in split[part]:
            domain = case["domain"] or ""
            domains[domain] = domains.get(domain, 0) + 1
        counts[part] = domains
    return counts
