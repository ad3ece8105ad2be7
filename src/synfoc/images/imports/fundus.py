"""Fundus: optic disc and cup from four cameras, as collected for DoFE (S. Wang and others, 2020).

`DomainK/{train,test}/ROIs/{image,mask}`, regions of 800 x 800 pixels around the disc. Full-field
pictures (`DomainK/{train,test}/{image,mask}`, or one folder `image` more) are cropped to such
regions around the labeled disc. Label codes: 0 cup, 128 rim, 255 background. Domains 1 to 4 are
Drishti-GS, RIM-ONE r3, REFUGE train and REFUGE validation; folders of these names are understood.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synfoc.errors import UserError
from synfoc.images.case import Side
from synfoc.images.files import decode, read_codes, read_image
from synfoc.images.imports.exams import Exam, Found, Labels, Picture
from synfoc.images.imports.folders import (
    beside,
    by_name,
    domain_folders,
    images_in,
    not_the_set,
    odd_codes,
    plain,
    refuse_missing,
    same_size,
    sub_folders,
)
from synfoc.images.label_names import IMAGE_FOLDERS, LABEL_FOLDERS
from synfoc.images.paper_sets import FUNDUS

CROP = 800
"""Side of a region in pixels; as published. Larger pictures are cropped."""
HANDED_OUT = {"Domain1": 101, "Domain2": 159, "Domain3": 400, "Domain4": 400}
FOLDERS = {f"domain{k}": f"Domain{k}" for k in (1, 2, 3, 4)} | {
    "drishtigs": "Domain1", "drishtigs1": "Domain1", "rimoner3": "Domain2",
    "refugetrain": "Domain3", "refugeval": "Domain4", "refugevalid": "Domain4",
}  # fmt: skip
SIDES: tuple[Side, Side] = ("train", "test")
CODES = {0: "cup", 128: "rim", 255: "background"}


def find_fundus(source: Path) -> Found:
    """All pictures of the four domains, or of those that are there.

    Raises:
        UserError: no domain, no train and test in one, an image without mask or the reverse.
    """
    exams, missing = [], []
    folders = domain_folders(source, FUNDUS, FOLDERS)
    for domain, folder in folders.items():
        halves = {plain(path.name): path for path in sub_folders(folder)}
        pairs = {side: _pair(halves[side]) for side in SIDES if side in halves}
        if not any(all(pair) for pair in pairs.values()):
            raise not_the_set(folder, FUNDUS, "{train,test}/ROIs/{image,mask}")
        files = {side: tuple(by_name(images_in(f)) for f in pair) for side, pair in pairs.items()}
        # One name on both sides is two pictures, of two eyes.
        twice = set.intersection(*(set(images) for images, _ in files.values()))
        for side, (images, labels) in files.items():
            missing += [
                f"{domain}/{side}: no {'image' if name in labels else 'mask'} of {name}"
                for name in sorted(images.keys() ^ labels.keys())
            ]
            exams += [
                Exam(
                    domain,
                    f"{side}_{name}" if name in twice and len(files) > 1 else name,
                    partial(_load, images[name], labels[name]),
                    side=side,
                )
                for name in sorted(images.keys() & labels.keys())
            ]
    refuse_missing(FUNDUS, missing, "of every picture an image and a mask of one name")
    return Found(FUNDUS, tuple(exams), HANDED_OUT, beside(folders))


def _pair(half: Path) -> tuple[Path | None, Path | None]:
    """Return the folders of images and of masks: regions before full-field pictures."""
    inner = {plain(path.name): path for path in sub_folders(half)}
    for folder in (inner.get("rois"), half, inner.get("image")):
        if folder is not None:
            names = {plain(path.name): path for path in sub_folders(folder)}
            images = next((names[name] for name in IMAGE_FOLDERS if name in names), None)
            labels = next((names[name] for name in LABEL_FOLDERS if name in names), None)
            if images and labels:
                return images, labels
    return None, None


def _load(image: Path, label: Path) -> Picture:
    pixels = read_image(image).pixels[0]
    codes = read_codes(label).pixels
    same_size(image, label, (pixels.shape[:2], codes.shape[1:3]))
    note = odd_codes(label, codes, CODES)
    classes: Labels = decode(codes, FUNDUS.decode, label)[0]
    if max(classes.shape) <= CROP:
        return Picture(image, classes, note)
    if pixels.dtype.kind not in "iu":
        raise UserError(
            f"{image} cannot be cropped",
            found=f"values of type {pixels.dtype}",
            expected=f"whole numbers of 8 or 16 bits in a picture of more than {CROP} pixels",
            fix="save it as a PNG of 8 bits",
        )
    rows, columns = region(classes, label)
    return Picture(_eight_bits(pixels[rows, columns]), classes[rows, columns], note)


def region(classes: Labels, path: Path) -> tuple[slice, slice]:
    """Return a square around the disc: CROP pixels wide, or as wide as the picture, and inside it.

    Args:
        classes: (h, w), 0 is background.
        path: of the label, named in errors.

    Raises:
        UserError: no disc, or one that is larger than the square.
    """
    places = np.nonzero(classes)
    low, high = ([int(f(axis)) for axis in places if axis.size] for f in (np.min, np.max))
    side = min(CROP, *classes.shape)
    if not low or any(b - a >= side for a, b in zip(low, high, strict=True)):
        size = " x ".join(str(b - a + 1) for a, b in zip(low, high, strict=True))
        raise UserError(
            f"{path} cannot be cropped around its disc",
            found=f"a disc of {size} pixels" if low else "no disc",
            expected=f"a labeled disc that fits into {side} x {side} pixels",
            fix="correct the mask, or crop the pair yourself",
        )
    start = [
        min(max((a + b + 1 - side) // 2, 0), length - side)
        for a, b, length in zip(low, high, classes.shape, strict=True)
    ]
    return slice(start[0], start[0] + side), slice(start[1], start[1] + side)


def _eight_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """16-bit pictures lose their lower byte; a camera's have none."""
    return (pixels if pixels.dtype == np.uint8 else pixels >> 8).astype(np.uint8)
