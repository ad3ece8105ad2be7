"""Patients of the phantom: a chest cut across the heart's long axis, made of simple shapes.

The heart lies at the origin; y (rows) runs to the back, x (columns) to the patient's left; mm.
Class 1 is the cavity of the left ventricle, class 2 the muscle ring around it. What looks like
them on purpose and is background: the right ventricle (same blood, a wall too thin to label),
aorta and vena cava (round blood without a ring), a stomach with fluid and a wall.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from synfoc.phantom import scanner as tissue
from synfoc.phantom.plane import Codes, Picture, Plane, box, ellipse, turned

CAVITY, WALL = 1, 2
"""Class indices."""
REACH = 80.0
"""No part of the heart is farther from the middle of the left ventricle, in mm."""


class Condition(IntEnum):
    """What the patient has; each is one in five."""

    HEALTHY = 0
    DILATED = 1
    THICK = 2
    INFARCT = 3
    RIGHT_HEART = 4


@dataclass(frozen=True)
class Patient:
    """Everything that is the same in all slices of a patient. Lengths in mm, angles in radians."""

    condition: Condition
    radius: float
    """Of the cavity at the base."""
    wall: float
    """Mean thickness of the muscle at the base."""
    length: float
    """Of the left ventricle, apex to base."""
    angle: float
    """By which the heart is turned in the chest."""
    turn: float
    """By which the chest is turned in the plane."""
    outline: NDArray[np.complex64]
    """Fourier coefficients 2..5 of the cavity's outline, relative to its radius."""
    uneven: NDArray[np.complex64]
    """Fourier coefficients 1..3 of the wall's thickness, relative to its mean."""
    right: float
    """Size of the right ventricle relative to the left."""
    pericardial_fat: float
    scar: tuple[float, float, float]
    """Middle and half width as angles, and share of the wall from inside; (0, 0, 0) is none."""
    body: tuple[float, float, float, float]
    """Middle (y, x) and half axes (y, x) of the chest."""
    fat: float
    """Thickness under the skin."""
    organs: NDArray[np.float64]
    """Standard normal variation of the other organs (8, 3): position y, x and log size."""
    stomach: bool
    vessels: NDArray[np.float64]
    """Of each lung (2, 12, 3): place y, x relative to its half axes, thickness 0..1."""
    warp: NDArray[np.float64]
    """Smooth deformation: (2 axes, 2 waves, [amplitude, wave length, phase])."""

    def plane(self, y: Picture, x: Picture) -> Plane:
        """Pixels at rows y (h, 1) and columns x (1, w) in this patient."""
        return Plane.of(y, x, warp=self.warp, turn=self.turn)


def draw_patient(rng: np.random.Generator) -> Patient:
    """Return a patient.

    Sizes of adult hearts: cavity 40-60 mm wide, wall 7-16 mm, 75-100 mm long.
    """
    condition = Condition(int(rng.integers(len(Condition))))
    n = rng.standard_normal(8)
    radius = {Condition.DILATED: 29.5, Condition.THICK: 19.5}.get(condition, 24.0) * np.exp(
        0.09 * n[0]
    )
    wall = {Condition.DILATED: 7.0, Condition.THICK: 14.5}.get(condition, 9.5) * np.exp(0.1 * n[1])
    waves = rng.standard_normal((4, 2)) @ [1, 1j] * [0.045, 0.02, 0.012, 0.008]
    uneven = rng.standard_normal((3, 2)) @ [1, 1j] * [0.12, 0.06, 0.03]
    if condition is Condition.THICK:
        uneven[0] -= 0.22  # Hypertrophy prefers the septum, which is on the side of negative x.
    scar = (0.0, 0.0, 0.0)
    middle, half, depth = rng.uniform([-np.pi, 0.4, 0.35], [np.pi, 1.0, 1.0])
    if condition is Condition.INFARCT:
        scar = (float(middle), float(half), float(depth))
    amplitude, wave, phase = rng.uniform(
        [[[0, 120, 0]] * 2] * 2, [[[5, 300, 6.28]] * 2] * 2
    ).transpose(2, 0, 1)
    return Patient(
        condition=condition,
        radius=float(radius),
        wall=float(wall),
        length=float(86 * np.exp(0.07 * n[2])),
        angle=float(0.3 * n[3]),
        turn=float(0.25 * rng.standard_normal()),
        outline=waves.astype(np.complex64),
        uneven=uneven.astype(np.complex64),
        right=float((1.3 if condition is Condition.RIGHT_HEART else 1.0) * np.exp(0.1 * n[4])),
        pericardial_fat=float(np.clip(5 + 3 * n[5], 1.5, 14)),
        scar=scar,
        body=(
            32 + 5 * n[6],
            -42 + 8 * n[7],
            *(np.array([112, 168]) * np.exp(0.07 * rng.standard_normal(2))),
        ),
        fat=float(rng.uniform(6, 30)),
        organs=rng.standard_normal((8, 3)),
        stomach=bool(rng.uniform() < 0.6),
        vessels=rng.uniform([-0.6, -0.6, 0], [0.6, 0.6, 1], (2, 12, 3)),
        warp=np.stack([amplitude, wave, phase], -1),
    )


def paint_chest(patient: Patient, level: float, plane: Plane) -> Codes:
    """Tissue codes (h, w) of everything but the heart; level from 0 (apex) to 1 (base)."""
    p = patient
    top, left, high, wide = p.body
    codes = np.zeros(plane.u.shape, np.uint8)
    skins = (
        (0.0, 0.0, tissue.FAT),
        (p.fat, p.fat, tissue.MUSCLE),
        (p.fat + 15, p.fat + 13, tissue.FAT),
    )
    for dy, dx, code in skins:
        codes[box(plane.u, plane.v, (top, left), (high - dy, wide - dx)) < 1] = code
    _paint_lungs(codes, p, plane)
    _paint_belly(codes, p, level, plane)
    _paint_back(codes, p, plane)
    return codes


def _paint_lungs(codes: Codes, p: Patient, plane: Plane) -> None:
    """Lungs with vessels, ribs and breastbone around them."""
    top, left, high, wide = p.body
    half = (high - p.fat - 22) * 0.97, ((wide - p.fat) / 2 - 10) * 0.98
    for (dy, dx, size), side, vessels in zip(p.organs[:2], (1, -1), p.vessels, strict=True):
        at = top - 6 + 5 * dy, left + side * half[1] + 14 + 5 * dx
        plane.fill(codes, tissue.LUNG, at, (half[0], half[1] * float(np.exp(0.04 * size))))
        for y, x, thick in vessels:
            r = 1 + 2.5 * thick**2
            plane.fill(
                codes, tissue.BLOOD, (at[0] + y * half[0], at[1] + x * half[1]), (r, 1.3 * r)
            )
    mid_high, mid_wide = high - p.fat - 8, wide - p.fat - 7
    for angle in np.linspace(0, 2 * np.pi, 18, endpoint=False) + 0.1 * p.organs[2, 0]:
        # The power puts the ribs on the rounded box of the chest wall.
        c, s = (np.sign(f) * abs(f) ** 0.77 for f in (np.cos(angle), np.sin(angle)))
        place = top + mid_high * s, left + mid_wide * c
        plane.fill(codes, tissue.MARROW, place, (3.5, 7), -angle - np.pi / 2)
    plane.fill(codes, tissue.MARROW, (top - high + p.fat + 9, left + 18), (6, 18))


def _paint_belly(codes: Codes, p: Patient, level: float, plane: Plane) -> None:
    """Liver, and in most patients a stomach: a bright or gray inside with a wall, like a heart."""
    left = p.body[1]
    sink = 30 * level  # Toward the base the plane leaves the belly.
    dy, dx, size = p.organs[3] * (6, 6, 0.12)
    half = 58 * float(np.exp(size)), 82 * float(np.exp(size))
    plane.fill(codes, tissue.LIVER, (82 + sink + dy, left - 58 + dx), half, 0.15)
    if not p.stomach:
        return
    dy, dx, size = p.organs[4] * (8, 8, 0.2)
    at, half = (72 + sink + dy, 46 + dx), (24 * float(np.exp(size)), 34 * float(np.exp(size)))
    plane.fill(codes, tissue.MUSCLE, at, (half[0] + 5, half[1] + 5), -0.3)
    plane.fill(codes, tissue.FLUID if dy > 0 else tissue.LIVER, at, half, -0.3)
    plane.fill(codes, tissue.AIR, (at[0] - 0.6 * half[0], at[1]), (0.3 * half[0], 0.5 * half[1]))


def _paint_back(codes: Codes, p: Patient, plane: Plane) -> None:
    """Spine and its muscles, aorta and vena cava."""
    top, left, high, _ = p.body
    y, x = top + high - p.fat - 44, left + 5
    plane.fill(codes, tissue.MUSCLE, (y + 12, x), (30, 55))
    plane.fill(codes, tissue.MARROW, (y, x), (17, 21))
    plane.fill(codes, tissue.FLUID, (y + 25, x), (7, 9))
    for (dy, dx, size), at, half in zip(
        p.organs[5:7], ((-14, 34), (-26, -22)), ((12, 12), (10, 13)), strict=True
    ):
        grown = float(np.exp(0.12 * size))
        place = y + at[0] + 4 * dy, x + at[1] + 4 * dx
        plane.fill(codes, tissue.BLOOD, place, (half[0] * grown, half[1] * grown))


class Heart:
    """The heart of a patient in one plane's pixels; the shape is prepared once for all levels."""

    def __init__(self, patient: Patient, plane: Plane) -> None:
        self._p = p = patient
        self._window = window = plane.near((0, 0), REACH)
        self._u, self._v = turned(plane.u[window], plane.v[window], p.angle)
        self._r = np.sqrt(self._u**2 + self._v**2)
        e = (self._v + 1j * self._u) / np.maximum(self._r, 1e-3)
        self._outline = 1 + _waves(e, p.outline, first=2)
        self._uneven = np.maximum(1 + _waves(e, p.uneven, first=1), 0.5)
        self._scar: Picture | None = None
        if p.condition is Condition.INFARCT:
            self._scar = np.abs(np.angle(e * np.exp(np.float32(-p.scar[0]) * np.complex64(1j))))
            self._uneven *= 1 - 0.3 * np.exp(-((self._scar / p.scar[1]) ** 4))  # Scars are thin.

    def paint(self, codes: Codes, level: float) -> Codes:
        """Paint the heart into `codes` (h, w), in place, and return the label map (h, w).

        Args:
            codes: tissue codes of the plane.
            level: 0 is the tip of the cavity, 1 the base; clipped to 0.02..1.

        Returns:
            0 background, 1 cavity, 2 muscle. The cavity lies inside the muscle everywhere.
        """
        p, u, v, r = self._p, self._u, self._v, self._r
        level = float(np.clip(level, 0.02, 1))
        radius = p.radius * float(np.sqrt(1 - (1 - level) ** 2))  # Half an ellipsoid.
        inside = radius * self._outline
        thick = np.maximum(p.wall * (0.75 + 0.25 * radius / p.radius) * self._uneven, 4)
        cavity, heart = r < inside, r < inside + thick

        # Fat and the right ventricle first: the left ventricle lies over them.
        here, outer, sack = codes[self._window], radius + p.wall, p.pericardial_fat
        at = (-0.1 * outer, -0.72 * outer)
        grown = outer * p.right * float(np.sqrt(np.clip((level - 0.12) / 0.6, 0, 1)))
        around = 1.15 * outer + sack, 1.45 * outer + sack
        here[ellipse(u, v, (0, -0.4 * outer), around)] = tissue.FAT
        here[ellipse(u, v, at, (1.08 * grown + 3.5, 0.78 * grown + 3.5))] = tissue.MYOCARDIUM
        here[ellipse(u, v, at, (1.08 * grown + 1e-3, 0.78 * grown + 1e-3))] = tissue.BLOOD
        here[heart] = tissue.MYOCARDIUM
        if self._scar is not None:
            here[heart & (self._scar < p.scar[1]) & (r < inside + p.scar[2] * thick)] = tissue.SCAR
        here[cavity] = tissue.BLOOD
        if 0.25 < level < 0.8:
            for turn in (0.9, 2.3):  # Papillary muscles count as cavity, as clinicians draw them.
                spot = 0.62 * radius * np.exp(1j * (turn + 5 * float(p.outline[0].real)))
                here[ellipse(u, v, (spot.imag, spot.real), (3.2, 4)) & cavity] = tissue.MYOCARDIUM
        label = np.zeros(codes.shape, np.uint8)
        label[self._window] = np.where(cavity, CAVITY, WALL * heart)
        return label


def _waves(e: NDArray[np.complex64], coefficients: NDArray[np.complex64], first: int) -> Picture:
    """Fourier series over the angle of unit numbers e, harmonics first, first + 1, ..."""
    total, power = np.zeros(e.shape, np.float32), e**first
    for c in coefficients:
        total += (c * power).real
        power = power * e
    return total
