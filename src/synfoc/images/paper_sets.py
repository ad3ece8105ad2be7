"""The paper's four data sets as values: classes, gray codes, sizes, domains. Nothing is read here.

Sources: the paper (Sec. 4.1 and 4.2) and the authors' code; the layouts are described in
docs/data.md.

A fifth set is one more value here, and its name in `Name` and in `config.Data.set`. Where it is to
be imported, `imports/dataset.py:FINDERS` and `cli.Published` have it, too. What is a set's own goes
by its name or value elsewhere: folders, patients and who tests in published.py and
imports/splits.py, labels in colors in cases.py, settings of the paper in report/view.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from synfoc.errors import UserError
from synfoc.images.color_codes import Colors, color_classes

Name = Literal["prostate", "fundus", "mnms", "busi"]


@dataclass(frozen=True)
class Decode:
    """How the codes in a label file become class indices.

    Either a few codes or colors are replaced and the other codes stay, or bounds sort every code
    into a class, or each color channel is one class.
    """

    remap: tuple[tuple[int, int], ...] = ()
    """(code, class index); codes not named stay."""
    bounds: tuple[tuple[int, int], ...] = ()
    """(largest code, class index), ascending: the first bound not below a code gives its class."""
    colors: Colors = ()
    """(color 0xrrggbb, class index); black is background unless it is named."""
    channels: bool = False
    """Red, green, blue above 127 are classes 1, 2, 3; where they overlap the last one counts."""

    def __call__(self, codes: NDArray[Any]) -> NDArray[Any]:
        """Class indices of raw codes.

        Args:
            codes: (n, h, w) integers, or (n, h, w, 3) where `channels` or `colors`.

        Returns:
            (n, h, w); uint8 where every index fits.

        Raises:
            UserError: codes in gray where channels are expected; colors that nobody explained.
        """
        if self.channels:
            return self._from_channels(codes)
        if codes.ndim == 4 and self.bounds:
            raise UserError(
                "the label map is in colors",
                found="three channels that differ",
                expected="one channel: the code of each pixel",
                fix="save it as a gray or palette PNG with the published codes",
            )
        if codes.ndim == 4:
            return color_classes(codes, self.colors)
        if self.bounds:
            highest = [bound for bound, _ in self.bounds[:-1]]
            classes = np.array([index for _, index in self.bounds], np.uint8)
            return classes[np.searchsorted(highest, codes)]
        # A label without any other color than grays is read as gray.
        grays = tuple((c & 255, index) for c, index in self.colors if c % 0x010101 == 0)
        result = codes.astype(np.int32) if self.remap or grays else codes
        for code, index in (*self.remap, *grays):
            result[codes == code] = index
        if result.dtype != np.uint8 and result.min() >= 0 and result.max() <= 255:
            result = result.astype(np.uint8)
        return result

    def _from_channels(self, codes: NDArray[Any]) -> NDArray[Any]:
        if codes.ndim == 3 and codes.any():
            raise UserError(
                "the label map is gray",
                found=f"gray values up to {codes.max()}",
                expected="red, green and blue for the classes 1, 2 and 3",
                fix="for gray labels leave data.set out",
            )
        result = np.zeros(codes.shape[:3], np.uint8)
        if codes.ndim == 4:
            for channel in range(3):
                result[codes[..., channel] > 127] = channel + 1
        return result


@dataclass(frozen=True)
class PaperSet:
    """One data set of the paper in its published layout."""

    name: Name
    domains: tuple[str, ...]
    """In the authors' order."""
    training: tuple[int, ...]
    """Training images per domain in the whole set."""
    classes: tuple[str, ...]
    nested: bool
    """Part k is every class 1..k: the cup is class 1, the disc is cup and rim."""
    channels: Literal[1, 3]
    """Of the U-Net's images."""
    side: int
    """P, pixels of the U-Net's images."""
    decode: Decode
    codes: frozenset[int]
    """Codes that the published label files hold."""
    strong: tuple[float, float]
    """Range of the brightness and of the contrast factor of the strong view."""
    labels: tuple[int, ...]
    """Numbers of labeled images in the paper's tables."""
    steps: int
    inner: str = ""
    """Folder between {train,test} and {image,mask}."""
    aliases: tuple[tuple[str, str], ...] = ()
    """(other name, our name) of a domain."""

    def domain(self, name: str) -> str:
        """Our name of a domain that the paper or a folder may call otherwise."""
        return dict(self.aliases).get(name, name)


PROSTATE = PaperSet(
    name="prostate",
    domains=("BIDMC", "BMC", "HK", "I2CVB", "RUNMC", "UCL"),
    training=(225, 305, 136, 373, 338, 133),
    classes=("prostate",),
    nested=False,
    channels=1,
    side=384,
    decode=Decode(bounds=((0, 1), (255, 0))),
    codes=frozenset({0, 255}),
    strong=(0.1, 2.0),
    labels=(20,),
    steps=60_000,
    aliases=(("HCRUDB", "I2CVB"),),
)

FUNDUS = PaperSet(
    name="fundus",
    domains=("Domain1", "Domain2", "Domain3", "Domain4"),
    training=(50, 99, 320, 320),
    classes=("cup", "disc"),
    nested=True,
    channels=3,
    side=256,
    decode=Decode(bounds=((0, 1), (128, 2), (255, 0))),
    codes=frozenset({0, 128, 255}),
    strong=(0.5, 1.5),
    labels=(20,),
    steps=30_000,
    inner="ROIs",
)

MNMS = PaperSet(
    name="mnms",
    domains=("vendorA", "vendorB", "vendorC", "vendorD"),
    training=(1030, 1342, 525, 550),
    classes=("lv", "myo", "rv"),
    nested=False,
    channels=1,
    side=288,
    decode=Decode(channels=True),
    codes=frozenset({0, 255}),
    strong=(0.1, 2.0),
    labels=(5,),
    steps=60_000,
)

BUSI = PaperSet(
    name="busi",
    domains=("benign", "malignant"),
    training=(350, 168),
    classes=("lesion",),
    nested=False,
    channels=1,
    side=256,
    decode=Decode(bounds=((0, 0), (255, 1))),
    codes=frozenset({0, 1, 255}),
    strong=(0.1, 2.0),
    labels=(64, 129),
    steps=30_000,
)


def busi_training(count: int) -> int:
    """So many of a sorted list of `count` images of a domain train: the last fifth tests.

    BUSI is published without a split; this is the authors' rule.
    """
    return count - count // 5


PAPER_SETS = (PROSTATE, FUNDUS, MNMS, BUSI)


def paper_set(name: Name) -> PaperSet:
    """Return the set of that name."""
    return {known.name: known for known in PAPER_SETS}[name]
