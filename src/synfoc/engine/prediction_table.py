"""predictions.csv: a row for every mask of a folder, those to check first on top."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from synfoc.errors import UserError
from synfoc.images.files import stem
from synfoc.storage import write_table

TABLE = "predictions.csv"
DIGITS = 4


@dataclass(frozen=True)
class Prediction:
    """One image's row of predictions.csv."""

    image: str
    mask: str = ""
    """Relative to the folder of masks; empty where the image could not be read."""
    confidence: float | None = None
    """Agreement of the branches in [0, 1] (mean Dice over classes; a volume is one image); of
    student and teacher where there is one branch; the certainty where there is one network."""
    certainty: float | None = None
    """Largest probability in [0, 1], mean over pixels. High where most is background."""
    estimated_dice: float | None = None
    """Dice in [0, 1] as estimated without a label (`estimate`); a volume is one image. None where
    the run was not calibrated, or the checkpoint is of another step than `best`."""
    foreground: float | None = None
    """Share of the pixels that are not background."""
    slice: int | None = None
    """Slice of a volume on which the branches agree least."""
    note: str = ""
    """Why to look at it: what could not be read, or an empty mask."""

    @property
    def failed(self) -> bool:
        """Whether there is no mask."""
        return not self.mask


def urgency(row: Prediction) -> tuple[bool, bool, float, float, float, str]:
    """Unreadable first, then empty (both branches may miss it in agreement), then unsure.

    Unsure is a low estimate of Dice; where the run has none, little confidence: agreement says as
    much of the weaker network as of the one that answers (docs/trust.md).
    """
    guess = row.confidence if row.estimated_dice is None else row.estimated_dice
    return (
        not row.failed,
        row.foreground != 0,
        # As the table shows them, or rows of an earlier call would sort apart.
        round(guess or 0.0, DIGITS),
        round(row.confidence or 0.0, DIGITS),
        round(row.certainty or 0.0, DIGITS),
        row.image,
    )


def write_rows(out: Path, rows: Sequence[Prediction]) -> None:
    """Replace the table of a folder of masks.

    Raises:
        UserError: the disk is full.
    """
    lines = []
    for row in sorted(rows, key=urgency):
        values = [getattr(row, name) for name in _COLUMNS]
        lines.append([f"{v:.{DIGITS}f}" if isinstance(v, float) else v for v in values])
    write_table(out / TABLE, _COLUMNS, lines)


def earlier_rows(out: Path, *, again: Iterable[Path], overwrite: bool) -> list[Prediction]:
    """Rows of an earlier call whose masks still stand and are not among those made `again`.

    Raises:
        UserError: something else wrote the table, and it may not be replaced (`overwrite`).
    """
    table = out / TABLE
    if not table.is_file():
        return []
    bare = {_bare(mask) for mask in again}
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = [_parsed(row) for row in csv.DictReader(file)]
    except (KeyError, TypeError, ValueError, csv.Error):
        if not overwrite:
            raise UserError(
                f"{table} is not as synfoc wrote it",
                found="other columns or values, or another encoding than UTF-8",
                expected="the table of an earlier call, or none",
                fix="choose another --out, or add --overwrite",
            ) from None
        warnings.warn(
            f"{table} is not as synfoc wrote it; its rows are left out of the new one",
            stacklevel=3,
        )
        return []
    standing = [row for row in rows if row.mask and (out / row.mask).is_file()]
    return [row for row in standing if _bare(Path(row.mask)) not in bare]


_COLUMNS = [field.name for field in fields(Prediction)]


def _parsed(row: Mapping[str, str]) -> Prediction:
    """Return the inverse of what `write_rows` does to a row."""

    def number(key: str) -> float | None:
        return float(row[key]) if row[key] else None

    cut = number("slice")
    return Prediction(
        image=row["image"],
        mask=row["mask"],
        confidence=number("confidence"),
        certainty=number("certainty"),
        estimated_dice=number("estimated_dice"),
        foreground=number("foreground"),
        slice=None if cut is None else int(cut),
        note=row["note"] or "",
    )


def _bare(mask: Path) -> Path:
    """Without its ending, which follows the kind of the image; no two masks share it."""
    return mask.with_name(stem(mask))
