"""What a folder holds, by names alone: folders, images, and what nothing here can read.

A folder is listed once, so that 100,000 files take a second. No file is opened but for a few
without an ending, of which the first bytes tell whether they are DICOM. What is no file (a pipe, a
socket, a device) is never opened.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from synfoc.errors import UserError
from synfoc.images.formats import IMAGE_SUFFIXES

DICOM = "DICOM: convert to NIfTI (dcm2niix)"
"""What to do about the format that hospitals have and that is not read yet."""
_DICOM = (".dcm", ".dicom", ".dic", ".ima")
_FOREIGN = (
    ".gif", ".webp", ".jp2", ".j2k", ".jpe", ".jfif", ".heic", ".heif", ".avif", ".ppm", ".pgm",
    ".pbm", ".pnm", ".tga", ".psd", ".exr", ".svs", ".ndpi", ".scn", ".mrxs", ".vms", ".bif",
    ".czi", ".lif", ".nd2", ".oib", ".oif", ".lsm", ".vsi", ".ims", ".mha", ".mhd", ".nrrd",
    ".nhdr", ".mgz", ".mgh", ".mnc", ".img", ".hdr", ".par", ".rec", ".mif", ".brik", ".gipl",
    ".vtk", ".vti", ".npz", ".mat", ".h5", ".hdf5", ".hdf", ".zarr", ".n5", ".nii.bz2", ".nii.xz",
    ".nii.zst", ".npy.gz", ".mif.gz", ".img.gz", ".hdr.gz", ".tif.gz", ".tiff.gz", ".tfrecord",
)  # fmt: skip
"""Endings of images that are not read here; notes and tables have others."""
_ARCHIVES = (
    ".zip", ".tar", ".tgz", ".gz", ".7z", ".rar", ".bz2", ".tbz2", ".xz", ".txz", ".zst",
)  # fmt: skip
_PACKED_TEXT = re.compile(r"\.(csv|tsv|txt|json|log|xml|md|bval|bvec)\.(gz|bz2|xz|zst)$")
_UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".filepart")
_FOLDERS = (".zarr", ".n5")
"""Folders that are one image."""
JUNK = {
    "__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found",
}  # fmt: skip
"""Folders of systems and disks; what lies there is of nobody."""
NOWHERE = "a link that leads nowhere: fetch the file (git annex get, datalad get), or remove it"
NO_FILE = "no file, but a pipe, a socket or a device: it is not opened"
CLOSED = "no permission to list it"
PROBED = 16
"""Most files without an ending of which the first bytes are read, in one folder."""
_MAGIC = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"II*\0": ".tif", b"MM\0*": ".tif"}


def composed(name: str) -> str:
    """Return the name with each accent in its letter: macOS writes them as two characters."""
    return unicodedata.normalize("NFC", name)


@dataclass(frozen=True)
class Left:
    """Something in a folder that is not read."""

    path: Path
    why: str
    """The reason, or what to do about it."""


@dataclass(frozen=True)
class Listing:
    """What one folder holds, each sorted by name; hidden files and folders are left out."""

    folder: Path
    folders: tuple[Path, ...] = ()
    images: tuple[Path, ...] = ()
    left: tuple[Left, ...] = ()
    """What somebody may take for an image, and is not read."""

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
        OSError: it may not be listed.
        UserError: a name that is not UTF-8.
    """
    folders: list[Path] = []
    images: list[Path] = []
    left: list[Left] = []
    bare: list[Path] = []
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return Listing(folder)
    with entries:
        for entry in entries:
            name = entry.name.lower()
            if name.startswith(".") or name in JUNK:
                continue
            kind = _kind(entry)
            if kind == "folder" and not name.endswith(_FOLDERS):
                folders.append(Path(entry.path))
            elif kind in {"file", "nowhere"} and name.endswith(IMAGE_SUFFIXES):
                # Reading an image behind a link that leads nowhere tells so.
                images.append(Path(entry.path))
            elif why := _why_left(name, kind):
                left.append(Left(Path(entry.path), why))
            elif kind == "file" and _without_ending(name):
                bare.append(Path(entry.path))
    left += _known_by_content(sorted(bare, key=_name))
    for path in (*folders, *images, *(one.path for one in left)):
        refuse_odd_name(path)
    return Listing(
        folder,
        tuple(sorted(folders, key=_name)),
        tuple(sorted(images, key=_name)),
        tuple(sorted(left, key=lambda one: one.path.name)),
    )


def walk(folder: Path) -> Iterator[Listing]:
    """Yield the listings of a folder and of all below it, each once, however links lead to it.

    What a link leads to comes last: under its own name, where it lies below the folder, too. A
    folder that may not be listed is `left` in a listing of its own.
    """
    seen: set[tuple[int, int]] = set()
    folders, links = [folder], list[Path]()
    while folders or links:
        here = folders.pop() if folders else links.pop()
        try:
            state = here.stat()
            if (state.st_dev, state.st_ino) in seen:
                continue
            seen.add((state.st_dev, state.st_ino))
            listing = list_folder(here)
        except OSError as error:
            yield Listing(here, left=(Left(here, closed(error)),))
            continue
        yield listing
        for path in reversed(listing.folders):
            (links if path.is_symlink() else folders).append(path)


def closed(error: OSError) -> str:
    """Why a folder cannot be listed."""
    return (
        CLOSED if isinstance(error, PermissionError) else f"it cannot be listed: {error.strerror}"
    )


def why_not_read(path: Path) -> str:
    """Why a file that is named itself is not read; "" where it may be, as far as that is known.

    It is opened only where its name has no ending.
    """
    if path.is_file():
        kind = "file"
    else:
        kind = "nowhere" if path.is_symlink() and not path.exists() else "special"
    name = path.name.lower()
    if kind == "file" and name.endswith(IMAGE_SUFFIXES):
        return ""
    if kind == "special":
        return NO_FILE
    found = _known_by_content([path]) if kind == "file" and _without_ending(name) else []
    return found[0].why if found else _why_left(name, kind)


def is_dicom(start: bytes) -> bool:
    """Whether the first 132 bytes of a file are those of DICOM."""
    return start[128:132] == b"DICM"


def may_be_images(names: Iterable[str], folder: Path) -> int:
    """How many of the files of a folder are images, or what `list_folder` leaves."""
    visible = [name for name in names if not name.startswith(".")]
    known = sum(
        name.lower().endswith(IMAGE_SUFFIXES) or bool(_why_left(name.lower(), "file"))
        for name in visible
    )
    bare = sorted(name for name in visible if _without_ending(name))
    return known + len(_known_by_content([folder / name for name in bare]))


def _kind(entry: os.DirEntry[str]) -> str:
    """folder, file, nowhere or special; a link counts as what it leads to."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
        if entry.is_symlink() and not Path(entry.path).exists():
            return "nowhere"
    except PermissionError:  # a link into a closed folder: listing it tells
        return "folder"
    except OSError:  # a link that leads to itself
        return "nowhere"
    return "special"


def _why_left(name: str, kind: str) -> str:
    """Why something that is no image of a known ending is not read; "" if nobody expects it."""
    if kind not in {"file", "folder"}:
        told = (
            name.endswith(IMAGE_SUFFIXES)
            or name.endswith((*_DICOM, *_FOREIGN))
            or _without_ending(name)
        )
        return (NOWHERE if kind == "nowhere" else NO_FILE) if told else ""
    if name.endswith(_DICOM):
        return DICOM
    if name.endswith(_FOREIGN):
        ending = next(ending for ending in _FOREIGN if name.endswith(ending))
        return f"convert {ending} files to PNG or NIfTI"
    if name.endswith(_UNFINISHED):
        return "a download that did not end: fetch it again"
    if name.endswith(_ARCHIVES) and not _PACKED_TEXT.search(name):
        return "an archive: unpack it"
    return ""


def _without_ending(name: str) -> bool:
    """No ending, or a number only: what scanners write is called IM-0001 or 1.2.840.113619.2."""
    ending = name.rpartition(".")[2] if "." in name else ""
    return not ending or ending.isdigit()


def _known_by_content(paths: list[Path]) -> list[Left]:
    """Files without an ending that are images by their first bytes.

    Where any of the first ones is DICOM, so are all that are not opened.
    """
    left: list[Left] = []
    for path in paths[:PROBED]:
        try:
            start = _first_bytes(path)
        except OSError:
            continue
        if is_dicom(start):
            left.append(Left(path, DICOM))
        elif ending := _MAGIC.get(start[:4], _MAGIC.get(start[:3])):
            left.append(Left(path, f"the ending is missing: rename it to end in {ending}"))
    if any(one.why == DICOM for one in left):
        left += [Left(path, DICOM) for path in paths[PROBED:]]
    return left


def _first_bytes(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(132)


def _name(path: Path) -> str:
    return path.name
