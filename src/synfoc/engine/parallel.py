"""One global batch on any number of processes: rows are divided, logits gathered.

The method page sees whole batches on every process, so that a loss over the batch (Dice sums over
it) is the same number whether one process computes it or four. Gathering sums the gradients of all
processes and data-parallel averaging divides them again, so that the gradients are the same too.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning_fabric.strategies import DDPStrategy
from lightning_fabric.utilities.distributed import _destroy_dist_connection
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.optim import Optimizer

from synfoc.answers import BranchName
from synfoc.config import Config
from synfoc.engine.machine import FABRIC_PRECISION, choose_precision
from synfoc.engine.optimize import SharedScaler
from synfoc.errors import Interrupted, UserError
from synfoc.methods.interface import Models
from synfoc.models.build import Networks

PATIENCE = timedelta(hours=6)
"""For which processes wait for each other. The first one evaluates and reads the hashes of files
alone, which may take longer than the half hour that is the default; one that was killed is waited
for as long, so it is not days."""
SYMBOLS: Mapping[BranchName, str] = {"unet": "UT", "medsam": "MS"}
"""What the pages of methods call a branch, after the paper."""
PARENT = "SYNFOC_PARENT"
"""Tells a process which one started it for the same run."""


def make_fabric(config: Config, device: torch.device) -> Fabric:
    """Devices, processes and precision of a run.

    Raises:
        UserError: the batch cannot be divided among the processes, or there are fewer GPUs, or
            torchrun started another number of processes.
    """
    devices, batch = config.train.devices, config.method.batch
    if batch % devices:
        raise UserError(
            f"a batch of {batch} cannot be divided among {devices} processes",
            found=f"method.batch {batch}, train.devices {devices}",
            expected="a batch that is a multiple of the number of processes",
            fix=f"--set method.batch={devices * max(1, batch // devices)}",
        )
    precision = choose_precision(config.train.precision, device)
    fp16 = precision == "fp16"
    if TorchElasticEnvironment.detect() and int(os.environ["WORLD_SIZE"]) != devices:
        raise UserError(
            "torchrun started another number of processes than the run has",
            found=f"{os.environ['WORLD_SIZE']} processes, train.devices {devices}",
            expected="one process per device, on all nodes together",
            fix=f"--set train.devices={os.environ['WORLD_SIZE']}",
        )
    nodes = _nodes(devices)
    gpus = torch.cuda.device_count()
    if device.type == "cuda" and devices // nodes > gpus:
        raise UserError(
            f"there are fewer GPUs than processes: {gpus}",
            found=f"train.devices {devices}, on {nodes} machine(s)",
            expected="one GPU per process",
            fix=f"--set train.devices={gpus * nodes}, or see CUDA_VISIBLE_DEVICES",
        )
    scaler = [SharedScaler("16-mixed", device.type)] if fp16 else []
    # Its remarks on precision and seeds are in our own first lines already.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    return Fabric(
        accelerator="cuda" if device.type == "cuda" else "cpu",
        devices=devices // nodes,
        num_nodes=nodes,
        # Teachers and students keep their own batch-norm statistics, equal on all processes.
        strategy=DDPStrategy(broadcast_buffers=False, timeout=PATIENCE) if devices > 1 else "auto",
        precision=None if fp16 else FABRIC_PRECISION[precision],
        plugins=[_environment(devices), *scaler],
    )


def started_by_srun(devices: int) -> bool:
    """Whether this process is one of so many tasks that Slurm started for one run.

    A job of one task, or a shell inside an allocation, has the same variables: they describe what
    was reserved. Only SLURM_STEP_NUM_TASKS tells; else the run starts its other processes itself.
    """
    return devices > 1 and os.environ.get("SLURM_STEP_NUM_TASKS") == str(devices)


def rank_of_process(devices: int) -> int:
    """Rank of this process in a run, known before Fabric is made; 0 is the one that writes."""
    if devices == 1:
        return 0
    if TorchElasticEnvironment.detect():
        return int(os.environ["RANK"])
    return int(os.environ.get("SLURM_PROCID" if started_by_srun(devices) else "LOCAL_RANK", "0"))


def _nodes(devices: int) -> int:
    """Machines that the processes of this run are on."""
    if TorchElasticEnvironment.detect():
        return int(os.environ["WORLD_SIZE"]) // int(os.environ["LOCAL_WORLD_SIZE"])
    return int(os.environ["SLURM_NNODES"]) if started_by_srun(devices) else 1


def _environment(devices: int) -> ClusterEnvironment:
    """Who started the processes. Fabric's own search takes any Slurm variable for srun."""
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    return SLURMEnvironment() if started_by_srun(devices) else LightningEnvironment()


@contextmanager
def launched(fabric: Fabric) -> Iterator[None]:
    """Start the other processes of a run, none of which outlives one that fails or is killed.

    On GPUs that has to be seen to: a process that waits for another one heeds no signal, and the
    farewell that Fabric registers waits for all of them.
    """
    if fabric.world_size > 1:
        if os.environ.get(PARENT) == str(os.getppid()):
            _end_with(os.getppid())
        os.environ[PARENT] = str(os.getpid())
    fabric.launch()
    try:
        yield
    except Interrupted:  # all of them stop at the same step
        _leave_the_word_to_the_first(fabric)
        raise
    except BaseException:
        atexit.unregister(_destroy_dist_connection)
        raise


def _leave_the_word_to_the_first(fabric: Fabric) -> None:
    """End any other process with status 0: Fabric kills the first one for another's bad status,
    also while it is still saying why all of them end.

    Raises:
        SystemExit: in all processes but the first.
    """
    if not fabric.is_global_zero:
        raise SystemExit(0)


def _end_with(parent: int) -> None:
    """End this process when the one that started it is gone, whatever it is waiting for."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def anywhere(fabric: Fabric, here: bool) -> bool:
    """Whether it holds on any process, so that all of them stop at the same step."""
    if fabric.world_size == 1:
        return here
    flag = torch.tensor(float(here), device=fabric.device)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag.item())


@contextmanager
def together(fabric: Fabric) -> Iterator[None]:
    """Work that one process does for all, and that all wait for. Where it fails, all of them end.

    Raises:
        SystemExit: another process failed, which tells why.
    """
    try:
        yield
    except BaseException:
        anywhere(fabric, True)
        raise
    if anywhere(fabric, False):
        _leave_the_word_to_the_first(fabric)
        raise SystemExit(2)


class Sharded:
    """A network as a method page calls it: the whole batch in, float32 logits of it out."""

    def __init__(self, module: nn.Module, fabric: Fabric) -> None:
        self.module, self.fabric = module, fabric

    def __call__(self, images: Tensor, *more: Tensor) -> Tensor:
        """Run this process's rows, gather everybody's logits.

        One image alone passes on every process: batch norms see it and nothing else, as on one.

        Args:
            images: (B, c, s, s), the same on every process; B divisible by their number, or 1.
            more: what else the network takes, B rows of each.
        """
        world, rank, alone = self.fabric.world_size, self.fabric.global_rank, len(images) == 1
        # Teachers are not set up by Fabric, so the precision is chosen here for all four networks.
        with self.fabric.autocast():
            rows = (x if alone else x.chunk(world)[rank] for x in (images, *more))
            logits: Tensor = self.module(*rows)
        logits = logits.float()
        if world == 1:
            return logits
        gathered = self.fabric.all_gather(logits, sync_grads=logits.requires_grad)
        assert isinstance(gathered, Tensor)
        return gathered.flatten(0, 1)[: len(images)]


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose statistics run over the batches of all processes, on CPU and CUDA.

    torch's SyncBatchNorm does the same on GPUs only.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (b, c, h, w) by the mean and variance over all processes' b, h and w."""
        if not self.training:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            wide = x.float()
            count = wide.numel() / wide.shape[1] * dist.get_world_size()
            sums = torch.stack([wide.sum((0, 2, 3)), wide.square().sum((0, 2, 3))])
            mean, square = all_reduce(sums) / count  # type: ignore[no-untyped-call]
            variance = (square - mean.square()).clamp_min(0)  # rounding of a constant channel
            with torch.no_grad():
                self._follow(mean, variance * count / (count - 1))
            scale = self.weight * (variance + self.eps).rsqrt()
            shift = self.bias - mean * scale
            normal: Tensor = (wide * scale[:, None, None] + shift[:, None, None]).to(x.dtype)
            return normal

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked += 1


def set_up(
    networks: Networks,
    optimizers: Mapping[str, Optimizer],
    fabric: Fabric,
    memory: dict[str, Tensor] | None = None,
) -> tuple[Models, dict[str, Optimizer]]:
    """Set up the networks as the method calls them, and the optimizers, over all processes.

    The method's memory is equal on all of them: it sees whole batches on each.

    Students and teachers are put in training mode: teachers normalize by the batch, too [authors'
    code].
    """
    if fabric.world_size > 1:
        for network in networks.by_name().values():
            share_batch_norm(network)
    calls: dict[str, Sharded] = {}
    for branch in networks.branches:
        symbol, teacher = SYMBOLS[branch.name], branch.teacher
        student = fabric.setup_module(branch.student.train())
        calls[symbol] = calls[f"{symbol}_drop"] = Sharded(student, fabric)
        if teacher is not None:
            calls[f"{symbol}_hat"] = Sharded(teacher.train(), fabric)
    if networks.guide is not None:
        calls["SAM"] = Sharded(networks.guide, fabric)
    ready = fabric.setup_optimizers(*optimizers.values())
    ready = ready if isinstance(ready, tuple | list) else (ready,)
    models = Models(**calls, memory={} if memory is None else memory)
    return models, dict(zip(optimizers, ready, strict=True))


def share_batch_norm(module: nn.Module) -> None:
    """Let every BatchNorm2d inside run over all processes; its tensors stay the very same."""
    for child in module.modules():
        if type(child) is nn.BatchNorm2d:
            # Optimizers hold the parameters already, so the module must not be a new one.
            child.__class__ = GlobalBatchNorm2d
