"""An original data set -> a folder that trains: images, labels, cases.csv, README.md.

Found, split, loaded and written one by one, compared with the paper. The files go into a folder
beside, which takes the new name when all is there, and is deleted where anything fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from synfoc.errors import UserError
from synfoc.images.case import Side
from synfoc.images.csv_table import write_csv
from synfoc.images.imports.busi import find_busi
from synfoc.images.imports.exams import Found
from synfoc.images.imports.fundus import CROP, SIDES, find_fundus
from synfoc.images.imports.mnms import find_mnms
from synfoc.images.imports.prostate import find_prostate
from synfoc.images.imports.splits import Rule, sides
from synfoc.images.imports.writing import Row, write_exam
from synfoc.images.listing import refuse_odd_name
from synfoc.images.paper_sets import Name, PaperSet
from synfoc.storage import new_folder, refuse_used

FINDERS: dict[Name, Callable[[Path], Found]] = {
    "prostate": find_prostate,
    "fundus": find_fundus,
    "mnms": find_mnms,
    "busi": find_busi,
}

CROPPED = f"Pictures of more than {CROP} pixels are cropped to {CROP} x {CROP} around the disc."

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Imported:
    """What was written."""

    out: Path
    known: PaperSet
    rows: tuple[Row, ...]
    notices: tuple[str, ...]
    """What differs from the paper or was odd, for people."""

    @property
    def settings(self) -> tuple[str, ...]:
        """What training and `data check` have to be told, as `key=value`."""
        classes = f"data.classes=[{','.join(self.known.classes)}]"
        return (classes, "data.nested=true") if self.known.nested else (classes,)

    def count(self, side: Side, domain: str | None = None) -> int:
        """Images of one side, in all or of one domain."""
        return sum(row.split == side and domain in (None, row.domain) for row in self.rows)


def import_data(
    name: Name,
    source: Path,
    out: Path,
    *,
    split: Rule = "paper",
    seed: int = 1,
    progress: Progress | None = None,
) -> Imported:
    """Write one of the paper's sets from its original files.

    Volumes stay NIfTI volumes under `patient`. The paper counts slices, those that are labeled
    and those that train, so that `paper` cuts them into the slices that show every class.

    Args:
        name: which set.
        source: the unpacked download; nothing in it is changed.
        out: new or empty folder.
        split: `paper`, or `patient`: a fifth of the patients of each domain tests.
        seed: of `patient`.
        progress: called after each exam with (exams done, exams in all, name).

    Raises:
        UserError: `source` is not that set, files are missing or cannot be used, under `paper` a
            whole domain is missing, `out` is not empty, the disk does not take the files. Then
            nothing is left behind.
    """
    out = out.absolute()
    _check(out, seed)
    found = FINDERS[name](source)
    if split == "paper":
        found = _labeled_only(found)
    if not found.exams:
        raise _nothing(source, found.known, "none of the original files")
    _check_names(found)
    if split == "paper":
        _check_domains(found)
    with new_folder(out, f"the {name} set") as part:
        return _write(part, out, found, split, seed, progress)


def _check(out: Path, seed: int) -> None:
    refuse_used(out)
    if seed < 0:
        raise UserError(
            "the seed is negative", found=seed, expected="0 or more", fix="change --seed"
        )


def _check_names(found: Found) -> None:
    """Two exams of one name would become one file, and odd names end in cases.csv."""
    for exam in found.exams:
        refuse_odd_name(Path(exam.name))
    named = Counter((exam.domain, exam.name) for exam in found.exams)
    twice = [f"{domain}/{name}" for (domain, name), count in named.items() if count > 1]
    if twice:
        raise UserError(
            f"two images of the {found.known.name} set have one name",
            found=", ".join(twice[:3]) + (f" and {len(twice) - 3} more" if twice[3:] else ""),
            expected="one image per name in each domain",
            fix="rename one of them, and its label",
        )


def _check_domains(found: Found) -> None:
    """Without a domain, or a side of one, the paper's split and its numbers cannot come out."""
    known, missing = found.known, _missing(found)
    if missing:
        raise UserError(
            f"the paper's split of the {known.name} set needs all of its domains",
            found=f"no labeled original of {', '.join(missing)}; {found.there}",
            expected=f"labeled originals of {', '.join(known.domains)}",
            fix="complete the download, or --split patient: it takes what there is and notes "
            "what is missing",
        )


def _missing(found: Found) -> list[str]:
    """Domains without an exam; where the source says train or test, also those without one side."""
    there: dict[str, set[Side | None]] = {domain: set() for domain in found.known.domains}
    for exam in found.exams:
        there[exam.domain].add(exam.side)
    missing = [domain for domain, halves in there.items() if not halves]
    for domain, halves in there.items():
        if halves and None not in halves:
            missing += [f"{domain}/{side}" for side in SIDES if side not in halves]
    return missing


def _nothing(where: Path, known: PaperSet, found: str) -> UserError:
    return UserError(
        f"there is nothing of the {known.name} set to write from {where}",
        found=found,
        expected="labeled originals as docs/data.md lists them",
        fix="fetch them; the authors' published slices need no import: synfoc train --data SRC",
    )


def _labeled_only(found: Found) -> Found:
    exams = tuple(exam for exam in found.exams if exam.labeled)
    left = len({exam.patient for exam in found.exams}) - len({exam.patient for exam in exams})
    notice = f"patients without labels, left out as in the paper: {left}"
    return replace(found, exams=exams, notices=(*found.notices, *([notice] if left else [])))


def _write(
    part: Path, out: Path, found: Found, rule: Rule, seed: int, progress: Progress | None
) -> Imported:
    known, rows, odd = found.known, list[Row](), Counter[str]()
    chosen = sides(found.exams, known, rule, seed)
    for done, (exam, side) in enumerate(zip(found.exams, chosen, strict=True), 1):
        scan = exam.load()
        rows += write_exam(part, exam, side, scan, len(known.classes) if rule == "paper" else 0)
        odd[scan.note] += 1
        if progress:
            progress(done, len(found.exams), exam.name)
    if not rows:
        raise _nothing(out, known, "no slice that shows every class")
    notices = [*found.notices, *(f"{note}: {count}" for note, count in odd.items() if note)]
    result = Imported(out, known, tuple(rows), (*notices, *_differences(found, rows, rule)))
    write_csv(part / "cases.csv", map(asdict, rows))
    rule_said = f"split {rule}" + (f", seed {seed}" if rule == "patient" else "")
    (part / "README.md").write_text(_readme(result, rule_said), encoding="utf-8")
    return result


def _differences(found: Found, rows: Sequence[Row], rule: Rule) -> list[str]:
    """Numbers that are not those of the original or of the paper."""
    known = found.known
    units = {(e.domain, e.patient or e.name) for e in found.exams if e.labeled}
    there = Counter(domain for domain, _ in units)
    unit = "patients" if any(exam.patient for exam in found.exams) else "images"
    told = []
    odd = {d: n for d, n in found.handed_out.items() if there[d] != n}
    if odd:
        said = ", ".join(f"{d} {there[d]} ({n})" for d, n in odd.items())
        told.append(f"labeled {unit}, in brackets those of the whole original: {said}")
    if rule == "paper":
        training = Counter(row.domain for row in rows if row.split == "train")
        pairs = zip(known.domains, known.training, strict=True)
        said = ", ".join(f"{d} {training[d]} ({n})" for d, n in pairs if training[d] != n)
        if said:
            told.append(f"training images, in brackets those of the paper: {said}")
    if unit == "images" and rule == "patient":
        told.append(
            "the source does not say which images are of one patient: each counts as a patient of "
            "its own, so that one person may be on both sides"
        )
    return told


def _readme(result: Imported, rule: str) -> str:
    known = result.known
    lines = [
        f"# The {known.name} set",
        "",
        f"Written by `synfoc data import {known.name}` from the original files; {rule}. The terms"
        " of the original hold. Label files hold class indices: 0 background, "
        + ", ".join(f"{k} {name}" for k, name in enumerate(known.classes, 1))
        + (" without what is inside" if known.nested else "")
        + ".",
        "",
        *([CROPPED, ""] if known.name == "fundus" else []),
        "| domain | train | test |",
        "|---|---|---|",
        *(f"| {d} | {result.count('train', d)} | {result.count('test', d)} |"
          for d in known.domains),
        "",
        *(f"* {notice}" for notice in result.notices),
    ]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"
