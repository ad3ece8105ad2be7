"""What a reader needs to know about a machine to repeat a run on another one."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import shutil
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

PACKAGES = (
    "synfoc",
    "torch",
    "transformers",
    "lightning-fabric",
    "numpy",
    "scipy",
    "safetensors",
    "SimpleITK",
    "nibabel",
    "pillow",
)


def environment() -> dict[str, Any]:
    """Return what a reader needs to know about this machine to repeat a run.

    The device is added later.

    Returns:
        versions (package -> version or None), python, platform, cpus, memory_gib, commit of the
        source tree (None for an installed package), command, started (UTC, ISO 8601).
    """
    import psutil

    return {
        "versions": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "commit": _commit(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Commit of the source tree, `-dirty` where it was edited; None where git does not know us."""
    git, here = shutil.which("git"), Path(__file__).parent
    if git is None:
        return None

    def ask(*words: str) -> str:
        command = [git, "-C", str(here), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        return done.stdout.strip() if done.returncode == 0 else ""

    # A package installed inside somebody else's repository must not report that one's commit.
    if not ask("ls-files", Path(__file__).name):
        return None
    return ask("describe", "--always", "--dirty", "--abbrev=40", "--match=") or None
