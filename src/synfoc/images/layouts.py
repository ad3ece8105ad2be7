"""Files on disk -> cases: the layouts of folders that are read. No image is opened here.

Folders. A folder that holds `image` (images, img, imgs) is a set of images; `mask` (masks, label,
labels, seg, gt, ...) beside it their labels under the same names, or under names of labels
(label_names.py). Above it may stand `train` and `test`, and above or below those one folder per
domain. A folder without `image` is a flat one: its images, with `x_mask.png` the label of `x.png`;
where it holds one image and `mask` or `seg` alone, that is the label. A folder called like one of
labels beside flat folders is that of the one whose names it has. An image without a label file is
unlabeled. Hidden files are left out; other images that are not read are noted.

nnU-Net's raw folders are known, too: `imagesTr/x_0000.png` with `labelsTr/x.png`, one channel per
image. `imagesTs` is the test set where `labelsTs` is there, and else unlabeled.

Patients are guessed from file names that begin with patient, subject, subj, sub or pat and a number
(`patient003_f15_s02` is patient003), and never otherwise: a wrong guess would be worse than none.
Where all domain folders are named so, without `train` or `test` in them, they are patients of one
domain.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from synfoc.errors import UserError
from synfoc.images.case import Case, Side
from synfoc.images.formats import stem
from synfoc.images.label_names import IMAGE_FOLDERS, LABEL_FOLDERS, is_label_folder, pair
from synfoc.images.listing import Listing, composed, list_folder
from synfoc.images.pairing import CLASS_FILES, Found, flat_cases, guess_patient, paired_cases
from synfoc.images.unread import Unread

SPLITS: dict[str, Side] = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
}
UNREAD = ("val", "valid", "validation")


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
    """Return the sub-folder of one of the names; the earlier name wins."""
    return next(iter(listing.named(names)), None)


def _walk(folder: Path, domain: str | None, split: Side | None, found: Found) -> None:
    listing = found.listing(folder)
    images, labels = first_named(listing, *IMAGE_FOLDERS), first_named(listing, *LABEL_FOLDERS)
    if images and split is None and (sides := _sides_within(images, found)):
        for side in sides:
            own = labels / side.name if labels else None
            found.cases += paired_cases(side, own, domain, SPLITS[side.name.lower()], found)
        _note_beside(listing, images, labels, found.unread)
    elif images:
        found.cases += paired_cases(images, labels, domain, split, found)
        _note_beside(listing, images, labels, found.unread)
    elif first_named(listing, "imagestr"):
        found.cases += _nnunet_cases(listing, domain, found)
    else:
        _walk_below(listing, domain, split, found)


def _sides_within(images: Path, found: Found) -> list[Path]:
    """`train` and `test` in an image folder that holds nothing else: images/train, masks/train."""
    listing = found.listing(images)
    sides = [path for path in _in_order(listing.folders) if path.name.lower() in SPLITS]
    if listing.images or not sides:
        return []
    for path in listing.folders:
        if path not in sides:
            found.unread.folder(path, "only train and test are")
    return sides


def _walk_below(listing: Listing, domain: str | None, split: Side | None, found: Found) -> None:
    """Walk splits and domains below a folder that is no set of images itself, nor nnU-Net's."""
    before = len(found.cases)
    labels_of = _label_folders(listing) if domain is None else {}
    for path in _in_order(listing.folders):
        name = path.name.lower()
        if name in SPLITS and split is None:
            _walk(path, domain, SPLITS[name], found)
        elif path in labels_of.values():
            continue
        elif name in UNREAD:
            found.unread.folder(path, "only train and test are")
        elif name in LABEL_FOLDERS:
            found.unread.folder(path, _why_no_labels(listing, path))
        elif path in labels_of:
            found.cases += paired_cases(path, labels_of[path], path.name, split, found)
        elif domain is None and name not in SPLITS:
            _walk_domain(path, split, found)
        else:
            within = f"the domain {domain}" if domain and name not in SPLITS else f"{split}"
            why = f"it lies within {within}; move it beside the domains, or list its files in a CSV"
            found.unread.folder(path, why)
    if len(found.cases) > before:
        why = "there are folders beside them: move them into the image folder of a domain"
        found.unread.files(listing.images, why)
        return
    found.cases += flat_cases(listing, domain, split, found)


def _walk_domain(folder: Path, split: Side | None, found: Found) -> None:
    before = len(found.cases)
    _walk(folder, folder.name, split, found)
    if len(found.cases) > before and is_label_folder(folder.name):
        found.notices.append(
            f"{folder} is named like a folder of labels, but read as images of the domain "
            f"{folder.name}: if it holds labels, name it `mask`, and the folder of its images "
            "beside it `image`"
        )


def _label_folders(listing: Listing) -> dict[Path, Path]:
    """Folders of images -> those of labels beside them, where the names of the files are the same.

    `Original` and `Ground Truth`, or `siteA` and `siteA_masks`.
    """
    others = [p for p in listing.folders if p.name.lower() not in (*SPLITS, *UNREAD)]
    like = [path for path in others if is_label_folder(path.name)]
    names = {path: _stems(path) for path in others} if like else {}
    found: dict[Path, Path] = {}
    for labels in like:
        images = [p for p in others if p not in like and _fit(names[p], names[labels])]
        if len(images) == 1:
            found.setdefault(images[0], labels)
    return found


def _stems(folder: Path) -> set[str]:
    try:
        return {composed(stem(path)) for path in list_folder(folder).images}
    except OSError:
        return set()


def _fit(images: set[str], labels: set[str]) -> bool:
    """Whether most labels have an image of their name."""
    return bool(images and labels) and 2 * len(pair(images, labels).lonely) <= len(labels)


def _why_no_labels(listing: Listing, folder: Path) -> str:
    """Why a folder of labels is not read that has no image folder beside it."""
    if listing.images and not _fit({stem(path) for path in listing.images}, _stems(folder)):
        return f"its files have no names of images beside it; if it holds {CLASS_FILES}"
    return "no folder `image` lies beside it: put the images into one"


def _note_beside(listing: Listing, images: Path, labels: Path | None, unread: Unread) -> None:
    """Note what lies beside an image folder and its label folder."""
    for path in listing.folders:
        name, why = path.name.lower(), ""
        if name in IMAGE_FOLDERS:
            why = f"{images.name} beside it is; keep one folder of images"
        elif name in LABEL_FOLDERS and labels:
            why = f"{labels.name} beside it is; keep one folder of labels"
        elif name != images.name:
            why = (
                f"beside {images.name} only labels are, from a folder such as mask or labels; if "
                f"it holds {CLASS_FILES}"
            )
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
