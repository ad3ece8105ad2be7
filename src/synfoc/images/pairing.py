"""Files of one or two folders -> cases: which image has which labels, by names alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from synfoc.errors import UserError
from synfoc.images.case import Case, Side
from synfoc.images.formats import stem, suffix
from synfoc.images.label_names import Labels, is_label_folder, labels_among, pair
from synfoc.images.listing import Listing, closed, composed, list_folder
from synfoc.images.unread import Unread

CHANNEL = re.compile(r"_(\d{4})$")
MOST_CHANNELS = 8
"""More numbers of one name than these are ids of cases, not channels."""
PATIENT = re.compile(r"(patient|subject|subj|sub|pat)[-_ ]?\d+", re.IGNORECASE)
CLASS_FILES = "one file per class: list them in a CSV with columns label:NAME (docs/data.md)"


@dataclass
class Found:
    """What a folder holds, while it is being walked."""

    cases: list[Case] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    unread: Unread = field(default_factory=Unread)
    classes: tuple[str, ...] = ()
    """Of columns `label:NAME`, in their order."""
    beside: list[Path] = field(default_factory=list)
    """The fields from here on are those of `Labels`, of all folders."""
    similar: list[tuple[Path, Path]] = field(default_factory=list)
    second: list[Path] = field(default_factory=list)
    unclear: list[Path] = field(default_factory=list)
    lonely: list[Path] = field(default_factory=list)
    continued: list[Path] = field(default_factory=list)

    def listing(self, folder: Path) -> Listing:
        """Return what a folder holds, with a note on what is not read in it."""
        try:
            listing = list_folder(folder)
        except OSError as error:
            self.unread.cannot_list(folder, closed(error))
            return Listing(folder)
        self.unread.left(listing)
        return listing

    def tell(self) -> None:
        """Add the notices about files that are not read, or that only their names tell apart."""
        self.notices += self.unread.told()
        kinds = (
            (self.lonely, "named like labels, but taken for images, since no image has the name "
             "without the ending"),
            (self.unclear, "named like labels of an image beside them, but not of which: not used; "
             "list them in a CSV"),
            (self.second, "labels of a second reader are not used, the first one's are"),
            (self.continued, "taken for images, though their names may be those of classes of an "
             "image beside them; if they are labels, list them in a CSV, with columns label:NAME "
             "where each is a class"),
        )  # fmt: skip
        for paths, what in kinds:
            if paths:
                self.notices.append(f"{what}: {len(paths)}, e.g. {paths[0]}")
        if self.similar:
            label, image = self.similar[0]
            self.notices.append(
                f"labels paired with the only image of a similar name: {len(self.similar)}, e.g. "
                f"{label} with {image.name}"
            )
        if self.beside:
            self.notices.append(
                f"files named {', '.join(sorted({stem(path) for path in self.beside}))} are taken "
                f"for the label of the one image beside them: {len(self.beside)}, e.g. "
                f"{self.beside[0]}"
            )

    def remember(self, labels: Labels, files: dict[str, Path], images: dict[str, Path]) -> None:
        """Keep what the names of one folder have shown, for the notices."""
        self.similar += [(files[label], images[image]) for label, image in labels.similar]
        for kind in ("beside", "second", "unclear", "lonely", "continued"):
            getattr(self, kind).extend(files[name] for name in getattr(labels, kind))


def guess_patient(name: str) -> str | None:
    """Return the patient that a file name begins with, in lower case; None where it names none."""
    match = PATIENT.match(name)
    return match[0].lower() if match else None


def paired_cases(
    images: Path, labels: Path | None, domain: str | None, split: Side | None, found: Found
) -> list[Case]:
    """Images of one folder, labels of another.

    Raises:
        UserError: two files of one name; several channels of one image, as nnU-Net names them.
    """
    listings = [found.listing(folder) for folder in (images, labels) if folder]
    for listing in listings:
        _note_inside(listing, found.unread)
    own = by_stem(listings[1].images) if labels else {}
    files = _without_channel(images, by_stem(listings[0].images), own)
    among = labels_among(files)
    used = among.used
    names = pair({name: files[name] for name in files if name not in used}, own)
    lonely, names.lonely = [own[name] for name in names.lonely], []
    among.lonely, among.beside = [], []
    found.remember(among, files, files)
    found.remember(names, own, files)
    cases = []
    for name, path in files.items():
        if name in used:
            continue
        paths = [own[label] for label in names.of.get(name, ())]
        extra = [files[label] for label in among.of.get(name, ())]
        found.unclear += extra if paths else []
        cases.append(_case(name, path, paths or extra, domain, split))
    if lonely:
        found.notices.append(_without_image(lonely, files))
    if not files:
        found.notices.append(f"no image in {images}")
    return cases


def flat_cases(
    listing: Listing, domain: str | None, split: Side | None, found: Found
) -> list[Case]:
    """Images of one folder with their labels among them.

    Raises:
        UserError: two files of one name.
    """
    files = by_stem(listing.images)
    labels = labels_among(files)
    found.remember(labels, files, files)
    used = labels.used
    return [
        _case(name, path, [files[label] for label in labels.of.get(name, ())], domain, split)
        for name, path in files.items()
        if name not in used
    ]


def by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """Files by their names, however accents are written there.

    Raises:
        UserError: two of one name.
    """
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


def _without_image(lonely: list[Path], images: Collection[str]) -> str:
    """Return the notice on labels of a folder whose names are those of no image."""
    note = f"label files without an image of their name, not used: {len(lonely)}, e.g. {lonely[0]}"
    names = [re.split(r"[_\-. ]", stem(path)) for path in lonely]
    shorter = [short for name in names for short in ("_".join(name[:-1]), "_".join(name[1:]))]
    several = any(short in images for short in shorter)
    return f"{note}; {CLASS_FILES}" if several else note


def _note_inside(listing: Listing, unread: Unread) -> None:
    """Note what lies in a folder of images, or of labels, without being read."""
    for path in listing.folders:
        why = f"put its files into {listing.folder.name} itself, or list them in a CSV"
        if is_label_folder(listing.folder.name):
            why = f"put its files into {listing.folder.name} itself; if it holds {CLASS_FILES}"
        unread.folder(path, why)


def _without_channel(
    folder: Path, files: dict[str, Path], labels: Collection[str]
) -> dict[str, Path]:
    """nnU-Net's names, where all are such: the case without the number of its only channel."""
    channels = {name: CHANNEL.search(name) for name in files}
    nnunet = folder.name.lower().startswith(("imagestr", "imagests"))
    if not nnunet or not all(channels.values()) or _are_ids(files, labels):
        return files
    more = [name for name, number in channels.items() if number and number[1] != "0000"]
    if more:
        raise UserError(
            f"{folder} has several channels per image",
            found=f"{files[more[0]].name} ({len(more)} such files)",
            expected="one channel, _0000: MedSAM takes gray or color images",
            fix="keep one channel, or join them to color images",
        )
    return {CHANNEL.sub("", name): path for name, path in files.items()}


def _are_ids(names: Collection[str], labels: Collection[str]) -> bool:
    """Whether the four digits at the end of all names number the cases, not channels.

    Labels tell, which have the name with or without them. Without labels: channels begin with
    0000, and are few.
    """
    bases = Counter(CHANNEL.sub("", name) for name in names)
    if any(base in labels for base in bases):
        return False
    whole = any(name in labels for name in names)
    return whole or any(
        count > MOST_CHANNELS or f"{base}_0000" not in names for base, count in bases.items()
    )


def _case(
    name: str, path: Path, labels: list[Path], domain: str | None, split: Side | None
) -> Case:
    parts = [part for part in (domain, split, name) if part]
    return Case("/".join(parts), path, tuple(labels), domain, guess_patient(name), split)
