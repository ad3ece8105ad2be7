"""What a run writes down while it trains: beginning, curve, checkpoints, summary. Rank 0 only."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from synfoc.batches.split import equal_images, save_split
from synfoc.engine.checkpoint import Progress, save_checkpoint
from synfoc.engine.checkpoint_files import sum_of_base
from synfoc.engine.estimate import plain_calibration
from synfoc.engine.machine import gpu_of, peak_memory_gib
from synfoc.engine.method import lam_of
from synfoc.engine.optimize import SharedScaler
from synfoc.environment import environment
from synfoc.errors import UserError
from synfoc.models.build import save_base
from synfoc.storage import append_line, truncate_lines, write_json, write_text

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import Tensor
    from torch.optim import Optimizer

    from synfoc.engine.prepare import Prepared
    from synfoc.engine.select import Verdict
    from synfoc.methods.interface import Step
    from synfoc.models.build import Networks
    from synfoc.runs import RunFolder


class Journal:
    """The run folder of a run in progress. On all processes but the first it writes nothing."""

    def __init__(
        self, folder: RunFolder, prepared: Prepared, networks: Networks, fabric: Fabric
    ) -> None:
        self.folder, self.prepared, self.networks = folder, prepared, networks
        self.fabric, self.writes = fabric, fabric.is_global_zero
        self._curves: Any = None
        self._make_curves = _tensorboard() if prepared.config.train.tensorboard else None

    def begin(self, precision: str) -> list[str]:
        """Write everything that repeats the run, before its first step.

        Returns:
            What the user should know.
        """
        if not self.writes:
            return []
        folder, prepared = self.folder, self.prepared
        split, root = prepared.split, prepared.table.root
        prints = save_split(folder.split, split, prepared.table)
        notices = [*prepared.notices]
        if twins := equal_images(split, prints, root):
            notices.append(
                f"{len(twins)} test images are equal to training images, e.g. {twins[0]}: scores "
                "will be too high"
            )
        about: dict[str, Any] = environment()
        about |= {
            "device": str(self.fabric.device),
            **gpu_of(self.fabric.device),
            "processes": self.fabric.world_size,
            "precision": precision,
            "notices": notices,
        }
        write_json(folder.environment, about)
        save_base(self.networks, folder.base)
        # Last, because a folder with a config is a run.
        write_text(folder.config, prepared.config.to_yaml())
        return notices

    def go_on(self, step: int) -> list[str]:
        """Drop what was logged after a step, and write config.yaml anew where it is unreadable.

        Returns:
            What the user should know.
        """
        if not self.writes:
            return []
        notices = []
        if lost := truncate_lines(self.folder.log, step):
            notices.append(f"{lost} lines of {self.folder.log} could not be read and are dropped")
        if self.folder.read_config()[1]:
            write_text(self.folder.config, self.prepared.config.to_yaml())
            notices.append(f"{self.folder.config} is written anew from the last checkpoint")
        return notices

    def line(self, step: Step, progress: Progress) -> dict[str, Any]:
        """One line of the curve: every figure of the step, read from the device and appended."""
        values = {k: v.item() for k, v in vars(step).items() if v is not None}
        lam = lam_of(self.prepared.config, progress.step - 1)
        line = {"step": progress.step, **values, "lam": lam, "seconds": progress.seconds}
        precision = self.fabric.strategy.precision
        if isinstance(precision, SharedScaler):
            line["loss_scale"] = precision.scale()
        self.append(line)
        return line

    def append(self, line: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl, and its numbers to TensorBoard where asked for."""
        if not self.writes:
            return
        append_line(self.folder.log, line)
        if self._make_curves is not None:
            self._curves = self._curves or self._make_curves(str(self.folder.tensorboard))
            for name, value in line.items():
                if isinstance(value, float):
                    self._curves.add_scalar(name, value, line["step"])
            self._curves.flush()

    def save(
        self,
        name: str,
        progress: Progress,
        optimizers: Mapping[str, Optimizer] | None = None,
        memory: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write one checkpoint; with optimizers and memory, a run can go on from it."""
        if self.writes:
            # The loss scale of fp16; nothing in other precisions.
            progress.extra = dict(self.fabric.strategy.precision.state_dict())
            path = self.folder.checkpoint(name)
            config = self.prepared.config
            save_checkpoint(
                path, self.networks, optimizers or {}, progress, config, memory, base=self._base
            )

    @cached_property
    def _base(self) -> str | None:
        """Sum of what is frozen; None where nothing is."""
        return sum_of_base(self.folder.base) if self.folder.base.is_file() else None

    def forget(self, keep: int) -> None:
        """Delete numbered checkpoints but the newest `keep`."""
        if self.writes:
            numbered = self.folder.numbered_checkpoints()
            for path in numbered[: max(0, len(numbered) - keep)]:
                path.unlink()

    def end(self, progress: Progress, *, rule: str, precision: str, verdict: Verdict) -> None:
        """summary.json: what came out, which answer to use and how far to believe it."""
        branch, role = verdict.answer
        summary = {
            "steps": progress.step,
            "best_step": progress.best_step,
            "test_step": progress.test_step or None,
            "rule": rule,
            "seconds": progress.seconds,
            "seconds_per_step": progress.seconds / max(1, progress.step),
            "peak_memory_gib": peak_memory_gib(self.fabric.device),
            "skipped_steps": progress.skipped,
            "recommended": branch,
            "recommended_role": role,
            "why": verdict.why,
            "calibration": plain_calibration(verdict.calibration),
            "device": str(self.fabric.device),
            "precision": precision,
        }
        if self.writes:
            write_json(self.folder.summary, summary)


def _tensorboard() -> Any:
    """TensorBoard's writer, imported before the first step: where it is missing, none is taken."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError(
            "train.tensorboard needs TensorBoard",
            found="it is not installed",
            expected='the extra `tensorboard`: pip install ".[tensorboard]" in the clone',
            fix="pip install tensorboard, or set train.tensorboard to false",
        ) from None
    return SummaryWriter
