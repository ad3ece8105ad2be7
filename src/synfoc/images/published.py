"""Cases of the paper's data sets in their published layouts. No image is opened here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from synfoc.errors import UserError
from synfoc.images.case import Case, Side
from synfoc.images.formats import stem
from synfoc.images.layouts import first_named
from synfoc.images.listing import list_folder
from synfoc.images.pairing import Found, flat_cases, paired_cases
from synfoc.images.paper_sets import PaperSet, busi_training


def find_paper_cases(root: Path, known: PaperSet) -> Found:
    """Cases of a published layout, domains in the authors' order.

    Raises:
        UserError: two folders of one domain; two images, or two labels, of one name.
    """
    found = Found()
    folders = [p for p in list_folder(root).folders if known.domain(p.name) in known.domains]
    names = by_domain(folders, known.domain)
    for domain in known.domains:
        if domain not in names:
            found.notices.append(f"domain {domain} of the {known.name} set is not there")
        elif known.name == "busi":
            cases = flat_cases(found.listing(names[domain]), domain, None, found)
            cut = busi_training(len(cases))
            for number, case in enumerate(cases):
                side: Side = "train" if number < cut else "test"
                found.cases.append(
                    Case(f"{domain}/{side}/{stem(case.image)}", case.image, case.labels, domain,
                         split=side)
                )  # fmt: skip
        else:
            for side in ("train", "test"):
                listing = found.listing(names[domain] / side / known.inner)
                images, labels = (first_named(listing, name) for name in ("image", "mask"))
                if images:
                    cases = paired_cases(images, labels, domain, side, found)
                    found.cases += [_with_paper_patient(case, known) for case in cases]
    found.tell()
    return found


def by_domain(folders: Iterable[Path], domain: Callable[[str], str]) -> dict[str, Path]:
    """Folders by the domain that their name stands for.

    Raises:
        UserError: two folders of one domain.
    """
    named: dict[str, Path] = {}
    for path in folders:
        twin = named.setdefault(domain(path.name), path)
        if twin is not path:
            raise UserError(
                f"two folders of the domain {domain(path.name)}",
                found=f"{twin} and {path}",
                expected="one folder per domain",
                fix="join them, or move one of them elsewhere",
            )
    return named


def looks_like(root: Path, known: PaperSet) -> bool:
    """Whether the folders of `root` are plainly those of a published layout."""
    names = {known.domain(path.name): path for path in list_folder(root).folders}
    there = [names[domain] for domain in known.domains if domain in names]
    if len(there) < len(known.domains) / 2:
        return False
    if known.name == "busi":
        return any(_busi_names(path) for path in there)
    return any((path / "train" / known.inner / "mask").is_dir() for path in there)


def _busi_names(folder: Path) -> bool:
    return any(
        re.fullmatch(r"\w+ \(\d+\)_mask\.png", path.name) for path in list_folder(folder).images
    )


def _with_paper_patient(case: Case, known: PaperSet) -> Case:
    """Return the patient that a published name holds.

    Prostate slices are named `<volume>_<slice>`, counted from 00 anew in train and in test; those
    of M&Ms `<patient><slice>` in three digits each, patients counted through.
    """
    patient, name = None, stem(case.image)
    if known.name == "prostate" and "_" in name:
        patient = f"{case.split} {name.split('_')[0]}"
    if known.name == "mnms" and re.fullmatch(r"\d{6}", name):
        patient = name[:3]
    return Case(case.id, case.image, case.labels, case.domain, patient, case.split)
