"""Files on disk -> cases: folders, a CSV, and the published layouts. No image is opened here.

Folders. A folder that holds `image` (images, img, imgs) is a set of images; `mask` (masks, label,
labels) beside it holds their labels under the same names, or with `_mask`, `_label`, `_seg` added.
Above it may stand `train` and `test`, and above or below those one folder per domain. A folder
without `image` is a flat one: its images, with `x_mask.png` the label of `x.png`. An image
without a label file is unlabeled. Hidden files are left out.

nnU-Net's raw folders are known, too: `imagesTr/x_0000.png` with `labelsTr/x.png`, one channel per
image. `imagesTs` is the test set where `labelsTs` is there, and else unlabeled.

Patients are guessed from file names that begin with patient, subject, subj, sub or pat and a number
(`patient003_f15_s02` is patient003), and never otherwise: a wrong guess would be worse than none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from synfoc.errors import UserError
from synfoc.images.formats import IMAGE_SUFFIXES, stem, suffix
from synfoc.images.paper_sets import PaperSet

Side = Literal["train", "test"]

IMAGE_FOLDERS = ("image", "images", "img", "imgs")
LABEL_FOLDERS = ("mask", "masks", "label", "labels")
SPLITS: dict[str, Side] = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
}
UNREAD = ("val", "valid", "validation")
LABEL_ENDING = re.compile(r"_(mask|label|seg)(_\d+)?$", re.IGNORECASE)
CHANNEL = re.compile(r"_(\d{4})$")
PATIENT = re.compile(r"(patient|subject|subj|sub|pat)[-_ ]?\d+", re.IGNORECASE)


@dataclass(frozen=True)
class Case:
    """One image file, with its label file where it has one."""

    id: str
    """Unique in the set, path-like: "ACDC/train/patient003_f15_s02"."""
    image: Path
    label: Path | tuple[Path, ...] | None = None
    """Several files are merged by the largest class index (BUSI's extra lesions)."""
    domain: str | None = None
    patient: str | None = None
    """Unique within the domain only: two hospitals may both have a patient 1."""
    split: Side | None = None
    spacing: tuple[float, float, float] | None = None
    """mm between slices, rows, columns, where a CSV states it; it goes before the file's own."""

    @property
    def labels(self) -> tuple[Path, ...]:
        """The label files: none, one or several."""
        if self.label is None:
            return ()
        return self.label if isinstance(self.label, tuple) else (self.label,)

    @property
    def group(self) -> tuple[str | None, str]:
        """What must stay on one side of a split: the patient, or the image where unknown."""
        return (self.domain, self.patient or f"image {self.id}")


@dataclass
class Found:
    """What a folder holds, while it is being walked."""

    cases: list[Case] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def guess_patient(name: str) -> str | None:
    """The patient that a file name begins with, in lower case; None where it names none."""
    match = PATIENT.match(name)
    return match[0].lower() if match else None


def find_cases(root: Path) -> Found:
    """Cases of a folder in the layouts of the module's text, sorted by domain, split and name.

    Raises:
        UserError: two images, or two labels, of one name.
    """
    found = Found()
    _walk(root, None, None, found)
    tell_guessed(found)
    return found


def tell_guessed(found: Found) -> None:
    """Add the notice that patients were guessed from file names."""
    guessed = {case.group: case.patient for case in found.cases if case.patient}
    if guessed:
        found.notices.append(
            f"patients read from file names: {len(guessed)}, e.g. {next(iter(guessed.values()))}; "
            "a CSV with a column `patient` can say otherwise"
        )


def find_paper_cases(root: Path, known: PaperSet) -> Found:
    """Cases of a published layout, domains in the authors' order.

    Raises:
        UserError: two images, or two labels, of one name.
    """
    found = Found()
    names = {known.domain(path.name): path for path in _list(root)[0].values()}
    for domain in known.domains:
        if domain not in names:
            found.notices.append(f"domain {domain} of the {known.name} set is not there")
        elif known.name == "busi":
            cases = _flat_cases(names[domain], domain, None, found)
            # The authors' rule: the last fifth of the sorted list is the test set.
            cut = len(cases) - len(cases) // 5
            for number, case in enumerate(cases):
                side: Side = "train" if number < cut else "test"
                found.cases.append(
                    Case(f"{domain}/{side}/{stem(case.image)}", case.image, case.label, domain,
                         split=side)
                )  # fmt: skip
        else:
            for side in ("train", "test"):
                folders = _list(names[domain] / side / known.inner)[0]
                if "image" in folders:
                    cases = _paired_cases(
                        folders["image"], folders.get("mask"), domain, side, found
                    )
                    found.cases += [_with_paper_patient(case, known) for case in cases]
    return found


def looks_like(root: Path, known: PaperSet) -> bool:
    """Whether the folders of `root` are plainly those of a published layout."""
    names = {known.domain(path.name): path for path in _list(root)[0].values()}
    there = [names[domain] for domain in known.domains if domain in names]
    if len(there) < len(known.domains) / 2:
        return False
    if known.name == "busi":
        return any(_busi_names(path) for path in there)
    return any((path / "train" / known.inner / "mask").is_dir() for path in there)


def _busi_names(folder: Path) -> bool:
    return any(re.fullmatch(r"\w+ \(\d+\)_mask\.png", path.name) for path in _list(folder)[1])


def _with_paper_patient(case: Case, known: PaperSet) -> Case:
    """Prostate slices are named `<volume>_<slice>`, counted from 00 anew in train and in test."""
    patient = None
    if known.name == "prostate" and "_" in stem(case.image):
        patient = f"{case.split} {stem(case.image).split('_')[0]}"
    return Case(case.id, case.image, case.label, case.domain, patient, case.split)


def _list(folder: Path) -> tuple[dict[str, Path], list[Path]]:
    """Sub-folders by name in lower case, and images sorted by name; hidden ones left out."""
    folders: dict[str, Path] = {}
    images: list[Path] = []
    if not folder.is_dir():
        return folders, images
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders[entry.name.lower()] = Path(entry.path)
            elif entry.name.lower().endswith(IMAGE_SUFFIXES):
                images.append(Path(entry.path))
    by_name = dict(sorted(folders.items(), key=lambda item: item[1].name))
    return by_name, sorted(images, key=lambda path: path.name)


def _walk(folder: Path, domain: str | None, split: Side | None, found: Found) -> None:
    folders, images = _list(folder)
    image_folder = next((folders[name] for name in IMAGE_FOLDERS if name in folders), None)
    if image_folder:
        label_folder = next((folders[name] for name in LABEL_FOLDERS if name in folders), None)
        found.cases += _paired_cases(image_folder, label_folder, domain, split, found)
        return
    if "imagestr" in folders:
        found.cases += _nnunet_cases(folders, domain, found)
        return
    before = len(found.cases)
    for name, path in _in_order(folders):
        if name in SPLITS:
            if split is None:
                _walk(path, domain, SPLITS[name], found)
        elif name in UNREAD:
            found.notices.append(f"{path} is not read: only train and test are")
        elif domain is None and name not in LABEL_FOLDERS:
            _walk(path, path.name, split, found)
    if images and len(found.cases) == before:
        found.cases += _flat_cases(folder, domain, split, found)


def _nnunet_cases(folders: dict[str, Path], domain: str | None, found: Found) -> list[Case]:
    tr, ts = folders["imagestr"], folders.get("imagests")
    if ts is None:
        return _paired_cases(tr, folders.get("labelstr"), domain, None, found)
    if "labelsts" in folders:
        train = _paired_cases(tr, folders.get("labelstr"), domain, "train", found)
        return train + _paired_cases(ts, folders["labelsts"], domain, "test", found)
    labeled = _paired_cases(tr, folders.get("labelstr"), domain, None, found)
    unlabeled = _paired_cases(ts, None, domain, None, found)
    # The names of the two folders may be the same.
    return labeled + [replace(case, id=f"imagesTs/{case.id}") for case in unlabeled]


def _in_order(folders: dict[str, Path]) -> Iterator[tuple[str, Path]]:
    """Sub-folders by name, but train before test."""
    yield from sorted(folders.items(), key=lambda item: SPLITS.get(item[0]) == "test")


def _paired_cases(
    images: Path, labels: Path | None, domain: str | None, split: Side | None, found: Found
) -> list[Case]:
    """Images of one folder, labels of another."""
    by_stem = _without_channel(images, _by_stem(_list(images)[1]))
    own = _by_stem(_list(labels)[1]) if labels else {}
    added: dict[str, list[Path]] = {}
    for name, path in own.items():
        if name not in by_stem:
            added.setdefault(LABEL_ENDING.sub("", name), []).append(path)
    cases = []
    for name, path in by_stem.items():
        files = [own[name]] if name in own else added.pop(name, [])
        cases.append(_case(name, path, files, domain, split))
    lonely = [path for paths in added.values() for path in paths]
    if lonely:
        found.notices.append(
            f"label files without an image of their name, not used: {len(lonely)}, e.g. {lonely[0]}"
        )
    if not by_stem:
        found.notices.append(f"no image in {images}")
    return cases


def _without_channel(folder: Path, by_stem: dict[str, Path]) -> dict[str, Path]:
    """nnU-Net's names, where all are such: the case without the number of its only channel."""
    channels = {name: CHANNEL.search(name) for name in by_stem}
    if not folder.name.lower().startswith(("imagestr", "imagests")) or not all(channels.values()):
        return by_stem
    more = [name for name, number in channels.items() if number and number[1] != "0000"]
    if more:
        raise UserError(
            f"{folder} has several channels per image",
            found=f"{by_stem[more[0]].name} ({len(more)} such files)",
            expected="one channel, _0000: MedSAM takes gray or color images",
            fix="keep one channel, or join them to color images",
        )
    return {CHANNEL.sub("", name): path for name, path in by_stem.items()}


def _flat_cases(folder: Path, domain: str | None, split: Side | None, found: Found) -> list[Case]:
    """Images of one folder with their labels among them."""
    by_stem = _by_stem(_list(folder)[1])
    labels: dict[str, list[Path]] = {}
    for name, path in by_stem.items():
        base = LABEL_ENDING.sub("", name)
        if base != name and base in by_stem:
            labels.setdefault(base, []).append(path)
        elif base != name:
            found.notices.append(f"{path} looks like a label, but {base} is not there")
    used = {path for paths in labels.values() for path in paths}
    return [
        _case(name, path, labels.get(name, []), domain, split)
        for name, path in by_stem.items()
        if path not in used
    ]


def _case(
    name: str, path: Path, labels: list[Path], domain: str | None, split: Side | None
) -> Case:
    label = tuple(labels) if len(labels) > 1 else labels[0] if labels else None
    parts = [part for part in (domain, split, name) if part]
    return Case("/".join(parts), path, label, domain, guess_patient(name), split)


def _by_stem(paths: list[Path]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in paths:
        name = stem(path)
        if name in named:
            raise UserError(
                f"two files of one name in {path.parent}",
                found=f"{named[name].name} and {path.name}",
                expected="one file per name, since a label is found by it",
                fix=f"rename or remove one of them (the other ends in {suffix(path)})",
            )
        named[name] = path
    return named
