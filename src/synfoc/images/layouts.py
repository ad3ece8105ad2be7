"""Files on disk -> cases: the layouts of folders that are read. No image is opened here.

Folders. A folder that holds `image` (images, img, imgs) is a set of images; `mask` (masks, label,
labels, seg, gt, ...) beside it their labels under the same names, or with `_mask`, `_label`, `_seg`
added. Above it may stand `train` and `test`, and above or below those one folder per domain. A
folder without `image` is a flat one: its images, with `x_mask.png` the label of `x.png`; where it
holds one image and `mask` or `seg` alone, that is the label. An image without a label file is
unlabeled. Hidden files are left out; other images that are not read are noted.

nnU-Net's raw folders are known, too: `imagesTr/x_0000.png` with `labelsTr/x.png`, one channel per
image. `imagesTs` is the test set where `labelsTs` is there, and else unlabeled.

Patients are guessed from file names that begin with patient, subject, subj, sub or pat and a number
(`patient003_f15_s02` is patient003), and never otherwise: a wrong guess would be worse than none.
Where all domain folders are named so, without `train` or `test` in them, they are patients of one
domain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

from synfoc.errors import UserError
from synfoc.images.formats import stem, suffix
from synfoc.images.listing import Listing, Unread, composed, list_folder

Side = Literal["train", "test"]

IMAGE_FOLDERS = ("image", "images", "img", "imgs")
LABEL_FOLDERS = (
    "mask", "masks", "label", "labels", "segmentation", "segmentations", "seg", "segs", "gt",
    "groundtruth", "ground_truth",
)  # fmt: skip
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

CaseGroup: TypeAlias = tuple[str | None, str]
"""Domain, and the patient within it; the image by itself where its patient is unknown."""


def group_of(id: str, domain: str | None, patient: str | None) -> CaseGroup:
    """The group of a case, in memory or in a split.json."""
    return domain, patient or f"image {id}"


@dataclass(frozen=True)
class Case:
    """One image file, with its label files where it has any."""

    id: str
    """Unique in the set, path-like: "ACDC/train/patient003_f15_s02"."""
    image: Path
    labels: tuple[Path, ...] = ()
    """None, one, or several that are merged by the largest class index (BUSI's extra lesions)."""
    domain: str | None = None
    patient: str | None = None
    """Unique within the domain only: two hospitals may both have a patient 1."""
    split: Side | None = None
    spacing: tuple[float, float, float] | None = None
    """mm between slices, rows, columns, where a CSV states it; it goes before the file's own."""

    @property
    def group(self) -> CaseGroup:
        """What must stay on one side of a split."""
        return group_of(self.id, self.domain, self.patient)


@dataclass
class Found:
    """What a folder holds, while it is being walked."""

    cases: list[Case] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    unread: Unread = field(default_factory=Unread)
    lonely: list[Path] = field(default_factory=list)
    """Named like labels, but of no image."""
    beside: list[Path] = field(default_factory=list)
    """Labels that have no name of an image, but lie beside a single one."""

    def tell(self) -> None:
        """Add the notices about files that are not read, or that only their names tell apart."""
        self.notices += self.unread.told()
        if self.lonely:
            self.notices.append(
                f"named like labels, but taken for images, since no image has the name without the "
                f"ending, or several lie beside it: {len(self.lonely)}, e.g. {self.lonely[0]}"
            )
        if self.beside:
            self.notices.append(
                f"files named {', '.join(sorted({stem(path) for path in self.beside}))} are taken "
                f"for the label of the one image beside them: {len(self.beside)}, e.g. "
                f"{self.beside[0]}"
            )


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
    _refuse_twins(root, found.cases)
    found.tell()
    found.cases, where = _of_patients(root, found.cases)
    tell_guessed(found, where)
    return found


def _of_patients(root: Path, cases: list[Case]) -> tuple[list[Case], str]:
    """One folder per patient: its name is no domain; and where the names of patients are from.

    A folder with `train` or `test` in it stays a domain.
    """
    patients = [guess_patient(case.domain or "") for case in cases]
    split_inside = any(
        case.split and case.image.relative_to(root).parts[0].lower() not in SPLITS for case in cases
    )
    if not all(patients) or split_inside:
        return cases, "file names"
    pairs = zip(cases, patients, strict=True)
    return [replace(c, domain=None, patient=patient) for c, patient in pairs], "folder names"


def tell_guessed(found: Found, where: str = "file names") -> None:
    """Add the notice that patients were guessed."""
    guessed = {case.group: case.patient for case in found.cases if case.patient}
    if guessed:
        found.notices.append(
            f"patients read from {where}: {len(guessed)}, e.g. {next(iter(guessed.values()))}; "
            "a CSV with a column `patient` can say otherwise"
        )


def _refuse_twins(root: Path, cases: list[Case]) -> None:
    """`train` and `Train` of one domain, or `a/train` and `train/a`, are read as one."""
    seen: dict[str, Case] = {}
    for case in cases:
        twin = seen.setdefault(case.id, case)
        if twin is not case:
            raise UserError(
                f"two images of one name in {root}",
                found=f"{twin.image} and {case.image} for {case.id}",
                expected="one image per domain, side of the split and name",
                fix="rename or remove one of them",
            )


def first_named(listing: Listing, *names: str) -> Path | None:
    """The sub-folder of one of the names; the earlier name wins."""
    return next(iter(listing.named(names)), None)


def _walk(folder: Path, domain: str | None, split: Side | None, found: Found) -> None:
    try:
        listing = list_folder(folder)
    except PermissionError:  # `lost+found` of a disk of data, say
        found.notices.append(f"{folder} is not read: no permission to list it")
        return
    image_folder, label_folder = (
        first_named(listing, *IMAGE_FOLDERS),
        first_named(listing, *LABEL_FOLDERS),
    )
    if image_folder:
        found.cases += paired_cases(image_folder, label_folder, domain, split, found)
        _note_beside(listing, image_folder, label_folder, found.unread)
    elif first_named(listing, "imagestr"):
        found.cases += _nnunet_cases(listing, domain, found)
    else:
        _walk_below(listing, domain, split, found)


def _walk_below(listing: Listing, domain: str | None, split: Side | None, found: Found) -> None:
    """Splits and domains below a folder that is neither a set of images itself nor nnU-Net's."""
    before = len(found.cases)
    for path in _in_order(listing.folders):
        name = path.name.lower()
        if name in SPLITS and split is None:
            _walk(path, domain, SPLITS[name], found)
        elif name in UNREAD:
            found.unread.folder(path, "only train and test are")
        elif name in LABEL_FOLDERS:
            found.unread.folder(path, "no folder `image` lies beside it: put the images into one")
        elif domain is None and name not in SPLITS:
            _walk(path, path.name, split, found)
        else:
            within = f"the domain {domain}" if domain and name not in SPLITS else f"{split}"
            why = f"it lies within {within}; move it beside the domains, or list its files in a CSV"
            found.unread.folder(path, why)
    if len(found.cases) > before:
        why = "there are folders beside them: move them into the image folder of a domain"
        found.unread.files(listing.images, why)
        return
    found.cases += flat_cases(listing, domain, split, found)


def _note_beside(listing: Listing, images: Path, labels: Path | None, unread: Unread) -> None:
    """Note what lies beside an image folder and its label folder."""
    for path in listing.folders:
        name, why = path.name.lower(), ""
        if name in IMAGE_FOLDERS:
            why = f"{images.name} beside it is; keep one folder of images"
        elif name in LABEL_FOLDERS and labels:
            why = f"{labels.name} beside it is; keep one folder of labels"
        elif name != images.name:
            why = f"beside {images.name} only labels are, from a folder such as mask or labels"
        if path not in (images, labels):
            unread.folder(path, why)
    unread.files(listing.images, f"move them into {images.name}")


def _nnunet_cases(listing: Listing, domain: str | None, found: Found) -> list[Case]:
    tr, ts = first_named(listing, "imagestr"), first_named(listing, "imagests")
    labels, test_labels = first_named(listing, "labelstr"), first_named(listing, "labelsts")
    assert tr is not None
    for path in listing.folders:
        if path not in (tr, ts, labels) and (path != test_labels or ts is None):
            found.unread.folder(path, "of nnU-Net's folders imagesTr, labelsTr, imagesTs and the "
                                "labelsTs of imagesTs are")  # fmt: skip
    if ts is None:
        return paired_cases(tr, labels, domain, None, found)
    if test_labels:
        train = paired_cases(tr, labels, domain, "train", found)
        return train + paired_cases(ts, test_labels, domain, "test", found)
    labeled = paired_cases(tr, labels, domain, None, found)
    unlabeled = paired_cases(ts, None, domain, None, found)
    # The names of the two folders may be the same.
    return labeled + [replace(case, id=f"imagesTs/{case.id}") for case in unlabeled]


def _in_order(folders: tuple[Path, ...]) -> list[Path]:
    """Sub-folders by name, but train before test."""
    return sorted(folders, key=lambda path: SPLITS.get(path.name.lower()) == "test")


def paired_cases(
    images: Path, labels: Path | None, domain: str | None, split: Side | None, found: Found
) -> list[Case]:
    """Images of one folder, labels of another."""
    listings = [list_folder(folder) for folder in (images, labels) if folder]
    for listing in listings:
        _note_inside(listing, found.unread)
    by_stem = _without_channel(images, _by_stem(listings[0].images))
    own = _by_stem(listings[1].images) if labels else {}
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


def _note_inside(listing: Listing, unread: Unread) -> None:
    """Note what lies in a folder of images, or of labels, without being read."""
    unread.foreign(listing)
    for path in listing.folders:
        why = f"put its files into {listing.folder.name} itself, or list them in a CSV"
        unread.folder(path, why)


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


def flat_cases(
    listing: Listing, domain: str | None, split: Side | None, found: Found
) -> list[Case]:
    """Images of one folder with their labels among them."""
    found.unread.foreign(listing)
    by_stem = _by_stem(listing.images)
    labels, lonely = labels_among(by_stem)
    used = {path for paths in labels.values() for path in paths}
    found.beside += [path for path in used if stem(path).lower() in LABEL_FOLDERS]
    found.lonely += lonely
    return [
        _case(name, path, labels.get(name, []), domain, split)
        for name, path in by_stem.items()
        if path not in used
    ]


def labels_among(named: Mapping[str, Path]) -> tuple[dict[str, list[Path]], list[Path]]:
    """Which files of a flat folder are labels of others in it.

    Args:
        named: all images of the folder by their names without endings.

    Returns:
        Name of an image -> its labels; and the files named like labels that are of no image.
    """
    labels: dict[str, list[Path]] = {}
    lonely: list[Path] = []
    images: list[str] = []
    for name, path in named.items():
        base = LABEL_ENDING.sub("", name)
        if base != name and base in named:
            labels.setdefault(base, []).append(path)
        elif base != name or name.lower() in LABEL_FOLDERS:
            lonely.append(path)
        else:
            images.append(name)
    plain = [path for path in lonely if stem(path).lower() in LABEL_FOLDERS]
    if len(images) == len(lonely) == len(plain) == 1 and not labels:
        return {images[0]: lonely}, []
    return labels, lonely


def _case(
    name: str, path: Path, labels: list[Path], domain: str | None, split: Side | None
) -> Case:
    parts = [part for part in (domain, split, name) if part]
    return Case("/".join(parts), path, tuple(labels), domain, guess_patient(name), split)


def _by_stem(paths: tuple[Path, ...]) -> dict[str, Path]:
    """Files by their names, however accents are written there."""
    named: dict[str, Path] = {}
    for path in paths:
        name = composed(stem(path))
        if name in named:
            raise UserError(
                f"two files of one name in {path.parent}",
                found=f"{named[name].name} and {path.name}",
                expected="one file per name, since a label is found by it",
                fix=f"rename or remove one of them (the other ends in {suffix(path)})",
            )
        named[name] = path
    return named
