"""Prostate: T2 MRI of six sites with segmentations (NCI-ISBI 2013, I2CVB, PROMISE12).

As collected by Q. Liu and others (MS-Net 2020, SAML 2020): one folder per site with `CaseNN.nii.gz`
and `CaseNN_segmentation.nii.gz`, at BMC `CaseNN_Segmentation.nii.gz`. Codes 1 and 2 are zones of
the prostate and become one class. The numbers of volumes are those of SAML, Table 1.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np

from synfoc.images.files import stem
from synfoc.images.formats import suffix
from synfoc.images.imports.exams import Exam, Found, Volume
from synfoc.images.imports.folders import (
    beside,
    by_name,
    domain_folders,
    images_in,
    only_codes,
    plain,
    refuse_missing,
    same_size,
)
from synfoc.images.imports.volumes import read_frame
from synfoc.images.paper_sets import PROSTATE

HANDED_OUT = {"BIDMC": 12, "BMC": 30, "HK": 12, "I2CVB": 19, "RUNMC": 30, "UCL": 13}
FOLDERS = {plain(name): name for name in PROSTATE.domains} | {"hcrudb": "I2CVB"}
CODES = {0: "background", 1: "one zone of the prostate", 2: "the other"}
SEGMENTATION = re.compile(r"[_-]seg(mentation)?$", re.IGNORECASE)


def find_prostate(source: Path) -> Found:
    """All volumes of the six sites, or of those that are there.

    Raises:
        UserError: no site, a volume without segmentation or the reverse, two of one name.
    """
    exams, missing = [], []
    folders = domain_folders(source, PROSTATE, FOLDERS)
    for domain, folder in folders.items():
        files = [path for path in images_in(folder) if suffix(path) in (".nii", ".nii.gz")]
        labels = by_name([f for f in files if SEGMENTATION.search(stem(f))], _case)
        images = by_name([f for f in files if not SEGMENTATION.search(stem(f))], _case)
        missing += [
            f"{domain}: no {'volume' if name in labels else 'segmentation'} of {name}"
            for name in sorted(images.keys() ^ labels.keys())
        ]
        exams += [
            Exam(domain, name, partial(_load, images[name], labels[name]), patient=name)
            for name in sorted(images.keys() & labels.keys())
        ]
    refuse_missing(PROSTATE, missing, "CaseNN.nii.gz and CaseNN_segmentation.nii.gz, pairwise")
    return Found(PROSTATE, tuple(exams), HANDED_OUT, beside(folders))


def _case(path: Path) -> str:
    return SEGMENTATION.sub("", stem(path))


def _load(image: Path, label: Path) -> Volume:
    pixels, source = read_frame(image)
    codes, own = read_frame(label)
    same_size(image, label, (pixels.shape, codes.shape))
    only_codes(label, codes, CODES)
    # Everyone who used the set took the two files voxel by voxel.
    assert source.affine is not None
    assert own.affine is not None
    odd = not np.allclose(source.affine, own.affine, atol=1e-3)
    note = "segmentations whose header was not that of their volume; it is now" if odd else ""
    return Volume(pixels, (codes > 0).astype(np.uint8), source, note)
