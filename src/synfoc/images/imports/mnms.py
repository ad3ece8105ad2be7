"""M&Ms: cine MRI of the heart from four vendors (V. Campello and others, 2021).

`<code>_sa.nii.gz` (x, y, slice, time) and `<code>_sa_gt.nii.gz` lie in folders of their code, below
Training/Labeled, Training/Unlabeled, Validation and Testing, or below any others. A CSV says vendor
and frames, counted from 0: column `External code`, `Vendor` (A to D) or `VendorName`, `ED`, `ES`.
Only the two frames ED and ES are labeled: 1 left ventricle, 2 myocardium, 3 right ventricle. The
patients of Training/Unlabeled have no label file. Of the others 95, 125, 50 and 50 are handed out.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from synfoc.errors import UserError
from synfoc.images.imports.exams import Exam, Found, Volume
from synfoc.images.imports.folders import (
    by_name,
    not_the_set,
    only_codes,
    plain,
    refuse_missing,
    same_size,
)
from synfoc.images.imports.volumes import read_frame
from synfoc.images.paper_sets import MNMS

HANDED_OUT = {"vendorA": 95, "vendorB": 125, "vendorC": 50, "vendorD": 50}
VENDORS = {"a": "vendorA", "b": "vendorB", "c": "vendorC", "d": "vendorD"} | {
    "siemens": "vendorA", "philips": "vendorB", "ge": "vendorC", "canon": "vendorD",
    "generalelectric": "vendorC",
}  # fmt: skip
CODES = {0: "background", 1: "left ventricle", 2: "myocardium", 3: "right ventricle"}
PHASES = ("ED", "ES")
IMAGE, LABEL = "_sa", "_sa_gt"


def find_mnms(source: Path) -> Found:
    """Two exams per patient, ED and ES; without label where the folder is called unlabeled.

    Raises:
        UserError: no CSV, a row that cannot be understood, a patient without row, volume or label.
    """
    rows = _rows(source)
    images, labels = (_files(source, ending) for ending in (IMAGE, LABEL))
    if not images:
        raise not_the_set(source, MNMS, "volumes <code>/<code>_sa.nii.gz, at any depth")
    unlabeled = {code for code, path in images.items() if _says_unlabeled(path)} - set(labels)
    missing = [f"no {code}_sa.nii.gz" for code in sorted(labels.keys() - images.keys())]
    unknown = images.keys() - labels.keys() - unlabeled
    missing += [f"no {code}_sa_gt.nii.gz" for code in sorted(unknown)]
    missing += [f"no row {code} in the CSV" for code in sorted(images.keys() - rows.keys())]
    refuse_missing(MNMS, missing, "of every patient a row, <code>_sa.nii.gz, <code>_sa_gt.nii.gz")
    exams = []
    for code, image in sorted(images.items()):
        domain = _vendor(code, rows[code])
        for phase in PHASES:
            frame = _frame(code, rows[code], phase)
            load = partial(_load, image, labels.get(code), frame, phase)
            exams.append(Exam(domain, f"{code}_{phase}", load, code, labeled=code not in unlabeled))
    lonely = sorted(rows.keys() - images.keys())
    notice = f"patients of the CSV without files: {len(lonely)}, e.g. {lonely[0]}" if lonely else ""
    patients = {(exam.domain, exam.patient) for exam in exams if exam.labeled}
    counts = sorted(Counter(domain for domain, _ in patients).items())
    there = "labeled patients: " + ", ".join(f"{domain} {count}" for domain, count in counts)
    return Found(MNMS, tuple(exams), HANDED_OUT, there, (notice,) if notice else ())


def _files(source: Path, ending: str) -> dict[str, Path]:
    paths: Iterable[Path] = sorted(source.rglob(f"*{ending}.nii*"))
    paths = [path for path in paths if not path.name.startswith(".")]
    return by_name(paths, lambda path: path.name.partition(ending + ".nii")[0])


def _says_unlabeled(path: Path) -> bool:
    return any(plain(parent.name) == "unlabeled" for parent in path.parents)


def _rows(source: Path) -> dict[str, Mapping[str, str]]:
    """Rows of the CSV by code; of several such files the last, since dates begin their names."""
    if source.is_dir():
        for path in sorted([*source.glob("*.csv"), *source.glob("*/*.csv")], reverse=True):
            text = path.read_text(encoding="utf-8-sig", errors="replace")
            lines = text.splitlines()
            separator = max(",;\t", key=lines[0].count) if lines else ","
            reader = csv.reader(lines, delimiter=separator)
            names = [plain(cell) for cell in next(reader, [])]
            padded = ([*cells, *[""] * len(names)] for cells in reader)
            rows = [
                {name: cell.strip() for name, cell in zip(names, cells, strict=False)}
                for cells in padded
            ]
            if rows and {"externalcode", "ed", "es"} <= rows[0].keys():
                return {row["externalcode"]: row for row in rows if row["externalcode"]}
        raise not_the_set(source, MNMS, "a CSV with the columns External code, Vendor, ED, ES")
    raise UserError(
        f"no folder {source}",
        found="a file" if source.exists() else "nothing of this name",
        expected="the unpacked folder of the mnms set, with its CSV",
        fix="unpack the download and name its folder",
    )


def _vendor(code: str, row: Mapping[str, str]) -> str:
    told = [row.get("vendor", ""), row.get("vendorname", "")]
    known = [VENDORS[plain(name)] for name in told if plain(name) in VENDORS]
    if not known:
        raise _bad_row(code, f"vendor {' '.join(told).strip() or '(empty)'}", "A, B, C or D")
    return known[0]


def _frame(code: str, row: Mapping[str, str], phase: str) -> int:
    try:
        frame = float(row[phase.lower()])
    except ValueError:
        frame = -1.0
    if not math.isfinite(frame) or frame < 0 or frame != int(frame):
        raise _bad_row(code, f"{phase} {row[phase.lower()] or '(empty)'}", "a frame, from 0")
    return int(frame)


def _bad_row(code: str, found: str, expected: str) -> UserError:
    return UserError(
        f"the row of {code} in the CSV cannot be used",
        found=found,
        expected=expected,
        fix="fetch the CSV of the download again, or correct the cell",
    )


def _load(image: Path, label: Path | None, frame: int, phase: str) -> Volume:
    pixels, source = read_frame(image, frame)
    if label is None:
        return Volume(pixels, None, source)
    codes, _ = read_frame(label, frame)
    same_size(image, label, (pixels.shape, codes.shape))
    only_codes(label, codes, CODES)
    if not codes.any():
        raise UserError(
            f"{label} has no label in its frame {phase}",
            found=f"an empty frame {frame} (from 0)",
            expected="labels in the frames that the CSV names",
            fix=f"fetch the file and the CSV again, or correct {phase} in the CSV",
        )
    return Volume(pixels, codes.astype(np.uint8), source)
