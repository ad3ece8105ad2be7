"""GPUs that are full, are of another process, or are not there; without one."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from synfoc.config import Config
from synfoc.engine import train as module
from synfoc.engine.checkpoint import load_run
from synfoc.engine.evaluate import evaluate
from synfoc.engine.inference import Segmenter
from synfoc.engine.machine import (
    choose_device,
    defaults_for,
    free_memory_gib,
    full_gpu_told,
    gpu_of,
)
from synfoc.engine.predict import predict
from synfoc.engine.train import train
from synfoc.errors import UserError

Settings = Callable[..., Config]
FULL = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 8.00 GiB of "
    "which 1.00 GiB is free. Of the allocated memory 6.00 GiB is allocated by PyTorch."
)


def full(*_: object, **__: object) -> None:
    raise torch.cuda.OutOfMemoryError(FULL)


def test_a_gpu_that_is_full_is_told_with_what_helps(
    settings: Settings, squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(settings("train.steps=1"), tmp_path / "run")
    monkeypatch.setattr(module, "learn", full)
    with pytest.raises(UserError, match="memory of the GPU") as told:
        train(settings(), tmp_path / "other")
    assert told.value.found.endswith("of which 1.00 GiB is free")
    assert "medsam.recompute=true" in told.value.fix
    assert "method.batch" in told.value.fix
    monkeypatch.setattr(Segmenter, "segment_all", full)
    with pytest.raises(UserError, match="memory of the GPU") as told:
        evaluate(run, device="cpu")
    assert "--device cpu" in told.value.fix
    with pytest.raises(UserError, match="memory of the GPU"):
        predict(run, squares / "beta/test/image", out=tmp_path / "masks", device="cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:0", "", 0])
def test_a_device_that_there_is_not_is_told(device: object) -> None:
    with pytest.raises(UserError, match="no such device") as told:
        choose_device(device)
    assert told.value.expected == "auto, cpu, cuda"


def test_a_device_may_be_torch_s() -> None:
    assert choose_device(torch.device("cpu")) == choose_device("cpu") == torch.device("cpu")


def test_a_precision_that_there_is_not_is_told(
    settings: Settings, squares: Path, tmp_path: Path
) -> None:
    run = train(settings("train.steps=1", "method.branches=unet"), tmp_path / "run")
    with pytest.raises(UserError, match="no such precision") as told:
        load_run(run, precision="bfloat16")
    assert told.value.expected == "auto, fp32, bf16, fp16"
    assert load_run(run, precision="bf16", device="cpu").precision == "bf16"


def test_memory_that_torch_holds_in_reserve_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """1 GiB that nobody has, and 2 of the 5 GiB that torch holds."""
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5 * 2**30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 3 * 2**30)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**30, 24 * 2**30))
    assert free_memory_gib(torch.device("cuda", 0)) == 3


@pytest.mark.parametrize(
    ("built", "capability", "runs"),
    [
        ("sm_75 sm_80 sm_86 sm_90 sm_100 sm_120 compute_120", (7, 0), False),  # V100, CUDA 13
        ("sm_75 sm_80 sm_86 sm_90 sm_100 sm_120 compute_120", (8, 9), True),
        ("sm_70 sm_75 sm_80", (9, 0), False),
        ("sm_70 sm_80 compute_80", (9, 0), True),
        ("sm_80 sm_90a", (9, 0), False),
        ("gfx90a gfx942", (9, 4), True),  # AMD: other names, nothing to compare
    ],
)
def test_a_gpu_that_this_torch_was_not_built_for_is_told(
    monkeypatch: pytest.MonkeyPatch, built: str, capability: tuple[int, int], runs: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_arch_list", built.split)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Some GPU")
    if runs:
        assert choose_device("auto").type == "cuda"
        return
    with pytest.raises(UserError, match="nothing for Some GPU") as told:
        choose_device("auto")
    assert f"compute capability {capability[0]}.{capability[1]}" in told.value.found


@pytest.mark.parametrize(
    ("sizes", "weights"),
    [((24.0, 24.0), "medsam"), ((14.7,), "medsam"), ((24.0, 11.0), "litemedsam")],
)
def test_the_smallest_gpu_decides_so_that_all_processes_agree(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[float, ...], weights: str
) -> None:
    """14.7 GiB is what torch shows of a T4, which is sold with 16 GB."""
    shown = [SimpleNamespace(total_memory=int(size * 2**30)) for size in sizes]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(sizes))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: shown[index])
    chosen = defaults_for(torch.device("cuda"), size=None, labeled=20)
    assert chosen["medsam"]["weights"] == weights


def test_a_gpu_is_recorded_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100")
    assert gpu_of(torch.device("cuda", 0))["gpu"] == "NVIDIA A100"
    assert gpu_of(torch.device("cpu")) == {}


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (MemoryError("Unable to allocate 1.50 GiB for an array"), "no room to allocate 1.50 GiB"),
        (MemoryError(), "none left"),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
                "memory: you tried to allocate 4096 bytes. Error code 12 (Cannot allocate memory)"
            ),
            "no room to allocate 4096 bytes",
        ),
    ],
)
def test_a_full_memory_is_told_as_such(error: Exception, found: str) -> None:
    with pytest.raises(UserError, match="memory of this machine") as told, full_gpu_told(fix="x"):
        raise error
    assert told.value.found == found
    assert "unet.width" in told.value.fix


def test_another_error_of_torch_passes() -> None:
    with pytest.raises(RuntimeError, match="shape"), full_gpu_told(fix="x"):
        raise RuntimeError("shape mismatch")
