"""The fuzzing itself: each fault that is planted is seen, and a case can be repeated."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from fuzz import samples
from fuzz.child import Ended, arguments_of, run_in_child
from fuzz.judge import Room, judge, snapshot
from fuzz.kinds import KINDS, kind_of
from fuzz.mutators import containers, pictures, raw, text, tiff, volumes
from fuzz.stock import write_data
from synfoc import cli
from synfoc.engine import progress
from synfoc.errors import UserError
from synfoc.images import check
from synfoc.report import terminal

LOADED = (cli, check, progress, terminal)
"""What `data check` imports while it runs: here once, not again in every child."""
Plant = Callable[[Room], object]


@pytest.fixture
def room(tmp_path: Path) -> Room:
    room = Room(tmp_path / "case").make()
    write_data(room.inputs / "data")
    room.out().mkdir()
    return room


def ended_and_faults(room: Room, limit: float = 30.0) -> tuple[Ended, list[str]]:
    """`data check` in a forked child, as every case is run."""
    before = snapshot(room.root)
    streams = room.root.with_name("streams")
    streams.mkdir()
    command = arguments_of(["data", "check", str(room.inputs / "data")])
    ended = run_in_child(command, streams, cwd=room.work, limit=limit)
    return ended, judge(room, before, ended)


def test_a_sound_case_has_no_fault(room: Room) -> None:
    ended, faults = ended_and_faults(room)
    assert (ended.status, faults) == (0, [])
    assert "no problem found" in ended.out


def divide(room: Room) -> object:
    return 1 // 0


def sleep(room: Room) -> None:
    time.sleep(60)


def take_memory(room: Room) -> bytes:
    return bytes(3 * 2**30)


def crash(room: Room) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def write_into_the_input(room: Room) -> None:
    next(room.inputs.rglob("*.png")).write_bytes(b"x")


def delete_an_input(room: Room) -> None:
    next(room.inputs.rglob("*.png")).unlink()


def write_elsewhere(room: Room) -> None:
    (room.work / "../../x").write_text("x")


def leave_a_torn_file(room: Room) -> None:
    (room.outs[0] / ".mask.png.17.tmp").write_text("x")


def leave_half_a_mask(room: Room) -> None:
    whole = next(room.inputs.rglob("*.png")).read_bytes()
    (room.outs[0] / "mask.png").write_bytes(whole[:-8])


def write_nan(room: Room) -> None:
    (room.outs[0] / "metrics.json").write_text('{"dice": NaN}')


def run_code(room: Room) -> None:
    room.canary.touch()


def fail_in_a_thread(room: Room) -> None:
    thread = threading.Thread(target=divide, args=(room,))
    thread.start()
    thread.join()


def end_with_3(room: Room) -> None:
    sys.exit(3)


def end_with_2_alone(room: Room) -> None:
    sys.exit(2)


def end_with_1_silently(room: Room) -> None:
    sys.exit(1)


def refuse_late(room: Room) -> None:
    (room.outs[0] / "half.png").write_text("x")
    raise UserError("no", found="x", expected="y", fix="z")


def print_an_escape(room: Room) -> None:
    sys.stdout.write("\x1b[2J")


def print_a_turned_name(room: Room) -> None:
    sys.stdout.write("\u202egnp")


def forge_a_line(room: Room) -> None:
    sys.stdout.write("name\nFORGED: fine")


PLANTED: dict[Plant, str] = {
    divide: "ZeroDivisionError: integer division or modulo by zero",
    sleep: "hang: no end after 2 s",
    take_memory: "memory: all that a case may have was taken",
    crash: "crash: SIGSEGV",
    write_into_the_input: "changed outside of the out",
    delete_an_input: "deleted outside of the out",
    write_elsewhere: "written outside of the out: 'deep/x'",
    leave_a_torn_file: "torn file left",
    leave_half_a_mask: "half a file",
    write_nan: "half a file",
    run_code: "code in a file ran",
    fail_in_a_thread: "Traceback printed: ZeroDivisionError",
    end_with_3: "status 3",
    end_with_2_alone: "status 2 without found, expected, fix",
    end_with_1_silently: "status 1 without a word",
    refuse_late: "status 2, and yet changed: deep/er/work/out/half.png",
    print_an_escape: "printed raw: U+001B",
    print_a_turned_name: "printed raw: U+202E",
    forge_a_line: "a file name forged a line",
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_seen(room: Room, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function of `data check` that lists the cases does this first."""
    load_cases = check.load_cases

    def planted(*words: object, **named: object) -> object:
        plant(room)
        return load_cases(*words, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(check, "load_cases", planted)
    _, faults = ended_and_faults(room, limit=2 if plant is sleep else 30)
    assert [fault for fault in faults if PLANTED[plant] in fault], faults


def test_large_memory_is_seen_where_it_is_had(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of Python is above 1 MiB, without any help."""
    monkeypatch.setattr("fuzz.judge.LIMIT_BYTES", 2**20)
    _, faults = ended_and_faults(room)
    assert any("memory: " in fault for fault in faults)


def archive(rng: Random) -> bytes:
    members = [("a.npy", samples.draw_npy(rng).image), ("b.npy", samples.draw_npy(rng).label)]
    return containers.zip_of(members)


HEADER = {"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}, "__metadata__": {"a": "{}"}}
JSON = b'{"a": [1, 2.5, null], "b": {"c": "d", "e": true}}'
MUTATORS: dict[str, tuple[raw.Mutator, Callable[[Random], bytes]]] = {
    "png": (pictures.png, lambda rng: samples.draw_png(rng).image),
    "jpeg": (pictures.jpeg, lambda rng: samples.draw_jpeg(rng).image),
    "bmp": (pictures.bmp, lambda rng: samples.draw_bmp(rng).image),
    "tiff": (tiff.tiff, lambda rng: samples.draw_tiff(rng).image),
    "nifti": (volumes.nifti, lambda rng: samples.draw_nifti(rng).image),
    "nifti.gz": (volumes.zipped(volumes.nifti), lambda rng: samples.draw_nifti_gz(rng).image),
    "npy": (volumes.npy, lambda rng: samples.draw_npy(rng).image),
    "npz": (containers.zip_members(volumes.npy), archive),
    "safetensors": (
        containers.safetensors,
        lambda rng: containers.safetensors_of(HEADER, bytes(16)),
    ),
    "json": (text.json_file, lambda rng: JSON),
    "jsonl": (text.jsonl_file, lambda rng: JSON + b"\n" + JSON + b"\n"),
    "yaml": (text.yaml_file, lambda rng: b"a: 1\nb:\n  c: [d, e]\n  f: text\n"),
    "csv": (text.csv_file, lambda rng: b"image,label\na.png,b.png\nc.png,\n"),
}


@pytest.mark.parametrize("name", MUTATORS)
def test_a_mutator_repeats_itself_and_nothing_else(name: str) -> None:
    """The same seed gives the same bytes; of 40 seeds at least 25 give bytes of their own."""
    mutate, draw = MUTATORS[name]

    def drawn(seed: int) -> bytes:
        rng = Random(seed)
        return mutate(draw(rng), rng)

    found = [drawn(seed) for seed in range(40)]
    assert found == [drawn(seed) for seed in range(40)]
    assert len(set(found)) >= 25


def test_every_kind_has_its_share_of_a_round() -> None:
    """111 turns: as many of each kind as its share says, and no kind waits for 60 turns."""
    turns = [kind_of(number) for number in range(sum(kind.share for kind in KINDS.values()))]
    assert {name: turns.count(name) for name in KINDS} == {n: k.share for n, k in KINDS.items()}
    assert set(turns[:60]) == set(KINDS)
