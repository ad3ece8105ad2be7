"""What the JSON files of a run may hold, checked when they are read; no torch.

A file that was cut, flipped or edited is told by the first value that cannot be: which key, what it
holds, what it should hold, and what brings the file back. Keys that this version does not know are
left alone, and those that an older version did not write may be missing. What they mean: runs.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from synfoc.answers import BranchName, Role
from synfoc.config_errors import described
from synfoc.storage import read_json, unreadable

Count: TypeAlias = Annotated[int, Field(ge=0, lt=2**63)]
Number: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
Fraction: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Spacing: TypeAlias = Annotated[
    list[Annotated[float, Field(ge=0, allow_inf_nan=False)]], Field(min_length=3, max_length=3)
]
Ends: TypeAlias = Annotated[list[Number | None], Field(min_length=2, max_length=2)]


class Record(BaseModel):
    """An object of a JSON file. What has a default may be missing; text is no number."""

    model_config = ConfigDict(strict=True, extra="ignore")


class Environment(Record):
    """environment.json, as far as it is read."""

    versions: dict[str, str] = {}
    notices: list[str] = []
    cpus: Count | None = None


class Calibrated(Record):
    """See `engine.estimate.Calibration`."""

    model_config = ConfigDict(extra="forbid")
    base: Number
    expected: Number
    agreement: Number
    empty: Fraction = 0.0
    views: Fraction = 0.0


class Summary(Record):
    """summary.json, as far as it is read."""

    steps: Count = 0
    best_step: Count | None = None
    test_step: Count | None = None
    rule: str = ""
    seconds: Number = 0.0
    seconds_per_step: Number = 0.0
    peak_memory_gib: Number | None = None
    skipped_steps: Count = 0
    recommended: BranchName | None = None
    recommended_role: Role | None = None
    why: str = ""
    calibration: dict[BranchName, dict[Role, Calibrated]] = {}
    device: str = ""
    precision: str = ""


class Means(Record):
    """The four measures; null is a number that does not exist."""

    dice: Fraction | None = None
    jaccard: Fraction | None = None
    hd95: Number | None = None
    asd: Number | None = None
    dice_ci95: Ends | None = None


class DomainScores(Means):
    """One answer on the cases of one domain."""

    dice: Fraction
    cases: Count
    patients: Count = 0
    unit: str = ""
    classes: dict[str, Means] = {}


class AnswerScores(Record):
    """One branch in one role."""

    mean_over_domains: Means = Means()
    domains: dict[str, DomainScores]


Answers: TypeAlias = dict[BranchName, dict[Role, AnswerScores]]


class Estimate(Record):
    """Dice estimated without labels."""

    cases: Count = 0
    branches: Answers


class Unread(Record):
    """A case of which a file could not be read."""

    case: str
    why: str


class Metrics(Record):
    """metrics.json, and bench/PROTOCOL.json of a suite, as far as they are read."""

    protocol: str = ""
    rule: str = ""
    checkpoint: str = ""
    step: Count | None = None
    data: str = ""
    unit: str = ""
    empty_policy: str = ""
    classes: list[str] = []
    cases: Count = 0
    unreadable: list[Unread] = []
    recommended: BranchName | None = None
    recommended_role: Role | None = None
    estimate: Estimate | None = None
    branches: Answers = {}
    run: str = ""


class SplitCase(Record):
    """One case of split.json."""

    id: str
    image: str
    label: list[str]
    parts: list[str] = []
    domain: str | None
    patient: str | None
    split: str | None
    spacing: Spacing | None


class SplitFile(Record):
    """A file that the run depends on."""

    size: Count
    time: int
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Split(Record):
    """split.json."""

    root: str
    labeled: list[SplitCase]
    unlabeled: list[SplitCase]
    test: list[SplitCase]
    monitor: list[SplitCase]
    files: dict[str, SplitFile]


class Line(Record):
    """A line of metrics.jsonl, as far as it is read."""

    step: Count
    kind: str = "step"
    seconds: Number | None = None
    L_x_UT: Number | None = None
    L_x_MS: Number | None = None
    L_u_UT: Number | None = None
    L_u_MS: Number | None = None
    L_c: Number | None = None
    L_d: Number | None = None
    phi_self: Number | None = None
    phi_mut: Number | None = None
    alpha: Number | None = None
    trusted: Number | None = None
    lam: Number | None = None
    score: Number | None = None
    labeled_dice: Number | None = None
    agreement: Number | None = None
    stability: Number | None = None
    test_dice: Number | None = None
    pseudo_dice: dict[str, Number | None] | None = None
    test: dict[BranchName, dict[Role, Number]] | None = None


def read_record(path: Path, kind: type[Record], what: str, *, fix: str) -> dict[str, Any]:
    """Read a JSON file and check it.

    Args:
        path: the file.
        kind: what it may hold.
        what: its name for people.
        fix: what brings the file back.

    Returns:
        The file as it is: defaults are not filled in.

    Raises:
        UserError: the file is missing, cannot be read, or holds what it may not.
    """
    value = read_json(path, what, fix=fix)
    if wrong := fault(value, kind):
        key, found, expected = wrong
        raise unreadable(path, f"{key} = {found}", expected=f"{key}: {expected}", fix=fix)
    return value


def fault(value: Mapping[str, Any], kind: type[Record]) -> tuple[str, str, str] | None:
    """Return the first key that cannot be, what it holds and what it should hold.

    None where all can.
    """
    try:
        kind.model_validate(value)
    except ValidationError as error:
        return described(error.errors()[0])
    return None


def read_split(path: Path, *, fix: str) -> dict[str, Any]:
    """Read split.json: every file has its hash, and no case both trains and tests.

    Raises:
        UserError: as `read_record`.
    """
    value = read_record(path, Split, "a split written by synfoc train", fix=fix)
    if wrong := _contradiction(value):
        raise unreadable(path, wrong, expected="the split as synfoc train wrote it", fix=fix)
    return value


def _contradiction(split: Mapping[str, Any]) -> str:
    """Return what an edited split says of a case that cannot be; "" where nothing is wrong."""
    places: dict[str, str] = {}
    for part in ("labeled", "unlabeled", "test"):
        for case in split[part]:
            if (other := places.setdefault(case["image"], part)) != part:
                return f"{case['image']} is in {other} and in {part}"
    for case in _cases(split):
        for file in (case["image"], *case["label"]):
            if file not in split["files"]:
                return f"no hash of {file}"
    return ""


def _cases(split: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    for part in ("labeled", "unlabeled", "test", "monitor"):
        yield from split[part]
