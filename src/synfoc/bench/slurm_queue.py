"""What Slurm says of jobs: those that wait or run, and how one ended. No accounting is needed."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

from synfoc.errors import UserError

PREFIX = "synfoc-"
"""Every name of ours begins so."""
COMMAND_SECONDS = 60


@dataclass(frozen=True)
class Queued:
    """A job that waits or runs."""

    job: str
    """12_3, or 12 where it is the only one of its array."""
    state: str
    reason: str
    """Why it waits, in Slurm's words; empty where it does not, or Slurm has not looked yet."""


def queued() -> dict[tuple[str, int], Queued]:
    """Return this user's jobs by name of their array and place in it.

    Raises:
        UserError: Slurm does not answer.
    """
    command = ("squeue", "--me", "--noheader", "--array", "--format=%i|%T|%r|%j")
    done = _ask(*command)
    if done.returncode:
        raise UserError(
            "Slurm does not answer",
            found=f"squeue: {done.stderr.strip() or f'status {done.returncode}'}",
            expected="a list of jobs from squeue",
            fix="run it where squeue works; jobs that were submitted go on meanwhile",
        )
    jobs = {}
    for line in done.stdout.splitlines():
        job, state, reason, name = line.strip().split("|", 3)
        if name.startswith(PREFIX):
            jobs[name, int(job.partition("_")[2] or 0)] = Queued(
                job, state, "" if reason == "None" else reason
            )
    return jobs


def ended_as(job: str) -> str:
    """State and reason of a job that ended, while Slurm remembers it."""
    shown = _ask("scontrol", "show", "job", job, "--oneliner").stdout
    if found := re.search(r"JobState=(\S+) Reason=(\S+)", shown):
        return f"{found[1]} ({found[2]})"
    columns = ("--allocations", "--noheader", "--parsable2", "--format=State")
    return _ask("sacct", "--jobs", job, *columns).stdout.strip() or "forgotten by Slurm"


def _ask(*command: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which(command[0])
    if program is None:
        return subprocess.CompletedProcess(command, 127, "", f"{command[0]} not found")
    try:
        return subprocess.run(  # noqa: S603  (names of our own jobs)
            [program, *command[1:]],
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer in {COMMAND_SECONDS} s")
