"""Scanners of the phantom: tissues, pulse sequences, and four scanners with one protocol each.

A tissue's gray value is computed, not chosen: density, T1 and T2 from the literature go through
the signal equation of the scanner's sequence. Sources: docs/phantom.md. What happens to the signal
afterwards is in acquire.py. Units: ms for times, degrees for flip angles, mm for lengths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Values: TypeAlias = NDArray[np.float64]
Sequence: TypeAlias = Callable[[Values, Values, Values], Values]

TISSUES = (
    *("air", "fat", "muscle", "lung", "liver", "marrow"),
    *("blood", "myocardium", "scar", "fluid"),
)
"""Names of the tissue codes 0..9."""
AIR, FAT, MUSCLE, LUNG, LIVER, MARROW, BLOOD, MYOCARDIUM, SCAR, FLUID = range(len(TISSUES))

DENSITY = np.array([0, 0.95, 0.75, 0.16, 0.75, 0.6, 0.95, 0.8, 0.8, 0.95])
"""Proton density relative to water."""
T1 = {
    1.5: np.array([1e3, 343, 1008, 1200, 576, 549, 1441, 1030, 1150, 2500]),
    3.0: np.array([1e3, 382, 1412, 1400, 812, 586, 1932, 1471, 1600, 2800]),
}
"""Longitudinal relaxation in ms, by field strength in T."""
T2 = {
    1.5: np.array([1e2, 58, 44, 30, 46, 49, 290, 40, 52, 600]),
    3.0: np.array([1e2, 68, 50, 25, 42, 49, 275, 47, 60, 600]),
}
"""Transverse relaxation in ms, by field strength in T."""
CONTRAST_AGENT = np.array([0, 0.05, 0.2, 0.3, 0.4, 0.2, 1, 0.45, 0.9, 0])
"""Late concentration of an extracellular gadolinium agent, relative to that in blood."""
RELAXIVITY = 4.5e-3
"""What 1 mmol/l of the agent adds to 1 / T1, in 1/ms."""


def balanced_echo(rho: Values, t1: Values, t2: Values, *, tr: float, flip: float) -> Values:
    """Balanced steady-state free precession (bSSFP), on resonance, echo at TR / 2."""
    e1, e2, a = np.exp(-tr / t1), np.exp(-tr / t2), np.deg2rad(flip)
    steady = np.sin(a) * (1 - e1) / (1 - (e1 - e2) * np.cos(a) - e1 * e2)
    return np.asarray(rho * steady * np.exp(-tr / 2 / t2))


def spoiled_echo(
    rho: Values, t1: Values, t2: Values, *, tr: float, te: float, flip: float
) -> Values:
    """Spoiled gradient echo (Ernst); T2 stands in for the shorter T2*."""
    e1, a = np.exp(-tr / t1), np.deg2rad(flip)
    return np.asarray(rho * np.sin(a) * (1 - e1) / (1 - np.cos(a) * e1) * np.exp(-te / t2))


def spin_echo(rho: Values, t1: Values, t2: Values, *, tr: float, te: float) -> Values:
    """Spin echo: T1-weighted by a short TR, T2-weighted by a long TE."""
    return np.asarray(rho * (1 - np.exp(-tr / t1)) * np.exp(-te / t2))


def inversion_recovery(rho: Values, t1: Values, t2: Values, *, ti: float, tr: float) -> Values:
    """Magnitude of an inversion-recovery gradient echo, T2 decay neglected (short TE)."""
    return np.asarray(rho * np.abs(1 - 2 * np.exp(-ti / t1) + np.exp(-tr / t1)))


@dataclass(frozen=True)
class Scanner:
    """One scanner with its one protocol; every number is what a user could read on its console."""

    name: str
    about: str
    """One line for people."""
    field: float
    """T."""
    sequence: Sequence
    """Signal of a tissue from its density, T1 and T2."""
    fov: tuple[float, float]
    """Field of view in mm, rows and columns. Anatomy beyond its rows wraps around."""
    acquired: tuple[int, int]
    """Samples of k-space, rows and columns: the true resolution is fov / acquired."""
    matrix: tuple[int, int]
    """Pixels of the image; beyond `acquired` they are zero-filled."""
    thickness: float
    """Slice thickness in mm; what lies inside it is averaged."""
    noise: float
    """Standard deviation of each of the two noise channels, relative to resting heart muscle."""
    coils: tuple[tuple[float, float], ...]
    """Loops of the receive coil, (row, column) in mm from the heart; () is a body coil."""
    reach: float = 110.0
    """Radius of a loop in mm."""
    normalize: float = 0.0
    """Share of the coil shading that the scanner's prescan removes, 0..1."""
    agent: float = 0.0
    """Contrast agent in the blood in mmol/l."""
    blood: float = 1.0
    """Gain of blood by flow: above 1 fresh blood flows in, near 0 flow voids it."""
    fat: float = 1.0
    """What fat suppression leaves of fat."""
    fat_shift: float = 0.0
    """Chemical shift of fat along the readout in mm."""
    filter: float = 0.0
    """Share of k-space that a raised-cosine (Tukey) filter tapers: 0 keeps Gibbs ringing."""
    decay: float = 0.0
    """T2 decay along an echo train: the last line keeps exp(-decay), which blurs the rows."""
    ghost: float = 0.0
    """Largest amplitude of the motion ghosts, relative to the image."""
    spike: float = 0.0
    """Probability of a spike in k-space (stripes over the whole image)."""
    zipper: float = 0.0
    """Probability of a line of radio interference at one column."""
    gain: float = 800.0
    """Stored 12-bit value of resting heart muscle."""
    window: tuple[float, float] = (0.5, 99.5)
    """Percentiles shown as black and white in an 8-bit file."""
    gamma: float = 1.0
    """Exponent of the 8-bit gray curve."""

    def signals(self, rng: np.random.Generator) -> Values:
        """Signal of each tissue code in this patient, resting heart muscle = 1.

        Densities and relaxation times differ by 3 % and 5 % (standard deviation) from person to
        person. Signals of muscle and muscle-like tissue follow the flip angle and timing.
        """
        rho, t1, t2 = DENSITY, T1[self.field], T2[self.field]
        sd = np.array([[0.03], [0.05], [0.05]])
        vary = np.exp(sd * rng.standard_normal((3, len(TISSUES))))
        rate = 1 / (t1 * vary[1]) + self.agent * RELAXIVITY * CONTRAST_AGENT
        signal = self.sequence(rho * vary[0], 1 / rate, t2 * vary[2])
        signal[BLOOD] *= self.blood * np.exp(0.1 * rng.standard_normal())
        signal[FAT] *= self.fat
        return signal / self.reference

    @property
    def reference(self) -> float:
        """Signal of the average resting heart muscle on the absolute scale of the sequence."""
        rate = 1 / T1[self.field] + self.agent * RELAXIVITY * CONTRAST_AGENT
        return float(self.sequence(DENSITY, 1 / rate, T2[self.field])[MYOCARDIUM])

    def resized(self, side: int) -> Scanner:
        """Return the same scanner with images whose longer side has `side` pixels."""
        scale = side / max(self.matrix)
        rows, columns = (max(1, round(scale * n)) for n in self.matrix)
        return replace(self, matrix=(rows, columns))


SCANNERS = (
    Scanner(
        name="scanner_a",
        about="1.5 T, balanced steady-state cine: bright blood, dark muscle, bright fat",
        field=1.5,
        sequence=partial(balanced_echo, tr=3.0, flip=55),
        fov=(320, 320),
        acquired=(160, 176),
        matrix=(192, 192),
        thickness=8,
        noise=0.16,
        coils=((-120, -60), (-120, 80), (160, -80), (160, 60)),
        normalize=0.5,
        fat_shift=1.5,
        filter=0.3,
        ghost=0.04,
        gain=240,
    ),
    Scanner(
        name="scanner_b",
        about="3 T, spoiled gradient echo: weak contrast, strong shading, noise, small heart",
        field=3.0,
        sequence=partial(spoiled_echo, tr=6, te=2.5, flip=18),
        blood=2.1,
        fov=(310, 390),
        acquired=(128, 176),
        matrix=(204, 256),
        thickness=8,
        noise=0.15,
        coils=((-110, -70), (-110, 30)),
        reach=120,
        normalize=0.2,
        fat_shift=4,
        filter=0.6,
        ghost=0.1,
        zipper=0.2,
        gain=350,
        window=(0, 99.9),
        gamma=0.75,
    ),
    Scanner(
        name="scanner_c",
        about="1.5 T, inversion recovery after contrast agent: bright scar, narrow field of view",
        field=1.5,
        sequence=partial(inversion_recovery, ti=400, tr=1600),
        agent=0.5,
        fov=(250, 250),
        acquired=(112, 144),
        matrix=(160, 160),
        thickness=10,
        noise=0.17,
        coils=((-100, 0), (-60, 120), (120, 140)),
        reach=90,
        normalize=0.3,
        fat_shift=2,
        ghost=0.15,
        spike=0.1,
        gain=110,
        window=(2, 98),
        gamma=1.45,
    ),
    Scanner(
        name="scanner_d",
        about="3 T, black-blood spin echo, T2-weighted: dark cavity in a bright wall, blurred rows",
        field=3.0,
        sequence=partial(spin_echo, tr=1800, te=45),
        blood=0.12,
        fat=0.7,
        fov=(260, 340),
        acquired=(128, 192),
        matrix=(196, 256),
        thickness=6,
        noise=0.08,
        coils=((-130, 0), (20, 190), (20, -230), (150, -30)),
        reach=130,
        normalize=0.6,
        filter=0.2,
        decay=0.9,
        ghost=0.12,
        spike=0.05,
        zipper=0.05,
        gain=700,
        window=(0.5, 99),
    ),
)
"""The four scanners of the phantom, in order."""
