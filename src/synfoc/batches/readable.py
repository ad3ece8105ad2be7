"""Which images can be read, found out before training: one bad file must not end it hours later."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from synfoc.batches.split import Split
from synfoc.errors import UserError
from synfoc.images.cases import Case, load_image
from synfoc.images.geometry import SliceAxis

THREADS = 4
"""Of them most wait: decoders let go of Python's lock while they unpack."""
SHOWN = 3


def without_unreadable(
    split: Split, slice_axis: SliceAxis, progress: Callable[[int, int], None] | None = None
) -> tuple[Split, list[str]]:
    """Leave out unlabeled and test images that cannot be read.

    Args:
        split: of a new run. All its images are decoded once.
        slice_axis: as in the config.
        progress: called with (done, total) after each image.

    Returns:
        The split without them; a notice that names some, if there are any.

    Raises:
        UserError: a labeled image cannot be read, or no unlabeled, or no test image at all.
    """
    cases = (*split.labeled, *split.unlabeled, *split.test)
    refusals: dict[str, UserError] = {}
    with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as pool:
        warnings.simplefilter("ignore")
        tried = pool.map(lambda case: _refusal(case, slice_axis), cases)
        for done, (case, error) in enumerate(zip(cases, tried, strict=True), start=1):
            if error:
                refusals[case.id] = error
            if progress:
                progress(done, len(cases))
    for error in (refusals.get(case.id) for case in split.labeled):
        if error:
            raise error
    if not refusals:
        return split, []
    left = replace(
        split,
        unlabeled=_others(split.unlabeled, refusals),
        test=_others(split.test, refusals),
        monitor=_others(split.monitor, refusals),
    )
    if bool(left.unlabeled) < bool(split.unlabeled) or bool(left.test) < bool(split.test):
        raise next(iter(refusals.values()))
    first = list(refusals.values())[:SHOWN]
    examples = "; ".join(f"{error.what}: {error.found}" for error in first)
    notice = f"{len(refusals)} of {len(cases)} images are left out, since they cannot be read"
    return left, [f"{notice} (synfoc data check lists them): {examples}"]


def _refusal(case: Case, slice_axis: SliceAxis) -> UserError | None:
    try:
        load_image(case, slice_axis=slice_axis)
    except UserError as error:
        return error
    return None


def _others(cases: Iterable[Case], refused: dict[str, UserError]) -> tuple[Case, ...]:
    return tuple(case for case in cases if case.id not in refused)
