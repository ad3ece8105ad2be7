"""Labeled, unlabeled and test cases: disjoint, by patient, sorted, saved with the files' hashes.

    cases -> test set aside -> labeled picked from the rest -> all others unlabeled

Where folders or the CSV say train and test, that holds. Where nothing does, a share of the patients
with labels of each domain is held out, before labeled cases are picked, so that asking for more
labels never costs test cases. What is unlabeled loses its label here: nothing after this module can
read it. Training never reads a domain name; only the choice of the labeled cases does.
"""

from __future__ import annotations

import difflib
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from synfoc.batches.fingerprint import Fingerprint, differences, fingerprints
from synfoc.config import Data, Labeled
from synfoc.errors import UserError
from synfoc.images.case import CaseGroup
from synfoc.images.cases import Case, CaseTable
from synfoc.images.formats import stem
from synfoc.records import read_split
from synfoc.storage import refuse_endless, write_json


@dataclass(frozen=True)
class Split:
    """Who trains with a label, who without, and who is kept for the end."""

    labeled: tuple[Case, ...]
    unlabeled: tuple[Case, ...]
    """Each with `labels=()`."""
    test: tuple[Case, ...]
    """Never seen in training; one without a label can be estimated, not scored."""
    monitor: tuple[Case, ...] = ()
    """The unlabeled cases that have a label, with it, only under `data.monitor`: to draw the
    quality of pseudo-labels, never to train or to choose."""


def make_split(table: CaseTable, data: Data) -> Split:
    """Choose labeled, unlabeled and test cases.

    Args:
        table: the cases, in the order that "the first 20" refers to.
        data: labeled, test_fraction, split_seed and monitor are read.

    Raises:
        UserError: no labeled case, an unknown domain, more labels asked for than there are, a
            list that names other images, `patients` where none is known.
    """
    if any(case.split for case in table.cases):
        test = [case for case in table.cases if case.split == "test"]
        training = [case for case in table.cases if case.split != "test"]
    else:
        test, training = _hold_out(table.cases, data.test_fraction, data.split_seed)
    labeled = _pick(table, training, data.labeled, test)
    chosen = {case.id for case in labeled}
    rest = [case for case in training if case.id not in chosen]
    return Split(
        labeled=tuple(labeled),
        unlabeled=tuple(replace(case, labels=(), parts=()) for case in rest),
        test=tuple(test),
        monitor=tuple(case for case in rest if case.labels) if data.monitor else (),
    )


def save_split(path: Path, split: Split, table: CaseTable) -> dict[str, Fingerprint]:
    """Write the split as JSON with size, time and SHA-256 of every file that the run reads.

    Returns:
        Size, time and SHA-256 by path below the root of the data.

    Raises:
        UserError: a file cannot be read, the disk is full.
    """
    roles = _roles(split)
    files = sorted({f for cases in roles.values() for c in cases for f in (c.image, *c.labels)})
    root = table.root
    prints = fingerprints({_relative(file, root): file for file in files})
    value = {
        "root": str(root.resolve()),
        "classes": table.classes,
        "nested": table.nested,
        **{role: [_to_json(case, root) for case in cases] for role, cases in roles.items()},
        "files": prints,
    }
    write_json(path, value)
    return prints


def equal_images(split: Split, prints: Mapping[str, Fingerprint], root: Path) -> list[str]:
    """Test images that are byte for byte training images, by id.

    Args:
        split: who trains and who is tested.
        prints: what `save_split` found out about every file.
        root: of the data.
    """

    def content(case: Case) -> str:
        return prints[_relative(case.image, root)]["sha256"]

    trained = {content(case) for case in (*split.labeled, *split.unlabeled)}
    return [case.id for case in split.test if content(case) in trained]


def load_split(
    path: Path,
    *,
    verify: bool = False,
    root: Path | None = None,
    fix: str = "restore it from a copy, or start a new run",
) -> Split:
    """Read a split that `save_split` wrote.

    Args:
        path: split.json of a run.
        verify: compare every file with its record. A file of unchanged size and time is taken to
            be unchanged; any other is hashed again.
        root: where the data lie now, if they were moved.
        fix: what brings the file back.

    Raises:
        UserError: no such file, not a split, or (verify) files that changed or are gone.
    """
    value = read_split(path, fix=fix)
    root = root or Path(value["root"])
    if verify:
        _verify(path, value["files"], root)
    roles = {
        role: tuple(_from_json(entry, root) for entry in value[role])
        for role in ("labeled", "unlabeled", "test", "monitor")
    }
    return Split(**roles)


def _hold_out(cases: tuple[Case, ...], fraction: float, seed: int) -> tuple[list[Case], list[Case]]:
    """Test and training cases. A held-out patient gives training nothing, labeled or not."""
    by_domain: dict[str, list[CaseGroup]] = {}
    for case in cases:
        if case.labels:
            by_domain.setdefault(case.domain or "", []).append(case.group)
    held: set[CaseGroup] = set()
    for domain, repeated in by_domain.items():
        groups = list(dict.fromkeys(repeated))
        count = min(max(1, round(fraction * len(groups))), len(groups) - 1) if fraction else 0
        # One draw per domain, from its name: another domain more changes nothing here.
        generator = np.random.default_rng([seed, zlib.crc32(domain.encode())])
        held |= {groups[i] for i in generator.permutation(len(groups))[:count]}
    test = [case for case in cases if case.group in held]
    return test, [case for case in cases if case.group not in held]


def _pick(table: CaseTable, training: list[Case], wanted: Labeled, test: list[Case]) -> list[Case]:
    if wanted.list:
        return _listed(table, training, wanted.list)
    domain = _known_domain(table, wanted.domain) if wanted.domain else None
    pool, kept = (
        [case for case in side if case.labels and domain in (None, case.domain)]
        for side in (training, test)
    )
    if not pool:
        raise _no_label(table, wanted)
    if wanted.patients:
        return _of_patients(pool, wanted.patients)
    if wanted.count and wanted.count > len(pool):
        held = f" (and {len(kept)} for testing)" if kept else ""
        raise UserError(
            f"{wanted.count} labeled images were asked for",
            found=f"{len(pool)} training images with a label" + _of(wanted.domain) + held,
            expected=f"labeled.count of at most {len(pool)}",
            fix=f"ask for {len(pool)}, or label more images",
        )
    return pool[: wanted.count]


def _of_patients(pool: list[Case], count: int) -> list[Case]:
    if not any(case.patient for case in pool):
        raise UserError(
            "labeled.patients needs to know the patients",
            found="no patient of any labeled image",
            expected="a CSV with a column `patient`, or file names such as patient003_s01.png",
            fix="add the column, or use labeled.count",
        )
    groups = list(dict.fromkeys(case.group for case in pool if case.patient))
    if count > len(groups):
        raise UserError(
            f"{count} labeled patients were asked for",
            found=f"{len(groups)} training patients with a label",
            expected=f"labeled.patients of at most {len(groups)}",
            fix=f"ask for {len(groups)}",
        )
    chosen = set(groups[:count])
    return [case for case in pool if case.group in chosen]


def _listed(table: CaseTable, training: list[Case], path: Path) -> list[Case]:
    """Training cases named in a text file by id, by path from the data folder, or by full path."""
    try:
        refuse_endless(path)
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read the list {path}",
            found=error,
            expected="a text file with one image path per line",
            fix="check the path",
        ) from None
    names = {line for line in lines if line and not line.startswith("#")}
    by_name = {name: case for case in table.cases for name in _names(case, table.root)}
    allowed = {case.id for case in training}
    unknown = sorted(name for name in names if name not in by_name)
    chosen = {by_name[name].id for name in names if name in by_name}
    bare = [c.id for c in table.cases if c.id in chosen and not c.labels]
    tested = sorted(chosen - allowed)
    for wrong, fault in ((unknown, "not in the data"), (tested, "test images"), (bare, "no label")):
        if wrong:
            raise UserError(
                f"the list {path} cannot be used",
                found=f"{len(wrong)} lines: {fault}, e.g. {wrong[0]}",
                expected=f"labeled training images, e.g. {table.cases[0].id}",
                fix="correct these lines",
            )
    if not chosen:
        raise _no_label(table, Labeled(list=path))
    return [case for case in training if case.id in chosen]


def _names(case: Case, root: Path) -> Iterable[str]:
    relative = _relative(case.image, root)
    yield from (case.id, relative, relative[: -len(case.image.name)] + stem(case.image))
    yield from (str(case.image), str(case.image.resolve()))


def _known_domain(table: CaseTable, name: str) -> str:
    name = table.paper.domain(name) if table.paper else name
    if name in table.domains:
        return name
    lower = {domain.lower(): domain for domain in table.domains}
    near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.0)
    raise UserError(
        f"there is no domain {name} in {table.root}",
        found=", ".join(table.domains) or "no domains: the images lie in no domain folders",
        expected="one of these as labeled.domain",
        fix=f"did you mean {lower[near[0]]}?" if near else "leave labeled.domain out",
    )


def _no_label(table: CaseTable, wanted: Labeled) -> UserError:
    having = [case for case in table.cases if case.labels]
    training = sorted({c.domain or "(no domain)" for c in having if c.split != "test"})
    found = f"{len(table.cases)} images, none with a label" + _of(wanted.domain)
    if having and not training:
        found = f"{len(having)} labels of {len(table.cases)} images, all of test images"
    elif having:
        found += f"; training labels in: {', '.join(training)}"
    return UserError(
        "there is no labeled training image",
        found=found,
        expected="label files of the same names in a folder `mask`, or the column label of a CSV",
        fix=f"choose labeled.domain among {', '.join(training)}"
        if training and wanted.domain
        else "label a few images; see docs/data.md",
    )


def _of(domain: str | None) -> str:
    return f" in domain {domain}" if domain else ""


def _roles(split: Split) -> dict[str, tuple[Case, ...]]:
    return {
        "labeled": split.labeled,
        "unlabeled": split.unlabeled,
        "test": split.test,
        "monitor": split.monitor,
    }


def _to_json(case: Case, root: Path) -> dict[str, Any]:
    return {
        "id": case.id,
        "image": _relative(case.image, root),
        "label": [_relative(path, root) for path in case.labels],
        **({"parts": list(case.parts)} if case.parts else {}),
        "domain": case.domain,
        "patient": case.patient,
        "split": case.split,
        "spacing": case.spacing,
    }


def _from_json(entry: dict[str, Any], root: Path) -> Case:
    return Case(
        id=entry["id"],
        image=root / entry["image"],
        labels=tuple(root / path for path in entry["label"]),
        parts=tuple(entry.get("parts", ())),
        domain=entry["domain"],
        patient=entry["patient"],
        split=entry["split"],
        spacing=tuple(entry["spacing"]) if entry["spacing"] else None,
    )


def _relative(path: Path, root: Path) -> str:
    inside = path.is_relative_to(root)
    return path.relative_to(root).as_posix() if inside else str(path.resolve())


def _verify(path: Path, files: dict[str, Any], root: Path) -> None:
    changed = differences(files, root)
    if changed:
        raise UserError(
            f"the data are not those of {path}",
            found=f"{len(changed)} of {len(files)} files differ, e.g. {changed[0]}",
            expected="the same files as when the run began",
            fix="restore them, or start a new run",
        )
