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
                            classes, cases, skipped_without_label, unreadable: [{case, why}],
                            seen_in_training, recommended, recommended_role, estimate,
                            branches: {unet|medsam|fused:
                             {student|teacher: {mean_over_domains: SCORES, domains: {name: {cases,
                              patients, unit, SCORES, classes: {name: SCORES}}}}}},
                            steps?: {branch: step}, where each branch was scored at the step at
                             which it was best on the test set (paper's protocol of a suite),
                            run?: in a folder of `evaluate --out`, the run that was scored}
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

import os
import re
import shlex
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from os.path import lexists
from pathlib import Path
from typing import Any

from synfoc.case_tables import read_cases
from synfoc.config import Config, load_config
from synfoc.errors import UserError
from synfoc.example_files import Example, load_examples
from synfoc.headers import header_config
from synfoc.records import (
    Environment,
    Line,
    Metrics,
    Summary,
    fault,
    read_record,
    read_split,
)
from synfoc.storage import obstacle, sound_lines, told, unreadable

MIN_PATIENTS = 3
"""Of a domain that gets an interval: fewer, drawn again, tell next to nothing about others."""


class RunFolder:
    """Paths of one run, by name, and its small files read."""

    def __init__(self, path: Path, scored: Path | None = None) -> None:
        """`scored`: the run of which this is a folder of scores, from `evaluate --out`."""
        self.path = path
        own = f"synfoc evaluate {shlex.quote(str(scored or path))}"
        self.evaluate_command = f"{own} --out {shlex.quote(str(path))}" if scored else own
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
        except UserError as error:
            raise UserError(
                error.what,
                found=error.found,
                expected="a run folder in which you may write",
                fix=f"change its permissions, or copy it to where you may: cp -r {self.quoted} "
                "NEW, then synfoc train --resume NEW"
                if not self.lock.is_dir()
                else error.fix,
            ) from None
        except Timeout:
            raise UserError(
                f"{self.path} is being trained",
                found="another process that trains this run",
                expected="one at a time",
                fix="wait until it has ended, or stop it",
            ) from None
        try:
            for torn in [*self.path.glob(".*.tmp"), *self.checkpoints.glob(".*.tmp")]:
                if not torn.is_dir():
                    torn.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    @staticmethod
    def check_free(path: Path) -> None:
        """Make sure that a new run may have this folder; nothing is created.

        Raises:
            UserError: it is a file, it holds something already, or its name is not UTF-8.
        """
        _refuse_odd_name(path)
        with told(path):
            found = sorted(p.name for p in path.iterdir()) if path.is_dir() else []
            if path.is_file():
                found = ["a file"]
        if found:
            fix = "choose another --out"
            if "config.yaml" in found:
                fix += f", or go on with that run: {RunFolder(path).resume_command}"
            raise UserError(
                f"{path} is not empty",
                found=", ".join(found[:4]) + (", ..." if len(found) > 4 else ""),
                expected="a new or an empty folder for the run",
                fix=fix,
            )

    @property
    def quoted(self) -> str:
        """The folder as a shell takes it."""
        return shlex.quote(str(self.path))

    @property
    def resume_command(self) -> str:
        """Goes on with the run; of one that has ended it writes config and summary anew."""
        return f"synfoc train --resume {self.quoted}"

    @property
    def split_fix(self) -> str:
        """Brings split.json back."""
        config = shlex.quote(str(self.config))
        return (
            f"`synfoc train {config} --steps 1 -o NEW` makes the same split, while the data are "
            "the same: copy NEW/split.json to its place"
        )

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open a run that exists.

        Raises:
            UserError: the folder has no config.yaml and no checkpoint, so it is not a run folder;
                or its name is not UTF-8.
        """
        _refuse_odd_name(path)
        run = cls(path)
        try:
            if run.config.is_file() or run.checkpoint_names():
                return run
            there = _listing(path)
        except OSError as error:
            there = error.strerror or str(error)
        fix = "give the folder that `synfoc train` printed last (its --out)"
        if scored := run.scored_run():
            there = f"scores of the run {scored}, from `synfoc evaluate --out`"
            fix = f"give the run: {shlex.quote(str(scored))}"
        raise UserError(
            f"{path} is not a run folder",
            found=there,
            expected="a folder with config.yaml, written by `synfoc train`",
            fix=fix,
        )

    def scored_run(self) -> Path | None:
        """Return the run of which this folder, from `evaluate --out`, holds the scores.

        None for a run.

        Raises:
            UserError: it holds no config.yaml, and its metrics.json is damaged.
        """
        if self.config.is_file() or self.checkpoints.is_dir() or not lexists(self.metrics):
            return None
        fix = f"synfoc evaluate RUN --out {self.quoted}"
        run = read_record(self.metrics, Metrics, "scores of a run", fix=fix).get("run")
        return Path(run) if run else None

    def checkpoint(self, name: str) -> Path:
        """Path of a checkpoint: `last`, `best`, `best_on_test_unet`, `step_000500`, ..."""
        return self.checkpoints / f"{name}.safetensors"

    @staticmethod
    def step_name(step: int) -> str:
        """Name of the checkpoint that is kept of a step, beside `last` and `best`."""
        return f"step_{step:06d}"

    def numbered_checkpoints(self) -> list[Path]:
        """Checkpoints that are kept of single steps, the oldest first."""
        steps = [int(n[5:]) for n in self.checkpoint_names() if re.fullmatch(r"step_\d+", n)]
        return [self.checkpoint(self.step_name(step)) for step in sorted(steps)]

    def example(self, domain: str | None, kind: str) -> Path:
        """Path of one example picture's arrays; kind is best, median or worst."""
        name = re.sub(r"[^\w.-]+", "_", domain or "all")
        if name != (domain or "all"):
            name += f"-{zlib.crc32(str(domain).encode()):08x}"  # `GE 1.5T` beside `GE_1.5T`
        return self.example_folder / f"{name}__{kind}.npz"

    def checkpoint_names(self) -> list[str]:
        """Names of the checkpoints that are there, sorted.

        Raises:
            UserError: their folder may not be read.
        """
        try:
            files = [Path(name) for name in os.listdir(self.checkpoints)]  # noqa: PTH208 (glob hides errors)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError:
            raise unreadable(
                self.checkpoints, obstacle(self.checkpoints), expected="a folder", fix=""
            ) from None
        return sorted(
            p.stem for p in files if p.suffix == ".safetensors" and not p.name.startswith(".")
        )

    def read_config(self) -> tuple[Config, UserError | None]:
        """Return the resolved config, and the error of config.yaml where a checkpoint had to tell.

        Raises:
            UserError: neither config.yaml nor a checkpoint can be read.
        """
        try:
            return _whole_config(self.config), None
        except UserError as error:
            damaged = error
        names: list[str] = []
        with suppress(UserError):
            names = sorted(self.checkpoint_names(), key=lambda name: name != "last")
        for name in names:
            with suppress(UserError):
                config = header_config(self.checkpoint(name), fix="")
                return config, unreadable(
                    self.config,
                    damaged.found,
                    expected=f"the settings, which are now read from checkpoints/{name}",
                    fix=f"`{self.resume_command}` writes it anew",
                )
        raise UserError(
            damaged.what,
            found=damaged.found,
            expected=damaged.expected,
            fix=f"restore {self.config} from a copy: no checkpoint holds the settings either",
        )

    def read_summary(self) -> dict[str, Any]:
        """summary.json, or {} while training has not ended.

        Raises:
            UserError: it is damaged.
        """
        if not lexists(self.summary):
            return {}
        fix = f"`{self.resume_command}` writes it anew, if the data are there"
        return read_record(self.summary, Summary, "summary of training", fix=fix)

    def read_environment(self) -> dict[str, Any]:
        """environment.json, or {} where it is missing.

        Raises:
            UserError: it is damaged.
        """
        if not lexists(self.environment):
            return {}
        fix = "restore it from a copy; only reports read it"
        return read_record(self.environment, Environment, "environment", fix=fix)

    def read_split(self) -> dict[str, Any]:
        """split.json.

        Raises:
            UserError: it is missing or damaged.
        """
        return read_split(self.split, fix=self.split_fix)

    def read_metrics(self) -> dict[str, Any]:
        """metrics.json.

        Raises:
            UserError: the run has not been evaluated, or the file is not one of ours.
        """
        fix = self.evaluate_command
        if not lexists(self.metrics):
            raise UserError(
                f"{self.path} has no scores yet",
                found="no metrics.json",
                expected="an evaluated run",
                fix=fix,
            )
        metrics = read_record(self.metrics, Metrics, "scores of a run", fix=fix)
        if "branches" not in metrics:
            raise UserError(
                f"{self.metrics} does not hold scores",
                found="keys " + (", ".join(list(metrics)[:6]) or "none"),
                expected="a key `branches`, as `synfoc evaluate` writes it",
                fix=fix,
            )
        return metrics

    def read_cases(self) -> list[dict[str, str]]:
        """Rows of evaluation/cases.csv as text; [] where it is missing.

        Raises:
            UserError: it is damaged.
        """
        return read_cases(self.cases, fix=self.evaluate_command)

    def read_log(self) -> tuple[list[dict[str, Any]], int]:
        """Lines of metrics.jsonl in the order of their steps, and how many cannot be read.

        Raises:
            UserError: the whole file cannot be read.
        """
        lines, damaged = sound_lines(self.log)
        sound = [line for line in lines if fault(line, Line) is None]
        sound.sort(key=lambda line: int(line["step"]))
        return sound, len(damaged) + len(lines) - len(sound)

    def read_examples(self) -> tuple[list[Example], list[UserError]]:
        """See `load_examples`."""
        return load_examples(self.example_folder, fix=self.evaluate_command)


def _refuse_odd_name(path: Path) -> None:
    """Stop at a name that the writer of checkpoints does not take.

    Raises:
        UserError: the name of a run is not UTF-8.
    """
    try:
        os.fsencode(path.absolute()).decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(
            f"the name of {str(path)!r} is not UTF-8",
            found=str(os.fsencode(path.name)),
            expected="a name that every program can write",
            fix="rename the folder, e.g. in a file manager, or choose another one",
        ) from None


def _listing(path: Path) -> str:
    """Return the first names in a folder, in words."""
    if not path.is_dir():
        return "a file" if path.is_file() else "no such folder"
    names = sorted(p.name for p in path.iterdir())
    return ", ".join(names[:4]) or "an empty folder"


def log_fault(lines: Sequence[Mapping[str, Any]], lost: int, summary: Mapping[str, Any]) -> str:
    """Return what is wrong with the log of a run; "" where nothing is.

    Args:
        lines: those that can be read, in the order of their steps.
        lost: how many others there are.
        summary: of training, which has come to its end where it holds anything.
    """
    if lost:
        return f"{lost} lines that cannot be read"
    last, steps = (lines[-1]["step"] if lines else 0), summary.get("steps", 0)
    return f"lines up to step {last} of {steps}" if last < steps else ""


def one_line(error: UserError) -> str:
    """Return an error within a sentence."""
    return f"{error.what}: {error.found}"


LAST_KEY = "\n  tensorboard: "
"""What ends the config of a run of version 0.1, which wrote no mark of the end."""


def _whole_config(path: Path) -> Config:
    """Read the config of a run, of which a part alone would leave the rest to the defaults.

    Raises:
        UserError: as `load_config`; also a file without its end.
    """
    config = load_config(path)
    text = path.read_text(encoding="utf-8")
    if "\n...\n" not in text and LAST_KEY not in text:
        raise unreadable(
            path,
            "a file whose end is missing",
            expected="all settings of the run, and a last line of three dots",
            fix="restore it from a copy",
        )
    return config
