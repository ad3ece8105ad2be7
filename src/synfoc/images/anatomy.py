"""Patients of the phantom: a chest cut across the heart's long axis, made of simple shapes.

The heart lies at the origin; y (rows) runs to the back, x (columns) to the patient's left; mm.
Class 1 is the cavity of the left ventricle, class 2 the muscle ring around it. What looks like
them on purpose and is background: the right ventricle (same blood, a wall too thin to label),
aorta and vena cava (round blood without a ring), a stomach with fluid and a wall.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from synfoc.images import scanner as tissue

Picture: TypeAlias = NDArray[np.float32]
Codes: TypeAlias = NDArray[np.uint8]

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
    """By which the heart is turned in the plane."""
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
    warp: NDArray[np.float64]
    """Smooth deformation: (2 axes, 2 waves, [amplitude, wave length, phase])."""


def draw_patient(rng: np.random.Generator) -> Patient:
    """A patient; sizes of adult hearts: cavity 40-60 mm wide, wall 7-16 mm, 75-100 mm long."""
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
        warp=np.stack([amplitude, wave, phase], -1),
    )


def paint_chest(patient: Patient, level: float, y: Picture, x: Picture) -> Codes:
    """Tissue codes of everything but the heart; level from 0 (apex) to 1 (base)."""
    p = patient
    u, v = _warped(p, y, x)
    top, left, high, wide = p.body
    codes = np.zeros(np.broadcast_shapes(y.shape, x.shape), np.uint8)

    def fill(
        code: int, at: tuple[float, float], half: tuple[float, float], turn: float = 0
    ) -> None:
        codes[
            _ellipse(u, v, at, half) if not turn else _ellipse(*_turned(u, v, turn), at, half)
        ] = code

    def vary(i: int, spread: float = 6.0) -> tuple[float, float, float]:
        dy, dx, size = p.organs[i]
        return spread * dy, spread * dx, float(np.exp(0.12 * size))

    body = _squircle(u, v, (top, left), (high, wide))
    codes[body < 1] = tissue.FAT
    inner = _squircle(u, v, (top, left), (high - p.fat, wide - p.fat))
    codes[inner < 1] = tissue.MUSCLE
    thorax = _squircle(u, v, (top, left), (high - p.fat - 17, wide - p.fat - 15))
    codes[thorax < 1] = tissue.FAT

    lung_high, lung_wide = high - p.fat - 22, (wide - p.fat) / 2 - 10
    for i, side in ((0, 1), (1, -1)):
        dy, dx, size = vary(i, 5)
        at = (top - 6 + dy, left + side * (lung_wide * 0.98) + 14 + dx)
        fill(tissue.LUNG, at, (lung_high * 0.97, lung_wide * 0.98 * size**0.3))
    dy, dx, size = vary(2)
    sink = 30 * level  # Toward the base the plane leaves the belly.
    fill(tissue.LIVER, (82 + sink + dy, left - 58 + dx), (58 * size, 82 * size), 0.15)
    dy, dx, size = vary(3, 8)
    if p.stomach:
        at = (82 + sink + dy, 42 + dx)
        fill(tissue.MUSCLE, at, (24 * size + 5, 36 * size + 5), -0.3)
        fill(tissue.FLUID if p.organs[3, 0] > 0 else tissue.LIVER, at, (24 * size, 36 * size), -0.3)
    spine = (top + high - p.fat - 44, left + 5)
    fill(tissue.MUSCLE, (spine[0] + 12, spine[1]), (30, 55))
    fill(tissue.MARROW, spine, (17, 21))
    fill(tissue.FLUID, (spine[0] + 25, spine[1]), (7, 9))
    dy, dx, size = vary(4, 4)
    fill(tissue.BLOOD, (spine[0] - 14 + dy, spine[1] + 34 + dx), (12 * size, 12 * size))
    dy, dx, size = vary(5, 4)
    fill(tissue.BLOOD, (spine[0] - 26 + dy, spine[1] - 22 + dx), (10 * size, 13 * size))
    fill(tissue.MARROW, (top - high + p.fat + 14, left + 18), (6, 18))
    return codes


def paint_heart(patient: Patient, level: float, y: Picture, x: Picture, codes: Codes) -> Codes:
    """Paint the heart into `codes` and return the label map (h, w) of the same pixels.

    Args:
        patient: whose heart.
        level: 0 is the tip of the cavity, 1 the base; clipped to 0.02..1.
        y: rows in mm (h, 1).
        x: columns in mm (1, w).
        codes: tissue codes (h, w), changed in place.

    Returns:
        0 background, 1 cavity, 2 muscle. Cavity pixels touch only cavity and muscle.
    """
    p = patient
    level = float(np.clip(level, 0.02, 1))
    round_off = np.sqrt(1 - (1 - level) ** 2)  # The cavity is half an ellipsoid.
    u, v = _turned(*_warped(p, y, x), p.angle)
    r = np.sqrt(u**2 + v**2)
    e = (v + 1j * u) / np.maximum(r, 1e-3)
    inside = p.radius * round_off * (1 + _waves(e, p.outline, first=2))
    thick = p.wall * (0.75 + 0.25 * round_off) * np.maximum(1 + _waves(e, p.uneven, first=1), 0.5)
    span = np.abs(np.angle(e * np.exp(-1j * p.scar[0])))
    if p.condition is Condition.INFARCT:
        thick = thick * (1 - 0.3 * np.exp(-((span / p.scar[1]) ** 4)))  # Scars thin the wall.
    thick = np.maximum(thick, 4)
    cavity, heart = r < inside, r < inside + thick

    # Fat and the right ventricle first: the left ventricle lies over them.
    outer = p.radius * round_off + p.wall
    at, half = (-0.1 * outer, -0.72 * outer), np.array([1.08, 0.78]) * outer
    grown = p.right * np.sqrt(np.clip((level - 0.12) / 0.6, 0, 1))
    sack = p.pericardial_fat
    codes[_ellipse(u, v, (0, -0.4 * outer), (1.15 * outer + sack, 1.45 * outer + sack))] = (
        tissue.FAT
    )
    codes[_ellipse(u, v, at, tuple(half * grown + 3.5))] = tissue.MYOCARDIUM
    codes[_ellipse(u, v, at, tuple(half * grown + 1e-3))] = tissue.BLOOD
    codes[heart] = tissue.MYOCARDIUM
    if p.condition is Condition.INFARCT:
        codes[heart & (span < p.scar[1]) & (r < inside + p.scar[2] * thick)] = tissue.SCAR
    codes[cavity] = tissue.BLOOD
    if 0.25 < level < 0.8:
        for turn in (0.9, 2.3):  # Papillary muscles count as cavity, as clinicians draw them.
            spot = 0.62 * p.radius * round_off * np.exp(1j * (turn + p.outline[0].real * 5))
            codes[_ellipse(u, v, (spot.imag, spot.real), (3.2, 4.0)) & cavity] = tissue.MYOCARDIUM
    label: Codes = (heart.astype(np.uint8) * WALL) - cavity.astype(np.uint8) * (WALL - CAVITY)
    return label


def _warped(p: Patient, y: Picture, x: Picture) -> tuple[Picture, Picture]:
    """Coordinates after the patient's smooth deformation of at most 10 mm."""
    (ay, ax) = (
        sum(a * np.sin(2 * np.pi * s / w + f) for (a, w, f), s in zip(waves, (x, y), strict=True))
        for waves in p.warp
    )
    return (y + ay).astype(np.float32), (x + ax).astype(np.float32)


def _turned(u: Picture, v: Picture, angle: float) -> tuple[Picture, Picture]:
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return c * u - s * v, s * u + c * v


def _waves(e: NDArray[np.complex64], coefficients: NDArray[np.complex64], first: int) -> Picture:
    """Fourier series over the angle of unit numbers e, harmonics first, first + 1, ..."""
    total, power = np.zeros(e.shape, np.float32), e**first
    for c in coefficients:
        total += (c * power).real
        power = power * e
    return total


def _ellipse(
    u: Picture, v: Picture, at: tuple[float, float], half: tuple[float, ...]
) -> NDArray[np.bool_]:
    a, b = np.float32(1 / half[0]), np.float32(1 / half[1])
    inside: NDArray[np.bool_] = ((u - np.float32(at[0])) * a) ** 2 + (
        (v - np.float32(at[1])) * b
    ) ** 2 < 1
    return inside


def _squircle(
    u: Picture, v: Picture, at: tuple[float, float], half: tuple[float, float]
) -> Picture:
    """Fourth power of the distance from a rounded box: below 1 inside."""
    a, b = np.float32(1 / half[0]), np.float32(1 / half[1])
    box: Picture = (
        np.square((u - np.float32(at[0])) * a) ** 1.3
        + np.square((v - np.float32(at[1])) * b) ** 1.3
    )
    return box
