"""What a folder holds, by names alone, and what to say of files that are not read.

A folder is listed once and no file is opened, so that 100,000 files take a second.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from synfoc.errors import UserError
from synfoc.images.formats import IMAGE_SUFFIXES

FOREIGN = (
    ".dcm", ".dicom", ".ima", ".gif", ".webp", ".jp2", ".jfif", ".heic", ".ppm", ".pgm", ".svs",
    ".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".mgh", ".img", ".npz", ".mat", ".h5", ".hdf5",
)  # fmt: skip
"""Endings of images that are not read here; notes and tables have others."""
SHOWN = 5
"""Notes about files that are not read; the other folders are only counted."""
LOOKED_INTO = 1000
"""Most sub-folders of a folder that is not read in which files are counted."""


def composed(name: str) -> str:
    """The name with each accent in its letter: macOS writes them as two characters."""
    return unicodedata.normalize("NFC", name)


@dataclass(frozen=True)
class Listing:
    """What one folder holds, each sorted by name; hidden files and folders are left out."""

    folder: Path
    folders: tuple[Path, ...] = ()
    images: tuple[Path, ...] = ()
    foreign: tuple[Path, ...] = ()
    """Images whose format is not read."""

    def named(self, names: Iterable[str]) -> list[Path]:
        """Sub-folders that have one of the names, in the order of the names; case is ignored."""
        return [path for name in names for path in self.folders if path.name.lower() == name]


def refuse_odd_name(path: Path) -> None:
    """Stop at a name that no table, JSON or terminal could show, before any work is done.

    Raises:
        UserError: it is not UTF-8, as on disks of old systems.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(
            "a file name is not UTF-8",
            found=str(path).encode(errors="backslashreplace").decode(),
            expected="names in UTF-8",
            fix="rename it; all at once, where they are Latin-1: "
            "convmv -r --notest -f latin1 -t utf8 FOLDER",
        ) from None


def list_folder(folder: Path) -> Listing:
    """Sub-folders and images of a folder; nothing where there is no such folder.

    Raises:
        UserError: a name that is not UTF-8.
    """
    folders: list[Path] = []
    images: list[Path] = []
    foreign: list[Path] = []
    if folder.is_dir():
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name.lower()
                if name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(Path(entry.path))
                elif name.endswith(IMAGE_SUFFIXES):
                    images.append(Path(entry.path))
                elif name.endswith(FOREIGN):
                    foreign.append(Path(entry.path))
    for path in (*folders, *images, *foreign):
        refuse_odd_name(path)
    return Listing(folder, *(tuple(sorted(each, key=_name)) for each in (folders, images, foreign)))


@dataclass
class Unread:
    """Files that were found and are not read: at most one note per folder."""

    notes: dict[Path, str] = field(default_factory=dict)

    def folder(self, path: Path, why: str) -> None:
        """Note a folder with all that lies in it; one without images needs no note."""
        count, whole = _count(path)
        if count:
            files = _files(count) if whole else f"{count} files or more"
            self._add(path, f"{path} is not read: {why} ({files})")

    def files(self, paths: tuple[Path, ...], why: str) -> None:
        """Note files of one folder."""
        if paths:
            folder, first = paths[0].parent, paths[0].name
            self._add(folder, f"not read in {folder}: {_files(len(paths))}, e.g. {first}; {why}")

    def foreign(self, listing: Listing) -> None:
        """Note images of a format that is not read."""
        if listing.foreign:
            ending = listing.foreign[0].suffix
            self.files(listing.foreign, f"convert {ending} files to PNG or NIfTI")

    def told(self) -> list[str]:
        """The notes, shortened to a handful."""
        notes = list(self.notes.values())
        more = len(notes) - SHOWN
        if more <= 0:
            return notes
        return [*notes[:SHOWN], f"and {more} more folder{'s' * (more > 1)} with files not read"]

    def _add(self, folder: Path, note: str) -> None:
        before = self.notes.get(folder)
        self.notes[folder] = f"{before}. Also {note}" if before else note


def _count(folder: Path) -> tuple[int, bool]:
    """Images at any depth, and whether all sub-folders were looked into."""
    count = 0
    for number, (_, folders, files) in enumerate(os.walk(folder)):
        if number == LOOKED_INTO:
            return count, False
        folders[:] = [name for name in folders if not name.startswith(".")]
        names = (name.lower() for name in files if not name.startswith("."))
        count += sum(name.endswith((*IMAGE_SUFFIXES, *FOREIGN)) for name in names)
    return count, True


def _files(count: int) -> str:
    return f"{count} file{'s' * (count != 1)}"


def _name(path: Path) -> str:
    return path.name
