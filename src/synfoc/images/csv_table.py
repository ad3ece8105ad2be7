"""A CSV of cases: columns image, label (or mask), domain, split, patient, spacing.

Only `image` is needed. Paths are relative to the CSV's folder. An empty label cell is an unlabeled
image; several label files of one image are joined by `|`. Comma, semicolon and tab all separate.
Spacing is in mm: one number for rows and columns, or rows and columns, or slices, rows and columns.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from synfoc.errors import UserError
from synfoc.images.formats import stem
from synfoc.images.layouts import (
    IMAGE_FOLDERS,
    SPLITS,
    Case,
    Found,
    Side,
    guess_patient,
    tell_guessed,
)

COLUMNS = ("image", "label", "domain", "split", "patient", "spacing")
SPELLINGS = {"mask": "label", "images": "image", "labels": "label", "site": "domain"}


def read_csv(path: Path, *, missing_ok: bool = False) -> Found:
    """Cases of a CSV, sorted by domain, split and path.

    Args:
        path: the CSV.
        missing_ok: keep rows whose files are not there.

    Raises:
        UserError: no column `image`, a cell that cannot be understood, one image twice, missing
            files.
    """
    rows, found = _rows(path), Found()
    for number, row in rows:
        found.cases.append(_case(path, number, row))
    found.cases.sort(key=lambda c: (c.domain or "", c.split == "test", c.image.as_posix()))
    _check_unique(path, found.cases)
    if not missing_ok:
        _check_present(path, found.cases)
    if rows and "patient" not in rows[0][1]:
        tell_guessed(found)
    return found


def write_csv(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Write cases; each row has all of COLUMNS."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise _refused(path, "bytes that are not UTF-8 text", "save it as CSV UTF-8") from None
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text), delimiter=separator)
    names = [SPELLINGS.get(n.strip().lower(), n.strip().lower()) for n in next(reader, [])]
    if "image" not in names:
        raise _refused(
            path, f"columns {', '.join(names) or '(none)'}", "name the column of paths `image`"
        )
    doubled = sorted({n for n in names if n in COLUMNS and names.count(n) > 1})
    if doubled:
        raise _refused(path, f"two columns for {', '.join(doubled)}", "keep one of them")
    rows = []
    for cells in reader:
        if any(cell.strip() for cell in cells):
            padded = [*cells, *[""] * len(names)]
            rows.append((reader.line_num, {n: c.strip() for n, c in zip(names, padded)}))  # noqa: B905
    return rows


def _case(path: Path, number: int, row: dict[str, str]) -> Case:
    if not row["image"]:
        raise _refused(path, f"line {number} without an image", "fill in the cell or delete it")
    labels = tuple(path.parent / cell.strip() for cell in row.get("label", "").split("|") if cell)
    label = labels if len(labels) > 1 else labels[0] if labels else None
    image = path.parent / row["image"]
    return Case(
        id=_id(image, path.parent),
        image=image,
        label=label,
        domain=row.get("domain") or None,
        patient=row["patient"] or None if "patient" in row else guess_patient(stem(image)),
        split=_split(path, number, row.get("split", "")),
        spacing=_spacing(path, number, row.get("spacing", "")),
    )


def _id(image: Path, root: Path) -> str:
    """The path without suffix and image folder: as `find_cases` would call the same file."""
    inside = image.relative_to(root) if image.is_relative_to(root) else image
    folders = [part for part in inside.parent.parts if part.lower() not in IMAGE_FOLDERS]
    return "/".join([*folders, stem(image)])


def _split(path: Path, number: int, cell: str) -> Side | None:
    if not cell:
        return None
    if cell.lower() not in SPLITS:
        raise _refused(path, f"split {cell} in line {number}", "write train, test or nothing")
    return SPLITS[cell.lower()]


def _spacing(path: Path, number: int, cell: str) -> tuple[float, float, float] | None:
    if not cell:
        return None
    try:
        values = [float(part) for part in re.split(r"[\sx]+", cell)]
    except ValueError:
        values = []
    if not 1 <= len(values) <= 3 or not all(math.isfinite(v) and v > 0 for v in values):
        fix = "write mm as 0.5, or as rows x columns: 0.5 x 0.4"
        raise _refused(path, f"spacing {cell} in line {number}", fix)
    if len(values) == 3:
        return values[0], values[1], values[2]
    return 0.0, values[0], values[-1]


def _check_unique(path: Path, cases: list[Case]) -> None:
    seen: dict[str, Case] = {}
    for case in cases:
        if case.id in seen:
            found = f"{seen[case.id].image} and {case.image}"
            raise _refused(path, f"one name twice: {found}", "remove one, or rename the file")
        seen[case.id] = case


def _check_present(path: Path, cases: list[Case]) -> None:
    """List each folder once: far faster than asking for every file."""
    wanted = [file for case in cases for file in (case.image, *case.labels)]
    there = {folder: _names(folder) for folder in {file.parent for file in wanted}}
    missing = [file for file in wanted if file.name not in there[file.parent]]
    if missing:
        raise UserError(
            f"{path} names files that are not there",
            found=f"{len(missing)} of {len(wanted)} missing, e.g. {missing[0]}",
            expected=f"paths relative to {path.parent}, or absolute ones",
            fix="correct the paths; an unlabeled image has an empty label cell",
        )


def _names(folder: Path) -> set[str]:
    return {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()


def _refused(path: Path, found: str, fix: str) -> UserError:
    return UserError(
        f"cannot read the cases of {path}",
        found=found,
        expected="a table with the columns image, label, domain, split, patient (image is needed)",
        fix=fix,
    )
