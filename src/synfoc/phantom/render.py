"""One image of the phantom: a patient, a scanner and a slice become pixels and labels."""

from __future__ import annotations

import zlib
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from synfoc.phantom import anatomy
from synfoc.phantom.acquire import acquire, coil_shading, store
from synfoc.phantom.scanner import FAT, Scanner

Seed: TypeAlias = int | tuple[int, ...]
Floats: TypeAlias = NDArray[np.float64]
Picture: TypeAlias = NDArray[np.float32]

FINE = 2
"""Grid on which anatomy is painted, per acquired pixel: what is inside is partial volume."""
LAYERS = (-1 / 3, 0.0, 1 / 3)
"""Planes averaged through a slice, in slice thicknesses from its middle."""


class Slice(NamedTuple):
    """One image, its label map, and the distances between slices, rows and columns in mm."""

    image: NDArray[np.uint8] | NDArray[np.uint16]
    label: NDArray[np.uint8]
    spacing: tuple[float, float, float]


def render(
    scanner: Scanner, patient_seed: Seed, number: int, *, slices: int = 4, bits: int = 8
) -> Slice:
    """Image one slice of one patient: the same arguments give the same pixels.

    Args:
        scanner: one of SCANNERS, or a variation of one (`dataclasses.replace`).
        patient_seed: the patient, who may be seen by any scanner.
        number: of the slice: 0 is nearest to the apex, slices - 1 to the base.
        slices: over which 3/4 of the left ventricle are divided.
        bits: 8 (as in a PNG, windowed) or 12 (as stored by the scanner, 0..4095).

    Returns:
        image (h, w) uint8 or uint16; label (h, w) uint8: 0 background, 1 cavity, 2 muscle;
        spacing in mm. h, w are `scanner.matrix`.
    """
    key = zlib.crc32(scanner.name.encode())
    here, exam, noise = (
        np.random.Generator(
            np.random.Philox(np.random.SeedSequence(patient_seed, spawn_key=stream))
        )
        for stream in ((0,), (1, key), (2, key, number))
    )
    patient = anatomy.draw_patient(here)
    texture = here.standard_normal((28, 40)).astype(np.float32)
    signals = scanner.signals(exam).astype(np.float32)
    middle = exam.uniform([0, -34], [24, -10])
    gap = 0.75 * patient.length / slices
    level = 0.15 + (number + 0.5) * gap / patient.length

    fine = FINE * scanner.acquired[0], FINE * scanner.acquired[1]
    overlap = fine[0] // 6
    y, x = _pixel_centers(scanner.fov, fine, middle, overlap)
    signal = _signal(scanner, patient, level, signals, (y, x))
    signal *= 1 + 0.05 * _smooth(texture, y, x)
    signal *= coil_shading(scanner, y, x, exam)
    # Rows beyond the field of view alias to its other side.
    plane = signal[overlap:-overlap].copy()
    plane[:overlap] += signal[-overlap:]
    plane[-overlap:] += signal[:overlap]
    image = store(scanner, acquire(scanner, plane, noise), bits)

    pixels = patient.plane(*_pixel_centers(scanner.fov, scanner.matrix, middle))
    label = anatomy.Heart(patient, pixels).paint(np.zeros(scanner.matrix, np.uint8), level)
    row, column = (float(f / n) for f, n in zip(scanner.fov, scanner.matrix, strict=True))
    return Slice(image, label, (gap, row, column))


def _signal(
    scanner: Scanner,
    patient: anatomy.Patient,
    level: float,
    signals: Picture,
    grid: tuple[Picture, Picture],
) -> Picture:
    """Signal averaged through the slice, fat shifted along the readout."""
    plane = patient.plane(*grid)
    codes, heart = anatomy.paint_chest(patient, level, plane), anatomy.Heart(patient, plane)
    fat = np.where(np.arange(len(signals)) == FAT, signals, 0).astype(np.float32)
    water = signals - fat
    layers = []
    for offset in LAYERS:
        layers.append(codes.copy())
        heart.paint(layers[-1], level + offset * scanner.thickness / patient.length)
    wet, oily = water[layers[0]], fat[layers[0]]
    for layer in layers[1:]:
        wet += water[layer]
        oily += fat[layer]
    shift = round(scanner.fat_shift / float(plane.x[0, 1] - plane.x[0, 0]))
    mean: Picture = (wet + np.roll(oily, shift, axis=1)) / np.float32(len(LAYERS))
    return mean


def _pixel_centers(
    fov: tuple[float, float], shape: tuple[int, int], middle: Floats, extra_rows: int = 0
) -> tuple[Picture, Picture]:
    """Rows (h, 1) and columns (1, w) in mm from the heart; `middle` is the middle of the image."""
    rows = (np.arange(-extra_rows, shape[0] + extra_rows) + 0.5) / shape[0] - 0.5
    columns = (np.arange(shape[1]) + 0.5) / shape[1] - 0.5
    y, x = middle[0] + rows * fov[0], middle[1] + columns * fov[1]
    return y[:, None].astype(np.float32), x[None].astype(np.float32)


def _smooth(coarse: Picture, y: Picture, x: Picture) -> Picture:
    """Noise given on a 16 mm grid, blurred to a smooth field (h, w) around 0."""
    weights = []
    for axis, n in ((y.ravel(), coarse.shape[0]), (x.ravel(), coarse.shape[1])):
        knots = 16.0 * (np.arange(n) - n / 2)
        weights.append(np.exp(-(((axis[:, None] - knots) / 14.0) ** 2) / 2).astype(np.float32))
    field: Picture = weights[0] @ coarse @ weights[1].T / np.float32(2.4)
    return field
