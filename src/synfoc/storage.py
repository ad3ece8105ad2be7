"""Files that are either the old one or the new one, never half of one; no torch.

Written beside itself, flushed to the disk, then renamed. Only lines of JSON grow in place: a last
line torn by a power cut is left out when they are read. A full disk and a folder that may not be
written become a `UserError`.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import math
import os
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from synfoc.errors import UserError

AnyPath: TypeAlias = str | os.PathLike[str]
"""What public functions take as a path."""

FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
REFUSED = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    # Some file systems (/proc) and names that are too long refuse in these words.
    *(errno.ENOENT, errno.ENAMETOOLONG),
)

PIECE = 2**20
"""Bytes that are hashed at a time."""
LINE = 2**16
"""No line of JSON is longer, in bytes."""
ODD_BYTES = "backslashreplace"
"""How text of a name that is not UTF-8 is written; JSON reads it back as it was."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How a file begins that `git lfs` has yet to fetch."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on success it takes the place of `path` at once.

    On any failure the old file stays as it was. Works for every writer: text, safetensors, npz.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            part.touch()
            mode = part.stat().st_mode
            yield part
            part.chmod(mode)  # safetensors writes for the owner alone; colleagues read runs, too
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.replace(path)
    finally:
        with suppress(OSError):  # the folder may not even exist; the first error is the one to tell
            part.unlink()


def sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces: a large volume is never held in memory whole."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def refuse_used(out: Path) -> None:
    """Make sure that a new data set may have this folder; nothing is created.

    Raises:
        UserError: it is a file or a mount point, or it holds something already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"{out} is in the way",
            found="a folder with files in it" if out.is_dir() else "a file",
            expected="a new or empty folder",
            fix="choose another folder",
        )
    if os.path.ismount(out):
        raise UserError(
            f"{out} cannot become a new data set",
            found="a mount point, which no other folder can take the place of",
            expected="a new or empty folder",
            fix="name a new folder inside it",
        )


@contextmanager
def new_folder(out: Path, what: str) -> Iterator[Path]:
    """Yield a folder beside `out` to fill; on success it takes the place of `out` at once.

    On any failure nothing is left behind.

    Args:
        out: new or empty (`refuse_used`).
        what: the data set, for the error.

    Raises:
        UserError: the disk does not take the files.
    """
    out = out.resolve()  # `.` has no name, and a link stays a link
    part = out.with_name(f".{out.name}.part-{os.getpid()}")
    try:
        part.mkdir(parents=True)
        yield part
        if out.is_dir():
            out.rmdir()
        part.replace(out)
    except OSError as error:
        raise UserError(
            f"{what} could not be written to {out}",
            found=error,
            expected="a folder that can be created, on a disk with room",
            fix="choose another folder or free some space",
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Replace a text file (UTF-8) atomically; `UserError` where the disk is full."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", errors=ODD_BYTES)


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Replace a CSV file atomically; `UserError` where the disk is full."""
    with (
        replacing(path) as part,
        part.open("w", newline="", encoding="utf-8", errors=ODD_BYTES) as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        table.writerows(rows)


def write_json(path: Path, value: object) -> None:
    """Replace a JSON file atomically. NaN and infinity become null, numpy scalars numbers."""
    text = json.dumps(plain(value), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_json(
    path: Path, what: str = "JSON", *, fix: str = "check the path, or restore the file from a copy"
) -> dict[str, Any]:
    """Read a JSON object of finite numbers in which no key stands twice.

    Args:
        path: the file.
        what: what it holds, for the error.
        fix: what brings the file back.

    Raises:
        UserError: the file is missing or cannot be read, or holds no such object.
    """
    try:
        refuse_endless(path)
        value = parse_json(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        found = obstacle(path) or f"not JSON: {_brief(error)}"
    else:
        found = type(value).__name__
        if isinstance(value, dict):
            return value
    raise unreadable(path, found, expected=f"a JSON object ({what})", fix=fix)


def parse_json(text: bytes) -> Any:
    """Return what UTF-8 text of JSON holds.

    Raises:
        ValueError: it is no JSON, holds NaN or infinity, or the same key twice in one object.
        RecursionError: it is nested too deeply.
    """
    return json.loads(
        text.decode("utf-8-sig"),
        object_pairs_hook=_unique_keys,
        parse_constant=_finite,
        parse_float=_finite,
    )


def refuse_endless(path: Path) -> None:
    """Stop at a pipe, a socket or a device, before it is opened: reading it may never end.

    Raises:
        OSError: it is one.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "a pipe, a socket or a device, not a file", str(path))


def obstacle(path: Path) -> str:
    """Return what keeps a file from being read whatever it should hold; "" where nothing does."""
    try:
        refuse_endless(path)
        with path.open("rb") as file:
            first = file.read(len(LFS_POINTER))
    except OSError as error:
        words = {FileNotFoundError: "no such file", IsADirectoryError: "a folder"}
        return words.get(type(error)) or error.strerror or str(error)
    if first == LFS_POINTER:
        return "a pointer of Git LFS, not the file itself"
    return "" if first else "an empty file"


def unreadable(path: Path, found: str, *, expected: str, fix: str) -> UserError:
    """Return the error of a file that cannot be used; one that is not damaged needs another fix."""
    if "Git LFS" in found:
        fix = "git lfs pull, in the clone that holds the file"
    if found == os.strerror(errno.EACCES):
        fix = f"chmod +rX {shlex.quote(str(_closed(path)))}, or ask its owner to do so"
    return UserError(f"cannot read {path}", found=found, expected=expected, fix=fix)


def _closed(path: Path) -> Path:
    """Return what may not be opened on the way to a file: a folder above it, or the file."""
    for folder in reversed(path.absolute().parents):
        if not os.access(folder, os.X_OK):
            return folder
    return path


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Append one line of JSON in a single write, so that at most the last line can be torn."""
    text = json.dumps(plain(line), ensure_ascii=False, allow_nan=False)
    with told(path), path.open("ab", buffering=0) as file:
        data = text.encode(errors=ODD_BYTES) + b"\n"
        # A raw write may stop short on a full disk without an error.
        if file.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a .jsonl file; [] where it is missing. A torn last line (kill -9) is left out.

    Raises:
        UserError: a line before the last is not JSON, or the file cannot be read.
    """
    lines, damaged = sound_lines(path)
    if damaged:
        raise _damaged_line(path, f"line {damaged[0]}")
    return lines


def sound_lines(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """Read the JSON objects of a .jsonl file, and the numbers of the lines that are none.

    A torn last line is in neither; of a missing file both are empty.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        refuse_endless(path)
        # What follows the last newline is empty, or torn.
        whole = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return [], []
    except OSError:
        raise unreadable(
            path, obstacle(path), expected="lines of JSON", fix="move it away"
        ) from None
    lines, damaged = [], []
    for number, text in enumerate(whole, start=1):
        line = _line(text)
        if line is None:
            damaged.append(number)
        else:
            lines.append(line)
    return lines, damaged


def last_line(path: Path) -> dict[str, Any] | None:
    """Return the last whole line of a .jsonl file; None where there is none. Reads the end alone.

    Raises:
        UserError: it is not JSON.
    """
    if not path.is_file():
        return None
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LINE))
        *whole, _ = file.read().split(b"\n")
    line = _line(whole[-1]) if whole else None
    if whole and line is None:
        raise _damaged_line(path, "the last line")
    return line


def truncate_lines(path: Path, step: int) -> int:
    """Drop lines after `step`, and what is no line of JSON, so that a resumed run goes on cleanly.

    Returns:
        How many lines were damaged; a torn last line is none of them.

    Raises:
        UserError: the file cannot be read or written.
    """
    lines, damaged = sound_lines(path)
    stepped = [line for line in lines if isinstance(line.get("step"), int)]
    kept = [line for line in stepped if line["step"] <= step]
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))
    return len(damaged) + len(lines) - len(stepped)


def refuse_folder(path: Path) -> None:
    """Stop where a folder has the name of a file that is to be written.

    Raises:
        UserError: it has.
    """
    if path.is_dir():
        raise UserError(
            f"cannot write {path}",
            found="a folder of this name",
            expected="a file, or nothing",
            fix="move that folder away, then the same command again",
        )


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn a full disk or a forbidden folder into a `UserError`; other errors pass."""
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        # Writers in other languages (safetensors) tell it in words only.
        if number in FULL or "No space left" in str(error):
            raise UserError(
                f"no space left for {path}",
                found=str(error),
                expected="room on the disk; the old file is untouched",
                fix="free some space, then the same command again (a run goes on with --resume)",
            ) from error
        if number == errno.EISDIR:
            refuse_folder(path)
        if number in REFUSED:
            raise UserError(
                f"cannot write {path}",
                found=str(error),
                expected="a path that is free, in a folder in which you may create files",
                fix="choose another --out, or change the permissions",
            ) from error
        raise


def _line(text: bytes) -> dict[str, Any] | None:
    """Return the JSON object of a line; None where it is none."""
    try:
        line = parse_json(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def _damaged_line(path: Path, where: str) -> UserError:
    return UserError(
        f"{path} is damaged",
        found=f"{where} is not JSON",
        expected="one JSON object per line",
        fix=f"restore the file from a copy, or delete {where}",
    )


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"the key {twice} stands twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number


def _brief(error: Exception) -> str:
    """Return the first line of an error, cut where it is long."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    text = str(error).partition("\n")[0]
    return text if len(text) <= 120 else text[:120] + " ..."


def plain(value: Any) -> Any:
    """Return the value as JSON can hold it.

    Numpy scalars become numbers, paths text, NaN null.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
