"""How label files and folders of labels are called, and which image a label belongs to.

Names alone decide, without the ending of the format. A name is a label's by a word at its end
(`x_mask`, `x-seg`, `x.gt`, `21_manual1`, BIDS' `x_label-lesion_mask`) or at its beginning
(`mask_x`, `segmentation-0`). Its image is `x`, or the only one that is called `x` but for a word of
images: `volume-0`, `21_training`, `x_T1w`, nnU-Net's `x_0000`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

IMAGE_FOLDERS = ("image", "images", "img", "imgs", "img_dir", "imaging", "jpegimages")
LABEL_FOLDERS = (
    # Before `mask`: the vessels of DRIVE; its `mask` is the field of view.
    "1st_manual", "manual", "manual1",
    "mask", "masks", "label", "labels", "segmentation", "segmentations", "seg", "segs", "gt", "gts",
    "groundtruth", "groundtruths", "ground_truth", "ground_truths", "ground-truth", "ground truth",
    "ground", "annotation", "annotations", "annot", "annots", "ann", "anns", "ann_dir", "msk",
    "msks", "dseg", "lesion", "lesions", "roi", "rois", "contour", "contours", "manuals",
    "2nd_manual", "manual2", "segmentationclass",
)  # fmt: skip
"""Of two such folders beside an image folder the first in this order is read."""

_STRONG = (
    r"masks?|msks?|labels?|lbls?|segm?s?|segmentations?|d?seg|gts?|ground[_\- ]?truths?|manual\d?|"
    r"annotations?|annots?|anns?"
)
_WORDS = rf"(?:{_STRONG}|rois?|lesions?|contours?|\d(?:st|nd|rd)[_\- ]?(?:ho|manual|observer))"
_NUMBER = r"(?:[_\-. ]?\(?\d+\)?)?"
_ENDING = re.compile(rf"[_\-. ]+{_WORDS}{_NUMBER}$", re.IGNORECASE)
_LOOSE = re.compile(r"(?:(?<=[a-z0-9])(?:Mask|Label|Seg|Segmentation|GT)|(?<=\d)(?:mask|seg|gt))$")
"""Without a character between: only where the image is there."""
_BEGINNING = re.compile(rf"^(?:{_STRONG})(?:[_\-. ]+(?=.)|(?=\d))", re.IGNORECASE)
_ENTITY = re.compile(r"_(?:label|desc|space|res|den)-[a-z0-9]+$", re.IGNORECASE)
_PLAIN = re.compile(rf"^{_WORDS}$", re.IGNORECASE)
_SECOND = re.compile(
    r"(?:manual|observer|reader|rater)[_\- ]?[2-9]$|"
    r"[2-9](?:nd|rd|th)[_\- ]?(?:ho|manual|observer)$",
    re.IGNORECASE,
)
"""Of another reader than the first: the same structures once more."""
_IMAGE_WORDS = (
    r"images?|imgs?|im|volumes?|vol|imaging|scan|cta?|mri?|orig|original|raw|input|training|train|"
    r"test|t1|t1w|t1c|t1ce|t1gd|t1n|t2|t2w|t2f|flair|dwi|adc|pdw?|bold"
)
_IMAGE_BEGINNING = re.compile(rf"^(?:{_IMAGE_WORDS}|case)[_\-. ]*(?=\d)", re.IGNORECASE)
_IMAGE_ENDING = re.compile(rf"[_\-. ](?:{_IMAGE_WORDS}|\d{{4}})$", re.IGNORECASE)
_CONTINUED = re.compile(r"[_\-. ][a-z][a-z_\- ]+$", re.IGNORECASE)
_LED = re.compile(r"^[a-z][a-z\-]*[_\-. ]+", re.IGNORECASE)
_IMAGE = re.compile(rf"^(?:{_IMAGE_WORDS})$", re.IGNORECASE)
_WORD = re.compile(r"^[a-z][a-z_\- ]*$", re.IGNORECASE)
"""A name without a number: `cup` beside `image` may be its label."""
_HINT = re.compile(
    r"ma?sk|la?be?l|seg|gt|truth|manual|ann|roi|lesion|contour|ho|observer", re.IGNORECASE
)
"""In every name that one of the patterns of labels fits: most names are known not to be labels."""
_FOLDER_WORD = re.compile(rf"^(?:{_WORDS}|ground)$", re.IGNORECASE)


@dataclass
class Labels:
    """Which of some names are labels, and of what."""

    of: dict[str, list[str]] = field(default_factory=dict)
    """Name of an image -> names of its labels."""
    similar: list[tuple[str, str]] = field(default_factory=list)
    """Labels and images that differ in more than a word of the label: volume-0, segmentation-0."""
    beside: list[str] = field(default_factory=list)
    """Labels that have no name of an image, but lie beside a single one."""
    second: list[str] = field(default_factory=list)
    """Labels of a second reader; not used."""
    unclear: list[str] = field(default_factory=list)
    """Labels of which nobody says which of several images they are of; not used."""
    lonely: list[str] = field(default_factory=list)
    """Named like labels, but of no image."""
    continued: list[str] = field(default_factory=list)
    """Images called like classes of another one: x_cup beside x, cup beside image."""

    @property
    def used(self) -> set[str]:
        """All names that are no images."""
        paired = {name for names in self.of.values() for name in names}
        return paired | {*self.second, *self.unclear}


def is_label_folder(name: str) -> bool:
    """Whether a word of a folder's name is one of labels: `Ground Truth`, `siteA_masks`."""
    split = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = [word for word in re.split(r"[^A-Za-z]+", split) if word]
    return name.lower() in LABEL_FOLDERS or any(_FOLDER_WORD.match(word) for word in words)


def labels_among(names: Iterable[str]) -> Labels:
    """Which files of a flat folder are labels of others in it, by their names."""
    names = list(names)
    found = Labels()
    like = {name: _bases(name) for name in names}
    images = {name for name in names if not like[name] and not _PLAIN.match(name)}
    alike = _Alike(images)
    for name in names:
        image = _owner(like[name] or _loose(name), images, alike)
        image = image or _owner(like[name], like, None)
        if image:
            _add(found, image, name)
        elif _PLAIN.match(name) or any(len(alike.images(base)) > 1 for base in like[name]):
            found.unclear.append(name)
        elif like[name]:
            found.lonely.append(name)
    taken = found.used
    _lie_beside(found, [name for name in images if name not in taken])
    _set_aside_second(found)
    taken = found.used
    found.continued = _continued([name for name in names if name not in taken])
    return found


def pair(images: Collection[str], labels: Collection[str]) -> Labels:
    """Which label of one folder is of which image of another; `lonely` are labels of none.

    A label of the same name is the only one of its image.
    """
    found = Labels()
    alike = _Alike(images)
    for name in labels:
        image = name if name in images else _owner((*_bases(name), name), images, alike)
        image = image or _owner(_loose(name), images, None)
        if image is None or (image != name and image in labels):
            found.lonely.append(name)
        else:
            _add(found, image, name)
    _set_aside_second(found)
    return found


def _bases(name: str) -> tuple[str, ...]:
    """Return what remains without the words of a label, the longest first.

    Return nothing if it has none.
    """
    if not _HINT.search(name):
        return ()
    bases: list[str] = []
    rest = name
    while (shorter := _ENDING.sub("", rest)) not in ("", rest):
        bases.append(rest := shorter)
    while bases and (shorter := _ENTITY.sub("", rest)) not in ("", rest):
        bases.append(rest := shorter)
    without = _BEGINNING.sub("", name)
    if without != name:
        bases.append(without)
    return tuple(bases)


def _loose(name: str) -> tuple[str, ...]:
    base = _LOOSE.sub("", name)
    return (base,) if base not in ("", name) else ()


class _Alike:
    """Images by their names without the words of images, in lower case; made when asked for."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = names
        self.by_key: dict[str, set[str]] = {}

    def images(self, name: str) -> set[str]:
        """Those that are called so but for words of images."""
        if not self.by_key:
            for image in self.names:
                short = _IMAGE_ENDING.sub("", image)
                for key in (image, short):
                    self.by_key.setdefault(key.casefold(), set()).add(image)
                    bare = _IMAGE_BEGINNING.sub("", key)
                    self.by_key.setdefault(bare.casefold(), set()).add(image)
        return self.by_key.get(name.casefold(), set())


def _owner(bases: Iterable[str], images: Collection[str], alike: _Alike | None) -> str | None:
    """Return the image of one of the names; else the only one that is called alike."""
    bases = tuple(bases)
    exact = next((base for base in bases if base in images), None)
    if exact is not None or alike is None:
        return exact
    found = (alike.images(base) for base in bases)
    return next((next(iter(names)) for names in found if len(names) == 1), None)


def _add(found: Labels, image: str, label: str) -> None:
    found.of.setdefault(image, []).append(label)
    if image.casefold() not in label.casefold():
        found.similar.append((label, image))


def _lie_beside(found: Labels, images: list[str]) -> None:
    """One image and one file `seg` or `mask`: a pair. Alone such a file is an image."""
    if len(images) == len(found.unclear) == 1 and not found.of and not found.lonely:
        found.beside = found.unclear
        found.of[images[0]] = found.beside
        found.unclear = []
    elif not images and not found.of:
        found.lonely += found.unclear
        found.unclear = []


def _set_aside_second(found: Labels) -> None:
    """Of two readers the first counts: merged, each structure would be what either has drawn."""
    for image, labels in found.of.items():
        second = [name for name in labels if _SECOND.search(name)]
        if second and len(second) < len(labels):
            found.of[image] = [name for name in labels if name not in second]
            found.second += second


def _continued(images: list[str]) -> list[str]:
    there = set(images)
    named = any(_IMAGE.match(name) for name in images)
    found = []
    for name in images:
        shorter = {_CONTINUED.sub("", name), _LED.sub("", name)} - {name}
        if shorter & there or (named and _WORD.match(name) and not _IMAGE.match(name)):
            found.append(name)
    return found
