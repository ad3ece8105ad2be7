"""Two processes give the losses of one, with the same global batch."""

import atexit
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from lightning_fabric.plugins.environments import SLURMEnvironment
from torch import nn

from synfoc.config import Config
from synfoc.engine import parallel
from synfoc.engine.parallel import (
    GlobalBatchNorm2d,
    Sharded,
    make_fabric,
    rank_of_process,
    share_batch_norm,
    together,
)
from synfoc.errors import Interrupted, UserError
from synfoc.runs import RunFolder

Settings = Callable[..., Config]


def test_sharing_batch_norm_keeps_the_parameters_that_optimizers_hold() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Sequential(nn.BatchNorm2d(3)))
    network[1][0].running_mean.fill_(2)
    before = list(network.parameters())
    share_batch_norm(network)
    assert isinstance(network[1][0], GlobalBatchNorm2d)
    assert all(one is other for one, other in zip(before, network.parameters(), strict=True))
    assert network[1][0].running_mean.tolist() == [2, 2, 2]


def test_one_process_sees_its_network_unchanged(settings: Settings) -> None:
    network, x = nn.Conv2d(1, 2, 3), torch.rand(2, 1, 8, 8)
    fabric = make_fabric(settings(), torch.device("cpu"))
    assert torch.equal(Sharded(network, fabric)(x), network(x))


def test_a_batch_that_cannot_be_divided_is_refused(settings: Settings) -> None:
    with pytest.raises(UserError, match="a batch of 2 cannot be divided among 3 processes"):
        make_fabric(settings("train.devices=3"), torch.device("cpu"))


def test_fewer_gpus_than_processes_are_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="fewer GPUs than processes: 1") as told:
        make_fabric(settings("train.devices=2"), torch.device("cuda"))
    assert told.value.fix.startswith("--set train.devices=1")


@pytest.mark.parametrize("devices", [1, 4])
def test_torchrun_with_another_number_of_processes_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, devices: int
) -> None:
    """Two processes that each take themselves for the only one would write one folder."""
    as_torchrun(monkeypatch, world=2, local=2)
    with pytest.raises(UserError, match="torchrun started another number") as told:
        make_fabric(settings("method.batch=4", f"train.devices={devices}"), torch.device("cpu"))
    assert told.value.fix == "--set train.devices=2"


def test_torchrun_may_start_processes_on_several_machines(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four processes, two on each of two machines with two GPUs; this is the first of the second,
    which must not write."""
    as_torchrun(monkeypatch, world=4, local=2, rank=2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    config = settings("method.batch=4", "train.devices=4")
    fabric = make_fabric(config, torch.device("cpu"))
    assert (fabric.world_size, fabric.global_rank, rank_of_process(4)) == (4, 2, 2)


def as_torchrun(monkeypatch: pytest.MonkeyPatch, *, world: int, local: int, rank: int = 0) -> None:
    """The variables by which torchrun tells a process its place."""
    told = {
        "WORLD_SIZE": world,
        "LOCAL_WORLD_SIZE": local,
        "RANK": rank,
        "LOCAL_RANK": rank % local,
    }
    for name, value in (told | {"GROUP_RANK": rank // local}).items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")


def test_a_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    """Whatever it waits for: here a sleep, on a GPU a kernel that waits for the other."""
    script = """
import os, sys, time
from pathlib import Path
from types import SimpleNamespace
from synfoc.engine.parallel import launched

fabric = SimpleNamespace(world_size=2, launch=lambda: None)
with launched(fabric):
    if child := os.fork():
        Path(sys.argv[1]).write_text(str(child))
        os._exit(1)
    with launched(fabric):
        time.sleep(600)
"""
    told = tmp_path / "pid"
    subprocess.run([sys.executable, "-c", script, str(told)], timeout=60, check=False)
    child, end = int(told.read_text()), time.monotonic() + 20
    while psutil.pid_exists(child) and time.monotonic() < end:
        time.sleep(0.1)
    assert not psutil.pid_exists(child)


def test_a_process_that_fails_does_not_say_farewell_to_those_that_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fabric's farewell waits for all processes; one stopped with the others may say it."""
    left: list[object] = []
    monkeypatch.setattr(atexit, "unregister", left.append)
    monkeypatch.delenv(parallel.PARENT, raising=False)
    fabric = SimpleNamespace(world_size=1, launch=lambda: None, is_global_zero=True)
    with pytest.raises(Interrupted), parallel.launched(fabric):
        raise Interrupted("all of them")
    assert left == []
    fabric.is_global_zero = False
    with pytest.raises(SystemExit) as ended, parallel.launched(fabric):
        raise Interrupted("all of them")
    assert ended.value.code == 0
    assert left == []
    with pytest.raises(ZeroDivisionError), parallel.launched(fabric):
        raise ZeroDivisionError
    assert left == [parallel._destroy_dist_connection]
    assert parallel.PARENT not in os.environ, "a run of one process starts no other"


def test_slurm_is_asked_only_for_runs_that_srun_started(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run of one process inside an allocation of four tasks, and task 3 of a run of four."""
    task = {"NTASKS": "4", "PROCID": "3", "LOCALID": "1", "NODEID": "1", "NNODES": "2"}
    for name, value in task.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    (tmp_path / "srun").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    alone = make_fabric(settings(), torch.device("cpu"))
    assert (alone.world_size, alone.global_rank, rank_of_process(1)) == (1, 0, 0)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "2")
    four = make_fabric(settings("method.batch=4", "train.devices=4"), torch.device("cpu"))
    assert (four.world_size, four.global_rank, rank_of_process(4)) == (4, 3, 3)
    assert isinstance(four.strategy.cluster_environment, SLURMEnvironment)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert rank_of_process(2) == 1, "one of two that Fabric started itself"


def test_where_one_process_fails_all_end(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that fails says why, the others say nothing."""
    fabric = make_fabric(settings(), torch.device("cpu"))
    with together(fabric):
        done = True
    assert done
    with pytest.raises(OSError, match="disk full"), together(fabric):
        raise OSError("disk full")
    monkeypatch.setattr(parallel, "anywhere", lambda fabric, here: True)
    with pytest.raises(SystemExit) as ended, together(fabric):
        pass
    assert ended.value.code == 2
    other = SimpleNamespace(is_global_zero=False)
    with pytest.raises(SystemExit) as ended, together(other):
        pass
    assert ended.value.code == 0, "Fabric would kill the first process, which is telling why"


@pytest.mark.slow
def test_the_second_process_does_not_wait_for_a_first_one_that_failed(
    settings: Settings, tmp_path: Path, losses_on: Callable[[Config, int], list[float]]
) -> None:
    """Another command trains the run; the first process alone looks for that."""
    losses_on(settings("train.steps=1"), 2)
    run = tmp_path / "run2"
    command = [sys.executable, "-m", "synfoc", "train", "--resume", str(run)]
    with RunFolder(run).held():
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.count("is being trained") == 1


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(
    settings: Settings, losses_on: Callable[[Config, int], list[float]]
) -> None:
    """The same global batch on 1 and on 2 CPU processes (gloo): losses within 1e-4."""
    config = settings("train.log_every=1")
    one, two = losses_on(config, 1), losses_on(config, 2)
    assert len(one) == 6
    assert one == pytest.approx(two, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("failing", [0, 1])
def test_where_one_process_fails_in_a_step_the_other_ends_soon(
    settings: Settings, tmp_path: Path, failing: int
) -> None:
    """Whoever it is; the reason is told once."""
    config = tmp_path / "config.yaml"
    config.write_text(settings("train.devices=2", "train.device=cpu").to_yaml())
    script = tmp_path / "train.py"
    script.write_text(
        f"""
import os, sys
from pathlib import Path
from synfoc import load_config, train
from synfoc.engine import train as module

def step(*args, **kwargs):
    if os.environ["LOCAL_RANK"] == "{failing}":
        raise ZeroDivisionError("this one")
    return learn(*args, **kwargs)

learn, module.learn = module.learn, step
Path(sys.argv[1] + os.environ.get("LOCAL_RANK", "0")).write_text(str(os.getpid()))
train(load_config({str(config)!r}), {str(tmp_path / "run")!r})
"""
    )
    pids = tmp_path / "pid"
    done = subprocess.run(
        [sys.executable, str(script), str(pids)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.count("ZeroDivisionError: this one") == 1
    other, end = int(Path(f"{pids}{1 - failing}").read_text()), time.monotonic() + 20
    while psutil.pid_exists(other) and time.monotonic() < end:
        time.sleep(0.1)
    assert not psutil.pid_exists(other)
