"""From a config as the user wrote it to one in which nothing is left open."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np

from synfoc.batches.readable import without_unreadable
from synfoc.batches.split import Split, load_split, make_split
from synfoc.config import Config, differences
from synfoc.engine.checkpoint import checkpoint_config
from synfoc.engine.checkpoint_files import find_checkpoint
from synfoc.errors import UnreadableError, UserError
from synfoc.images.cases import CaseTable, load_cases, load_label, name_classes
from synfoc.images.files import read_image
from synfoc.images.geometry import SliceAxis
from synfoc.images.place_notes import place_notes, read_place
from synfoc.runs import RunFolder, one_line

RESOLVED = ("set", "classes", "nested", "channels")
"""What the data decide of section `data` where the user left it open."""
FEW = 50
"""So many labels are read before the first step, to see which classes they show."""


@dataclass(frozen=True)
class Prepared:
    """Data read and split, and the config with classes, channels and method decided."""

    config: Config
    table: CaseTable
    split: Split
    notices: tuple[str, ...]
    """What the user should know before the first step."""


def prepare(
    config: Config,
    run: RunFolder | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Find the cases, split them, and fill in what the data decide.

    Args:
        config: as the user wrote it, or the resolved one of a run.
        run: the one that goes on, whose split holds; its files must not have changed.
        progress: called with (done, total) while the images of a new run are tried.

    Raises:
        UserError: see `load_cases`, `make_split`, `without_unreadable` and `load_split`.
    """
    table = load_cases(config.data)
    unread: list[str] = []
    if run is None:
        split = make_split(table, config.data)
        split, unread = without_unreadable(split, config.data.slice_axis, progress)
    else:
        split = load_split(run.split, verify=True, root=table.root, fix=run.split_fix)
    named = name_classes(table, split.labeled, slice_axis=config.data.slice_axis)
    if run is None and table.classes is None:
        _refuse_other_classes(named, split, config.data.slice_axis)
    table = named
    _check_watched(config, split)
    paper = table.paper
    remarks: tuple[str, ...] = ()
    channels = config.data.channels or (paper.channels if paper else None)
    if channels is None:
        channels, remarks = _few(split, config.data.slice_axis)
    found = (
        paper.name if paper else None,
        table.classes,
        table.nested,
        channels,
    )
    data = dict(zip(RESOLVED, found, strict=True))
    resolved = config.with_settings(data={"path": config.data.path.absolute(), **data})
    notices = [*table.notices, *unread, *remarks]
    if config.method.about.unlabeled and not split.unlabeled:
        resolved = resolved.with_settings(method={"name": "supervised"})
        notices.append(
            "no unlabeled image was found: training is supervised only "
            "(images without label go into the same folders, see docs/data.md)"
        )
    notices += _doubts(table, split, config.data.slice_axis)
    return Prepared(resolved, table, split, tuple(notices))


def _refuse_other_classes(table: CaseTable, split: Split, slice_axis: SliceAxis) -> None:
    """Stop where test labels hold classes that the labeled images did not show.

    Raises:
        UserError: as `load_label`; the run could not be scored once it is trained.
    """
    for case in split.test:
        if case.labels:
            with suppress(UnreadableError):  # evaluation tells it, and scores the others
                load_label(case, table, slice_axis=slice_axis)


def _check_watched(config: Config, split: Split) -> None:
    watched = config.train.rule == "paper" or config.train.watch_test
    if watched and not any(case.labels for case in split.test):
        raise UserError(
            "there is no test image with a label to watch",
            found=f"{len(split.test)} test images, none with a label",
            expected="labeled test images, for train.rule = paper or train.watch_test",
            fix="add labels to test images, --set data.test_fraction=0.2, or --set "
            "train.rule=honest --set train.watch_test=false",
        )


def _doubts(table: CaseTable, split: Split, slice_axis: SliceAxis) -> list[str]:
    """List what makes scores too high, or a class or a scanner impossible to learn."""
    found: list[str] = []
    training = {case.group for case in (*split.labeled, *split.unlabeled)}
    both = sorted({c.patient for c in split.test if c.patient and c.group in training})
    if both:
        found.append(
            f"{len(both)} patients are in training and in test, e.g. {both[0]}: scores will be too "
            "high (synfoc data check lists them)"
        )
    if len(split.labeled) <= FEW:
        present: set[int] = set()
        for case in split.labeled:
            label = load_label(case, table, slice_axis=slice_axis)
            present |= set(np.unique(label.pixels).tolist())
            found += [label.remark] if label.remark and label.remark not in found else []
        names = enumerate(table.classes or (), start=1)
        absent = [name for k, name in names if k not in present]
        if absent:
            found.append(f"{', '.join(absent)}: in no label of the labeled images")
        found += place_notes([read_place(case, slice_axis) for case in split.labeled], slice_axis)
    domains = {case.domain for case in (*split.labeled, *split.unlabeled)}
    if split.unlabeled and len(domains) == 1 and None not in domains:
        found.append(
            f"all training images are of one domain ({domains.pop()}): what unlabeled images of "
            "other scanners would teach cannot be learned from them"
        )
    return found


def _few(split: Split, slice_axis: SliceAxis) -> tuple[Literal[1, 3], tuple[str, ...]]:
    """Return what a few images show, of each folder the first and some more.

    Returns:
        3 if any of them is in color, else 1; remarks on how they were read.
    """
    first = {case.image.parent: case for case in (*split.unlabeled[::-1], *split.labeled[::-1])}
    few = [*split.labeled[:4], *split.unlabeled[:: max(1, len(split.unlabeled) // 8)][:8]]
    few += first.values()
    color, remarks = False, []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in few:
            stack = read_image(case.image, slice_axis=slice_axis)
            color |= stack.pixels.ndim == 4
            remarks += [stack.remark] if stack.remark else []
    return 3 if color else 1, tuple(dict.fromkeys(remarks))


def stored_config(folder: RunFolder, config: Config | None) -> Config:
    """Return the config that a run goes on with.

    Args:
        folder: a run.
        config: None, or what the user gives again; only settings in `PRACTICAL` may be others, and
            are then those that count.

    Raises:
        UserError: config.yaml was edited since, or the given config differs; the run cannot go on.
    """
    with last_needed(folder):
        begun = checkpoint_config(find_checkpoint(folder, "last"))
    stored, damaged = folder.read_config()
    if damaged:
        stored = begun
    _refuse_change(
        begun,
        stored,
        f"{folder.config} differs from the run's last checkpoint",
        fix="set it back in config.yaml, or start a new run: synfoc train "
        f"{shlex.quote(str(folder.config))} -o NEW",
    )
    if config is None:
        return stored
    # `prepare` chose it where nothing unlabeled was found.
    method = {} if folder.read_split()["unlabeled"] else {"name": stored.method.name}
    resolved = {key: getattr(stored.data, key) for key in RESOLVED}
    given = config.with_settings(data=resolved, method=method)
    _refuse_change(
        begun,
        given,
        f"{folder.path} was begun with other settings",
        fix="go on with the settings of the run, or start a new one in another --out",
    )
    return given


@contextmanager
def last_needed(folder: RunFolder) -> Iterator[None]:
    """Tell an unreadable checkpoint `last` as what it is for a run that is to go on.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        yield
    except UserError as error:
        raise UserError(
            f"{folder.path} cannot be gone on with",
            found=one_line(error),
            expected="its checkpoint `last`, whole; no other one holds the optimizers",
            fix="restore checkpoints/last.safetensors from a copy, or train again: "
            f"synfoc train {shlex.quote(str(folder.config))} -o NEW",
        ) from None


def _refuse_change(begun: Config, now: Config, what: str, *, fix: str) -> None:
    if changed := differences(begun, now):
        key, old, new = changed[0]
        raise UserError(
            what,
            found=f"{key} = {new} ({len(changed)} differ)",
            expected=f"{key} = {old}",
            fix=fix,
        )
