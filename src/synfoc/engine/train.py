"""The loop: batch, step, backward, teachers, log, evaluate, save. Read methods/synfoc.py first.

For every step k:
    b = stream.batch(k)        depends on (seed, k) alone
    step = method(f, b)        losses; tensors in, tensors out
    learn(step.loss)           backward, SGD and AdamW, teachers follow; skipped if not finite
    now and then               log, evaluate without test labels, checkpoint
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from torch import Tensor

from synfoc.answers import deployed_by_paper
from synfoc.batches.batch import Batch
from synfoc.batches.stream import Stream
from synfoc.config import Config, FoundationModel
from synfoc.engine.checkpoint import (
    Progress,
    load_checkpoint,
    on_test,
    read_progress,
)
from synfoc.engine.checkpoint_files import find_base, find_checkpoint
from synfoc.engine.cost import estimate_step
from synfoc.engine.inference import Segmenter
from synfoc.engine.journal import Journal
from synfoc.engine.machine import (
    choose_device,
    choose_precision,
    emulated,
    full_gpu_told,
    keep_freed_memory,
    reset_peak_memory,
)
from synfoc.engine.method import method_of
from synfoc.engine.optimize import Skips, forget_gradients, learn, make_optimizers
from synfoc.engine.parallel import anywhere, launched, make_fabric, set_up, together
from synfoc.engine.prepare import Prepared, last_needed, prepare, stored_config
from synfoc.engine.progress import (
    Display,
    Interruption,
    figures_of,
    interruptible,
    progress_callback,
)
from synfoc.engine.select import Judge
from synfoc.errors import Interrupted, UserError
from synfoc.methods.interface import Step
from synfoc.models.build import build_networks
from synfoc.runs import RunFolder
from synfoc.storage import AnyPath

if TYPE_CHECKING:
    from lightning_fabric import Fabric

BAD_STEPS = 20
"""So many losses in a row that are not finite end the run."""
ASK_EVERY = 10
"""Steps between two questions whether any of several processes was told to stop."""


@full_gpu_told(
    fix="--set medsam.recompute=true (a run that was begun: in its config.yaml), or a smaller "
    "method.batch in a new run"
)
def train(
    config: Config | None, out: AnyPath, *, resume: bool = False, console: Console | None = None
) -> Path:
    """Train one run.

    Args:
        config: settings; with `resume` None, or those of the run, of which only the practical ones
            (`config.PRACTICAL`: device, cache, recompute, ...) may be others.
        out: the run folder; new, or with `resume` the one to go on with.
        resume: go on from the last checkpoint; the result equals that of an unbroken run, bit for
            bit on the CPU in fp32.
        console: where progress is shown; None is silent.

    Returns:
        The run folder: networks in checkpoints/, curves in metrics.jsonl, see `synfoc.runs`.

    Raises:
        UserError: input that cannot be trained on, and nothing is written then; a GPU that is full.
        Interrupted: Ctrl-C or SIGTERM; the run is saved.
    """
    out = Path(out)
    folder = RunFolder(out)
    _check_config(config, resume=resume)
    if resume:
        config = stored_config(RunFolder.open(out), config)
    else:
        RunFolder.check_free(out)
        _refuse_among_images(out, config)
    assert config is not None  # see `_check_config`
    with progress_callback(console, "read") as progress:
        prepared = prepare(config, folder if resume else None, progress)
    device = choose_device(config.train.device)
    keep_freed_memory(device)
    fabric = make_fabric(config, device)
    with launched(fabric), ExitStack() as held:
        trainer = Trainer(prepared, folder, fabric)
        writes = fabric.is_global_zero
        with together(fabric):
            if writes and not resume:
                RunFolder.create(out)
            if writes:
                held.enter_context(folder.held())
        with (
            interruptible() as interruption,
            Display(console if writes else None, config.train.steps) as display,
        ):
            trainer.begin(display, resume=resume)
            trainer.run(display, interruption)
            display.say(
                "last look, without test labels: which answer to recommend, how far to trust it"
            )
        # Every step is saved: Ctrl-C may stop this at once, and --resume repeats it.
        with progress_callback(console if writes else None, "last look") as progress:
            trainer.finish(progress)
    return out


def _refuse_among_images(out: Path, config: Config | None) -> None:
    """Keep a run out of its data folder, which would be read with the pictures of the report.

    Raises:
        UserError: it is inside.
    """
    data = None if config is None else config.data.path
    if data is not None and data.is_dir() and out.resolve().is_relative_to(data.resolve()):
        raise UserError(
            f"a run cannot go to {out}",
            found=f"a place among the images of {data}",
            expected="a folder outside of the data",
            fix="choose another --out",
        )


def _check_config(config: Config | None, *, resume: bool) -> None:
    """Make sure that there is a config, and no file or dict in its place."""
    if isinstance(config, Config) or (config is None and resume):
        return
    raise UserError(
        "a run needs a config",
        found="none" if config is None else f"a {type(config).__name__}: {config}"[:80],
        expected="what synfoc.load_config(path) returns; None only with resume=True",
        fix="train(load_config(path), out), or to go on with a run: train(None, out, resume=True)",
    )


@dataclass(frozen=True)
class Due:
    """What is to be done between two steps."""

    log: bool
    evaluate: bool
    save: bool
    stop: bool

    def __bool__(self) -> bool:
        return self.log or self.evaluate or self.save or self.stop


class Trainer:
    """One run in memory: networks, optimizers, batches, and where it stands."""

    def __init__(self, prepared: Prepared, folder: RunFolder, fabric: Fabric) -> None:
        self.config, self.fabric, self.folder = prepared.config, fabric, folder
        self.prepared = prepared
        config, data, split = prepared.config, prepared.config.data, prepared.split
        assert data.classes is not None
        assert data.channels is not None
        self.precision = choose_precision(config.train.precision, fabric.device)
        self.networks = build_networks(
            config,
            classes=len(data.classes),
            channels=data.channels,
            generator=torch.Generator().manual_seed(config.train.seed),
            base=self._base(),
        ).to(fabric.device)
        for branch in self.networks.branches:
            settings = config.settings_of(branch.name)
            if isinstance(settings, FoundationModel):
                branch.student.recompute = bool(settings.recompute)
        self.optimizers = make_optimizers(self.networks, config)
        self.method = method_of(config)
        self.stream = Stream(
            prepared.table,
            split,
            sides=self.networks.sides,
            channels=data.channels,
            batch=config.method.batch,
            augment=config.augment,
            paste_area=config.method.paste_area,
            seed=config.train.seed,
            device=fabric.device,
            slice_axis=data.slice_axis,
            cache_gib=data.cache_gib,
            supervised=not config.method.about.unlabeled,
        )
        segmenter = Segmenter(
            self.networks,
            classes=len(data.classes),
            nested=data.nested,
            channels=data.channels,
            device=fabric.device,
            precision=self.precision,
        )
        self.judge = Judge(prepared, segmenter)
        self.journal = Journal(folder, prepared, self.networks, fabric)
        self.progress = Progress()
        self.memory: dict[str, Tensor] = {}
        self.skips = Skips(fabric.device)

    def _base(self) -> Path | None:
        """Return what is frozen, of a run that goes on; None for a new run, or where nothing is."""
        last, method = self.folder.checkpoint("last"), self.config.method
        if not last.is_file() or (method.branches == "unet" and not method.has_guide):
            return None
        return find_base(self.folder, last)

    def begin(self, display: Display, *, resume: bool) -> None:
        """Write down what the run is, or read where it stood; say what it will cost."""
        notices = list(self.prepared.notices)
        with together(self.fabric):
            if resume:
                last = find_checkpoint(self.folder, "last")
                kept: dict[str, Tensor] = {}
                with last_needed(self.folder):
                    self.progress = load_checkpoint(last, self.networks, self.optimizers, kept)
                self.memory = {k: v.to(self.fabric.device) for k, v in kept.items()}
                self.skips = Skips(self.fabric.device, self.progress.skipped)
                self.fabric.strategy.precision.load_state_dict(self.progress.extra)
                notices += self._best_left() + self.journal.go_on(self.progress.step)
            else:
                notices = self.journal.begin(self.precision)
                self.journal.save("last", self.progress, self.optimizers)
        for notice in (*notices, *emulated(self.precision, self.fabric.device)):
            display.say(f"note: {notice}")
        models, self.optimizers = set_up(self.networks, self.optimizers, self.fabric, self.memory)
        self.models = replace(models, early_backward=self._backward)
        self._estimate(display)

    def _best_left(self) -> list[str]:
        """Choose the best anew where its checkpoint has gone since.

        Raises:
            UserError: it is damaged.
        """
        best = self.folder.checkpoint("best")
        if "best" in self.folder.checkpoint_names():
            try:
                read_progress(best)
            except UserError as error:
                raise UserError(
                    error.what,
                    found=error.found,
                    expected=error.expected,
                    fix=f"restore it from a copy, or move it away: {self.folder.resume_command} "
                    "then chooses the best of the steps that are left",
                ) from None
            return []
        lost, self.progress.best_step = self.progress.best_step, 0
        self.progress.best_score = -math.inf
        if not lost:
            return []
        return [f"the best checkpoint, of step {lost}, has gone: of later steps one is chosen"]

    def _estimate(self, display: Display) -> None:
        """Say what a step costs; where memory would not do, keep fewer activations."""
        student, device = self.networks.find("medsam", "student"), self.fabric.device
        undecided = student is not None and self.config.medsam.recompute is None
        if not (display.shown or undecided):
            return
        cost = estimate_step(self.networks, self.config, device, self.precision)
        short = undecided and anywhere(self.fabric, cost.memory_gib > cost.free_gib)
        if student is not None and short:
            student.recompute = True
            display.say(
                f"note: {cost.memory_gib:.1f} GiB would be needed, {cost.free_gib:.1f} are free: "
                "the encoder's activations are computed again in backward (medsam.recompute)"
            )
            cost = estimate_step(self.networks, self.config, device, self.precision)
        if self.progress.step == 0:
            display.say(cost.text(self.config.train.steps))

    def run(self, display: Display, interruption: Interruption) -> None:
        """Train from where the run stands to its last step.

        Raises:
            Interrupted: asked to stop; everything is saved.
            UserError: the loss was not finite 20 times in a row.
        """
        reset_peak_memory(self.fabric.device)
        progress, start = self.progress, time.perf_counter()
        for k, batch in enumerate(self._batches(), start=progress.step):
            forget_gradients(self.optimizers)
            step = self.method(self.models, batch, k)
            finite = learn(
                step.loss,
                k,
                networks=self.networks,
                optimizers=self.optimizers,
                config=self.config,
                fabric=self.fabric,
            )
            self.skips.count(finite)
            progress.step = k + 1
            due = self._due(interruption)
            progress.seconds += time.perf_counter() - start
            self._look_up(step, due, display)
            start = time.perf_counter()  # looking up is not training time
        if progress.skipped:
            display.say(
                f"note: {progress.skipped} of {progress.step} steps were left out, because their "
                "loss was not finite"
            )

    def finish(self, progress: Callable[[int, int], None]) -> None:
        """Say what came out, with the answer that the evidence of the best step recommends.

        `progress` is called with (done, total) while it is looked for.
        """
        if self.fabric.is_global_zero:
            if "best" not in self.folder.checkpoint_names():
                self._evaluate()  # a run that had ended, and has lost it
            # What the files hold counts: a run that was killed between saving the best and the
            # last may have gone another way since, where the device does not repeat itself.
            best = load_checkpoint(find_checkpoint(self.folder, "best"), self.networks)
            self.progress.best_step = best.step
            if self.progress.test_step:
                watched = on_test(deployed_by_paper(self.networks.names))
                self.progress.test_step = read_progress(find_checkpoint(self.folder, watched)).step
            self.journal.end(
                self.progress,
                rule=self.judge.rule,
                precision=self.precision,
                verdict=self.judge.recommend(progress),
            )

    def _backward(self, loss: Tensor) -> Tensor:
        """Run backward on a part of the loss, so that its graph does not wait for the rest."""
        self.fabric.backward(loss)
        return loss.detach()

    def _batches(self) -> Iterator[Batch]:
        """Return the batches that are left; beside a GPU the next one is made while it works."""
        start, stop = self.progress.step, self.config.train.steps
        if self.fabric.device.type == "cuda":
            return self.stream.iterate(start, stop)
        return map(self.stream.batch, range(start, stop))

    def _due(self, interruption: Interruption) -> Due:
        """Return what is to be done after this step.

        Where anything is, the device is waited for.

        A GPU is some steps behind. What it still has to do is training time, so the clock is read
        after this.
        """
        settings, step = self.config.train, self.progress.step
        # Asking other processes makes the device wait.
        asked = self.fabric.world_size == 1 or step % ASK_EVERY == 0

        def now(every: int) -> bool:
            return step == settings.steps or step % every == 0

        due = Due(
            log=now(settings.log_every),
            evaluate=now(settings.evaluate_every),
            save=now(settings.checkpoint_every),
            stop=asked and anywhere(self.fabric, bool(interruption)),
        )
        if due:
            self.progress.skipped = self.skips.total()
        return due

    def _look_up(self, step: Step, due: Due, display: Display) -> None:
        """Between two steps: log, evaluate, save, stop, each when its time has come."""
        progress, is_last = self.progress, self.progress.step == self.config.train.steps
        if not due:
            display.update(progress.step)
            return
        with together(self.fabric):
            line = self.journal.line(step, progress) if due.log else None
            if line and (bad := self.skips.in_a_row()) >= BAD_STEPS:
                raise _not_finite(line, bad)
            display.update(progress.step, figures_of(line) if line else None)
            if due.evaluate and self.fabric.is_global_zero:
                self._evaluate()
            if due.save or due.stop:
                self.journal.save("last", progress, self.optimizers, self.memory)
            if due.save and self.config.train.keep:
                self.journal.save(self.folder.step_name(progress.step), progress)
                self.journal.forget(self.config.train.keep)
            if line and is_last and 2 * (bad := self.skips.in_a_row()) > progress.step:
                # A short run, which learned from less than half of its steps.
                raise _not_finite(line, bad)
        if due.stop and not is_last:
            name = shlex.quote(str(self.folder.path))
            raise Interrupted(
                f"stopped at step {progress.step}; go on with: synfoc train --resume {name}"
            )

    def _evaluate(self) -> None:
        """Score the networks as they are, and keep them where they are the best so far."""
        progress = self.progress
        found, score = self.judge.evaluate()
        self.journal.append({"step": progress.step, "kind": "evaluation", **found})
        if score >= progress.best_score or not progress.best_step:
            progress.best_score, progress.best_step = score, progress.step
            self.journal.save("best", progress)
        if not self.config.train.watch_test:
            return
        for branch, roles in found["test"].items():
            if roles["student"] >= progress.test_scores.get(branch, -math.inf):
                progress.test_scores[branch] = roles["student"]
                if branch == deployed_by_paper(self.networks.names):
                    progress.test_step = progress.step
                self.journal.save(on_test(branch), progress)


def _not_finite(line: Mapping[str, Any], times: int) -> UserError:
    lost = [name for name, v in line.items() if name.startswith("L_") and not math.isfinite(v)]
    return UserError(
        f"the loss was not finite {times} times in a row, last at step {line['step']}",
        found=", ".join(f"{name} = {line[name]}" for name in lost) or "loss not finite",
        expected="finite losses",
        fix="in a new run: --set train.precision=fp32, or a smaller unet.lr and medsam.lr",
    )
