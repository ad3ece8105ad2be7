"""One exam -> its files in the new folder, and their rows of cases.csv."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from synfoc.images.case import Side
from synfoc.images.files import stack_of, to_unit
from synfoc.images.formats import suffix
from synfoc.images.geometry import geometry_of
from synfoc.images.imports.exams import Exam, Labels, Picture, Volume
from synfoc.images.imports.volumes import write_volume


@dataclass(frozen=True)
class Row:
    """A line of cases.csv; the names are its columns."""

    image: str
    label: str
    domain: str
    split: Side
    patient: str
    spacing: str


def write_exam(root: Path, exam: Exam, side: Side, scan: Picture | Volume, cut: int) -> list[Row]:
    """Write `<domain>/{train,test}/{image,mask}/<name>`; label files hold class indices.

    Args:
        root: the new folder.
        exam: domain, name and patient.
        side: train or test.
        scan: what `exam.load` gave.
        cut: 0: a volume stays one; C: its slices that show all of the classes 1 to C become
            pictures of 8 bits, windowed over the volume as `to_unit` does.

    Returns:
        A row per image.

    Raises:
        UserError: slices of a single pixel.
        OSError: the disk does not take it.
    """
    if isinstance(scan, Picture):
        return [_picture(_Place(root, exam, side, exam.name), scan, "")]
    if cut:
        return _slices(root, exam, side, scan, cut)
    place = _Place(root, exam, side, exam.name)
    geometry_of(scan.source, Path(exam.name), None)  # training could not cut lines, either
    write_volume(place.file("image", ".nii.gz"), scan.pixels, scan.source)
    if scan.label is not None:
        write_volume(place.file("mask", ".nii.gz"), scan.label, scan.source)
    # The file states the size of its voxels, whichever way it will be cut; a CSV states one cut.
    return [place.row(".nii.gz", ".nii.gz" if scan.label is not None else "", "")]


@dataclass(frozen=True)
class _Place:
    """Where the files of one image lie."""

    root: Path
    exam: Exam
    side: Side
    name: str

    def path(self, folder: str, ending: str) -> Path:
        """From the root."""
        return Path(self.exam.domain, self.side, folder, self.name + ending)

    def file(self, folder: str, ending: str) -> Path:
        """To write to; its folder is there."""
        file = self.root / self.path(folder, ending)
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def row(self, image: str, label: str, spacing: str) -> Row:
        """Return the row of an image and its label with these endings; "" is no label."""
        return Row(
            self.path("image", image).as_posix(),
            self.path("mask", label).as_posix() if label else "",
            self.exam.domain,
            self.side,
            self.exam.patient or "",
            spacing,
        )


def _picture(place: _Place, scan: Picture, spacing: str) -> Row:
    ending = ".png"
    if isinstance(scan.image, Path):
        ending = suffix(scan.image)
        shutil.copyfile(scan.image, place.file("image", ending))
    else:
        Image.fromarray(scan.image).save(place.file("image", ending))
    Image.fromarray(scan.label).save(place.file("mask", ".png"))
    return place.row(ending, ".png", spacing)


def _slices(root: Path, exam: Exam, side: Side, scan: Volume, classes: int) -> list[Row]:
    assert scan.label is not None
    stack = stack_of(scan.source, scan.pixels, Path(exam.name), None)
    labels: Labels = stack_of(scan.source, scan.label, Path(exam.name), None).pixels
    gray = np.rint(to_unit(stack)[..., 0] * 255).astype(np.uint8)
    wanted = set(range(1, classes + 1))
    rows = []
    for number, (pixels, label) in enumerate(zip(gray, labels, strict=True), 1):
        if wanted <= set(np.unique(label).tolist()):
            place = _Place(root, exam, side, f"{exam.name}_s{number:03d}")
            in_plane = stack.spacing and stack.spacing[1:]
            rows.append(_picture(place, Picture(pixels, label), _said(in_plane)))
    return rows


def _said(spacing: tuple[float, ...] | None) -> str:
    """As cases.csv wants it: mm, joined by x; a volume of one slice has no distance between."""
    return " x ".join(f"{mm:.7g}" for mm in spacing or () if mm > 0)
