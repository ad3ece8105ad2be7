"""What this machine offers, what a run will cost on it, and defaults that fit it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import psutil
import torch
from torch import Tensor, nn

from synfoc.config import Config
from synfoc.errors import UserError

if TYPE_CHECKING:
    from synfoc.models.build import Networks

Precision = Literal["fp32", "bf16", "fp16"]
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
QUICK = 1.0  # seconds; what takes less is measured on a whole batch
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FABRIC_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def choose_device(wanted: str) -> torch.device:
    """The device of a run: auto takes CUDA where it is there.

    Raises:
        UserError: CUDA is wanted and absent.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "no CUDA device",
            found=f"torch {torch.__version__} sees none",
            expected="an NVIDIA GPU and a CUDA build of torch",
            fix="drop --device cuda, or install a CUDA build of torch",
        )
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """The number format of the networks: auto takes bf16 where the hardware multiplies it.

    Raises:
        UserError: fp16 on a CPU, which multiplies it no faster and overflows.
    """
    if wanted == "fp16" and device.type == "cpu":
        raise UserError(
            "fp16 needs a GPU",
            found="device cpu",
            expected="fp32 or bf16 on a CPU",
            fix="--set train.precision=auto",
        )
    if wanted == "auto":
        return "bf16" if _native_bf16(device) else "fp32"
    assert wanted in ("fp32", "bf16", "fp16")
    return wanted  # type: ignore[return-value]


def _native_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        # Without emulation: a V100 "supports" bf16 many times slower than fp16.
        return torch.cuda.get_device_capability(device) >= (8, 0)
    from torch.backends.cpu import get_cpu_capability

    flags = ""
    if sys.platform == "linux":
        with open("/proc/cpuinfo", encoding="ascii", errors="ignore") as file:  # noqa: PTH123
            flags = next((line for line in file if line.startswith("flags")), "")
    return "AVX512" in get_cpu_capability() and ("avx512_bf16" in flags or "amx_bf16" in flags)


def emulated(precision: Precision, device: torch.device) -> tuple[str, ...]:
    """What to tell a user whose machine has no arithmetic of this number format; else nothing."""
    if precision != "bf16" or _native_bf16(device):
        return ()
    return (
        "bf16 is emulated on this machine, on a CPU up to fifty times slower than fp32 "
        "(train.precision=auto takes what is fast)",
    )


def keep_freed_memory(device: torch.device) -> None:
    """Let a process on the CPU reuse large blocks instead of returning them to the system.

    glibc maps every block above 32 MiB anew, and the first touch of each page costs more than the
    arithmetic on it: a LiteMedSAM stage at 256 pixels took 329 ms before and 147 ms after.
    Elsewhere than on Linux with glibc nothing happens.
    """
    if device.type != "cpu" or sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def peak_memory_gib(device: torch.device) -> float:
    """Largest memory that this process has held so far, in GiB: GPU memory on CUDA, else RAM."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 2**30
    import resource  # there is none on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def free_memory_gib(device: torch.device) -> float:
    """Memory that can still be had, in GiB."""
    if device.type == "cuda":
        # What torch holds in reserve serves its next tensors.
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return (torch.cuda.mem_get_info(device)[0] + reserve) / 2**30
    return float(psutil.virtual_memory().available) / 2**30


PASSES: dict[str, tuple[float, float]] = {
    "synfoc": (2, 1.5),  # the U-Net student labels too, MedSAM's does not
    "supervised": (1, 0),
    "fixmatch": (2, 1),
    "unimatch": (4, 1),
    "uamt": (2, 9),
    "symgd": (4, 3),
    "bcp": (1, 1),  # both mixtures are half a batch
    "semisam": (2, 1),  # and one look of the guide, which is counted by itself
}
"""Method -> batches that pass each student with a graph, and that pass any network without."""


@dataclass(frozen=True)
class Estimate:
    """What one step will cost: memory at its peak, and time."""

    memory_gib: float
    seconds: float
    free_gib: float

    def text(self, steps: int) -> str:
        """One line for a person."""
        minutes = self.seconds * steps / 60
        length = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
        return (
            f"estimate: {self.memory_gib:.1f} GiB of {self.free_gib:.0f} GiB free, "
            f"{self.seconds:.2f} s per step, about {length} for {steps} steps"
        )


def estimate_step(
    networks: Networks, config: Config, device: torch.device, precision: Precision
) -> Estimate:
    """Measure some images forward and backward through each student and scale to the whole step.

    Activations that backward needs are counted, not guessed: every tensor that autograd saves
    passes a hook. How many images pass with and without a graph: `PASSES`. Of several processes
    each has its share of the batch.
    """
    batch, channels = config.method.batch // config.train.devices, config.data.channels or 1
    memory = seconds = 0.0
    for network, side in (
        (networks.unet, networks.sides.unet),
        (networks.medsam, networks.sides.medsam),
    ):
        if network is None:
            continue
        forward, both, saved = _measure(network, batch, channels, side, device, precision)
        learning, looking = PASSES[config.method.name]
        seconds += batch * (learning * both + looking * forward)
        parameters = sum(p.numel() * p.element_size() for p in network.parameters())
        trained = sum(p.numel() * 4 for p in network.parameters() if p.requires_grad)
        memory += parameters + 4 * trained + saved * batch * learning
    if networks.guide is not None:
        boxes = len(config.data.classes or (1,))
        seconds += _look(networks.guide, batch, boxes, networks.sides.medsam, device, precision)
        memory += sum(p.numel() * p.element_size() for p in networks.guide.parameters())
    started = 0.0 if device.type == "cuda" else psutil.Process().memory_info().rss
    return Estimate((memory + started) / 2**30, seconds, free_memory_gib(device))


def _measure(
    network: nn.Module,
    batch: int,
    channels: int,
    side: int,
    device: torch.device,
    precision: Precision,
) -> tuple[float, float, float]:
    """Seconds forward, seconds forward + backward, bytes saved for backward; each per image."""
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    def timed(images: int) -> tuple[float, float]:
        view = torch.zeros(images, channels, side, side, device=device)
        start = _clock(device)
        with torch.autocast(device.type, dtype=DTYPES[precision], enabled=precision != "fp32"):
            logits = network(view)
        forward = _clock(device) - start
        logits.float().sum().backward()
        return forward, _clock(device) - start

    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    training = network.training
    network.eval()  # a zero image must not move batch-norm statistics
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward, both = timed(1)
    kept = float(sum(n for pointer, n in saved.items() if pointer not in own))
    # Small networks take longer per image when they get one alone, and at first. A batch that
    # memory does not hold is what this estimate is to warn of, not to die of.
    fits = kept * batch / 2**30 < free_memory_gib(device)
    images, times = (batch, 2) if both < QUICK and fits else (1, 1)
    for _ in range(times):
        forward, both = timed(images)
    network.train(training)
    network.zero_grad(set_to_none=True)
    return forward / images, both / images, kept


def _look(
    guide: nn.Module, batch: int, boxes: int, side: int, device: torch.device, precision: Precision
) -> float:
    """Seconds in which the guide answers to a batch with so many boxes in each image."""
    view, places = torch.zeros(batch, 1, side, side), torch.zeros(batch, boxes, 4)
    start = _clock(device)
    with torch.autocast(device.type, dtype=DTYPES[precision], enabled=precision != "fp32"):
        guide(view.to(device), places.to(device))
    return _clock(device) - start


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def defaults_for(device: torch.device, *, size: int | None, labeled: int) -> dict[str, Any]:
    """Settings for own data without a config, fitted to the machine; `synfoc train --data`.

    Args:
        device: where the run will be.
        size: side of the images in pixels for both networks; None: 512 and 256 on a GPU, 128 else.
        labeled: how many labeled images there are; few of them make small batches.

    Returns:
        Nested settings for `synfoc.config.parse_config`.
    """
    gpu = device.type == "cuda"
    large = gpu and free_memory_gib(device) >= 16
    side = size or (256 if gpu else 128)
    batch = 4 if gpu and labeled >= 8 else 2
    medsam: dict[str, Any] = {"weights": "litemedsam", "side": side}
    if large and size is None:
        medsam = {"weights": "medsam", "side": 512}
    cores = os.cpu_count() or 1
    width = 64 if gpu else 32 if cores >= 16 else 16
    if not gpu:
        # Short runs: larger steps that end small (docs/departures.md, D35).
        medsam["lr"] = 5e-4
    return {
        "medsam": medsam,
        "unet": {"side": side, "width": width},
        "method": {"batch": batch},
        "train": {"steps": 30_000} if gpu else {"steps": 1000, "schedule": "late"},
    }
