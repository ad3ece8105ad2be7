"""How a volume is cut into 2-D slices, and how slices are put back into the volume.

The slice axis of a NIfTI volume is chosen in the patient, not in the file, so that the order in
which a tool stored the voxels does not matter:

1. what `data.slice_axis` says: axial, coronal, sagittal, or an axis of the file;
2. the through-plane axis of the acquisition: the one spacing that differs from the two others
   (thick slices, or thin ones), else the largest;
3. where all three spacings are equal: the axis from feet to head (axial slices).

NPY states neither spacing nor direction: its shortest axis is cut.

Slices of NIfTI are turned as on a viewing screen. Axial: columns run to the patient's left, rows to
posterior. Coronal: columns to the left, rows to the feet. Sagittal: columns to posterior, rows to
the feet. Oblique volumes are turned to the nearest such view.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from synfoc.errors import UserError
from synfoc.images.formats import Kind, Source

Plane: TypeAlias = Literal["sagittal", "coronal", "axial"]
SliceAxis: TypeAlias = Plane | Literal[0, 1, 2] | None
"""Of `data.slice_axis`."""
PLANES: tuple[Plane, ...] = ("sagittal", "coronal", "axial")
"""By the world axis across them: right, anterior, superior."""
SCREEN = (
    ((0, 0, -1), (0, -1, 0)),
    ((0, 0, -1), (-1, 0, 0)),
    ((0, -1, 0), (-1, 0, 0)),
)
"""Of each of PLANES: where rows and columns run on a screen, in the world's axes."""
EQUAL = 0.01
"""Spacings that differ by a smaller share are equal: headers round."""


@dataclass(frozen=True)
class Geometry:
    """How the slices of a stack lie in the file that they came from."""

    source: Source
    """What the header of the file says."""
    order: tuple[int, int, int]
    """The file's axes (padded to three) that became slices, rows, columns."""
    flip: tuple[bool, bool]
    """Whether rows and columns were turned round."""
    plane: Plane | None = None
    """The view that the slices are nearest to; None where the file states no directions."""
    isotropic: bool = False
    """Whether nothing but the rule said which axis of a volume to cut: equal spacings."""

    @property
    def kind(self) -> Kind:
        """Of the file."""
        return self.source.kind

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the file, without color."""
        return self.source.shape

    @property
    def full_shape(self) -> tuple[int, int, int]:
        """The shape of the file, padded to three axes."""
        x, y, z = (*self.shape, 1)[:3]
        return x, y, z

    @property
    def size(self) -> tuple[int, int, int]:
        """Slices, rows, columns of the stack."""
        slices, rows, columns = (self.full_shape[axis] for axis in self.order)
        return slices, rows, columns


def geometry_of(source: Source, path: Path, slice_axis: SliceAxis) -> Geometry:
    """Choose the axes that become slices, rows and columns, and which of them are turned round.

    Args:
        source: the header of the file.
        path: named in errors.
        slice_axis: see the module's text.

    Raises:
        UserError: slices along that axis are a single pixel high or wide, or a plane is asked for
            of an NPY volume.
    """
    axis, isotropic = 2, False
    if len(source.shape) == 3:
        axis, isotropic = _slice_axis(source, path, slice_axis)
        if sorted((*source.shape[:axis], *source.shape[axis + 1 :]))[0] < 2:
            raise UserError(
                f"cannot cut {path} along axis {axis}",
                found=f"shape {source.shape}",
                expected="slices of at least 2 x 2 pixels",
                fix="choose another data.slice_axis",
            )
    if source.affine is None:
        first, second = (a for a in range(3) if a != axis)
        return Geometry(source, (axis, first, second), (False, False), None, isotropic)
    directions = _directions(source.affine)
    world = _file_axes(directions).index(axis)
    (rows, across), flip = _screen_axes(directions, axis, world)
    return Geometry(source, (axis, rows, across), flip, PLANES[world], isotropic)


def _slice_axis(source: Source, path: Path, asked: SliceAxis) -> tuple[int, bool]:
    """Choose the axis of a volume to cut, and tell whether equal spacings left it to the rule."""
    if isinstance(asked, int):
        return asked, False
    if asked is not None:
        if source.affine is None:
            raise UserError(
                f"cannot cut {path} in {asked} slices",
                found="an NPY file, which states no directions",
                expected="data.slice_axis as an axis of the file: 0, 1 or 2",
                fix="name that axis, or save the volumes as NIfTI",
            )
        return _file_axes(_directions(source.affine))[PLANES.index(asked)], False
    if 1 in source.shape:
        return source.shape.index(1), False
    if source.affine is None:
        return int(np.argmin(source.shape)), False
    through = _through_plane(source.zooms)
    if through is not None:
        return through, False
    return _file_axes(_directions(source.affine))[PLANES.index("axial")], True


def _through_plane(spacing: tuple[float, ...] | None) -> int | None:
    """Find the axis across the acquired slices by its spacing; None where all are equal."""
    if spacing is None:
        return None
    least, middle, most = (int(axis) for axis in np.argsort(spacing))
    if spacing[most] > (1 + EQUAL) * spacing[middle]:
        return most
    if spacing[middle] > (1 + EQUAL) * spacing[least]:
        return least  # thin slices: pixels are square within their plane
    return None


def _directions(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the unit vectors of the file's axes as columns, in the world's axes."""
    columns = affine[:3, :3]
    return np.asarray(columns / np.linalg.norm(columns, axis=0))


def _file_axes(directions: NDArray[np.float64]) -> tuple[int, int, int]:
    """Assign an axis of the file to each world axis: right, anterior, superior.

    Of all assignments the one with the largest sum of cosines. Equal sums are told apart by the
    directions themselves, so that the order in which they are stored never decides.
    """

    def nearness(axes: tuple[int, ...]) -> tuple[float, ...]:
        along = [directions[:, axis] * _sign(directions[w, axis]) for w, axis in enumerate(axes)]
        total = sum(float(vector[w]) for w, vector in enumerate(along))
        return (round(total, 6), *np.round(np.concatenate(along), 6).tolist())

    x, y, z = max(permutations(range(3)), key=nearness)
    return x, y, z


def _sign(value: float) -> float:
    return -1.0 if value < 0 else 1.0


def _screen_axes(
    directions: NDArray[np.float64], axis: int, world: int
) -> tuple[tuple[int, int], tuple[bool, bool]]:
    """Choose rows and columns of slices across `axis`, nearest to the view of PLANES[world]."""
    first, second = (a for a in range(3) if a != axis)
    down, across = (np.array(target, float) for target in SCREEN[world])
    turns = list(product(((first, second), (second, first)), product((False, True), repeat=2)))

    def nearness(turn: tuple[tuple[int, int], tuple[bool, ...]]) -> tuple[float, ...]:
        (rows, columns), (up, left) = turn
        row = directions[:, rows] * (-1 if up else 1)
        column = directions[:, columns] * (-1 if left else 1)
        total = float(row @ down + column @ across)
        return (round(total, 6), *np.round(np.concatenate([row, column]), 6).tolist())

    axes, (up, left) = max(turns, key=nearness)
    return axes, (up, left)


def cut(data: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    """Cut the file's three axes (and colors) into slices: (n, h, w) or (n, h, w, 3)."""
    slices = data.transpose(*geometry.order, *range(3, data.ndim))
    return slices[:, :: -1 if geometry.flip[0] else 1, :: -1 if geometry.flip[1] else 1]


def restack(slices: NDArray[Any], origin: Geometry) -> NDArray[Any]:
    """Put (n, h, w) or (n, h, w, 3) back into the file's three axes: undoes `cut`."""
    turned = slices[:, :: -1 if origin.flip[0] else 1, :: -1 if origin.flip[1] else 1]
    return turned.transpose(*np.argsort(origin.order), *range(3, turned.ndim))
