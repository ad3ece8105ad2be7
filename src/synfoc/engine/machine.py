"""What this machine offers, and defaults that fit it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, Literal

import psutil
import torch

from synfoc.config import check_word
from synfoc.errors import UserError

Precision = Literal["fp32", "bf16", "fp16"]
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LARGE_GPU_GIB = 14
"""What is left to torch of a GPU that is sold with 16 GB."""
FABRIC_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def choose_device(wanted: str) -> torch.device:
    """Return the device of a run: auto takes CUDA where it is there.

    Which of several GPUs: CUDA_VISIBLE_DEVICES.

    Raises:
        UserError: CUDA is wanted and absent, or no such device.
    """
    wanted = str(wanted)  # a torch.device is as good
    check_word("device", wanted, ("auto", "cpu", "cuda"))
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "no CUDA device",
            found=f"torch {torch.__version__} sees none",
            expected="an NVIDIA GPU and a CUDA build of torch",
            fix="drop --device cuda, or install a CUDA build of torch",
        )
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda":
        _check_kernels()
    return torch.device(wanted)


def _check_kernels() -> None:
    """Stop at a GPU that is older than torch's build, which fails at the first kernel."""
    # sm_86 runs what was made for sm_80; compute_90 is translated for whatever is newer.
    built = " ".join(torch.cuda.get_arch_list())
    found = re.findall(r"\b(sm|compute)_(\d+)(\d)\b", built)
    known = [(kind, int(major), int(minor)) for kind, major, minor in found]
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        if known and not any(
            (kind == "sm" and major == x and minor >= y)
            or (kind == "compute" and (major, minor) >= (x, y))
            for kind, x, y in known
        ):
            raise UserError(
                f"this build of torch has nothing for {torch.cuda.get_device_name(index)}",
                found=f"compute capability {major}.{minor}; torch {torch.__version__} was built "
                f"for {built}",
                expected="a build of torch that knows this GPU",
                fix="install one (older GPUs: an older torch or CUDA, e.g. make TORCH=2.8.0), "
                "hide the GPU by CUDA_VISIBLE_DEVICES, or take --device cpu",
            )


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """Return the number format of the networks: auto takes bf16 where the hardware multiplies it.

    Raises:
        UserError: fp16 on a CPU, which multiplies it no faster and overflows; no such format.
    """
    check_word("precision", wanted, ("auto", *DTYPES))
    if wanted == "fp16" and device.type == "cpu":
        raise UserError(
            "fp16 needs a GPU",
            found="device cpu",
            expected="fp32 or bf16 on a CPU",
            fix="--set train.precision=auto in a new run; a run that was begun goes on on a GPU",
        )
    if wanted == "auto":
        return "bf16" if _native_bf16(device) else "fp32"
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
    """Return what to tell a user whose machine has no arithmetic of this number format.

    Return nothing where it has it.
    """
    if precision != "bf16" or _native_bf16(device):
        return ()
    return (
        "bf16 is emulated on this machine, on a CPU up to fifty times slower than fp32 "
        "(train.precision=auto takes what is fast)",
    )


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return a context in which forwards are in a precision; in fp32 nothing changes."""
    return torch.autocast(device.type, dtype=DTYPES[precision], enabled=precision != "fp32")


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


@contextlib.contextmanager
def full_gpu_told(fix: str) -> Iterator[None]:
    """Work that may need more memory than there is; a decorator of whole functions, too.

    Raises:
        UserError: CUDA is out of memory; with this fix. Or the machine is.
    """
    try:
        yield
    except MemoryError as error:
        raise _full_memory(error) from error
    except torch.cuda.OutOfMemoryError as error:
        raise UserError(
            "the memory of the GPU does not suffice",
            found=". ".join(str(error).split(". ")[:3]),  # the rest is about torch's allocator
            expected="a GPU with more memory, or work that needs less",
            fix=fix,
        ) from error
    except RuntimeError as error:
        if not any(words in str(error) for words in NO_MEMORY):
            raise
        raise _full_memory(error) from error


NO_MEMORY = ("can't allocate memory", "not enough memory")
"""How torch tells it of the CPU, on Linux and on Windows."""


def _full_memory(error: Exception) -> UserError:
    asked = re.search(r"allocate [\d.]+ ?\w+", str(error))
    return UserError(
        "the memory of this machine does not suffice",
        found=f"no room to {asked[0]}" if asked else "none left",
        expected="more memory, or work that needs less",
        fix="a smaller unet.width, method.batch or side, smaller images, or fewer programs beside",
    )


def gpu_of(device: torch.device) -> dict[str, str | None]:
    """Name of the GPU and version of CUDA, for the record; nothing for a CPU."""
    if device.type != "cuda":
        return {}
    return {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}


def reset_peak_memory(device: torch.device) -> None:
    """Let `peak_memory_gib` count from here on a GPU; what a process has held cannot be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


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


def smallest_gpu_gib() -> float:
    """Memory of the smallest GPU here, in GiB; each process of a run finds the same."""
    gpus = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return float(min(gpu.total_memory for gpu in gpus)) / 2**30


def defaults_for(device: torch.device, *, size: int | None, labeled: int) -> dict[str, Any]:
    """Return settings for own data without a config, fitted to the machine; `synfoc train --data`.

    Args:
        device: where the run will be.
        size: side of the images in pixels for both networks; None: MedSAM at
            512 and the U-Net at 256 on a GPU of 16 GB, both at 256 on a smaller one, else at 128.
        labeled: how many labeled images there are; few of them make small batches.

    Returns:
        Nested settings for `synfoc.config.parse_config`.
    """
    gpu = device.type == "cuda"
    large = gpu and smallest_gpu_gib() >= LARGE_GPU_GIB
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
