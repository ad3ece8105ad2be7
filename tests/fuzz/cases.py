"""One case, from its number to its verdict."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from fuzz.child import arguments_of, run_in_child
from fuzz.hostile import HOSTILE
from fuzz.judge import Room, judge, snapshot
from fuzz.kinds import KINDS, kind_of
from fuzz.stock import QUIET, Stock

EVERY = 7
QUICK_BOMBS = (
    "bomb: PNG of 60000 x 60000",
    "bomb: NPY header of 2**80",
    "bomb: NIfTI header of 32 TiB",
)


@dataclass(frozen=True)
class Case:
    """A number of a seed, or the name of a fixed case."""

    kind: str
    name: str
    """`12` or `fifo as an image`."""
    seed: int = 0

    @property
    def again(self) -> str:
        """The words that repeat it alone."""
        chosen = (
            f"--hostile {shlex.quote(self.name)}"
            if self.kind == "hostile"
            else (f"--seed {self.seed} --only {self.name}")
        )
        return f"python -m fuzz.run {chosen} --keep /tmp/case"


@dataclass(frozen=True)
class Verdict:
    """How a case ended, and what is wrong with that."""

    case: Case
    status: int | None
    faults: tuple[str, ...]
    command: str
    seconds: float
    peak: int


def numbered(seed: int, number: int) -> Case:
    return Case(kind_of(number), str(number), seed)


def fixed(*, short: bool = False) -> list[Case]:
    """The hostile cases; short: every seventh, and of the bombs those that take no time."""
    cases = [Case("hostile", name) for name in HOSTILE]
    if not short:
        return cases
    light = [case for case in cases if not case.name.startswith("bomb")]
    return [*light[5::EVERY], *(case for case in cases if case.name in QUICK_BOMBS)]


def run_case(case: Case, stock: Stock, root: Path) -> Verdict:
    """Make the input, run the command, judge; `root` is new and stays."""
    room = Room(root).make()
    rng = Random(f"{case.seed} {case.name}")
    make = HOSTILE[case.name] if case.kind == "hostile" else KINDS[case.kind].make
    words = make(room, stock, rng)
    before = snapshot(room.root)
    streams = root.with_name(f"{root.name}.streams")
    streams.mkdir()
    ended = run_in_child(
        arguments_of(words),
        streams,
        cwd=room.work,
        environment=QUIET | _places(room, streams),
        stop_after=room.stop_after,
    )
    faults = judge(room, before, ended)
    text = " ".join(shlex.quote(word) for word in ("synfoc", *words))
    (streams / "command").write_text(text, errors="surrogateescape")
    return Verdict(case, ended.status, tuple(faults), text, ended.seconds, ended.peak)


def _places(room: Room, streams: Path) -> Mapping[str, str]:
    """Where libraries keep what is theirs."""
    return {
        "HOME": str(streams),
        "SYNFOC_HOME": str(room.work / "home" / "synfoc"),
        "HF_HOME": str(streams / "hub"),
        "TMPDIR": str(streams),
    }


def sweep(root: Path) -> None:
    """Delete a case, closed folders, too."""
    for place in (root, root.with_name(f"{root.name}.streams")):
        for folder, _, _ in os.walk(place):
            Path(folder).chmod(stat.S_IRWXU)
        shutil.rmtree(place, ignore_errors=True)
