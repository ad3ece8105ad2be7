"""Choosing a checkpoint and a branch without a test label.

Evidence is read from labeled training images (whose labels the run may see) and from unlabeled
ones: how far the two branches agree with each other, and how little an answer changes under the
strong view. Agreement alone would crown networks that call everything background, so each figure
is a Dice over all images as one, where what is empty on both sides counts for nothing, and is
multiplied by the Dice on the labeled images. How far students agree with their teachers is logged,
and not used: it picks steps at which nothing is learned any more, or not yet (docs/trust.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synfoc.answers import answer_name, deployed_by_paper
from synfoc.batches.augment import strong_views
from synfoc.batches.resize import resize_labels, to_channels, working_images, working_side
from synfoc.engine.estimate import STRENGTHS, Calibration, calibrate
from synfoc.engine.score_cases import evaluate_networks
from synfoc.images.cases import load_label
from synfoc.images.files import read_image, to_unit
from synfoc.images.geometry import SliceAxis
from synfoc.methods.confidence import dice_agreement
from synfoc.methods.maps import argmax_classes

if TYPE_CHECKING:
    from synfoc.answers import Answer
    from synfoc.config import Augment
    from synfoc.engine.inference import Segmenter
    from synfoc.engine.prepare import Prepared
    from synfoc.images.cases import Case, CaseTable

AT_ONCE = 8
SHAKES = 2
"""Strong views of each image by which a recommendation is tried."""


@dataclass(frozen=True)
class Probe:
    """A few fixed images, not augmented, at the working side R."""

    labeled: NDArray[np.float32]
    """(m, R, R, c), in [0, 1]."""
    labels: NDArray[np.uint8]
    """(m, R, R), class indices."""
    unlabeled: NDArray[np.float32]
    """(n, R, R, c), in [0, 1]."""
    monitor: NDArray[np.uint8] | None = None
    """(n, R, R): labels of the unlabeled images, where the user lets them be read for a curve."""


@dataclass(frozen=True)
class Verdict:
    """What a run says of its networks at the end."""

    answer: Answer
    """The branch and role to deploy."""
    why: str
    calibration: dict[Answer, Calibration]
    """Of every answer: see `estimate`."""


class Judge:
    """Scores a run in progress by the rule of its config.

    Args:
        prepared: config, cases and split of the run.
        segmenter: its networks, as they are at each moment.
    """

    def __init__(self, prepared: Prepared, segmenter: Segmenter) -> None:
        config = prepared.config
        self.prepared, self.segmenter = prepared, segmenter
        no_evidence = config.train.rule == "honest" and not config.method.has_teacher
        self.rule = "last" if no_evidence else config.train.rule
        """The rule that makes a checkpoint `best`; without a teacher there is no evidence on
        unlabeled images, and the last step is taken."""
        self.probe = self._load_probe(config.train.evaluate_images)

    def evaluate(self) -> tuple[dict[str, Any], float]:
        """Figures for the log, and the number by which the rule compares checkpoints.

        Where the run watches the test set, or chooses by it, the figures hold `test_dice` of the
        network that the paper deploys, and `test` {branch: {role: Dice}} of all answers.
        """
        found = assess(self.segmenter, self.probe)
        if self.rule == "paper" or self.prepared.config.train.watch_test:
            found["test"] = self._test_dice()
            found["test_dice"] = found["test"][deployed_by_paper(self.segmenter.networks.names)][
                "student"
            ]
        score = {"honest": found["score"], "last": math.inf, "paper": found.get("test_dice")}
        return found, float(score[self.rule])

    def recommend(self, progress: Callable[[int, int], None] | None = None) -> Verdict:
        """Return the answer to deploy, and why; twice the images of an evaluation are asked.

        `progress` is called with (done, total), in images, after each forward.
        """
        config = self.prepared.config
        probe = self._load_probe(2 * config.train.evaluate_images)
        known, hidden, done = len(probe.labeled), len(probe.unlabeled), 0
        total = len(STRENGTHS) * known
        if len(self.segmenter.answers()) > 1:
            total += known + (1 + SHAKES) * hidden

        def looked(images: int) -> None:
            nonlocal done
            done += images
            if progress:
                progress(done, total)

        seed = config.train.seed
        answer, why = recommend(self.segmenter, probe, config.augment, seed=seed, looked=looked)
        calibration = calibrate(
            self.segmenter, probe.labeled, probe.labels, config.augment, seed=seed, looked=looked
        )
        return Verdict(answer, why, calibration)

    def _load_probe(self, count: int) -> Probe:
        split = self.prepared.split
        return load_probe(
            self.prepared.table,
            split.labeled,
            split.unlabeled,
            split.monitor,
            count=count,
            side=working_side(self.segmenter.networks.sides),
            channels=self.segmenter.channels,
            slice_axis=self.prepared.config.data.slice_axis,
        )

    def _test_dice(self) -> dict[str, dict[str, float]]:
        """Dice of every answer on the test set, mean over domains."""
        found = evaluate_networks(
            self.segmenter,
            self.prepared.table,
            self.prepared.split.test,
            self.segmenter.answers(),
            protocol="paper",
            slice_axis=self.prepared.config.data.slice_axis,
        )
        return {
            branch: {role: scores["mean_over_domains"]["dice"] for role, scores in roles.items()}
            for branch, roles in found["branches"].items()
        }


def load_probe(
    table: CaseTable,
    labeled: Sequence[Case],
    unlabeled: Sequence[Case],
    monitor: Sequence[Case] = (),
    *,
    count: int,
    side: int,
    channels: int,
    slice_axis: SliceAxis = None,
) -> Probe:
    """Read at most `count` labeled and `count` unlabeled images, evenly spaced over the lists.

    Args:
        table: knows how labels are coded.
        labeled: cases with label.
        unlabeled: cases whose label is not read.
        monitor: the unlabeled cases with their label, or nothing.
        count: images of each kind; of a volume the middle slice is taken.
        side: R in pixels.
        channels: 1 or 3.
        slice_axis: see `config.Data.slice_axis`.
    """
    known, hidden = _spread(labeled, count), _spread(unlabeled, count)
    by_id = {case.id: case for case in monitor}
    watched = [by_id[case.id] for case in hidden if case.id in by_id]
    complete = bool(hidden) and len(watched) == len(hidden)

    def image(case: Case) -> NDArray[np.float32]:
        pixels = to_unit(read_image(case.image, slice_axis=slice_axis))
        middle = len(pixels) // 2
        square = to_channels(working_images(pixels[middle : middle + 1], side, channels), channels)
        array: NDArray[np.float32] = square.movedim(1, -1).numpy()
        return array

    def label(case: Case) -> NDArray[np.uint8]:
        pixels = load_label(case, table, slice_axis=slice_axis).pixels
        middle = torch.from_numpy(pixels[len(pixels) // 2].astype(np.uint8))
        array: NDArray[np.uint8] = resize_labels(middle[None], side).numpy()
        return array

    none = np.zeros((0, side, side, channels), np.float32)
    return Probe(
        labeled=np.concatenate([none, *map(image, known)]),
        labels=np.concatenate([none[..., 0].astype(np.uint8), *map(label, known)]),
        unlabeled=np.concatenate([none, *map(image, hidden)]),
        monitor=np.concatenate([label(case) for case in watched]) if complete else None,
    )


def assess(segmenter: Segmenter, probe: Probe) -> dict[str, Any]:
    """Score the networks as they are, without a test label.

        score = labeled_dice * agreement        (of one network: labeled_dice)

    Returns:
        score, labeled_dice (mean over the trained branches), agreement (of the two students; None
        for one branch), stability (mean over branches of student against teacher); of unlabeled
        images; and pseudo_dice {branch: Dice of the pseudo-labels} where monitored.
    """
    branches = segmenter.networks.names
    answers = segmenter.answers()
    known = _predict(segmenter, probe.labeled, [(b, "student") for b in branches])
    labeled_dice = fmean(_dice(segmenter, Q, probe.labels) for Q in known.values())
    # Whoever labels: the teachers, or students where there are none.
    labeling = [a for a in answers if a[1] == "teacher"] or list(answers)
    watched = labeling if probe.monitor is not None else []
    networks = [a for a in answers if a[0] != "fused"]
    hidden = _predict(segmenter, probe.unlabeled, list(dict.fromkeys([*networks, *watched])))

    def alike(one: Answer, other: Answer) -> float:
        return _dice(segmenter, hidden[one], hidden[other])

    agreement: float | None = None
    stability: float | None = None
    if len(probe.unlabeled):
        if len(branches) == 2:
            agreement = alike(("unet", "student"), ("medsam", "student"))
        taught = [b for b in branches if (b, "teacher") in answers]
        stability = _mean([alike((b, "student"), (b, "teacher")) for b in taught])
    found: dict[str, Any] = {
        "score": labeled_dice * (1.0 if agreement is None else agreement),
        "labeled_dice": labeled_dice,
        "agreement": agreement,
        "stability": stability,
    }
    if probe.monitor is not None:
        found["pseudo_dice"] = {a[0]: _dice(segmenter, hidden[a], probe.monitor) for a in watched}
    return found


def recommend(
    segmenter: Segmenter,
    probe: Probe,
    augment: Augment,
    *,
    seed: int,
    looked: Callable[[int], None] | None = None,
) -> tuple[Answer, str]:
    """Which branch to deploy, student or teacher, by evidence that needs no test label, and why.

    For each answer: its Dice on the labeled images times the Dice between what it says of unlabeled
    images as they are and under strong views. The largest wins; among equals a student. `looked`
    is told after each forward how many images it was of.
    """
    answers = sorted(segmenter.answers(), key=lambda answer: answer[1])
    if len(answers) == 1:
        return answers[0], "the only answer of this run"
    generator = torch.Generator().manual_seed(seed)
    plain = torch.from_numpy(probe.unlabeled).movedim(-1, 1)
    known = _predict(segmenter, probe.labeled, answers, looked)
    calm = _predict(segmenter, probe.unlabeled, answers, looked)
    steady: dict[Answer, list[float]] = {a: [] for a in answers}
    for _ in range(SHAKES if len(plain) else 0):
        strong = strong_views(plain, augment, generator).movedim(1, -1).numpy()
        shaken = _predict(segmenter, strong, answers, looked)
        for a in answers:
            steady[a].append(_dice(segmenter, calm[a], shaken[a]))
    evidence = {}
    for a in answers:
        steadiness = _mean(steady[a])
        right = _dice(segmenter, known[a], probe.labels)
        evidence[a] = right if steadiness is None else right * steadiness
    best = max(answers, key=lambda answer: evidence[answer])
    rows = ", ".join(f"{answer_name(a)} {value:.3f}" for a, value in evidence.items())
    return best, f"labeled Dice x steadiness under strong views: {rows}"


def _spread(cases: Sequence[Case], count: int) -> list[Case]:
    if len(cases) <= count:
        return list(cases)
    return [cases[int(i)] for i in np.linspace(0, len(cases) - 1, count)]


def _predict(
    segmenter: Segmenter,
    images: NDArray[np.float32],
    wanted: Sequence[Answer],
    looked: Callable[[int], None] | None = None,
) -> dict[Answer, Tensor]:
    """Label maps (n, s, s) at each network's side."""
    found: dict[Answer, list[Tensor]] = {a: [] for a in wanted}
    for start in range(0, len(images), AT_ONCE):
        some = images[start : start + AT_ONCE]
        P = segmenter.probabilities(some, wanted)
        for answer in wanted:
            found[answer].append(argmax_classes(P[answer]).cpu())
        if looked:
            looked(len(some))
    empty = torch.zeros(0, 1, 1, dtype=torch.int64)
    return {a: torch.cat(maps) if maps else empty for a, maps in found.items()}


def _dice(segmenter: Segmenter, Q: Tensor, other: Tensor | NDArray[np.uint8]) -> float:
    """Dice over all images as one: two maps that leave an image empty agree on nothing there.

    The mean over images would count such a pair as full agreement, and so crown a network that
    sees no lesion anywhere (docs/lab-notes.md).
    """
    if len(Q) == 0:
        return 0.0
    if isinstance(other, np.ndarray):
        other = torch.from_numpy(other).long()
    # By pixel centers, as labels are in training: floor sampling shifts one grid against the other.
    Q, other = (resize_labels(x, min(Q.shape[-1], other.shape[-1])) for x in (Q, other))
    Q, other = (x.reshape(1, -1, x.shape[-1]) for x in (Q, other))
    return dice_agreement(Q, other, segmenter.classes, nested=segmenter.nested).item()


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
