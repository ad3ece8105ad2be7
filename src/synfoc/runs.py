"""The run folder: file names, schemas, atomic reading and writing; no torch.

    config.yaml            the resolved config, which repeats the run
    environment.json       versions, machine, commit, command line: `environment()` and the device
    split.json             labeled, unlabeled and test cases with sha256
    metrics.jsonl          one line per `train.log_every` steps and per evaluation:
                           {step, loss, L_x_UT, L_x_MS, L_u_UT, L_u_MS, L_c, L_d, lam, alpha,
                            phi_self, phi_mut, trusted, seconds of training so far}
                           {step, kind: "evaluation", score, labeled_dice, agreement, stability,
                            pseudo_dice?: {unet, medsam, fused}}
    summary.json           steps, best_step, rule, seconds, seconds_per_step, peak_memory_gib,
                           skipped_steps, recommended, why, device, precision
    checkpoints/           last, best, step_000500, ...: safetensors, where they stand in the header
    base.safetensors       the frozen encoder
    metrics.json           {protocol, rule, step, unit, empty_policy, classes, cases, recommended,
                            branches: {unet|medsam|fused: {student|teacher:
                              {mean_over_domains: SCORES, domains: {name: {cases, SCORES,
                               classes: {name: SCORES}}}}}}}
                           SCORES: dice, jaccard, hd95, asd, dice_ci95: [low, high]
    evaluation/cases.csv   case, domain, class, branch, role, dice, jaccard, hd95, asd, unit, empty
    evaluation/pictures/   `<domain>__<best|median|worst>.npz`: see `save_example`
    pictures/              PNG for people
    report.html

Dice and Jaccard are fractions in [0, 1] in files and percent in tables. A number that does not
exist (a distance to an empty mask, a loss that overflowed) is null. A file is either the old one
or the new one, never half of one: written beside itself, flushed to the disk, then renamed. Only
metrics.jsonl grows in place; a last line torn by a power cut is ignored and cut off on resume.
"""

from __future__ import annotations

import csv
import errno
import importlib.metadata
import json
import math
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synfoc.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BRANCHES = ("unet", "medsam", "fused")
KINDS = ("best", "median", "worst")
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
REFUSED = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST),
    # Some file systems (/proc) and names that are too long refuse in these words.
    *(errno.ENOENT, errno.ENAMETOOLONG),
)
PACKAGES = (
    "synfoc",
    "torch",
    "transformers",
    "lightning-fabric",
    "numpy",
    "scipy",
    "safetensors",
    "SimpleITK",
    "nibabel",
    "pillow",
)


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
        self.example_folder = path / "evaluation" / "pictures"
        self.pictures = path / "pictures"
        self.report = path / "report.html"

    @classmethod
    def create(cls, path: Path, *, resume: bool = False) -> RunFolder:
        """Make the folder of a new run, or with `resume` open one to go on with.

        Raises:
            UserError: the folder holds something already, cannot be written, or (resume) is no run.
        """
        if resume:
            run = cls.open(path)
            for torn in [*path.glob(".*.tmp"), *run.checkpoints.glob(".*.tmp")]:
                torn.unlink(missing_ok=True)
            return run
        cls.check_free(path)
        run = cls(path)
        with _told(path):
            for folder in (path, run.checkpoints, run.example_folder, run.pictures):
                folder.mkdir(parents=True, exist_ok=True)
        return run

    @staticmethod
    def check_free(path: Path) -> None:
        """Make sure that a new run may have this folder; nothing is created.

        Raises:
            UserError: it is a file, or it holds something already.
        """
        with _told(path):
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

    def example(self, domain: str | None, kind: str) -> Path:
        """Path of one example picture's arrays; kind is best, median or worst."""
        name = re.sub(r"[^\w.-]+", "_", domain or "all")
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
        order = {kind: i for i, kind in enumerate(KINDS)}
        return sorted(found, key=lambda e: (e.info["domain"] or "", order[e.info["kind"]]))


@dataclass(frozen=True)
class Example:
    """One test case to look at. Class indices 0..C; masks has one entry per branch."""

    image: NDArray[np.uint8]
    label: NDArray[np.uint8]
    masks: dict[str, NDArray[np.uint8]]
    info: dict[str, Any]


def save_example(
    path: Path,
    image: NDArray[np.uint8],
    label: NDArray[np.uint8],
    masks: Mapping[str, NDArray[np.uint8]],
    info: Mapping[str, Any],
) -> None:
    """Save one test case for the report's pictures.

    Best, median and worst are by the mean Dice over classes of the recommended branch, within a
    domain. A volume gives the slice with the most label pixels.

    Args:
        path: `RunFolder.example(domain, kind)`.
        image: (h, w) or (h, w, 3), as shown to a person: 0..255.
        label: (h, w), class indices.
        masks: branch (unet, medsam, fused; those that the run has) -> (h, w), class indices.
        info: {case: str, domain: str | None, kind: best|median|worst, dice: {branch: 0..1 or
            None}, spacing?: (rows, columns) in mm}. Its Dice is that of the whole case, mean over
            classes; the spacing is there so that pixels that are not square are shown true.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    import numpy as np

    if any(mask.shape != label.shape for mask in masks.values()):
        raise ValueError("label and masks of an example must have one shape")
    if image.shape[:2] != label.shape or not set(masks) <= set(BRANCHES):
        raise ValueError("an example needs an image of its label's size and known branches")
    with replacing(path) as part, part.open("wb") as file:
        text = np.array(json.dumps(_plain(info), ensure_ascii=False))
        arrays: dict[str, Any] = {"image": image, "label": label, "info": text, **masks}
        np.savez_compressed(file, **arrays)


def load_example(path: Path) -> Example:
    """Read what `save_example` wrote.

    Raises:
        UserError: the file is torn or not an example.
    """
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            masks = {branch: file[branch] for branch in BRANCHES if branch in file}
            info = json.loads(str(file["info"]))
            return Example(file["image"], file["label"], masks, info)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(
            f"{path} is not an example picture",
            found=str(error),
            expected="an .npz written by `synfoc evaluate`",
            fix="evaluate the run again",
        ) from None


def environment() -> dict[str, Any]:
    """What a reader needs to know about this machine to repeat a run; the device is added later.

    Returns:
        versions (package -> version or None), python, platform, cpus, memory_gib, commit of the
        source tree (None for an installed package), command, started (UTC, ISO 8601).
    """
    import psutil

    return {
        "versions": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "commit": _commit(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on success it takes the place of `path` at once.

    On any failure the old file stays as it was. Works for every writer: text, safetensors, npz.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with _told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield part
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.replace(path)
    finally:
        with suppress(OSError):  # the folder may not even exist; the first error is the one to tell
            part.unlink()


def write_text(path: Path, text: str) -> None:
    """Replace a text file (UTF-8) atomically; `UserError` where the disk is full."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Replace a JSON file atomically. NaN and infinity become null, numpy scalars numbers."""
    text = json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: Path, what: str = "JSON") -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: the file is missing, or holds no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        value, found = None, "no such file"
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        value, found = None, f"not JSON: {error}"
    else:
        found = type(value).__name__
    if not isinstance(value, dict):
        raise UserError(
            f"cannot read {path}",
            found=found,
            expected=f"a JSON object ({what})",
            fix="check the path; a damaged file must be written again by its command",
        )
    return value


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Append one line of JSON in a single write, so that at most the last line can be torn."""
    text = json.dumps(_plain(line), ensure_ascii=False, allow_nan=False)
    with _told(path), path.open("ab", buffering=0) as file:
        data = text.encode() + b"\n"
        # A raw write may stop short on a full disk without an error.
        if file.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a .jsonl file; [] where it is missing. A torn last line (kill -9) is left out.

    Raises:
        UserError: a line before the last is not JSON.
    """
    if not path.is_file():
        return []
    # What follows the last newline is empty, or torn.
    whole = path.read_bytes().split(b"\n")[:-1]
    return [_line(path, number, text) for number, text in enumerate(whole, start=1)]


def truncate_lines(path: Path, step: int) -> None:
    """Drop lines after `step`, and a torn last line, so that a resumed run goes on cleanly."""
    kept = [line for line in read_lines(path) if line["step"] <= step]
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn a full disk or a forbidden folder into a UserError; other errors pass."""
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        # Writers in other languages (safetensors) tell it in words only.
        if number in FULL or "No space left" in str(error):
            raise UserError(
                f"no space left for {path}",
                found=str(error),
                expected="room on the disk; the old file is untouched",
                fix="free some space, then go on: synfoc train --resume",
            ) from error
        if number in REFUSED:
            raise UserError(
                f"cannot write {path}",
                found=str(error),
                expected="a folder in which you may create files",
                fix="choose another --out, or change the permissions",
            ) from error
        raise


def _line(path: Path, number: int, text: bytes) -> dict[str, Any]:
    try:
        line: dict[str, Any] = json.loads(text)
    except ValueError:
        raise UserError(
            f"{path} is damaged",
            found=f"line {number} is not JSON",
            expected="one JSON object per line",
            fix=f"delete line {number}",
        ) from None
    return line


def _plain(value: Any) -> Any:
    """Value as JSON can hold it: numpy scalars as numbers, paths as text, NaN as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Commit of the source tree, `-dirty` where it was edited; None where git does not know us."""
    git, here = shutil.which("git"), Path(__file__).parent
    if git is None:
        return None

    def ask(*words: str) -> str:
        command = [git, "-C", str(here), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        return done.stdout.strip() if done.returncode == 0 else ""

    # A package installed inside somebody else's repository must not report that one's commit.
    if not ask("ls-files", Path(__file__).name):
        return None
    return ask("describe", "--always", "--dirty", "--abbrev=40", "--match=") or None
