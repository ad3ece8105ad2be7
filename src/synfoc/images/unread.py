"""Notes about what lies among the data and is not read: one per folder, a handful in all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from synfoc.images.listing import DICOM, Left, Listing, may_be_images

SHOWN = 5
"""Notes about files that are not read; the other folders are only counted."""
FEW = 3
"""So many files of one folder are named one by one."""
LOOKED_INTO = 1000
"""Most sub-folders of a folder that is not read in which files are counted."""


@dataclass
class Unread:
    """Files that were found and are not read: at most one note per folder."""

    notes: dict[Path, str] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)
    """Folders that may not be listed: what they hold is missing in the data."""
    dicom: bool = False

    def folder(self, path: Path, why: str) -> None:
        """Note a folder with all that lies in it; one without images needs no note."""
        count, whole = _count(path)
        if count:
            files = _files(count) if whole else f"{count} files or more"
            self._add(path, f"{path} is not read: {why} ({files})")

    def files(self, paths: Sequence[Path], why: str) -> None:
        """Note files of one folder."""
        if paths:
            folder, first = paths[0].parent, paths[0].name
            self._add(folder, f"not read in {folder}: {_files(len(paths))}, e.g. {first}; {why}")

    def left(self, listing: Listing) -> None:
        """Note what a folder holds beside images."""
        for why, same in by_reason(listing.left):
            self.files([one.path for one in same], why)
            self.dicom |= why == DICOM

    def cannot_list(self, folder: Path, why: str) -> None:
        """Note a folder of which nobody knows what it holds."""
        self._add(folder, f"{folder} is not read: {why}")
        self.closed.append(str(folder))

    def told(self) -> list[str]:
        """Return the notes, shortened to a handful."""
        notes = list(self.notes.values())
        more = len(notes) - SHOWN
        if more <= 0:
            return notes
        return [*notes[:SHOWN], f"and {more} more folder{'s' * (more > 1)} with files not read"]

    def _add(self, folder: Path, note: str) -> None:
        before = self.notes.get(folder)
        if before is None or note not in before:
            self.notes[folder] = f"{before}. Also {note}" if before else note


def by_reason(left: Iterable[Left]) -> list[tuple[str, list[Left]]]:
    """Return what is left in a folder, put together by the reason."""
    ordered = sorted(left, key=lambda one: one.why)
    return [(why, list(same)) for why, same in groupby(ordered, key=lambda one: one.why)]


def by_folder(listing: Listing) -> list[Left]:
    """Return what a folder holds and is not read.

    A few files are named each, many of one reason as the folder.
    """
    found: list[Left] = []
    for why, same in by_reason(listing.left):
        if len(same) > FEW:
            told = f"{_files(len(same))}, e.g. {same[0].path.name}; {why}"
            found.append(Left(listing.folder, told))
        else:
            found += same
    return found


def _count(folder: Path) -> tuple[int, bool]:
    """Images at any depth, and whether all sub-folders were looked into."""
    count = 0
    for number, (here, folders, files) in enumerate(os.walk(folder)):
        if number == LOOKED_INTO:
            return count, False
        folders[:] = [name for name in folders if not name.startswith(".")]
        count += may_be_images(files, Path(here))
    return count, True


def _files(count: int) -> str:
    return f"{count} file{'s' * (count != 1)}"
