"""Labels whose codes are colors: their classes, and what to do about unknown ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synfoc.errors import UserError
from synfoc.label_colors import color_text

MOST = 8
"""Colors that are named in a message."""
MOST_CLASSES = 64
"""Colors for which a mapping is suggested."""
BETWEEN, BETWEEN_SHARE = 3, 4
"""So many colors between two others that are so many times as frequent are a smoothed edge."""
LOSSY = "save labels as PNG: JPEG changes pixel values"

Colors = tuple[tuple[int, int], ...]
"""(color 0xrrggbb, class index)."""


class UnknownColors(UserError):  # noqa: N818 (as UserError's: what it is about)
    """A label map in colors that no setting explains."""

    def __init__(
        self,
        what: str,
        counts: Mapping[int, int],
        known: Colors,
        around: int,
        path: Path | None = None,
    ) -> None:
        self.plain = what
        self.counts = counts
        """Color -> pixels, all of them."""
        self.known = known
        self.around = around
        """The color along the border."""
        lossy = path is not None and path.suffix.lower() in (".jpg", ".jpeg")
        super().__init__(
            f"mask {path}: {what}" if path else what,
            found=_told(counts, known),
            expected="colors of data.colors (black is background), or one channel: class indices",
            fix=LOSSY if lossy else colors_fix(counts, known, around),
        )

    def in_file(self, path: Path) -> UnknownColors:
        """Return the same, with the file it was found in."""
        return UnknownColors(self.plain, self.counts, self.known, self.around, path)


def color_classes(codes: NDArray[Any], known: Colors) -> NDArray[np.uint8]:
    """Class indices (n, h, w) of colors (n, h, w, 3); black is background unless it is named.

    Raises:
        UnknownColors: a color that is not named.
    """
    key = _numbers(codes)
    result = np.zeros(key.shape, np.uint8)
    there = key == 0
    for color, index in known:
        same = key == color
        result[same] = index
        there |= same
    if there.all():
        return result
    found, counts = np.unique(key, return_counts=True)
    edges = np.concatenate([key[:, 0].ravel(), key[:, -1].ravel()])
    border, many = np.unique(edges, return_counts=True)
    what = "colors that data.colors does not name" if known else "the label map is in colors"
    raise UnknownColors(
        what,
        dict(zip(found.tolist(), counts.tolist(), strict=True)),
        known,
        int(border[many.argmax()]),
    )


def _numbers(codes: NDArray[Any]) -> NDArray[np.int32]:
    """(..., 3) as 0xrrggbb; of 16 bits those that are 8 bits spread over 0..65535."""
    if codes.dtype != np.uint8 and codes.max() > 255 and not (codes % 257).any():
        codes = codes // 257
    if codes.min() < 0 or codes.max() > 255:
        raise UserError(
            "the label map is in colors of more than 8 bits",
            found=f"numbers from {codes.min()} to {codes.max()}",
            expected="8-bit colors, or one channel: class indices",
            fix="save it as an 8-bit PNG",
        )
    parts = codes.astype(np.int32)
    return (parts[..., 0] << 16) | (parts[..., 1] << 8) | parts[..., 2]


def _told(counts: Mapping[int, int], known: Colors) -> str:
    named = {color for color, _ in known} | ({0} if known else set())
    told = Counter({color: many for color, many in counts.items() if color not in named})
    shown = ", ".join(f"{color_text(c)} {many:,} px" for c, many in told.most_common(MOST))
    more = f", ... ({len(told)} colors)" if len(told) > MOST else ""
    return shown + more


def colors_fix(counts: Mapping[int, int], known: Colors, around: int) -> str:
    """Return the setting that explains the colors, quoted for a shell, if they can be classes."""
    named = {0} | {color for color, _ in known}
    unknown = {color: many for color, many in counts.items() if color not in named}
    between = _in_between(unknown, counts)
    if between or len(unknown) > MOST_CLASSES:
        some = f"{len(between)} of {len(counts)} colors lie between others: " if between else ""
        return (
            f"{some}smoothed edges or lossy compression make them; save labels as PNG of few "
            "colors, resized by nearest neighbor"
        )
    mapping = {color_text(color): index for color, index in known}
    following = max([0, *mapping.values()]) + 1
    for color in sorted(unknown, key=lambda color: (-unknown[color], color)):
        if color == around and 0 not in counts and not known and len(unknown) > 1:
            mapping[color_text(color)] = 0
            continue
        mapping[color_text(color)] = following
        following += 1
    pairs = ", ".join(f'"{color}": {index}' for color, index in mapping.items())
    own = "evaluation of a run's own data: data.colors in its config.yaml"
    return f"add --set 'data.colors={{{pairs}}}', in the order of your classes ({own})"


def _in_between(unknown: Mapping[int, int], counts: Mapping[int, int]) -> set[int]:
    """Colors on a line between two that are far more frequent, where several lie on it."""
    frequent = [color for color, _ in Counter(counts).most_common(MOST)]
    found: set[int] = set()
    for first, second in combinations(frequent, 2):
        least = min(counts[first], counts[second])
        rare = [color for color, many in unknown.items() if BETWEEN_SHARE * many <= least]
        on_line = {color for color in rare if _on_line(color, first, second)}
        if len(on_line) >= BETWEEN:
            found |= on_line
    return found


def _on_line(color: int, first: int, second: int) -> bool:
    point, start, end = (np.array([*c.to_bytes(3, "big")], float) for c in (color, first, second))
    along = end - start
    share = float((point - start) @ along / (along @ along))
    return 0 < share < 1 and bool(np.abs(start + share * along - point).max() <= 2)
