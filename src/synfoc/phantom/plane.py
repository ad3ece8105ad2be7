"""Pixels in a patient's coordinates, and the shapes that anatomy is made of. Lengths in mm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Picture: TypeAlias = NDArray[np.float32]
Codes: TypeAlias = NDArray[np.uint8]
Pair: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class Plane:
    """Pixels of a plane in the patient's coordinates: warped, and turned about the heart."""

    y: Picture
    """Rows in mm (h, 1), as the scanner sees them."""
    x: Picture
    """Columns in mm (1, w)."""
    u: Picture
    """Toward the back (h, w), as the patient sees it."""
    v: Picture
    """To the left (h, w)."""
    turn: float

    @classmethod
    def of(cls, y: Picture, x: Picture, *, warp: NDArray[np.float64], turn: float) -> Plane:
        """Apply a smooth deformation and a turn about the heart.

        Args:
            y: rows (h, 1).
            x: columns (1, w).
            warp: waves that move y along x and x along y (2 axes, 2 waves, [amplitude of at most
                5 mm, wave length in mm, phase]).
            turn: in radians.
        """
        ay, ax = (
            sum(
                a * np.sin(2 * np.pi * along / w + f)
                for (a, w, f), along in zip(waves, (x, y), strict=True)
            )
            for waves in warp
        )
        u, v = turned((y + ay).astype(np.float32), (x + ax).astype(np.float32), turn)
        return cls(y, x, u, v, turn)

    def near(self, at: tuple[float, float], reach: float) -> tuple[slice, slice]:
        """Return the pixels that can lie within `reach` of a place; the warp moves it by 10 mm."""
        v, u = np.asarray(at[1], np.float32), np.asarray(at[0], np.float32)
        row, column = turned(u, v, -self.turn)
        far = reach + 10
        rows = np.searchsorted(self.y[:, 0], (row - far, row + far))
        columns = np.searchsorted(self.x[0], (column - far, column + far))
        return slice(*rows), slice(*columns)

    def fill(self, codes: Codes, code: int, at: Pair, half: Pair, turn: float = 0.0) -> None:
        """Set an ellipse in `codes`."""
        window = self.near(at, max(half))
        u, v = self.u[window] - np.float32(at[0]), self.v[window] - np.float32(at[1])
        if turn:
            u, v = turned(u, v, turn)
        codes[window][ellipse(u, v, (0, 0), half)] = code


def turned(u: Picture, v: Picture, angle: float) -> tuple[Picture, Picture]:
    """Turn coordinates by an angle in radians."""
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return c * u - s * v, s * u + c * v


def ellipse(
    u: Picture, v: Picture, at: tuple[float, float], half: tuple[float, ...]
) -> NDArray[np.bool_]:
    """Inside of an ellipse with its middle `at` and half axes `half`."""
    a, b = np.float32(1 / half[0]), np.float32(1 / half[1])
    inside: NDArray[np.bool_] = ((u - np.float32(at[0])) * a) ** 2 + (
        (v - np.float32(at[1])) * b
    ) ** 2 < 1
    return inside


def box(u: Picture, v: Picture, at: Pair, half: Pair) -> Picture:
    """Distance from the middle of a rounded box, to the power 2.6: below 1 is inside."""
    a, b = np.float32(1 / half[0]), np.float32(1 / half[1])
    power = np.float32(1.3)
    box: Picture = (
        np.square((u - np.float32(at[0])) * a) ** power
        + np.square((v - np.float32(at[1])) * b) ** power
    )
    return box
