"""A CSV of cases: columns image, label (or mask), domain, split, patient, spacing.

Instead of `label` there may be a column per class, `label:NAME` (class_files.py). Only `image` is
needed. Paths are relative to the CSV's folder. An empty label cell is an unlabeled
image; several label files of one image are joined by `|`. Comma, semicolon and tab all separate.
Spacing is in mm: one number for rows and columns, or rows and columns, or slices, rows and columns.
Excel's line `sep=;` and empty lines are passed over; columns of other names are noted.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from synfoc.errors import UserError
from synfoc.images.case import Case, Side
from synfoc.images.class_files import COLUMN, STARTS, class_of_column
from synfoc.images.formats import path_fix, stem
from synfoc.images.label_names import IMAGE_FOLDERS
from synfoc.images.layouts import SPLITS, tell_guessed
from synfoc.images.listing import composed
from synfoc.images.pairing import Found, guess_patient
from synfoc.storage import write_table

COLUMNS = ("image", "label", "domain", "split", "patient", "spacing")
SPELLINGS = {
    "images": "image",
    "labels": "label", "mask": "label", "segmentation": "label", "seg": "label",
    "site": "domain",
    "patient_id": "patient", "patientid": "patient", "subject": "patient", "subject_id": "patient",
    "pixel_spacing": "spacing",
}  # fmt: skip


DOMAINS = (
    "scanner", "center", "centre", "hospital", "institution", "vendor", "manufacturer",
)  # fmt: skip
"""Columns that may name the domain, if none of COLUMNS does; a table may have several of them."""


def read_csv(path: Path, *, missing_ok: bool = False) -> Found:
    """Cases of a CSV, sorted by domain, split and path.

    Args:
        path: the CSV.
        missing_ok: keep rows whose files are not there.

    Raises:
        UserError: no column `image`, no row, a cell that cannot be understood, one image twice or
            as its own label, missing files.
    """
    rows, ignored = _rows(path)
    found = Found(notices=[_ignored(ignored, rows[0][1])] if ignored else [])
    found.classes = tuple(filter(None, map(class_of_column, rows[0][1])))
    for number, row in rows:
        found.cases.append(_case(path, number, row))
    found.cases = _as_on_disk(found.cases)
    found.cases.sort(key=lambda c: (c.domain or "", c.split == "test", c.image.as_posix()))
    _check_unique(path, found.cases)
    if not missing_ok:
        _check_present(path, found.cases)
    if "patient" not in rows[0][1]:
        tell_guessed(found)
    return found


def write_csv(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Write cases; each row has all of COLUMNS."""
    write_table(path, COLUMNS, ([row[name] for name in COLUMNS] for row in rows))


def _rows(path: Path) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """Line number and cells by column of each row, and the columns of other names."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise _refused(path, "bytes that are not UTF-8 text", "save it as CSV UTF-8") from None
    lines = text.splitlines(keepends=True)
    first, *below = _cells(path, lines) or [(0, [])]
    header = first[1]
    names = [_column(name) for name in header]
    _check_columns(path, header, names)
    rows = []
    for line, cells in below:
        padded = [*cells, *[""] * len(names)]
        rows.append((line, dict(zip(names, padded))))  # noqa: B905
    if not rows:
        raise _refused(path, "a header and no row below it", "add one row per image")
    return rows, [name for name, known in zip(header, names, strict=True) if not _known(known)]


def _known(column: str) -> bool:
    return column in COLUMNS or class_of_column(column) is not None


def _cells(path: Path, lines: list[str]) -> list[tuple[int, list[str]]]:
    """Line number and cells of the header and of each row that is not empty."""
    start, separator = _header(lines)
    # Strict: else quotation marks that do not end take the rest of the table for one cell.
    reader = csv.reader(io.StringIO("".join(lines[start:])), delimiter=separator, strict=True)
    try:
        table = [(start + reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        line = start + reader.line_num
        raise _refused(path, f"line {line}: {error}", "close the quotation marks") from None
    return [(line, row) for line, row in table if any(row)]


def _header(lines: list[str]) -> tuple[int, str]:
    """Index of the line with the names of the columns, and what separates them."""
    told = ""
    for index, line in enumerate(lines):
        if excel := re.fullmatch(r'"?sep=(.)"?\s*', line, re.IGNORECASE):
            told = excel[1]
        elif line.strip(" \t\r\n,;"):
            return index, told or max(",;\t", key=line.count)
    return len(lines), told or ","


def _column(name: str) -> str:
    if part := class_of_column(name):
        return f"{COLUMN}{part}"
    plain = re.sub(r"[\s_-]+", "_", name.lower())
    return SPELLINGS.get(plain, plain)


def _check_columns(path: Path, header: list[str], names: list[str]) -> None:
    if "image" not in names:
        found = f"columns {', '.join(header) or '(none)'}"
        raise _refused(path, found, "name the column of paths `image`")
    if "label" in names and any(map(class_of_column, names)):
        found = f"the column label beside {next(filter(class_of_column, names))}"
        raise _refused(path, found, "keep one file per class, or one file with all classes")
    for column in dict.fromkeys(filter(_known, names)):
        both = zip(header, names, strict=True)
        same = [name for name, known in both if known.casefold() == column.casefold()]
        if len(same) > 1:
            raise _refused(path, f"two columns for {column}: {', '.join(same)}", "keep one of them")


def _ignored(columns: list[str], row: Mapping[str, str]) -> str:
    """Return the note about columns that are not read; a column that is missing may be meant."""
    free = [column for column in COLUMNS if column not in row]
    told = []
    for name in filter(None, columns):
        plain = _column(name)
        near = difflib.get_close_matches(plain, free, 1)
        if plain in DOMAINS and "domain" in free:
            near = ["domain"]
        start, _, part = name.partition("_")
        if part and start.lower() in STARTS and "label" in free:
            near = [f"{COLUMN}{part}"]
        told.append(f"{name} (did you mean {near[0]}?)" if near else name)
    return f"columns that are not read: {', '.join(told) or '(without a name)'}"


def _case(path: Path, number: int, row: dict[str, str]) -> Case:
    if not row["image"]:
        raise _refused(path, f"line {number} without an image", "fill in the cell or delete it")
    files = [(path.parent / name, part) for name, part in _label_files(row)]
    labels = tuple(file for file, _ in files)
    image = path.parent / row["image"]
    if _plain(image) in map(_plain, labels):
        found = f"line {number} with the image as its own label: {row['image']}"
        raise _refused(path, found, "name the label file, or leave the cell empty: unlabeled")
    _check_class_files(path, number, files)
    return Case(
        id=_id(image, path.parent),
        image=image,
        labels=labels,
        parts=tuple(part for _, part in files if part),
        domain=row.get("domain") or None,
        patient=row["patient"] or None if "patient" in row else guess_patient(stem(image)),
        split=_split(path, number, row.get("split", "")),
        spacing=_spacing(path, number, row.get("spacing", "")),
    )


def _check_class_files(path: Path, number: int, files: list[tuple[Path, str]]) -> None:
    """One file holds one class: it may not stand in the columns of two."""
    of_class: dict[str, str] = {}
    for file, part in files:
        other = of_class.setdefault(_plain(file), part)
        if other != part:
            found = f"line {number} with one file for {other} and {part}: {file.name}"
            fix = "list a file that holds codes of several classes in one column `label` instead"
            raise _refused(path, found, fix)


def _label_files(row: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Names of the label files of a row, each with its class if its column is of one."""
    for column, cell in row.items():
        part = class_of_column(column)
        if part or column == "label":
            yield from ((name.strip(), part or "") for name in cell.split("|") if name.strip())


def _id(image: Path, root: Path) -> str:
    """Return the path without suffix and image folder: as `find_cases` would call the same file."""
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
        if re.search(r"\d,\d", cell):
            fix = f"write a point instead of the decimal comma: {cell.replace(',', '.')}"
        raise _refused(path, f"spacing {cell} in line {number}", fix)
    if len(values) == 3:
        return values[0], values[1], values[2]
    return 0.0, values[0], values[-1]


def _check_unique(path: Path, cases: list[Case]) -> None:
    """Neither a name nor a file twice, however its path is written; no file is asked for."""
    seen: dict[str, Case] = {}
    for case in cases:
        for key in (case.id, _plain(case.image)):
            twin = seen.setdefault(key, case)
            if twin is not case:
                found = f"one name twice: {twin.image} and {case.image}"
                raise _refused(path, found, "remove one, or rename the file")


def _plain(path: Path) -> str:
    """One spelling per file, by the path alone: links are not followed."""
    return os.path.normpath(path.absolute())


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
            fix=path_fix(
                missing[0], "correct the paths; an unlabeled image has an empty label cell"
            ),
        )


def _names(folder: Path) -> set[str]:
    try:
        return {entry.name for entry in os.scandir(folder)}
    except OSError:  # no folder, or closed to us: reading its files tells which
        return set()


def _as_on_disk(cases: list[Case]) -> list[Case]:
    """Return the cases with accents in their paths written as the disk has them."""
    folders: dict[Path, tuple[Path, dict[str, str]]] = {}

    def stored(path: Path) -> Path:
        if str(path).isascii():
            return path
        if path.parent not in folders:  # listed once: far faster than asking for every file
            there = path.parent if path.parent.is_dir() else stored(path.parent)
            exact = {name: name for name in _names(there)}
            folders[path.parent] = there, {composed(name): name for name in exact} | exact
        folder, by_name = folders[path.parent]
        return folder / by_name.get(path.name, by_name.get(composed(path.name), path.name))

    return [
        replace(case, image=stored(case.image), labels=tuple(map(stored, case.labels)))
        for case in cases
    ]


def _refused(path: Path, found: str, fix: str) -> UserError:
    return UserError(
        f"cannot read the cases of {path}",
        found=found,
        expected="a table with the columns image, label, domain, split, patient (image is needed)",
        fix=fix,
    )
