"""How a volume is cut into 2-D slices, and how slices are put back into the volume.

A volume is cut along the axis of its thickest spacing (NIfTI) or its shortest axis (NPY, which
states no spacing), unless told. Slices of NIfTI are turned upright where the scanner's axes lie
within 30 degrees of the patient's: columns run to the patient's left or to posterior, rows to
posterior or to the feet, whatever the order in which a tool stored them. Oblique volumes keep
their stored order, since "the nearest axis" could differ from patient to patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synfoc.errors import UserError
from synfoc.images.formats import MILLIMETERS, Kind, Source

UPRIGHT = 0.866
"""Least cosine between a scanner axis and a patient axis: cos 30 degrees."""
NEAR = 0.5
"""Voxels by which a corner of a label may lie off its image: float32 headers, sform and qform."""


@dataclass(frozen=True)
class Geometry:
    """How the slices of a stack lie in the file that they came from."""

    kind: Kind
    shape: tuple[int, ...]
    """Of the file, without color."""
    order: tuple[int, int, int]
    """The file's axes (padded to three) that became slices, rows, columns."""
    flip: tuple[bool, bool]
    """Whether rows and columns were turned round."""
    affine: NDArray[np.float64] | None = None
    header: Any = None

    @property
    def size(self) -> tuple[int, int, int]:
        """Slices, rows, columns of the stack."""
        full = (*self.shape, 1)[:3]
        return full[self.order[0]], full[self.order[1]], full[self.order[2]]


def geometry_of(source: Source, path: Path, slice_axis: int | None) -> Geometry:
    """Which axes become slices, rows and columns, and which of them are turned round.

    Args:
        source: the header of the file.
        path: named in errors.
        slice_axis: axis of a volume along which to cut; None: see the module's text.

    Raises:
        UserError: slices along that axis are a single pixel high or wide.
    """
    order, flip = (2, 0, 1), (False, False)
    if len(source.shape) == 3:
        axis = _thickest(source) if slice_axis is None else slice_axis
        if sorted((*source.shape[:axis], *source.shape[axis + 1 :]))[0] < 2:
            raise UserError(
                f"cannot cut {path} along axis {axis}",
                found=f"shape {source.shape}",
                expected="slices of at least 2 x 2 pixels",
                fix="choose another data.slice_axis",
            )
        first, second = (a for a in range(3) if a != axis)
        order = (axis, first, second)
    if source.kind == "nifti":
        order, flip = _upright(source, order)
    return Geometry(source.kind, source.shape, order, flip, source.affine, source.header)


def _thickest(source: Source) -> int:
    shape = source.shape
    if 1 in shape:
        return shape.index(1)
    if source.zooms is None:
        return int(np.argmin(shape))
    # Equal spacing leaves the last axis: head to feet in most files.
    thick = [axis for axis in range(3) if source.zooms[axis] > 0.99 * max(source.zooms)]
    return thick[-1]


def _upright(
    source: Source, order: tuple[int, int, int]
) -> tuple[tuple[int, int, int], tuple[bool, bool]]:
    """Rows and columns of a NIfTI as on a viewing screen; see the module's text."""
    axis, first, second = order
    stored = (axis, second, first)
    if source.affine is None or not np.isfinite(source.affine).all():
        return stored, (False, False)
    columns = source.affine[:3, :3]
    length = np.linalg.norm(columns, axis=0)
    if not (length > 0).all():
        return stored, (False, False)
    directions = columns / length
    world = np.abs(directions).argmax(axis=0)
    aligned = np.abs(directions).max(axis=0) > UPRIGHT
    if len(set(world)) < 3 or not aligned.all():
        return stored, (False, False)
    # World axes point right, anterior, up; screens run to the left, posterior, down.
    rows, across = (first, second) if world[first] > world[second] else (second, first)
    return (axis, rows, across), (
        bool(directions[world[rows], rows] > 0),
        bool(directions[world[across], across] > 0),
    )


def voxels_apart(label: Geometry, image: Geometry) -> float:
    """How far the farthest corner of a label lies from that of its image, by their affines.

    Args:
        label: of a NIfTI file.
        image: of a NIfTI file with as many voxels along each axis.

    Returns:
        The largest distance along an axis of the image, in its voxels; 0 where the affines agree.
    """
    assert label.affine is not None
    assert image.affine is not None
    own, other = _unit(label), _unit(image)
    # A tool that drops the unit leaves the numbers.
    scale = own / other if own and other else 1.0
    last = [size - 1 for size in (*image.shape, 1)[:3]]
    corners = np.array([(*corner, 1) for corner in np.ndindex(2, 2, 2)]) * (*last, 1)
    shift = (scale * label.affine[:3] - image.affine[:3]) @ corners.T
    axes = image.affine[:3, :3]
    if np.linalg.matrix_rank(axes) < 3:
        return 0.0 if np.allclose(shift, 0, atol=1e-3) else float("inf")
    return float(np.abs(np.linalg.solve(axes, shift)).max())


def _unit(geometry: Geometry) -> float:
    """Millimeters per unit of the affine; 0 where the header does not tell."""
    name = geometry.header.get_xyzt_units()[0]
    return 0.0 if name == "unknown" else MILLIMETERS[name]


def cut(data: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    """The file's three axes (and colors) as slices: (n, h, w) or (n, h, w, 3)."""
    slices = data.transpose(*geometry.order, *range(3, data.ndim))
    return slices[:, :: -1 if geometry.flip[0] else 1, :: -1 if geometry.flip[1] else 1]


def restack(slices: NDArray[Any], origin: Geometry) -> NDArray[Any]:
    """(n, h, w) or (n, h, w, 3) back to the file's three axes: undoes `cut`."""
    turned = slices[:, :: -1 if origin.flip[0] else 1, :: -1 if origin.flip[1] else 1]
    return turned.transpose(*np.argsort(origin.order), *range(3, turned.ndim))
