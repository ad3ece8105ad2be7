"""What holds for every case, whatever was fed: the list of what did not."""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fuzz.child import LIMIT_BYTES, Ended

STATUSES = (0, 1, 2, 130)
FACTS = ("found", "expected", "fix")
TORN = re.compile(r"\.tmp$|\.part-\d+$|^\.tmp")
FORGED = "FORGED"
"""A line that begins with it was printed by the name of a file, behind its newline."""
SAFE = "\n\t\r"
KEPT = ("synfoc: the loss was not finite", "synfoc: the memory of this machine")
"""Errors of a run that has begun: what was trained until then stays."""
FULL = "more memory, or smaller images"
"""What the command line expects where nothing told a MemoryError before."""
Tree = dict[str, str]


@dataclass
class Room:
    """Where one case happens.

    root/
      in/            what the command reads: nothing in it may change
      deep/er/work/  where the command runs, so deep that `../..` stays inside the root
      canary         a hostile file would create it
    """

    root: Path
    outs: list[Path] = field(default_factory=list)
    """What the command may write: an --out, or a run. With status 2 they stay as they were."""
    may_change: tuple[str, ...] = ()
    """Names below an out that are a journal: they may change whatever the status is."""
    stop_after: float | None = None

    @property
    def inputs(self) -> Path:
        return self.root / "in"

    @property
    def work(self) -> Path:
        return self.root / "deep" / "er" / "work"

    @property
    def canary(self) -> Path:
        return self.root / "canary"

    def make(self) -> Room:
        """Create the folders."""
        self.inputs.mkdir(parents=True)
        self.work.mkdir(parents=True)
        return self

    def out(self, name: str = "out") -> Path:
        """A folder that the command may write."""
        path = self.work / name
        self.outs.append(path)
        return path


def snapshot(root: Path) -> Tree:
    """Path -> content digest, link target or `folder` of everything below a folder."""
    found: Tree = {}
    for place, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(place) / name
            key = str(path.relative_to(root))
            if path.is_symlink():
                found[key] = f"link to {path.readlink()}"
            elif path.is_file():
                found[key] = _digest(path)
            elif path.is_dir():
                found[key] = "folder"
    return found


def _digest(path: Path) -> str:
    try:
        return hashlib.sha1(path.read_bytes()).hexdigest()
    except PermissionError:
        return "closed"


def judge(room: Room, before: Mapping[str, str], ended: Ended) -> list[str]:
    """All that is wrong with how a case ended; [] where nothing is."""
    after = snapshot(room.root)
    outs = [str(out.relative_to(room.root)) for out in room.outs]
    return [
        *_ending(ended),
        *_messages(ended),
        *_files(room, before, after, outs),
        *_halves(room, before, after, outs),
        *_left_behind(room, before, after, outs, ended),
    ]


def _ending(ended: Ended) -> list[str]:
    faults = [ended.escaped] if ended.escaped else []
    if not ended.escaped and ended.status not in STATUSES:
        faults.append(f"status {ended.status}")
    if ended.peak > LIMIT_BYTES:
        faults.append(f"memory: {ended.peak / 2**20:.0f} MiB")
    text = ended.out + ended.err
    if FULL in text:
        faults.append("memory: all that a case may have was taken")
    if not ended.escaped and "Traceback" in text:
        faults.append(f"Traceback printed: {_line_after(text, 'Traceback')}")
    return faults


def _messages(ended: Ended) -> list[str]:
    faults, text = [], ended.out + ended.err
    usage = "Usage:" in ended.err  # typer's own word on flags
    if ended.status == 2 and not usage:
        lines = [line.split(maxsplit=1)[0] for line in ended.err.splitlines() if line.strip()]
        missing = [fact for fact in FACTS if fact not in lines]
        if missing:
            faults.append(f"status 2 without {', '.join(missing)}: {ended.err.strip()[:120]!r}")
    if ended.status == 1 and not text.strip():
        faults.append("status 1 without a word")
    odd = sorted({c for c in text if _breaks_terminal(c)})
    if odd:
        faults.append(f"printed raw: {', '.join(f'U+{ord(c):04X}' for c in odd)}")
    if any(line.startswith(FORGED) for line in text.splitlines()):
        faults.append("a file name forged a line")
    return faults


def _breaks_terminal(character: str) -> bool:
    """Control characters, and those that turn the direction of the text that follows."""
    if character in SAFE:
        return False
    turned = unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "LRI", "RLI")
    return turned or unicodedata.category(character) == "Cc"


def _files(
    room: Room, before: Mapping[str, str], after: Mapping[str, str], outs: Sequence[str]
) -> list[str]:
    outside = [name for name in _changed(before, after) if not _below(name, outs)]
    faults = ["code in a file ran"] if "canary" in outside else []
    for name in [name for name in outside if name != "canary"][:3]:
        how = "deleted" if name not in after else "changed" if name in before else "written"
        faults.append(f"{how} outside of the out: {name!r}")
    torn = [n for n in after if n not in before and TORN.search(n.rpartition("/")[2])]
    return [*faults, *(f"torn file left: {name}" for name in torn[:3])]


def _halves(
    room: Room, before: Mapping[str, str], after: Mapping[str, str], outs: Sequence[str]
) -> list[str]:
    """Files that were written and are not whole."""
    written = [n for n in _changed(before, after) if n in after and _below(n, outs)]
    return [f"half a file: {name}" for name in written if not _is_whole(room.root / name)]


def _is_whole(path: Path) -> bool:
    if not path.is_file():
        return True
    if path.suffix == ".png":
        return path.read_bytes().endswith(b"IEND\xaeB`\x82")
    if path.suffix == ".html":
        return path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    try:
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        elif path.suffix == ".npz":
            zipfile.ZipFile(path).close()
    except (ValueError, zipfile.BadZipFile):
        return False
    return True


def _refuse(word: str) -> None:
    """NaN and infinity are no JSON."""
    raise ValueError(word)


def _left_behind(
    room: Room,
    before: Mapping[str, str],
    after: Mapping[str, str],
    outs: Sequence[str],
    ended: Ended,
) -> list[str]:
    """With status 2 an out is absent, empty or as it was."""
    if ended.status != 2 or ended.err.startswith(KEPT):
        return []
    left = [
        name
        for name in _changed(before, after)
        if _below(name, outs) and after.get(name) != "folder" and not _journal(room, name)
    ]
    return [f"status 2, and yet changed: {', '.join(left[:4])}"] if left else []


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    names = before.keys() | after.keys()
    return sorted(name for name in names if before.get(name) != after.get(name))


def _journal(room: Room, name: str) -> bool:
    last = name.rpartition("/")[2]
    return last in room.may_change


def _below(name: str, folders: Sequence[str]) -> bool:
    return any(name == folder or name.startswith(f"{folder}/") for folder in folders)


def _line_after(text: str, word: str) -> str:
    """The exception: the first line after a traceback that is not indented."""
    below = text[text.index(word) :].splitlines()[1:]
    return next((line for line in below if line and not line.startswith(" ")), "")[:160]
