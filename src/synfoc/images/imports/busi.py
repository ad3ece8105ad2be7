"""BUSI: breast ultrasound with lesions (W. Al-Dhabyani and others, 2020).

`Dataset_BUSI_with_GT/{benign,malignant,normal}/<class> (n).png` beside `<class> (n)_mask.png`.
Further lesions of a picture are in `_mask_1.png`, `_mask_2.png` and are merged. `normal` has no
lesion and is not used in the paper. Nobody says which pictures are of one patient.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np

from synfoc.images.files import decode, read_codes, read_image
from synfoc.images.imports.exams import Exam, Found, Labels, Picture
from synfoc.images.imports.folders import (
    beside,
    by_name,
    domain_folders,
    images_in,
    odd_codes,
    refuse_missing,
    same_size,
)
from synfoc.images.paper_sets import BUSI

HANDED_OUT = {"benign": 437, "malignant": 210}
FOLDERS = {name: name for name in BUSI.domains}
MASK = re.compile(r"_mask(_\d+)?$", re.IGNORECASE)
CODES = {0: "background", 1: "lesion", 255: "lesion"}


def find_busi(source: Path) -> Found:
    """All pictures with a lesion.

    Raises:
        UserError: neither benign nor malignant, an image without mask or the reverse.
    """
    exams, missing = [], []
    folders = domain_folders(source, BUSI, FOLDERS)
    for domain, folder in folders.items():
        files = by_name(images_in(folder))
        masks: dict[str, list[Path]] = {}
        for name in filter(MASK.search, files):
            masks.setdefault(MASK.sub("", name), []).append(files[name])
        images = {name: path for name, path in files.items() if not MASK.search(name)}
        missing += [
            f"{domain}: no {'image' if name in masks else 'mask'} of {name}"
            for name in sorted(images.keys() ^ masks.keys())
        ]
        exams += [
            Exam(domain, name, partial(_load, images[name], masks[name]))
            for name in sorted(images.keys() & masks.keys())
        ]
    refuse_missing(BUSI, missing, "<class> (n).png and <class> (n)_mask.png, pairwise")
    return Found(BUSI, tuple(exams), HANDED_OUT, beside(folders))


def _load(image: Path, masks: list[Path]) -> Picture:
    size = read_image(image).pixels.shape[1:3]
    merged: Labels = np.zeros(size, np.uint8)
    note = ""
    for mask in masks:
        codes = read_codes(mask).pixels
        same_size(image, mask, (size, codes.shape[1:3]))
        note = odd_codes(mask, codes, CODES) or note
        merged |= decode(codes, BUSI.decode, mask)[0]
    return Picture(image, merged, note)
