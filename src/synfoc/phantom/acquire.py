"""What a scanner does to a plane of tissue signal: coils, k-space with noise and faults, magnitude.

Each step is the textbook model, so that two scanners differ here for the reasons for which they
differ in a hospital: docs/phantom.md. Rows are the phase-encoding direction, columns the readout.
Random numbers only from the generator passed in.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from synfoc.phantom.scanner import Scanner

Values: TypeAlias = NDArray[np.float64]
Picture: TypeAlias = NDArray[np.float32]
Integers: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]
Spectrum: TypeAlias = NDArray[np.complex64]


def coil_shading(scanner: Scanner, y: Picture, x: Picture, rng: np.random.Generator) -> Picture:
    """Receive sensitivity (h, w), 1 at the heart: the sum of the fields of the coil's loops.

    On its axis the field of a loop of radius R falls as (1 + d^2 / R^2)^(-3/2); the same law over
    the distance in the image plane stands for all positions. Each patient lies differently: the
    loops move by 15 mm (standard deviation). y (h, 1) and x (1, w) in mm from the heart.
    """
    shift = 15 * rng.standard_normal((len(scanner.coils), 2))
    total = np.zeros(np.broadcast_shapes(y.shape, x.shape), np.float32)
    if not scanner.coils:
        return total + 1
    at_heart = 0.0
    for row, column in np.asarray(scanner.coils) + shift:
        near = 1 + ((y - np.float32(row)) ** 2 + (x - np.float32(column)) ** 2) / scanner.reach**2
        total += 1 / (near * np.sqrt(near))
        at_heart += (1 + (row**2 + column**2) / scanner.reach**2) ** -1.5
    shading: Picture = (total / np.float32(at_heart)) ** np.float32(1 - scanner.normalize)
    return shading


def tukey(n: int, taper: float) -> Values:
    """Filter over n centered k-space samples: 1 in the middle, raised-cosine edges."""
    k = np.abs(np.arange(n) - n // 2) / (n / 2)
    inside = np.clip((k - (1 - taper)) / max(taper, 1e-9), 0, 1)
    return np.asarray(0.5 * (1 + np.cos(np.pi * inside)) if taper > 0 else np.ones(n))


def acquire(scanner: Scanner, anatomy: Picture, rng: np.random.Generator) -> Picture:
    """Magnitude image of a plane of signal.

    Args:
        scanner: its `acquired`, `matrix`, `noise`, `filter`, `decay` and faults are used.
        anatomy: real signal (rows, columns) on a finer grid over the field of view, shading
            included; 1 is resting heart muscle.
        rng: noise and faults come from it.

    Returns:
        (rows, columns) of `scanner.matrix`, at least 0. Where `anatomy` is 0 it is Rayleigh
        distributed with mean s sqrt(pi / 2); elsewhere Rician. s is `noise` times the
        root mean square of the filter.
    """
    k = _sample(anatomy, scanner.acquired)
    rows, columns = scanner.acquired
    line = np.arange(rows) - rows // 2

    # Breathing and pulse modulate the lines, which repeats the image along the rows.
    amplitude, shift, phase = rng.uniform(0, [scanner.ghost, 0.35, 2 * np.pi])
    motion = 1 + amplitude * np.cos(2 * np.pi * (0.1 + shift) * line + phase)
    weight = motion * np.exp(-scanner.decay * np.abs(line) / (rows / 2))
    k *= weight[:, None].astype(np.float32)
    k += _noise(k.shape, scanner.noise, rng)

    struck, u, v, size = rng.uniform(size=4)
    if struck < scanner.spike:
        far = int((0.1 + 0.25 * u) * rows), int((0.1 + 0.25 * v) * columns)
        k[rows // 2 + far[0], columns // 2 - far[1]] += 0.15 + 0.15 * size
    taper = np.outer(tukey(rows, scanner.filter), tukey(columns, scanner.filter))
    image = _reconstruct(k * taper.astype(np.float32), scanner.matrix)

    struck, u, size = rng.uniform(size=3)
    static = rng.standard_normal(image.shape[0])
    if struck < scanner.zipper:
        column = int((0.1 + 0.25 * u + 0.55 * (u > 0.5)) * image.shape[1])
        image[:, column] += ((1 + size) * (1 + static)).astype(np.float32)
    return np.abs(image)


def store(scanner: Scanner, magnitude: Picture, bits: int) -> Integers:
    """Integers as the scanner writes them: 12 bits by its gain, or 8 bits by its window."""
    if bits == 12:
        return np.asarray(np.clip(np.rint(magnitude * scanner.gain), 0, 4095).astype(np.uint16))
    low, high = np.percentile(magnitude, scanner.window)
    gray = np.clip((magnitude - low) / max(high - low, 1e-6), 0, 1) ** scanner.gamma
    return np.asarray(np.rint(255 * gray).astype(np.uint8))


def _sample(anatomy: Picture, acquired: tuple[int, int]) -> Spectrum:
    """Take the `acquired` central samples of k-space, scaled so that k[0, 0] is the mean."""
    k = anatomy.astype(np.complex64)
    # Columns first: dropping what is not acquired halves the work of the second transform.
    for axis in (1, 0):
        k = fft.fftshift(fft.fft(k, axis=axis, norm="forward"), axes=axis)
        n, keep = k.shape[axis], acquired[axis]
        k = k.take(np.arange(n // 2 - keep // 2, n // 2 - keep // 2 + keep), axis=axis)
        # Pixel centers of the fine and the acquired grid differ by a fraction of a pixel.
        line = np.arange(keep) - keep // 2
        ramp = np.exp(-1j * np.pi * line * (1 / n)).astype(np.complex64)
        k = k * (ramp if axis else ramp[:, None])
    return k


def _reconstruct(k: Spectrum, matrix: tuple[int, int]) -> Spectrum:
    """Image of k-space on `matrix` pixels; more pixels than samples interpolate (zero filling)."""
    for axis in (0, 1):
        n, size = k.shape[axis], matrix[axis]
        line = np.arange(n) - n // 2
        ramp = np.exp(1j * np.pi * line * (1 / size)).astype(np.complex64)
        k = k * (ramp if axis else ramp[:, None])
        shape = (size, k.shape[1]) if axis == 0 else (k.shape[0], size)
        full = np.zeros(shape, np.complex64)
        keep = min(n, size)
        target = [slice(None), slice(None)]
        source = [slice(None), slice(None)]
        target[axis] = slice(size // 2 - keep // 2, size // 2 - keep // 2 + keep)
        source[axis] = slice(n // 2 - keep // 2, n // 2 - keep // 2 + keep)
        full[tuple(target)] = k[tuple(source)]
        k = fft.ifft(fft.ifftshift(full, axes=axis), axis=axis, norm="forward")
    return k


def _noise(shape: tuple[int, int], sd: float, rng: np.random.Generator) -> Spectrum:
    """White noise in k-space that gives the image `sd` per channel."""
    scale = np.float32(sd / np.sqrt(shape[0] * shape[1]))
    pair = rng.standard_normal((*shape, 2), dtype=np.float32) * scale
    noise: Spectrum = pair.view(np.complex64)[..., 0]
    return noise
