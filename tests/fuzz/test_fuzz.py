"""A short run of the fuzzing: every kind, and hostile cases. `make fuzz` is the long one."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PROJECT = TESTS.parent


def test_nothing_that_is_fed_breaks_a_command() -> None:
    """Every kind by its share, and a seventh of the hostile cases, each in its own forked child.

    In a process of its own: what pytest has run here, threads and all, is no state to fork from.
    """
    words = ["--short", "--cases", "40", "--seed", "1", "--processes", "2"]
    paths = os.pathsep.join((str(PROJECT / "src"), str(TESTS)))
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.run", *words],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert ", 0 bad" in done.stdout
