"""Which images are segmented, what their masks are called, and what must not be written over.

All of it is known before the first image is read, so a name that is taken stops `predict` before
anything is written.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from synfoc.errors import UserError
from synfoc.images.files import IMAGE_SUFFIXES, stem
from synfoc.images.label_names import (
    IMAGE_FOLDERS,
    LABEL_FOLDERS,
    is_label_folder,
    labels_among,
    pair,
)
from synfoc.images.listing import (
    DICOM,
    Left,
    Listing,
    list_folder,
    refuse_odd_name,
    walk,
    why_not_read,
)
from synfoc.images.unread import by_folder

OVERLAY, PROBABILITIES = "_overlay", "_probabilities"
MASK_SUFFIXES = (".png", ".nii.gz", ".nii", ".npy")


@dataclass
class Sources:
    """What is to be segmented, and what is not."""

    images: dict[Path, Path] = field(default_factory=dict)
    """Path of the mask below `out` -> image."""
    left: list[Left] = field(default_factory=list)
    """Files, or folders of many, that somebody may take for images, and why they are not read."""
    lonely: list[Path] = field(default_factory=list)
    """Images that are named like labels."""


def find_images(images: Sequence[Path], out: Path) -> Sources:
    """Files behind the given files and folders, and what among them is not read.

    A folder keeps its sub-folders, those that links lead to, too. Masks that an earlier call left
    in `out` below it are passed over, and (with a warning) labels: a folder `mask` beside a folder
    `image`, and `x_mask.png` beside `x.png`. An image that is named itself is always taken.

    Raises:
        UserError: nothing to do, a path that does not exist, a name that is not UTF-8, or two
            images with one name.
    """
    found = Sources()
    twins: dict[Path, Path] = {}
    labels: list[str] = []
    for given in images:
        if given.is_dir():
            inside = _in_folder(given, out, found, labels)
        else:
            inside = _named_itself(given, found)
        for path in inside:
            name = path.relative_to(given) if given.is_dir() else Path(path.name)
            refuse_odd_name(path)
            _refuse_twin(twins, name, path)
            found.images.setdefault(name, path)
    if not found.images:
        raise _nothing(images, found, labels)
    _tell(labels, found.lonely)
    return found


def _named_itself(given: Path, found: Sources) -> list[Path]:
    """Return the file, unless it is known not to be read."""
    if not given.exists() and not given.is_symlink():
        raise UserError(
            f"no image at {given}",
            found="no such file or folder",
            expected=f"a folder, or a file that ends with {' '.join(IMAGE_SUFFIXES)}",
            fix="check the path",
        )
    if why := why_not_read(given):
        found.left.append(Left(given, why))
        return []
    return [given]


def _in_folder(given: Path, out: Path, found: Sources, labels: list[str]) -> list[Path]:
    """Images at any depth by path; their labels, and what is not read, are added to the others."""
    listings = [listing for listing in walk(given) if not _written(listing.folder, given, out)]
    folders = _label_folders(listings, given)
    labels += map(str, sorted(folders))
    inside: list[Path] = []
    for listing in listings:
        found.left += by_folder(listing)
        if folders & {listing.folder, *listing.folder.parents}:
            continue
        named = {stem(path): path for path in listing.images}
        among = labels_among(named)
        used = among.used
        labels += (str(named[name]) for name in sorted(used))
        inside += (path for path in listing.images if stem(path) not in used)
        like = listing.images if _called_labels(listing.folder) else ()
        found.lonely += like or (named[name] for name in among.lonely)
    return sorted(inside)


def _tell(labels: Sequence[str], lonely: Sequence[Path]) -> None:
    told = []
    if labels:
        more = f" and {len(labels) - 3} more" if labels[3:] else ""
        told.append(
            "not segmented, since they look like labels of images beside them: "
            f"{', '.join(labels[:3])}{more}"
        )
    if lonely:
        told.append(f"segmented, though named like labels: {len(lonely)}, e.g. {lonely[0]}")
    if told:
        warnings.warn("; ".join(told), stacklevel=3)


def _nothing(images: Sequence[Path], found: Sources, labels: list[str]) -> UserError:
    told = f" (taken for labels: {', '.join(labels[:2])})" if labels else ""
    told += "".join(f"; not read: {one.path}: {one.why}" for one in found.left[:2])
    more = f"; and {len(found.left) - 2} more" if found.left[2:] else ""
    dicom = any(DICOM in one.why for one in found.left)
    return UserError(
        "no images to segment",
        found=f"none in {', '.join(map(str, images)) or 'an empty list'}{told}{more}",
        expected=f"files that end with {' '.join(IMAGE_SUFFIXES)}",
        fix=DICOM if dicom else "name the folder that holds the images",
    )


def refuse_clashes(sources: Mapping[Path, Path], extras: Mapping[str, bool]) -> None:
    """No mask may have the name of another image's picture (`a_overlay.png` beside `a.png`).

    Raises:
        UserError: one would.
    """
    images = {name.with_name(stem(name)): image for name, image in sources.items()}
    for ending in (ending for ending, wanted in extras.items() if wanted):
        for bare, image in images.items():
            twin = images.get(bare.with_name(bare.name + ending))
            if twin is not None:
                raise UserError(
                    f"two files would get the name {bare.name}{ending}",
                    found=f"the mask of {twin} and what --{ending[1:]} writes for {image}",
                    expected=f"no image whose name is that of another one and {ending}",
                    fix=f"leave --{ending[1:]} out, or move {twin.name} elsewhere",
                )


def refuse_to_replace_images(out: Path, sources: Mapping[Path, Path]) -> None:
    """No mask may be written over an image that is to be segmented.

    Raises:
        UserError: it would.
    """
    # A link that leads to itself is told when it is read.
    images = {Path(os.path.realpath(image)) for image in sources.values()}
    folders = {name.parent: (out / name.parent).resolve() for name in sources}
    lost = [name for name in _outputs(sources) if folders[name.parent] / name.name in images]
    if lost:
        raise UserError(
            "masks would replace the images they are made of",
            found=f"{out / lost[0]} is an image" + (f", {len(lost)} in all" if lost[1:] else ""),
            expected="a folder for the masks that is not that of the images",
            fix="choose another --out",
        )


def refuse_to_overwrite(out: Path, sources: Mapping[Path, Path]) -> None:
    """Nothing that would be written may be there already.

    Raises:
        UserError: it is.
    """
    # Folders are listed, since asking for every name takes long on a disk of the network.
    folders = {folder: _names(out / folder) for folder in {Path(), *(n.parent for n in sources)}}
    there = [str(name) for name in _outputs(sources) if name.name in folders[name.parent]]
    if there:
        raise UserError(
            f"{out} already holds masks",
            found=", ".join(there[:4]) + (f" and {len(there) - 4} more" if there[4:] else ""),
            expected="a new folder, or one without masks of these names",
            fix="choose another --out, or add --overwrite",
        )


def _refuse_twin(twins: dict[Path, Path], name: Path, path: Path) -> None:
    """Remember who gets which mask: `a.png` and `a.jpg` would both get `a`."""
    bare = name.with_name(stem(name))
    twin = twins.setdefault(bare, path)
    if twin != path and twin.resolve() != path.resolve():
        raise UserError(
            f"two images would get the mask {bare}",
            found=f"{twin} and {path}",
            expected="one image per name",
            fix="give the folder above both, so that sub-folders are kept, or rename one",
        )


def _written(folder: Path, given: Path, out: Path) -> bool:
    """Whether a folder is one where an earlier call wrote masks: `out`, below what is given."""
    inner, here = out.absolute(), folder.absolute()
    return given.absolute() in inner.parents and inner in (here, *here.parents)


def _label_folders(listings: Sequence[Listing], given: Path) -> set[Path]:
    """Folders that hold the labels of images in a folder beside them, or in the one above."""
    by_folder = {listing.folder: listing for listing in listings}
    found: set[Path] = set()
    for above in (*listings, _above(given)):
        for folder in filter(lambda path: is_label_folder(path.name), above.folders):
            others = [path for path in above.folders if not is_label_folder(path.name)]
            named = any(path.name.lower().startswith(IMAGE_FOLDERS) for path in others)
            near = [above, *(by_folder[path] for path in others if path in by_folder)]
            called = named or (above.images and _called_labels(folder))
            if called or _fit(near, by_folder.get(folder)):
                found.add(folder)
    return found & by_folder.keys()


def _above(given: Path) -> Listing:
    """Return the folder that a given one lies in, where it may be listed."""
    try:
        return list_folder(given.parent)
    except (OSError, UserError):
        return Listing(given.parent)


def _called_labels(folder: Path) -> bool:
    """Whether the whole name is one of a folder of labels, not a word of it."""
    return folder.absolute().name.lower() in LABEL_FOLDERS


def _fit(near: Sequence[Listing], labels: Listing | None) -> bool:
    """Whether the files of a folder have the names of images near it."""
    own = {stem(path) for path in labels.images} if labels else set()
    there = [{stem(path) for path in listing.images} for listing in near]
    return bool(own) and any(2 * len(pair(names, own).lonely) <= len(own) for names in there)


def _names(folder: Path) -> set[str]:
    """Return what a folder holds; nothing where there is none."""
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _outputs(sources: Iterable[Path]) -> list[Path]:
    """All that may be written for these masks."""
    endings = [*MASK_SUFFIXES, f"{OVERLAY}.png", *(PROBABILITIES + s for s in MASK_SUFFIXES[1:])]
    return [name.with_name(stem(name) + ending) for name in sources for ending in endings]
