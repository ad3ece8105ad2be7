"""Who answers for a run: a branch (one network, or both fused) in a role. No torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, TypeAlias

from synfoc.errors import UserError

BranchName: TypeAlias = Literal["unet", "medsam", "fused"]
Role: TypeAlias = Literal["student", "teacher"]
Answer: TypeAlias = tuple[BranchName, Role]

BRANCHES: tuple[BranchName, ...] = ("unet", "medsam", "fused")
NETWORKS: tuple[BranchName, ...] = ("unet", "medsam")
"""The branches that are one network each."""
ROLES: tuple[Role, ...] = ("student", "teacher")
ANSWERS: tuple[Answer, ...] = tuple((branch, role) for branch in BRANCHES for role in ROLES)
BRANCH_NAMES: dict[BranchName, str] = {"unet": "U-Net", "medsam": "MedSAM", "fused": "Fused"}
"""As people read them. Here `MedSAM` is whatever foundation model the run has."""


def as_answer(branch: str, role: str) -> Answer:
    """Two words of a file as an answer.

    Raises:
        ValueError: there is no such branch or role.
    """
    for answer in ANSWERS:
        if answer == (branch, role):
            return answer
    raise ValueError(f"no answer {branch}, {role}")


def answer_name(answer: Answer) -> str:
    """`medsam` for its student, `medsam teacher`."""
    branch, role = answer
    return branch if role == "student" else f"{branch} {role}"


def answer_title(answer: Answer) -> str:
    """`MedSAM`, `MedSAM (teacher)`."""
    branch, role = answer
    return BRANCH_NAMES[branch] + ("" if role == "student" else f" ({role})")


def deployed_by_paper(had: Collection[str]) -> BranchName:
    """Return the branch whose student the paper deploys: MedSAM, or the only network there is.

    Args:
        had: the branches there are.
    """
    return "medsam" if "medsam" in had else "unet"


def recommended_answer(record: Mapping[str, Any]) -> Answer | None:
    """Return what a run recommends, as its summary.json or metrics.json says.

    None where it says nothing.

    Raises:
        UserError: it names no branch or role that there is.
    """
    named, role = record.get("recommended"), record.get("recommended_role") or "student"
    if named is None:
        return None
    try:
        return as_answer(named, role)
    except ValueError:
        raise UserError(
            "the run recommends no branch that there is",
            found=f"{named}, {role}",
            expected="unet, medsam or fused, student or teacher",
            fix="name a branch: --branch fused; synfoc train --resume RUN writes the summary anew",
        ) from None
