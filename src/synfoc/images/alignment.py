"""Whether a label file lies on its image, and how its array is turned into the image's order.

What ITK-SNAP, 3D Slicer and SimpleITK show on top of each other is a pair; so is what nibabel
places alike. Nothing is ever resampled: a pair has the same voxels, perhaps stored in another
order.

    label    image    what makes a pair
    NIfTI    NIfTI    one of the affines of each (qform, sform) puts all corners within NEAR
                      voxels of each other; the label may be stored in another axis order
    NIfTI    NIfTI    one of them states no place: voxel by voxel, told as a note
    NPY      NIfTI    voxel by voxel in the order of the file's axes, told as a note (or reverse)
    NIfTI    picture  the NIfTI lies as ITK places a picture: as stored, the origin at 0
    picture  NIfTI    the image is shown as it is stored
    else              pixel by pixel
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synfoc.errors import UserError
from synfoc.images.formats import Source
from synfoc.images.geometry import Geometry, cut, restack
from synfoc.images.nifti_header import unit_in_mm

NEAR = 0.5
"""Voxels by which a corner of a label may lie off its image: headers round."""
AS_STORED = "first axis to the right of the screen, second downward, the origin at 0"
LOOK = (
    "open both in ITK-SNAP or 3D Slicer. Where the mask fits only voxel by voxel, give it the "
    "affine of the image; where it lies right in the viewer, resample it onto the image (nearest "
    "neighbor)"
)


@dataclass(frozen=True)
class Turn:
    """How the axes of a label become those of its image."""

    axes: tuple[int, ...] = (0, 1, 2)
    """Axis of the label for each axis of the image."""
    flips: tuple[bool, ...] = (False, False, False)
    """Of the image's axes: whether the label is stored the other way round."""

    def __call__(self, data: NDArray[Any]) -> NDArray[Any]:
        """Turn an array of three axes (and colors); nothing is copied."""
        turned = data.transpose(*self.axes, *range(3, data.ndim))
        return turned[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]


STORED = Turn()
SWAPPED = Turn((1, 0, 2))
"""Between (rows, columns) of a picture and (x, y) of a NIfTI file."""
TURNS = [STORED] + [
    turn
    for axes in permutations(range(3))
    for flips in product((False, True), repeat=3)
    if (turn := Turn(axes, flips)) != STORED
]


def lay_on_image(
    codes: NDArray[Any], label: Geometry, image: Geometry, path: Path, file: Path
) -> NDArray[Any]:
    """Return the slices of a label in the order of its image's slices.

    Args:
        codes: (n, h, w) or (n, h, w, 3), as `label` cut them.
        label: how the label file was cut.
        image: how the image file was cut.
        path: the label, named in errors.
        file: the image, named in errors.

    Raises:
        UserError: the label is of another size, lies elsewhere, or nobody can know how it lies.
    """
    turn = _turn(label, image, path, file)
    turned = turn(restack(codes, label))
    if turned.shape[:3] != image.full_shape:
        raise _other_size(label, image, path, file)
    return np.ascontiguousarray(cut(turned, image))


def pairing_note(label: Geometry, image: Geometry) -> str | None:
    """Say what a pair was taken on trust for; None where both files state how they lie."""
    kinds = {label.kind, image.kind}
    stated = [g for g in (label, image) if g.kind == "nifti" and g.source.places]
    if kinds == {"nifti", "npy"}:
        return "labels taken voxel by voxel, since NPY states no place"
    if "nifti" in kinds and len(stated) < (2 if kinds == {"nifti"} else 1):
        return "labels taken voxel by voxel, since a NIfTI file states no place (no qform or sform)"
    return None


def forms_apart(source: Source) -> float:
    """Return the largest distance between qform and sform of a file, in voxels; 0 where one is."""
    if len(source.places) < 2:
        return 0.0
    sform, qform = source.places
    return _apart(qform, sform, source.shape, source.shape, STORED)


def _turn(label: Geometry, image: Geometry, path: Path, file: Path) -> Turn:
    kinds = (label.kind, image.kind)
    if kinds == ("nifti", "nifti"):
        return _turn_of_affines(label, image, path, file)
    if kinds == ("nifti", "picture"):
        return _turn_onto_picture(label, path, file)
    if kinds == ("picture", "nifti"):
        return _turn_of_picture(image, path, file)
    if "npy" in kinds and "nifti" in kinds and label.full_shape != image.full_shape:
        raise _other_axes(label, image, path, file)
    return STORED


def _turn_of_affines(label: Geometry, image: Geometry, path: Path, file: Path) -> Turn:
    if not label.source.places or not image.source.places:
        if label.full_shape != image.full_shape:
            raise _other_size(label, image, path, file)
        return STORED
    if sorted(label.full_shape) != sorted(image.full_shape):
        raise _other_size(label, image, path, file)
    scaled = [place * _scale(label, image) for place in label.source.places]
    pairs = list(product(scaled, image.source.places))
    found = [
        turn
        for turn in TURNS
        if _fits(turn, label, image)
        and any(_apart(*pair, label.shape, image.shape, turn) <= NEAR for pair in pairs)
    ]
    if found and (found[0] == STORED or _alike(found, image)):
        return found[0]
    if found:
        raise UserError(
            f"mask {path} fits its image in several ways",
            found=f"qform and sform of {path.name} or {file.name} disagree, and the mask would be "
            "turned by one of them",
            expected="one place per file",
            fix="write one affine into both forms of the image (nibabel: set_qform, set_sform), "
            "that by which the mask was drawn",
        )
    raise _elsewhere(label, image, pairs, path, file)


def _fits(turn: Turn, label: Geometry, image: Geometry) -> bool:
    shape = tuple(label.full_shape[axis] for axis in turn.axes)
    return shape == image.full_shape


def _alike(turns: list[Turn], image: Geometry) -> bool:
    """Tell whether turns differ only along axes of a single voxel."""
    thick = [axis for axis in range(3) if image.full_shape[axis] > 1]
    first, *others = [[(turn.axes[a], turn.flips[a]) for a in thick] for turn in turns]
    return all(other == first for other in others)


def _scale(label: Geometry, image: Geometry) -> NDArray[np.float64]:
    """Scale an affine of the label to the image's unit; a dropped unit leaves the numbers."""
    own, other = unit_in_mm(label.source.header), unit_in_mm(image.source.header)
    scale = own / other if own and other else 1.0
    return np.array([[scale], [scale], [scale], [1.0]])


def _apart(
    label: NDArray[np.float64],
    image: NDArray[np.float64],
    shape: tuple[int, ...],
    image_shape: tuple[int, ...],
    turn: Turn,
) -> float:
    """Return how far the farthest corner of a turned label lies from that of its image.

    Returns:
        The largest distance along an axis of the image, in its voxels; 0 where they agree.
    """
    last = np.array([size - 1 for size in (*shape, 1)[:3]])
    image_last = np.array([size - 1 for size in (*image_shape, 1)[:3]])
    corners = np.array(list(np.ndindex(2, 2, 2))) * last
    turned = corners[:, list(turn.axes)]
    turned = np.where(turn.flips, image_last - turned, turned)
    homogeneous = np.column_stack([corners, np.ones(len(corners))])
    seen = np.linalg.solve(image, label @ homogeneous.T)[:3].T
    return float(np.abs(seen - turned).max())


def _turn_onto_picture(label: Geometry, path: Path, file: Path) -> Turn:
    if all(_lies_as_stored(place) for place in label.source.places):
        return SWAPPED
    raise UserError(
        f"nobody can know how mask {path} lies on its image",
        found=f"a NIfTI mask whose affine turns or moves it, and the picture {file.name}, which "
        "states no place",
        expected=f"a NIfTI mask as ITK-SNAP and SimpleITK write it for a picture: {AS_STORED}",
        fix="save the mask as PNG with the rows and columns of the picture; or with SimpleITK: "
        "mask.CopyInformation(picture)",
    )


def _lies_as_stored(place: NDArray[np.float64]) -> bool:
    """Tell whether an affine is one that ITK gives a picture, of whatever pixel size."""
    directions = place[:2, :2] / np.linalg.norm(place[:3, :2], axis=0)
    sizes = np.linalg.norm(place[:3, :2], axis=0)
    aligned = np.allclose(directions, np.diag([-1.0, -1.0]), atol=1e-3)
    return bool(aligned and (np.abs(place[:2, 3]) <= NEAR * sizes).all())


def _turn_of_picture(image: Geometry, path: Path, file: Path) -> Turn:
    as_stored = image.order == (2, 1, 0) and image.flip == (False, False)
    if as_stored or image.size[0] > 1:  # a volume is of another size, which is told
        return SWAPPED
    raise UserError(
        f"nobody can know how mask {path} lies on its image",
        found=f"a picture, which states no place, and {file.name}, whose affine turns it",
        expected=f"a NIfTI image shown as it is stored: {AS_STORED}",
        fix="save the mask as NIfTI with the affine of the image, or as NPY in the order of the "
        "image's axes",
    )


def _elsewhere(
    label: Geometry,
    image: Geometry,
    pairs: list[tuple[NDArray[np.float64], NDArray[np.float64]]],
    path: Path,
    file: Path,
) -> UserError:
    """Say where a label of other affines lies; both files have the same voxels."""
    if label.full_shape != image.full_shape:
        return _other_axes(label, image, path, file)
    apart = min(_apart(*pair, label.shape, image.shape, STORED) for pair in pairs)
    turned = (label.order, label.flip) != (image.order, image.flip)
    found = f"by the affines, corners up to {apart:.3g} voxels from those of {file.name}"
    lost = any(np.allclose(np.abs(place), np.eye(4)) for place in label.source.places)
    if lost:
        found += ": the affine of the mask is the identity"
    if max(forms_apart(image.source), forms_apart(label.source)) > NEAR:
        found += "; qform and sform disagree, too"
    copy = "the affine seems to be lost: copy that of the image, if the mask was drawn on it"
    return UserError(
        f"mask {path} is turned against its image" if turned else f"mask {path} is off its image",
        found=found,
        expected=f"the affine of the image, to {NEAR:g} voxel",
        fix=copy if lost else LOOK,
    )


def _other_axes(label: Geometry, image: Geometry, path: Path, file: Path) -> UserError:
    return UserError(
        f"mask {path} has other axes than its image",
        found=f"shape {label.shape} in the mask, {image.shape} in {file.name}",
        expected="the shape of the image file, axis by axis",
        fix="save the mask in the order of the image's axes, or as NIfTI with its affine",
    )


def _other_size(label: Geometry, image: Geometry, path: Path, file: Path) -> UserError:
    fix = "export the mask in the geometry of the image"
    if image.kind == label.kind == "npy" and image.source.color and label.shape[1:] == image.shape:
        fix += "; if both are volumes of slices, add --set data.slice_axis=0"
    return UserError(
        f"mask {path} is of another size than its image",
        found=f"{_size(label.size)} in the mask, {_size(image.size)} in {file.name}",
        expected="the same number of rows, columns and slices",
        fix=fix,
    )


def _size(size: tuple[int, ...]) -> str:
    slices, *plane = size
    return " x ".join(map(str, plane)) + (f" x {slices} slices" if slices > 1 else "")
