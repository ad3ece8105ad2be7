"""Size, time and SHA-256 of files, so that a run notices when its data changed."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypedDict

from synfoc.errors import UserError
from synfoc.storage import sha256

THREADS = 4


class Fingerprint(TypedDict):
    """What is kept of one file: bytes, nanoseconds since 1970, hexadecimal digits."""

    size: int
    time: int
    sha256: str


def fingerprints(files: Mapping[str, Path]) -> dict[str, Fingerprint]:
    """Read every file once.

    Args:
        files: name to keep -> file.

    Raises:
        UserError: a file cannot be read.
    """
    names = list(files)
    shares = [names[start::THREADS] for start in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        parts = pool.map(lambda share: {name: _fingerprint(files[name]) for name in share}, shares)
        read = {name: kept for part in parts for name, kept in part.items()}
    return {name: read[name] for name in names}


def differences(known: Mapping[str, Fingerprint], root: Path) -> list[str]:
    """Names of files under `root` that are gone or changed.

    A file of the same size and time is taken to be the same; any other is hashed again.
    """
    changed = []
    for name, kept in known.items():
        file = root / name
        if not file.is_file():
            changed.append(f"{name} (gone)")
            continue
        state = file.stat()
        same = (state.st_size, state.st_mtime_ns) == (kept["size"], kept["time"])
        if not same and (state.st_size != kept["size"] or sha256(file) != kept["sha256"]):
            changed.append(f"{name} (changed)")
    return changed


def _fingerprint(path: Path) -> Fingerprint:
    try:
        state = path.stat()
        return {"size": state.st_size, "time": state.st_mtime_ns, "sha256": sha256(path)}
    except OSError as error:
        raise UserError(
            f"cannot read {path}",
            found=error,
            expected="every image and label of the data set",
            fix="synfoc data check DIR, with the folder of the data, lists all such files",
        ) from None
