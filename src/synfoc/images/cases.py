"""A table of cases, from a CSV or from folders, and the labels of its cases as class indices.

`load_cases` lists files and opens none, so that 100,000 cases take a second or two. What the codes
in the label files mean belongs to the table: `load_label` always gives class indices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synfoc.config import Data
from synfoc.errors import UserError
from synfoc.images.alignment import lay_on_image
from synfoc.images.case import Case
from synfoc.images.class_files import (
    ONE_CLASS,
    OVERLAP,
    drawn,
    join_classes,
    refuse_outside_in,
    refuse_unnamed,
)
from synfoc.images.codes import (
    class_gap,
    inferred_names,
    missing_fix,
    odd_fix,
    outside,
    published_fix,
    some,
    told_inferred,
)
from synfoc.images.csv_table import read_csv
from synfoc.images.domains import alike, untested
from synfoc.images.files import (
    Geometry,
    Stack,
    decode,
    read_codes,
    read_geometry,
    read_image,
)
from synfoc.images.formats import suffix
from synfoc.images.geometry import SliceAxis
from synfoc.images.layouts import find_cases
from synfoc.images.one_hot import refuse_one_hot
from synfoc.images.pairing import Found
from synfoc.images.paper_sets import MNMS, PAPER_SETS, Decode, PaperSet, paper_set
from synfoc.images.patients import domains_like_patients, unknown_patients
from synfoc.images.published import find_paper_cases, looks_like
from synfoc.label_colors import class_names, color_indices

__all__ = [
    "Case",
    "CaseTable",
    "load_cases",
    "load_image",
    "load_label",
    "name_classes",
    "published_codes",
]


@dataclass(frozen=True)
class CaseTable:
    """All cases of a data set, and what their labels mean."""

    root: Path
    """The folder, or the folder of the CSV."""
    cases: tuple[Case, ...]
    """Sorted by domain (a published set: the authors' order), split and file name."""
    classes: tuple[str, ...] | None
    """Names of the classes 1, 2, ...; None until `name_classes` has looked at labels."""
    nested: bool
    """Part k is made of the classes 1..k (fundus: cup, then disc = cup and rim)."""
    decode: Decode
    """Codes in the label files -> class indices."""
    paper: PaperSet | None = None
    notices: tuple[str, ...] = ()
    """What was noticed while listing the files, for people."""
    layout: str = "folders"
    """What the files were recognized as, for people."""

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains in the order of the cases."""
        return tuple(dict.fromkeys(case.domain for case in self.cases if case.domain))


def load_cases(data: Data, *, missing_ok: bool = False) -> CaseTable:
    """List the cases of `data.path`.

    A CSV, or a folder: with a `cases.csv` in it that CSV is read, whose labels hold class indices
    (or what `data.remap` and `data.colors` say) also where `data.set` names a set; one of the
    paper's layouts is read as such if `data.set` says so or if its folders and codes are plain to
    see; otherwise the folders of layouts.py.

    Args:
        data: path, set, classes, nested, remap, colors and test_fraction are read.
        missing_ok: keep rows of a CSV whose files are missing (`synfoc data check` lists them).

    Raises:
        UserError: no such path, no image in it, a CSV that cannot be understood or names files
            that are not there, two files of one name, a class that is called background.
    """
    path = data.path
    if not path.exists():
        raise UserError(
            f"no data at {path}",
            found="no such file or folder",
            expected="a folder of images or a CSV",
            fix="check the path; if the data of a run were moved: data.path in its config.yaml",
        )
    paper = paper_set(data.set) if data.set else None
    if path.is_file() and path.suffix.lower() not in (".csv", ".tsv", ".txt"):
        raise UserError(
            f"{path} is not a data set",
            found="a single file that is no CSV",
            expected="a folder of images or a CSV",
            fix="name the folder that the file is in",
        )
    table = path if path.is_file() else path / "cases.csv"
    told = bool(data.remap or data.colors)
    if table.is_file():
        found, layout = read_csv(table, missing_ok=missing_ok), f"CSV {table.name}"
    else:
        paper = paper or _recognized(path)
        found = find_paper_cases(path, paper) if paper else find_cases(path)
        layout = f"published layout of the {paper.name} set" if paper else "folders"
    if not found.cases:
        raise _nothing(path, found)
    if found.classes:
        _refuse_codes(data)
    classes = data.classes or (paper.classes if paper else None)
    classes = classes or found.classes or class_names(data.colors)
    _refuse_background(classes or (), of_columns=bool(found.classes) and not data.classes)
    refuse_unnamed(found.classes, classes or ())
    decode = Decode(tuple((data.remap or {}).items()), colors=color_indices(data.colors, classes))
    if paper and not told and not table.is_file():
        decode = paper.decode
    return CaseTable(
        root=path if path.is_dir() else path.parent,
        cases=tuple(found.cases),
        classes=classes,
        nested=data.nested or (paper.nested if paper else False),
        decode=decode,
        paper=paper,
        notices=(*found.notices, *_questions(found.cases, data.test_fraction)),
        layout=layout,
    )


def _questions(cases: Sequence[Case], fraction: float) -> Iterator[str]:
    """Yield what names alone make doubtful about domains and patients."""
    yield from alike(cases)
    yield from domains_like_patients(cases) or untested(cases, fraction)
    yield from unknown_patients(cases, fraction)


def load_image(case: Case, *, slice_axis: SliceAxis = None) -> Stack:
    """Return the image of a case; a spacing stated in the CSV goes before the file's own.

    Raises:
        UserError: as `read_image`; a volume of which nobody says how far its slices are apart.
    """
    return _spaced(read_image(case.image, slice_axis=slice_axis), case)


def load_label(
    case: Case, table: CaseTable, *, like: Stack | None = None, slice_axis: SliceAxis = None
) -> Stack:
    """Return the label of a case as class indices, cut as its image is.

    Args:
        case: with at least one label file; several are merged by the largest class index, or are
            of one class each (`Case.parts`).
        table: says what the codes mean and which classes there are.
        like: the image, where it is at hand; None: only the image's header is read.
        slice_axis: as in `read_image`.

    Returns:
        A stack of (n, h, w) class indices, 0..C where the classes are known. Its remark says
        what a person should know of how several files became one.

    Raises:
        UserError: no label file, a label of another size or orientation than the image, codes
            that are no class, a label map in colors, and as `read_codes`.
    """
    if not case.labels:
        raise UserError(
            f"{case.id} has no label",
            found="an unlabeled image",
            expected="a label file of the same name in the mask folder, or in the CSV",
            fix="add the label, or leave this image out",
        )
    image = like.origin if like else read_geometry(case.image, slice_axis=slice_axis)
    if case.parts:
        return _spaced(_of_class_files(case, table, image), case)
    merged: Stack | None = None
    alone: set[int] = set()
    for path in case.labels:
        by_color = bool(table.decode.colors)
        raw = read_codes(path, by_color=by_color)
        codes = _as_cut(raw, image, path, case.image, by_color=by_color)
        label = replace(codes, pixels=decode(codes.pixels, table.decode, path))
        _check_classes(path, label.pixels, codes.pixels, table)
        alone |= set(np.unique(label.pixels).tolist()) - {0}
        if merged is not None:
            label = replace(label, pixels=np.maximum(merged.pixels, label.pixels))
        merged = label
    assert merged is not None
    if case.labels[1:] and len(alone) == 1 and table.paper is None:
        merged = replace(merged, remark=ONE_CLASS)
    return _spaced(merged, case)


def _of_class_files(case: Case, table: CaseTable, image: Geometry | None) -> Stack:
    """Return the label of a case that has a file per class."""
    names = table.classes or ()
    refuse_unnamed(case.parts, names)
    masks: dict[int, NDArray[np.bool_]] = {}
    for part, path in zip(case.parts, case.labels, strict=True):
        codes = _as_cut(read_codes(path), image, path, case.image)
        mask, k = drawn(codes.pixels, path), 1 + names.index(part)
        masks[k] = masks[k] | mask if k in masks else mask
    if table.nested:
        refuse_outside_in(masks, names, case.image)
    label, overlap = join_classes(masks, codes.pixels.shape, nested=table.nested)
    return replace(codes, pixels=label, remark=OVERLAP if overlap else "")


def _refuse_codes(data: Data) -> None:
    """Stop at a setting of codes, which a file of one class does not hold."""
    key = "remap" if data.remap else "colors" if data.colors else ""
    if key:
        raise UserError(
            f"data.{key} has no meaning beside columns label:NAME",
            found=f"data.{key} = {getattr(data, key)}",
            expected="no setting of codes: whatever is not 0 in a file is of the class of its "
            "column",
            fix=f"--set data.{key}=null",
        )


def _spaced(stack: Stack, case: Case) -> Stack:
    """Return the stack with the spacing that is stated for the case."""
    if case.spacing is None:
        return stack
    slices, rows, columns = case.spacing
    if stack.volume and not slices:
        slices = stack.spacing[0] if stack.spacing else 0
        if not slices:
            raise UserError(
                f"the spacing of {case.image} is not complete",
                found=f"{rows:g} x {columns:g} mm for a volume of {len(stack.pixels)} slices",
                expected="the distance between slices, too",
                fix=f"write slices x rows x columns in the CSV, e.g. 5 x {rows:g} x {columns:g}",
            )
    return replace(stack, spacing=(slices, rows, columns))


def name_classes(
    table: CaseTable, cases: tuple[Case, ...], *, slice_axis: SliceAxis = None
) -> CaseTable:
    """Return the table with its classes named.

    Where they are not yet, the labels of `cases` are read.

    Classes 1..C are called class1, class2, ... Every index up to the highest must occur, since
    a gap (0 and 255) is a code that nobody has explained.

    Raises:
        UserError: no class at all, or a gap, with the `data.remap` that would close it if one is
            likely.
    """
    if table.classes is not None:
        return table
    present: list[tuple[Path, set[int]]] = []
    around: list[int] = []
    for case in cases:
        label = load_label(case, table, slice_axis=slice_axis)
        present.append((case.labels[0], set(np.unique(label.pixels).tolist())))
        around.append(outside(label.pixels))
    gap = class_gap(present, table.decode, around)
    if gap:
        raise UserError(
            f"the classes cannot be read from the labels of {len(cases)} images",
            found=gap[0],
            expected="0 background, then 1, 2, ... without a gap",
            fix=gap[1],
        )
    highest = max(max(indices) for _, indices in present)
    notice = told_inferred(highest, len(present))
    return replace(table, classes=inferred_names(highest), notices=(*table.notices, notice))


def _recognized(path: Path) -> PaperSet | None:
    """Return the published set that the folders are, if the codes of one label file agree."""
    for known in PAPER_SETS:
        there = path.is_dir() and looks_like(path, known)
        if there and published_codes(find_paper_cases(path, known).cases, known):
            return known
    return None


def published_codes(cases: Iterable[Case], known: PaperSet) -> bool:
    """Whether the first label holds the codes of the published files, not class indices."""
    first = next((case for case in cases if case.labels), None)
    return first is not None and _published_codes(first, known)


def _published_codes(case: Case, known: PaperSet) -> bool:
    try:
        codes = read_codes(case.labels[0]).pixels
    except UserError:
        return False
    if known == MNMS:
        return codes.ndim == 4 and set(np.unique(codes).tolist()) <= known.codes
    # Inverted codes leave 255 along the border; a label of class indices has 0 there.
    corner = known.decode(codes[:, :1, :1]).item() == 0 if codes.ndim == 3 else False
    return corner and set(np.unique(codes).tolist()) <= known.codes


def _as_cut(
    codes: Stack, image: Geometry | None, path: Path, file: Path, *, by_color: bool = False
) -> Stack:
    """Return the codes of a label file in the slices of its image."""
    if codes.origin is None or image is None:
        return codes
    if not by_color:
        refuse_one_hot(path, codes.pixels, codes.origin, image)
    pixels = lay_on_image(codes.pixels, codes.origin, image, path, file)
    axis = image.order[0] if len(image.shape) == 3 else None
    spacing = codes.spacing if codes.origin.order == image.order else None
    return replace(codes, pixels=pixels, spacing=spacing, axis=axis, origin=image)


def _check_classes(
    path: Path, indices: NDArray[Any], codes: NDArray[Any], table: CaseTable
) -> None:
    highest = len(table.classes) if table.classes is not None else 255
    if indices.min() >= 0 and indices.max() <= highest:
        return
    present = set(np.unique(codes).tolist())
    found = set(np.unique(indices).tolist())
    fix = odd_fix(found, highest, table.decode, outside(indices))
    if table.classes:
        fix = missing_fix(found, table.classes, fix)
    known = table.paper
    if known and known.decode.bounds and known.decode != table.decode and present <= known.codes:
        fix = published_fix(known)
    if suffix(path) in (".jpg", ".jpeg"):
        fix = "save labels as PNG: JPEG changes pixel values"
    names = [f"{k} {name}" for k, name in enumerate(("background", *(table.classes or ())))]
    raise UserError(
        f"mask {path} does not fit the classes",
        found=f"pixel values {some(present)}",
        expected=", ".join(names) + " (data.classes)" if table.classes else "values 0 to 255",
        fix=fix,
    )


def _refuse_background(classes: tuple[str, ...], *, of_columns: bool) -> None:
    """Stop at a class of this name: every name would go to the structure before its own."""
    if any(name.strip().casefold() == "background" for name in classes):
        rest = [name for name in classes if name.strip().casefold() != "background"]
        raise UserError(
            "background is no class",
            found=f"{'columns of' if of_columns else 'data.classes ='} [{', '.join(classes)}]",
            expected="the names of 1, 2, ...: 0 is the background, always",
            fix="leave out its column"
            if of_columns
            else f"leave it out: data.classes=[{','.join(rest)}]",
        )


def _nothing(path: Path, found: Found) -> UserError:
    inside = sorted(p.name for p in path.iterdir())[:6] if path.is_dir() else []
    return UserError(
        f"no image in {path}",
        found="; ".join(found.notices[:3]) or (", ".join(inside) if inside else "nothing"),
        expected="<domain>/{train,test}/{image,mask}/ with PNG, JPEG, TIFF, BMP, NIfTI or NPY",
        fix="see docs/data.md for the layouts, or list the files in a CSV",
    )
