"""The run folder: names and schemas of its files; no torch.

    config.yaml            the resolved config, which repeats the run
    environment.json       {versions: {package: version}, python, platform, cpus, memory_gib,
                            commit, command, started, device, gpu?, cuda? (both on a GPU),
                            processes, precision, notices: what the user was told at the start}
    split.json             {root, classes, nested, labeled: [CASE], unlabeled: [CASE],
                            test: [CASE], monitor: [CASE], files: {path: {size, time, sha256}}}
                           CASE: {id, image, label: [paths], domain, patient, split, spacing};
                           paths are relative to the root, where they lie below it
    metrics.jsonl          one line per `train.log_every` steps and per evaluation:
                           {step, loss, L_x_UT, L_x_MS, L_u_UT, L_u_MS, L_c, L_d, lam, alpha,
                            phi_self, phi_mut, trusted, seconds of training so far,
                            loss_scale? (fp16: halved by each step in which a gradient overflowed)}
                           {step, kind: "evaluation", score, labeled_dice, agreement, stability,
                            pseudo_dice?: {unet, medsam, fused (by Eq. 3-6)}, test_dice?,
                            test?: {branch: {role: Dice}}}
    summary.json           steps, best_step, test_step, rule, seconds, seconds_per_step,
                           peak_memory_gib, skipped_steps, recommended, recommended_role, why,
                           calibration: {branch: {role: {base, expected, agreement,
                            empty, views}}}, device, precision
    checkpoints/           last, best, best_on_test_BRANCH?, step_000500, ...: safetensors, where
                           they stand in the header
    base.safetensors?      what is frozen: the encoder, or the whole guide of SemiSAM
    metrics.json           {protocol, rule, checkpoint, step, data, changes, unit, empty_policy,
                            classes, cases, skipped_without_label, seen_in_training, recommended,
                            recommended_role, estimate, branches: {unet|medsam|fused:
                             {student|teacher: {mean_over_domains: SCORES, domains: {name: {cases,
                              patients, unit, SCORES, classes: {name: SCORES}}}}}},
                            steps?: {branch: step}, where each branch was scored at the step at
                             which it was best on the test set (paper's protocol of a suite)}
                           unit: mm, px or mixed, of hd95 and asd
                           SCORES: dice, jaccard, hd95, asd, but for classes dice_ci95: [low, high];
                           null: an interval from fewer than 3 patients, a mean of px and mm
                           estimate: null or {cases, branches: as above with estimated dice alone,
                           of all test cases, labeled or not}
    evaluation/cases.csv   case, patient, domain, class, branch, role, dice, jaccard, hd95, asd,
                           unit, empty
    evaluation/estimates.csv   case, domain, branch, role, estimated_dice
    evaluation/pictures/   `<domain>__<best|median|worst>.npz`: see `save_example`
    pictures/              PNG for people
    report.html
    tensorboard/           the curves once more, with train.tensorboard
    .lock                  held by the process that trains the run

Dice and Jaccard are fractions in [0, 1] in files and percent in tables. A number that does not
exist (a mean of px and mm, a loss that overflowed) is null. How files are written so that
none is ever half of one: storage.py.
"""

from __future__ import annotations

import csv
import json
import re
import shlex
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from synfoc.answers import BRANCHES, Branch
from synfoc.errors import UserError
from synfoc.storage import plain, read_json, replacing, told

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

METRICS = ("dice", "jaccard", "hd95", "asd")
CASE_COLUMNS = ("case", "patient", "domain", "class", "branch", "role", *METRICS, "unit", "empty")
"""Of evaluation/cases.csv: one line per case, class and answer."""
Kind: TypeAlias = Literal["best", "median", "worst"]
KINDS: tuple[Kind, ...] = ("best", "median", "worst")
MIN_PATIENTS = 3
"""Of a domain that gets an interval: fewer, drawn again, tell next to nothing about others."""


class RunFolder:
    """Paths of one run, by name, and its small files read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.environment = path / "environment.json"
        self.split = path / "split.json"
        self.log = path / "metrics.jsonl"
        self.summary = path / "summary.json"
        self.checkpoints = path / "checkpoints"
        self.base = path / "base.safetensors"
        self.metrics = path / "metrics.json"
        self.cases = path / "evaluation" / "cases.csv"
        self.estimates = path / "evaluation" / "estimates.csv"
        self.example_folder = path / "evaluation" / "pictures"
        self.pictures = path / "pictures"
        self.report = path / "report.html"
        self.tensorboard = path / "tensorboard"
        self.lock = path / ".lock"

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Make the folder of a new run.

        Raises:
            UserError: the folder holds something already, or cannot be written.
        """
        cls.check_free(path)
        run = cls(path)
        with told(path):
            for folder in (path, run.checkpoints, run.example_folder, run.pictures):
                folder.mkdir(parents=True, exist_ok=True)
        return run

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only process that trains this run, and sweep what a killed one left half-written.

        Raises:
            UserError: another process trains it.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.lock, timeout=0)
        try:
            with told(self.lock):
                lock.acquire()
        except Timeout:
            raise UserError(
                f"{self.path} is being trained",
                found="another process that trains this run",
                expected="one at a time",
                fix="wait until it has ended, or stop it",
            ) from None
        try:
            for torn in [*self.path.glob(".*.tmp"), *self.checkpoints.glob(".*.tmp")]:
                torn.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    @staticmethod
    def check_free(path: Path) -> None:
        """Make sure that a new run may have this folder; nothing is created.

        Raises:
            UserError: it is a file, or it holds something already.
        """
        with told(path):
            found = sorted(p.name for p in path.iterdir()) if path.is_dir() else []
            if path.is_file():
                found = ["a file"]
        if found:
            raise UserError(
                f"{path} is not empty",
                found=", ".join(found[:4]) + (", ..." if len(found) > 4 else ""),
                expected="a new or an empty folder for the run",
                fix="choose another --out, or go on with that run: synfoc train --resume",
            )

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open a run that exists.

        Raises:
            UserError: there is no config.yaml in the folder, so it is not a run folder.
        """
        run = cls(path)
        if not run.config.is_file():
            there = "no such folder"
            if path.is_dir():
                names = sorted(p.name for p in path.iterdir())[:4]
                there = ", ".join(names) or "an empty folder"
            raise UserError(
                f"{path} is not a run folder",
                found=there if not path.is_file() else "a file",
                expected="a folder with config.yaml, written by `synfoc train`",
                fix="give the folder that `synfoc train` printed last (its --out)",
            )
        return run

    def checkpoint(self, name: str) -> Path:
        """Path of a checkpoint: `last`, `best`, `best_on_test_unet`, `step_000500`, ..."""
        return self.checkpoints / f"{name}.safetensors"

    @staticmethod
    def step_name(step: int) -> str:
        """Name of the checkpoint that is kept of a step, beside `last` and `best`."""
        return f"step_{step:06d}"

    def numbered_checkpoints(self) -> list[Path]:
        """Checkpoints that are kept of single steps, the oldest first."""
        found = self.checkpoints.glob("step_*.safetensors")
        return sorted(found, key=lambda path: int(path.stem.removeprefix("step_")))

    def example(self, domain: str | None, kind: str) -> Path:
        """Path of one example picture's arrays; kind is best, median or worst."""
        name = re.sub(r"[^\w.-]+", "_", domain or "all")
        if name != (domain or "all"):
            name += f"-{zlib.crc32(str(domain).encode()):08x}"  # `GE 1.5T` beside `GE_1.5T`
        return self.example_folder / f"{name}__{kind}.npz"

    def read_summary(self) -> dict[str, Any]:
        """summary.json, or {} while training has not ended."""
        return read_json(self.summary, "summary of training") if self.summary.is_file() else {}

    def read_environment(self) -> dict[str, Any]:
        """environment.json, or {} where it is missing."""
        return read_json(self.environment, "environment") if self.environment.is_file() else {}

    def read_metrics(self) -> dict[str, Any]:
        """metrics.json.

        Raises:
            UserError: the run has not been evaluated, or the file is not one of ours.
        """
        if not self.metrics.is_file():
            raise UserError(
                f"{self.path} has no scores yet",
                found="no metrics.json",
                expected="an evaluated run",
                fix=f"synfoc evaluate {shlex.quote(str(self.path))}",
            )
        metrics = read_json(self.metrics, "scores of a run")
        if not isinstance(metrics.get("branches"), dict):
            raise UserError(
                f"{self.metrics} does not hold scores",
                found="keys " + ", ".join(list(metrics)[:6]),
                expected="a key `branches`, as `synfoc evaluate` writes it",
                fix=f"synfoc evaluate {shlex.quote(str(self.path))}",
            )
        return metrics

    def read_cases(self) -> list[dict[str, str]]:
        """Rows of evaluation/cases.csv as text; [] where it is missing."""
        if not self.cases.is_file():
            return []
        with self.cases.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def read_examples(self) -> list[Example]:
        """All example pictures, by domain, then best, median, worst."""
        found = [load_example(p) for p in sorted(self.example_folder.glob("*.npz"))]
        return sorted(found, key=lambda e: (e.domain or "", KINDS.index(e.kind)))


@dataclass(frozen=True)
class Example:
    """One test case to look at: best, median or worst of its domain, or the only one.

    The order is by the mean Dice over classes of the recommended branch. A volume gives the slice
    with the most label pixels.
    """

    case: str
    domain: str | None
    kind: Kind
    image: NDArray[np.uint8]
    """(h, w) or (h, w, 3), as shown to a person: 0..255."""
    label: NDArray[np.uint8]
    """(h, w), class indices 0..C."""
    masks: Mapping[Branch, NDArray[np.uint8]]
    """Those of the branches that the run has: (h, w), class indices 0..C."""
    dice: Mapping[Branch, float | None]
    """Of the whole case, mean over classes, in [0, 1]; None where it does not exist."""
    spacing: tuple[float, float] | None = None
    """mm between rows and between columns, so that pixels that are not square are shown true."""


def save_example(path: Path, example: Example) -> None:
    """Save one test case for the report's pictures.

    An .npz with the arrays `image`, `label` and one per branch, and as JSON in `info` what else is
    known: {case, domain, kind, dice, spacing?}.

    Args:
        path: `RunFolder.example(domain, kind)`.
        example: image, label and masks of one size.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    import numpy as np

    if any(mask.shape != example.label.shape for mask in example.masks.values()):
        raise ValueError("label and masks of an example must have one shape")
    if example.image.shape[:2] != example.label.shape:
        raise ValueError("an example needs an image of its label's size")
    info: dict[str, Any] = {"case": example.case, "domain": example.domain, "kind": example.kind}
    info["dice"] = example.dice
    if example.spacing:
        info["spacing"] = example.spacing
    with replacing(path) as part, part.open("wb") as file:
        text = np.array(json.dumps(plain(info), ensure_ascii=False))
        arrays: dict[str, Any] = {"image": example.image, "label": example.label, "info": text}
        arrays.update((str(branch), mask) for branch, mask in example.masks.items())
        np.savez_compressed(file, **arrays)


def load_example(path: Path) -> Example:
    """Read what `save_example` wrote.

    Raises:
        UserError: the file is torn or not an example.
    """
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            info = json.loads(str(file["info"]))
            spacing = info.get("spacing")
            return Example(
                case=info["case"],
                domain=info["domain"],
                kind=info["kind"],
                image=file["image"],
                label=file["label"],
                masks={branch: file[branch] for branch in BRANCHES if branch in file},
                dice=info.get("dice", {}),
                spacing=(spacing[0], spacing[1]) if spacing else None,
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is not an example picture",
            found=str(error),
            expected="an .npz written by `synfoc evaluate`",
            fix="evaluate the run again",
        ) from None
