"""A run and images -> label maps at the original size, and a list of what to check first.

    OUT/<folders as in the input>/<name>.png | .nii.gz | .nii | .npy    class indices 0..C
    OUT/.../<name>_overlay.png         outlines over the image
    OUT/.../<name>_probabilities.*     soft maps
    OUT/predictions.csv                one row per image: unreadable, then empty, then least sure;
                                       rows of an earlier call stay while their masks do

Nothing is written before all names are known to be free; a file that cannot be read, or of a format
that is not, is a row of the list and does not stop the others.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from synfoc.answers import Answer, BranchName, Role, deployed_by_paper, recommended_answer
from synfoc.engine.checkpoint import load_run
from synfoc.engine.estimate import Calibration, read_calibration
from synfoc.engine.inference import Segmentation, Segmenter
from synfoc.engine.machine import full_gpu_told
from synfoc.engine.mask_names import (
    OVERLAY,
    PROBABILITIES,
    find_images,
    refuse_clashes,
    refuse_to_overwrite,
    refuse_to_replace_images,
)
from synfoc.engine.overlay import write_overlay
from synfoc.engine.prediction_table import Prediction, earlier_rows, urgency, write_rows
from synfoc.errors import UserError
from synfoc.images.files import (
    Stack,
    read_image,
    stem,
    to_unit,
    write_label,
    write_probabilities,
)
from synfoc.images.listing import Left
from synfoc.runs import RunFolder, one_line
from synfoc.storage import AnyPath

MOST = 100
"""Rows of files that are not read; the others are only counted."""


@full_gpu_told(fix="--device cpu, or end what else uses the GPU")
def predict(
    run: AnyPath,
    images: AnyPath | Sequence[AnyPath],
    *,
    out: AnyPath,
    branch: BranchName | Literal["recommended"] = "recommended",
    role: Role | None = None,
    probabilities: bool = False,
    overlay: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    checkpoint: str = "best",
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Prediction]:
    """Segment images with a trained run.

    Args:
        run: folder written by `synfoc train`.
        images: files and folders, or one; a folder is searched with its sub-folders.
        out: folder for the masks.
        branch: recommended: what training found best without test labels.
        role: student or teacher; None: the recommended one, or the student of a branch that is
            named (the paper's choice).
        probabilities: also write soft maps.
        overlay: also write pictures with outlines.
        overwrite: replace masks that are there already. Without it images may be added to a folder.
        device: auto, cpu or cuda.
        checkpoint: best, last, or a name such as step_000500.
        progress: called with (done, total, name) before each image and once at the end.

    Returns:
        The rows of predictions.csv, those to check first; `failed` rows have no mask.

    Raises:
        UserError: no images, two images of one name, a mask that exists, no such branch, disk full.
    """
    run, out = Path(run), Path(out)
    given = [images] if isinstance(images, str | os.PathLike) else images
    _refuse_run(out, run)
    found = find_images([Path(path) for path in given], out)
    sources = found.images
    refuse_clashes(sources, {OVERLAY: overlay, PROBABILITIES: probabilities})
    refuse_to_replace_images(out, sources)
    if not overwrite:
        refuse_to_overwrite(out, sources)
    earlier = earlier_rows(out, again=sources, overwrite=overwrite)
    loaded = load_run(run, checkpoint=checkpoint, device=device)
    segmenter = Segmenter.of_run(loaded)
    summary = _summary(RunFolder(run), needed=branch == "recommended")
    answer = deployed_answer(summary, segmenter) if branch == "recommended" else (branch, "student")
    if branch == "recommended" and not summary:
        warnings.warn(
            "the run has no summary.json, which recommends an answer once training has ended: "
            f"{answer[0]} answers, as in the paper",
            stacklevel=2,
        )
    answer = answer[0], role or answer[1]
    segmenter.check([answer])
    known = read_calibration(summary, loaded.step)
    job = _Job(segmenter, answer, out, probabilities, overlay, known.get(answer))
    rows = _not_read(found.left)
    remarks: Counter[str] = Counter()

    def readable() -> Iterator[tuple[Stack, _Name]]:
        for done, (mask, image) in enumerate(sources.items()):
            if progress:
                progress(done, len(sources), str(image))
            try:
                stack = read_image(image, slice_axis=loaded.config.data.slice_axis)
            except (UserError, OSError) as error:
                rows.append(_failure(image, error))
            else:
                if stack.remark:
                    remarks[stack.remark] += 1
                yield stack, _Name(image, mask)

    try:
        for group in segmenter.grouped(readable()):
            job.do(group, rows)
    finally:
        # What was done before a full disk or Ctrl-C is listed too.
        rows.sort(key=urgency)
        if rows:
            write_rows(out, [*rows, *earlier])
    if progress:
        progress(len(sources), len(sources), "")
    for remark, many in remarks.items():
        warnings.warn(f"{remark}: {many} of the images", stacklevel=2)
    return rows


@dataclass(frozen=True)
class _Name:
    """An image's file, and the path of its mask below `out`."""

    image: Path
    mask: Path


@dataclass(frozen=True)
class _Job:
    """What is done with every image."""

    segmenter: Segmenter
    answer: Answer
    out: Path
    probabilities: bool
    overlay: bool
    calibration: Calibration | None

    def do(self, group: Sequence[tuple[Stack, _Name]], rows: list[Prediction]) -> None:
        """Segment some images together; each adds its row once its files are written."""
        pixels = [to_unit(stack) for stack, _ in group]
        answered = self.segmenter.segment_all(
            pixels,
            [self.answer],
            agreement=self.answer[1],
            probabilities=self.probabilities,
            evidence=self.calibration is not None,
        )
        for (stack, name), images, found in zip(group, pixels, answered, strict=True):
            rows.append(self._write(name, stack, images, found))

    def _write(
        self, name: _Name, stack: Stack, images: NDArray[np.float32], found: Segmentation
    ) -> Prediction:
        label = found.labels[self.answer]
        mask = write_label(self.out / name.mask, label, stack)
        bare = mask.with_name(stem(mask))
        if self.probabilities:
            ending = mask.name.removeprefix(bare.name)
            soft = bare.with_name(f"{bare.name}{PROBABILITIES}{ending}")
            write_probabilities(soft, found.probabilities[self.answer], stack)
        if self.overlay:
            picture = bare.with_name(f"{bare.name}{OVERLAY}.png")
            classes, nested = self.segmenter.classes, self.segmenter.nested
            write_overlay(picture, images, label, classes=classes, nested=nested)
        place = mask.relative_to(self.out)
        return _row(name.image, place, found, self.answer, stack, self.calibration)


def _refuse_run(out: Path, run: Path) -> None:
    """Masks go elsewhere than among the files of a run."""
    if out.resolve() == run.resolve():
        raise UserError(
            f"masks cannot go to {out}",
            found="the run itself",
            expected="a folder for masks",
            fix="choose another --out",
        )


def _summary(folder: RunFolder, *, needed: bool) -> dict[str, Any]:
    """Return what training has found.

    Raises:
        UserError: it cannot be read, and is needed to know who answers.
    """
    try:
        return folder.read_summary()
    except UserError as error:
        if needed:
            raise UserError(
                error.what,
                found=error.found,
                expected=f"{error.expected}, which says which network answers",
                fix=f"name one: --branch unet, medsam or fused; or {error.fix}",
            ) from None
        warnings.warn(f"{one_line(error)}: no Dice is estimated; {error.fix}", stacklevel=3)
        return {}


def deployed_answer(summary: Mapping[str, Any], segmenter: Segmenter) -> Answer:
    """Return what training recommends in summary.json; before it has ended, what the paper keeps.

    Raises:
        UserError: the summary is damaged.
    """
    return recommended_answer(summary) or (
        deployed_by_paper(segmenter.networks.names),
        "student",
    )


def _row(
    path: Path,
    mask: Path,
    found: Segmentation,
    answer: Answer,
    stack: Stack,
    calibration: Calibration | None,
) -> Prediction:
    label: NDArray[np.uint8] = found.labels[answer]
    certainty = float(found.certainty[answer].mean())
    confidence = certainty if found.agreement_whole is None else found.agreement_whole
    each = found.certainty[answer] if found.agreement is None else found.agreement
    foreground = float(np.count_nonzero(label) / label.size)
    estimated = None
    if calibration is not None:
        estimated = float(calibration.estimate(found.tallies[answer].sum(0)))
    return Prediction(
        image=str(path),
        mask=str(mask),
        confidence=confidence,
        certainty=certainty,
        estimated_dice=estimated,
        foreground=foreground,
        slice=int(each.argmin()) if stack.volume else None,
        note="" if foreground else "empty mask",
    )


def _not_read(left: Sequence[Left]) -> list[Prediction]:
    rows = [Prediction(image=str(one.path), note=f"not read: {one.why}") for one in left[:MOST]]
    if left[MOST:]:
        note = f"not read, as {len(left) - MOST - 1} more files and folders: {left[MOST].why}"
        rows.append(Prediction(image=str(left[MOST].path), note=note))
    return rows


def _failure(path: Path, error: Exception) -> Prediction:
    told = f"{error.what}: found {error.found}" if isinstance(error, UserError) else str(error)
    return Prediction(image=str(path), note=told)
