"""What `check_data` found in a data set: values for JSON and rows of tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Fault:
    """A file that cannot be used."""

    case: str
    reason: str
    fix: str


@dataclass(frozen=True)
class Group:
    """The cases of one domain on one side of the split."""

    domain: str
    split: str
    cases: int
    labeled: int
    slices: int
    patients: int | None
    """None where no patient is known."""
    rows: tuple[int, int]
    """Smallest and largest number of rows, in pixels."""
    columns: tuple[int, int]
    kinds: Mapping[str, int]
    spacing: tuple[Spacing, Spacing] | None
    """Smallest and largest spacing in mm between slices, rows, columns."""
    unknown_spacing: int
    intensity: tuple[float, float]
    """Smallest and largest pixel value in the files."""


@dataclass(frozen=True)
class Findings:
    """What `check_data` found."""

    root: str
    layout: str
    classes: tuple[str, ...] | None
    nested: bool
    groups: tuple[Group, ...]
    shares: Mapping[str, Mapping[str, float]]
    """Domain -> class -> share of the labeled pixels, 0..1; background included."""
    duplicates: tuple[tuple[str, ...], ...]
    """Cases with equal pixels on both sides of the split."""
    patients_on_both_sides: tuple[str, ...]
    unreadable: tuple[Fault, ...]
    unusable_labels: tuple[Fault, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything, as values that JSON knows."""
        return asdict(self)

    def rows(self) -> list[tuple[str, ...]]:
        """Return a table for people: the header, then one row per domain and side."""
        header = ("domain", "split", "cases", "labeled", "slices", "patients", "rows x columns",
                  "type", "spacing (mm)", "values")  # fmt: skip
        return [header, *(_row(group) for group in self.groups)]

    def class_rows(self) -> list[tuple[str, ...]]:
        """Return a table for people.

        It has a header, then the class shares of each domain in percent.
        """
        names = list(dict.fromkeys(name for share in self.shares.values() for name in share))
        lines = [
            (domain, *(f"{100 * share.get(name, 0):.2f} %" for name in names))
            for domain, share in self.shares.items()
        ]
        return [("domain", *names), *lines] if lines else []


def _row(group: Group) -> tuple[str, ...]:
    spacing = "-"
    if group.spacing:
        low, high = group.spacing
        spacing = " x ".join(_span(a, b) for a, b in zip(low, high, strict=True) if b > 0)
    return (
        group.domain,
        group.split,
        str(group.cases),
        str(group.labeled),
        str(group.slices),
        "-" if group.patients is None else str(group.patients),
        f"{_span(*group.rows)} x {_span(*group.columns)}",
        ", ".join(group.kinds) or "-",
        spacing,
        _span(*group.intensity),
    )


def _span(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:.4g}..{high:.4g}"
