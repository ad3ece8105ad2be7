"""A multi-scanner data set made from a seed: for the demo and the tests.

One patient = one seed; one image = one patient, one scanner, one slice. Patient 7 of a scanner is
the same patient however many others are asked for, and the same seed gives the same bytes.
Physics and sources: docs/phantom.md.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synfoc.errors import UserError
from synfoc.images.csv_table import COLUMNS, write_csv
from synfoc.phantom.render import render
from synfoc.phantom.scanner import SCANNERS, Scanner
from synfoc.storage import AnyPath, new_folder, refuse_used

Format: TypeAlias = Literal["png", "nifti"]


def write_phantom(
    out: AnyPath,
    *,
    train_patients: int | Mapping[str, int] = 8,
    test_patients: int | Mapping[str, int] = 4,
    slices_per_patient: int = 4,
    seed: int = 0,
    image_format: Format = "png",
    side: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the data set: `<scanner>/{train,test}/{image,mask}/`, cases.csv and README.md.

    Training patients have odd numbers and test patients even ones, so that no patient changes
    when more are asked for. It appears whole or not at all.

    Args:
        out: new or empty folder.
        train_patients: training patients per scanner, one number or {scanner name: number}.
        test_patients: test patients, likewise.
        slices_per_patient: PNG files, or slices of the NIfTI volume, per patient.
        seed: 0 or more.
        image_format: "png" (8 bits, one file per slice) or "nifti" (12 bits, a volume per
            patient, spacing in mm in its header).
        side: pixels of the longer side; None is what each scanner gives (160 to 256).
        progress: called after each patient with (patients done, patients in all).

    Returns:
        `out`.

    Raises:
        UserError: a value out of range, `out` not empty, or a disk that does not take the files.
    """
    out = Path(out)
    patients = list(_patients(_counts("train", train_patients), _counts("test", test_patients)))
    settings = _Settings(slices_per_patient, seed, image_format, side)
    _check(out, len(patients), settings)
    with new_folder(out, "the phantom") as part:
        rows: list[dict[str, str]] = []
        for done, patient in enumerate(patients, 1):
            rows += _write_patient(part, patient, settings)
            if progress:
                progress(done, len(patients))
        write_csv(part / "cases.csv", rows)
        (part / "README.md").write_text(_readme(patients, settings), encoding="utf-8")
    return out


@dataclass(frozen=True)
class _Settings:
    """What holds for the whole data set."""

    slices: int
    seed: int
    image_format: Format
    side: int | None

    def fitted(self, scanner: Scanner) -> Scanner:
        return scanner.resized(self.side) if self.side else scanner


@dataclass(frozen=True)
class _Exam:
    """One patient of the data set."""

    scanner: Scanner
    split: Literal["train", "test"]
    number: int

    @property
    def id(self) -> str:
        return f"patient{self.number:04d}"


def _counts(split: str, counts: int | Mapping[str, int]) -> dict[str, int]:
    names = [s.name for s in SCANNERS]
    given = dict.fromkeys(names, counts) if isinstance(counts, int) else dict(counts)
    if unknown := set(given) - set(names):
        raise UserError(
            "the phantom has no such scanner",
            found=", ".join(sorted(unknown)),
            expected=f"names among {', '.join(names)}",
            fix=f"correct the names in {split}",
        )
    if negative := {name: n for name, n in given.items() if n < 0}:
        raise UserError(
            f"a number of {split} patients is negative",
            found=negative,
            expected="0 or more patients per scanner",
            fix=f"correct {split}",
        )
    return {name: given.get(name, 0) for name in names}


def _patients(train: Mapping[str, int], test: Mapping[str, int]) -> Iterator[_Exam]:
    for scanner in SCANNERS:
        yield from (_Exam(scanner, "train", 2 * i + 1) for i in range(train[scanner.name]))
        yield from (_Exam(scanner, "test", 2 * i + 2) for i in range(test[scanner.name]))


def _check(out: Path, patients: int, given: _Settings) -> None:
    refuse_used(out)
    for name, value, good, expected in (
        ("number of patients", patients, patients > 0, "at least one, in train or test"),
        ("slices_per_patient", given.slices, 1 <= given.slices <= 100, "1 to 100"),
        ("seed", given.seed, given.seed >= 0, "0 or more"),
        ("side", given.side, given.side is None or 32 <= given.side <= 1024, "32 to 1024 pixels"),
        ("format", given.image_format, given.image_format in get_args(Format), "png or nifti"),
    ):
        if not good:
            raise UserError(
                f"the phantom cannot be made with this {name}",
                found=value,
                expected=expected,
                fix=f"change the {name}",
            )


def _write_patient(root: Path, exam: _Exam, given: _Settings) -> list[dict[str, str]]:
    """Write the files of one patient and return their rows of cases.csv."""
    scanner, nifti = given.fitted(exam.scanner), given.image_format == "nifti"
    patient = (given.seed, zlib.crc32(scanner.name.encode()), exam.number)
    bits, suffix = (12, ".nii.gz") if nifti else (8, ".png")
    stack = [
        render(scanner, patient, i, slices=given.slices, bits=bits) for i in range(given.slices)
    ]
    numbered = [f"{exam.id}_s{i + 1:02d}" for i in range(given.slices)]
    rows = []
    for i, name in enumerate([exam.id] if nifti else numbered):
        row = {"domain": scanner.name, "split": exam.split, "patient": f"{scanner.name}/{exam.id}"}
        for column, folder in (("image", "image"), ("label", "mask")):
            path = Path(scanner.name, exam.split, folder, name + suffix)
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            if nifti:
                pixels = np.stack([getattr(s, column) for s in stack])
                _save_nifti(root / path, pixels, stack[0].spacing)
            else:
                _save_png(root / path, getattr(stack[i], column), stack[i].spacing)
            row[column] = path.as_posix()
        # A NIfTI file states its spacing itself.
        in_plane = stack[0].spacing[1:]
        row["spacing"] = "" if nifti else " x ".join(f"{mm:.4f}" for mm in in_plane)
        rows.append({key: row[key] for key in COLUMNS})
    return rows


def _save_png(path: Path, pixels: NDArray[np.uint8], spacing: tuple[float, float, float]) -> None:
    _, row, column = spacing
    Image.fromarray(pixels).save(path, dpi=(25.4 / column, 25.4 / row))


def _save_nifti(
    path: Path, pixels: NDArray[np.uint16], spacing: tuple[float, float, float]
) -> None:
    """Axes of the file: columns (to the patient's left), rows (to the back), slices (to the base).

    The world axes of NIfTI point right, front and up: two of the three run the other way.
    """
    gap, row, column = spacing
    affine = np.diag([-column, -row, gap, 1.0])
    volume = nib.Nifti1Image(
        np.ascontiguousarray(pixels.transpose(2, 1, 0)).astype(np.int16), affine
    )
    volume.header.set_xyzt_units("mm")
    nib.save(volume, path)


def _readme(exams: list[_Exam], given: _Settings) -> str:
    """Text of the data set's README.md."""
    size = f"{given.side} pixels" if given.side else "as the scanner gives it"
    lines = [
        "# A made-up multi-scanner data set",
        "",
        "Simulated magnetic resonance images of hearts, written by synfoc (`synfoc data phantom`)."
        " No patient was scanned. Made to try out software: results say nothing about real images.",
        "",
        f"seed {given.seed}, {given.slices} slices per patient, format {given.image_format},"
        f" longer side {size}",
        "",
        "Label maps hold class indices: 0 background, 1 cavity of the left ventricle, 2 the muscle"
        " around it. `cases.csv` lists all files; patient numbers are odd in train, even in test.",
        "",
        "| scanner | train | test | image (rows x columns) | pixel (mm) | what it is |",
        "|---|---|---|---|---|---|",
    ]
    for native in SCANNERS:
        scanner = given.fitted(native)
        mine = [e.split for e in exams if e.scanner is native]
        sizes = [f / n for f, n in zip(scanner.fov, scanner.matrix, strict=True)]
        lines.append(
            f"| {scanner.name} | {mine.count('train')} | {mine.count('test')} |"
            f" {scanner.matrix[0]} x {scanner.matrix[1]} | {sizes[0]:.2f} x {sizes[1]:.2f} |"
            f" {scanner.about} |"
        )
    return "\n".join(lines) + "\n"
