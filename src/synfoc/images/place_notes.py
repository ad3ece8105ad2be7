"""What is worth a note about where volumes lie and how they are cut, by their headers alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from synfoc.images.alignment import NEAR, forms_apart, pairing_note
from synfoc.images.case import Case
from synfoc.images.files import read_geometry
from synfoc.images.geometry import SliceAxis

ALIGNED = 0.866
"""Least cosine between an axis of the file and of the patient that is not oblique: 30 degrees."""


@dataclass(frozen=True)
class Place:
    """How one image lies, as far as its header and those of its labels say."""

    case: Case
    plane: str | None = None
    """Of a volume that states directions: axial, coronal or sagittal."""
    isotropic: bool = False
    """Equal spacings left the plane to the rule."""
    oblique: bool = False
    nowhere: bool = False
    """A NIfTI file that states neither qform nor sform."""
    forms_apart: float = 0.0
    """Voxels between its qform and its sform."""
    pairing: str | None = None
    """What its labels were taken on trust for."""


def read_place(case: Case, slice_axis: SliceAxis) -> Place:
    """Read the headers of an image and of its labels.

    Raises:
        UserError: one of them cannot be read.
    """
    image = read_geometry(case.image, slice_axis=slice_axis)
    notes = (pairing_note(read_geometry(path), image) for path in case.labels)
    place = Place(case, pairing=next(filter(None, notes), None))
    affine = image.source.affine
    if affine is None:
        return place
    cosines = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)).max(axis=0)
    return replace(
        place,
        plane=image.plane if image.size[0] > 1 else None,
        isotropic=image.isotropic,
        oblique=bool(cosines.min() < ALIGNED),
        nowhere=not image.source.places,
        forms_apart=forms_apart(image.source),
    )


def place_notes(places: Sequence[Place], slice_axis: SliceAxis) -> Iterable[str]:
    """Say what a person may want to change: planes, oblique axes, places that are missing.

    Args:
        places: of the images that can be read.
        slice_axis: `data.slice_axis`.
    """
    isotropic = [place for place in places if place.isotropic]
    if isotropic:
        yield (
            f"volumes of equal spacing: {_count(isotropic)}; cut in axial slices "
            "(data.slice_axis = coronal or sagittal cuts them otherwise)"
        )
    planes = Counter(place.plane for place in places if place.plane)
    if len(planes) > 1:
        each = ", ".join(f"{count} {plane}" for plane, count in planes.most_common())
        cure = "data.slice_axis = axial" if slice_axis is None else "data.slice_axis = null"
        yield f"volumes are cut in different planes: {each}; {cure} may cut them alike"
    oblique = [place for place in places if place.oblique]
    if oblique:
        yield (
            f"volumes more than 30 degrees off the axes of the patient: {_count(oblique)}; their "
            "slices are turned to the nearest view, which may differ from patient to patient"
        )
    nowhere = [place for place in places if place.nowhere]
    if nowhere:
        yield f"NIfTI images without qform and sform: {_count(nowhere)}; read as they are stored"
    apart = [place for place in places if place.forms_apart > NEAR]
    if apart:
        most = max(place.forms_apart for place in apart)
        yield (
            f"qform and sform disagree, by up to {most:.3g} voxels: {_count(apart)}; slices are "
            "turned by the sform, a label may follow either"
        )
    for note in dict.fromkeys(place.pairing for place in places if place.pairing):
        yield f"{note}: {_count([place for place in places if place.pairing == note])}"


def _count(places: Sequence[Place]) -> str:
    return f"{len(places)}, e.g. {places[0].case.id}"
