"""The loop: batch, step, backward, teachers, log, evaluate, save. Read methods/synfoc.py first.

for k in steps:   b = stream.batch(k)              depends on (seed, k) alone
                  step = method(f, b)              losses; tensors in, tensors out
                  backward, AdamW + SGD            a loss that is not finite is skipped
                  teachers follow                  EMA of parameters
                  now and then: log, evaluate without test labels, checkpoint
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from rich.console import Console

from synfoc.batches.batch import Batch
from synfoc.batches.resize import working_side
from synfoc.batches.split import save_split
from synfoc.batches.stream import Stream
from synfoc.config import Config
from synfoc.engine.checkpoint import Progress, find_checkpoint, load_checkpoint, save_checkpoint
from synfoc.engine.evaluate import evaluate_networks
from synfoc.engine.inference import Branch, Segmenter
from synfoc.engine.machine import (
    choose_device,
    choose_precision,
    estimate_step,
    keep_freed_memory,
    peak_memory_gib,
)
from synfoc.engine.optimize import learn, make_optimizers
from synfoc.engine.parallel import Sharded, anywhere, make_fabric, share_batch_norm
from synfoc.engine.prepare import Prepared, prepare, stored_config
from synfoc.engine.progress import Display, Interruption, figures_of, interruptible
from synfoc.engine.select import Probe, assess, load_probe, recommend
from synfoc.errors import UserError
from synfoc.methods.models import Models, Step, absent
from synfoc.methods.schedules import ramp_up
from synfoc.methods.single import single_medsam_step, single_unet_step
from synfoc.methods.supervised import supervised_step
from synfoc.methods.synfoc import synfoc_step
from synfoc.models.build import build_networks, save_base
from synfoc.runs import RunFolder, append_line, environment, truncate_lines, write_json, write_text

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Method: TypeAlias = Callable[[Models, Batch, int], Step]
"""Networks, batch, steps done -> losses."""

BAD_STEPS = 20
"""So many losses in a row that are not finite end the run."""


class Interrupted(Exception):  # noqa: N818 (not an error: everything is saved)
    """Ctrl-C or SIGTERM came; the run is saved at this step."""

    def __init__(self, run: Path, step: int) -> None:
        self.run, self.step = run, step
        super().__init__(f"stopped at step {step}; go on with: synfoc train --resume {run}")


def train(
    config: Config | None, out: Path, *, resume: bool = False, console: Console | None = None
) -> Path:
    """Train one run.

    Args:
        config: settings; with `resume` None, or the very settings of the run.
        out: the run folder; new, or with `resume` the one to go on with.
        resume: go on from the last checkpoint; the result equals that of an unbroken run.
        console: where progress is shown; None is silent.

    Returns:
        The run folder: networks in checkpoints/, curves in metrics.jsonl, see `synfoc.runs`.

    Raises:
        UserError: input that cannot be trained on; nothing is written then.
        Interrupted: Ctrl-C or SIGTERM; the run is saved.
    """
    if resume:
        config = stored_config(RunFolder.open(out), config)
    assert config is not None, "a new run needs a config"
    prepared = prepare(config, RunFolder(out).split if resume else None)
    device = choose_device(config.train.device)
    keep_freed_memory(device)
    fabric = make_fabric(config, device)
    if fabric.is_global_zero:
        folder = RunFolder.create(out, resume=resume)
    fabric.launch()
    folder = RunFolder(out)
    display_console = console if fabric.is_global_zero else None
    with interruptible() as interruption:
        trainer = Trainer(prepared, folder, fabric, display_console)
        trainer.begin(resume=resume)
        trainer.run(interruption)
        trainer.finish()
    return out


class Trainer:
    """One run in memory: networks, optimizers, batches, and where it stands."""

    def __init__(
        self, prepared: Prepared, folder: RunFolder, fabric: Fabric, console: Console | None
    ) -> None:
        self.config, self.table, self.split = prepared.config, prepared.table, prepared.split
        self.folder, self.fabric, self.console = folder, fabric, console
        self.notices = prepared.notices
        config, data = self.config, self.config.data
        assert data.classes is not None
        assert data.channels is not None
        self.channels, self.classes = data.channels, len(data.classes)
        self.precision = choose_precision(config.train.precision, fabric.device)
        self.networks = build_networks(
            config,
            classes=self.classes + 1,
            channels=self.channels,
            generator=torch.Generator().manual_seed(config.train.seed),
            base=folder.base if folder.base.is_file() else None,
        ).to(fabric.device)
        if fabric.world_size > 1:
            for unet in (self.networks.unet, self.networks.unet_teacher):
                if unet is not None:
                    share_batch_norm(unet)
        self.optimizers = make_optimizers(self.networks, config)
        self.method = method_of(config)
        self.stream = Stream(
            self.table,
            self.split,
            sides=self.networks.sides,
            channels=self.channels,
            batch=config.method.batch,
            augment=config.augment,
            paste_area=config.method.paste_area,
            seed=config.train.seed,
            device=fabric.device,
            slice_axis=data.slice_axis,
            cache_gib=data.cache_gib,
            supervised=config.method.name == "supervised",
        )
        self.probe: Probe = load_probe(
            self.table,
            self.split.labeled,
            self.split.unlabeled,
            self.split.monitor,
            count=config.train.evaluate_images,
            side=working_side(self.networks.sides),
            channels=self.channels,
            slice_axis=data.slice_axis,
        )
        self.progress = Progress()
        self.display = Display(None, config.train.steps)

    def begin(self, *, resume: bool) -> None:
        """Write down what the run is, or read where it stood."""
        if resume:
            last = find_checkpoint(self.folder, "last")
            self.progress = load_checkpoint(last, self.networks, self.optimizers)
        self.models = self._models()
        if self.fabric.is_global_zero:
            if resume:
                truncate_lines(self.folder.log, self.progress.step)
            else:
                self._write_start()
        self.display = Display(
            self.console, self.config.train.steps, self.progress.step, self.config.method.name
        )
        for notice in self.notices:
            self.display.say(f"note: {notice}")
        if self.progress.step == 0:
            cost = estimate_step(
                self.networks, self.config, self.channels, self.fabric.device, self.precision
            )
            self.display.say(cost.text(self.config.train.steps))
        self.fabric.barrier()

    def run(self, interruption: Interruption) -> None:
        """Train from where the run stands to its last step.

        Raises:
            Interrupted: asked to stop; everything is saved.
            UserError: the loss was not finite 20 times in a row.
        """
        bad = 0
        start = time.perf_counter()
        try:
            for k, batch in enumerate(self._batches(), start=self.progress.step):
                step = self.method(self.models, batch, k)
                finite = math.isfinite(step.loss.item())
                if finite:
                    learn(
                        step.loss,
                        k,
                        networks=self.networks,
                        optimizers=self.optimizers,
                        config=self.config,
                        fabric=self.fabric,
                    )
                bad = 0 if finite else bad + 1
                self.progress.skipped += not finite
                self.progress.step = k + 1
                now = time.perf_counter()
                self.progress.seconds, start = self.progress.seconds + now - start, now
                self._bookkeeping(step, interruption)
                start = time.perf_counter() if self._is_evaluation() else start
                if bad >= BAD_STEPS:
                    raise _not_finite(step, k)
        finally:
            self.display.close()

    def finish(self) -> None:
        """Say what came out: summary.json, with the branch that the evidence recommends."""
        if not self.fabric.is_global_zero:
            return
        if self.config.train.rule == "last" or self.progress.best_step == 0:
            self.progress.best_step = self.progress.step
            self._save("best")
        last_step = self.progress.step
        seconds = self.progress.seconds
        load_checkpoint(find_checkpoint(self.folder, "best"), self.networks)
        seed = self.config.train.seed
        branch, why = recommend(self._segmenter(), self.probe, self.config.augment, seed=seed)
        summary = {
            "steps": last_step,
            "best_step": self.progress.best_step,
            "rule": self.rule,
            "seconds": seconds,
            "seconds_per_step": seconds / max(1, last_step),
            "peak_memory_gib": peak_memory_gib(self.fabric.device),
            "skipped_steps": self.progress.skipped,
            "recommended": branch,
            "why": why,
            "device": str(self.fabric.device),
            "precision": self.precision,
        }
        write_json(self.folder.summary, summary)

    @property
    def rule(self) -> str:
        """The rule that makes a checkpoint `best`; supervised runs have no unlabeled evidence."""
        rule = self.config.train.rule
        no_evidence = rule == "honest" and self.config.method.name == "supervised"
        return "last" if no_evidence else rule

    def _batches(self) -> Iterator[Batch]:
        """The batches that are left; beside a GPU the next one is made while it works."""
        start, stop = self.progress.step, self.config.train.steps
        if self.fabric.device.type == "cuda":
            return self.stream.iterate(start, stop)
        return map(self.stream.batch, range(start, stop))

    def _is_evaluation(self) -> bool:
        step, settings = self.progress.step, self.config.train
        return step % settings.evaluate_every == 0 or step == settings.steps

    def _bookkeeping(self, step: Step, interruption: Interruption) -> None:
        settings, done = self.config.train, self.progress.step
        stop = anywhere(self.fabric, bool(interruption))
        if done % settings.log_every == 0 or done == settings.steps:
            self._log(step)
        else:
            self.display.update(done)
        if self._is_evaluation() and self.fabric.is_global_zero:
            self._evaluate()
        checkpoint_due = done % settings.checkpoint_every == 0 or done == settings.steps
        if (checkpoint_due or stop) and self.fabric.is_global_zero:
            self._save("last")
            if checkpoint_due and settings.keep:
                self._save(f"step_{done:06d}")
                self._forget_old()
        if checkpoint_due or self._is_evaluation():
            self.fabric.barrier()
        if stop and done < settings.steps:
            raise Interrupted(self.folder.path, done)

    def _log(self, step: Step) -> None:
        done, settings = self.progress.step, self.config.train
        values = {k: v.item() for k, v in vars(step).items() if v is not None}
        line = {"step": done, **values, "lam": ramp_up(done - 1, settings.steps)}
        line["seconds"] = self.progress.seconds
        self.display.update(done, figures_of(line))
        if self.fabric.is_global_zero:
            append_line(self.folder.log, line)

    def _evaluate(self) -> None:
        found = assess(self._segmenter(), self.probe)
        if self.rule == "paper":
            found["test_dice"] = self._test_dice()
        score = {"honest": found["score"], "last": math.inf, "paper": found.get("test_dice")}
        line = {"step": self.progress.step, "kind": "evaluation", **found}
        append_line(self.folder.log, line)
        value = score[self.rule]
        if value is not None and value >= self.progress.best_score:
            self.progress.best_score, self.progress.best_step = value, self.progress.step
            self._save("best")

    def _test_dice(self) -> float:
        """Dice of the deployed student on the test set; only under the rule named `paper`."""
        branch: Branch = "unet" if self.networks.medsam is None else "medsam"
        found = evaluate_networks(
            self._segmenter(), self.table, self.split.test, [(branch, "student")], protocol="paper"
        )
        dice: float = found["branches"][branch]["student"]["mean_over_domains"]["dice"]
        return dice

    def _segmenter(self) -> Segmenter:
        return Segmenter(
            self.networks,
            classes=self.classes,
            nested=self.config.data.nested,
            channels=self.channels,
            device=self.fabric.device,
            precision=self.precision,
        )

    def _models(self) -> Models:
        """The four networks as the method calls them; students are set up for parallel training."""
        n, fabric = self.networks, self.fabric
        students = {"UT": n.unet, "MS": n.medsam}
        teachers = {"UT_hat": n.unet_teacher, "MS_hat": n.medsam_teacher}
        calls = {k: Sharded(fabric.setup_module(v), fabric) for k, v in students.items() if v}
        calls |= {k: Sharded(v, fabric) for k, v in teachers.items() if v}
        for network in (*students.values(), *teachers.values()):
            if network is not None:
                network.train()
        names = list(self.optimizers)
        ready = fabric.setup_optimizers(*self.optimizers.values())
        ready = ready if isinstance(ready, tuple | list) else (ready,)
        self.optimizers = dict(zip(names, ready, strict=True))
        return Models(**{k: calls.get(k, absent) for k in ("UT", "MS", "UT_hat", "MS_hat")})

    def _save(self, name: str) -> None:
        path = self.folder.checkpoints / f"{name}.safetensors"
        save_checkpoint(path, self.networks, self.optimizers, self.progress)

    def _forget_old(self) -> None:
        kept = sorted(self.folder.checkpoints.glob("step_*.safetensors"))
        for path in kept[: -self.config.train.keep]:
            path.unlink()

    def _write_start(self) -> None:
        write_text(self.folder.config, self.config.to_yaml())
        about: dict[str, Any] = environment()
        about |= {
            "device": str(self.fabric.device),
            "processes": self.fabric.world_size,
            "precision": self.precision,
            "notices": list(self.notices),
        }
        write_json(self.folder.environment, about)
        save_split(self.folder.split, self.split, self.table)
        save_base(self.networks, self.folder.base)
        self._save("last")


def method_of(config: Config) -> Method:
    """The page of the method that the config names, with its constants filled in."""
    m, steps, nested = config.method, config.train.steps, config.data.nested
    if m.name == "supervised":
        return lambda f, b, k: supervised_step(f, b)
    if m.branches == "unet":
        return lambda f, b, k: single_unet_step(f, b, lam=ramp_up(k, steps), tau=m.tau)
    if m.branches == "medsam":
        return lambda f, b, k: single_medsam_step(f, b, lam=ramp_up(k, steps), tau=m.tau)
    return lambda f, b, k: synfoc_step(
        f,
        b,
        lam=ramp_up(k, steps),
        tau=m.tau,
        nested=nested,
        fusion=m.fusion,
        alpha=m.alpha,
        progress=k / steps,
        consistency=m.consistency,
    )


def _not_finite(step: Step, k: int) -> UserError:
    values = {n: v.item() for n, v in vars(step).items() if n.startswith("L_") and v is not None}
    bad = ", ".join(f"{n} = {v}" for n, v in values.items() if not math.isfinite(v))
    return UserError(
        f"the loss was not finite {BAD_STEPS} times in a row, last at step {k + 1}",
        found=bad or "loss not finite",
        expected="finite losses",
        fix="--set train.precision=fp32, or a smaller unet.lr and medsam.lr",
    )
