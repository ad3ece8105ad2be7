"""Files of a download: found by plain names, and refused where they are missing or changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synfoc.errors import UserError
from synfoc.images.files import is_image, stem
from synfoc.images.paper_sets import PaperSet
from synfoc.images.published import by_domain

SHOWN = 12
"""Names of folders in an error."""


def domain_folders(source: Path, known: PaperSet, names: Mapping[str, str]) -> dict[str, Path]:
    """Find the folder of each domain, in `source` or in its only sub-folder of that kind.

    Args:
        source: folder of the download.
        known: the set.
        names: folder name -> domain; spelled in lower case, letters and digits only.

    Raises:
        UserError: no such folder, none of the domains in it, or two folders of one domain.
    """
    if not source.is_dir():
        raise UserError(
            f"no folder {source}",
            found="a file" if source.exists() else "nothing of this name",
            expected=f"the unpacked folder of the {known.name} set",
            fix="unpack the download and name its folder",
        )
    for folder in (source, *sub_folders(source)):
        there = [path for path in sub_folders(folder) if plain(path.name) in names]
        if there:
            found = by_domain(there, lambda name: names[plain(name)])
            return {domain: found[domain] for domain in known.domains if domain in found}
    raise not_the_set(source, known, f"folders {', '.join(known.domains)}")


def beside(folders: Mapping[str, Path]) -> str:
    """Names of all folders where those of the domains lie, for an error."""
    parent = next(iter(folders.values())).parent
    names = [path.name for path in sub_folders(parent)]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"folders in {parent}: {', '.join(names[:SHOWN])}{more}"


def sub_folders(folder: Path) -> list[Path]:
    """Sorted, without hidden ones and what macOS adds to archives."""
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))
    )


def plain(name: str) -> str:
    """Letters and digits in lower case, so that "RIM-ONE_r3" and "rim one r3" are one name."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def images_in(folder: Path | None) -> list[Path]:
    """Image files by name; none where there is no folder."""
    if folder is None or not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if is_image(path)), key=lambda p: p.name)


def by_name(paths: Iterable[Path], name: Callable[[Path], str] = stem) -> dict[str, Path]:
    """Files by a name that must be theirs alone.

    Raises:
        UserError: two files of one name.
    """
    named: dict[str, Path] = {}
    for path in paths:
        if name(path) in named:
            raise UserError(
                f"two files for {name(path)}",
                found=f"{named[name(path)]} and {path}",
                expected="one file of each name",
                fix="remove one of them, or import from the folder that holds the right one",
            )
        named[name(path)] = path
    return named


def refuse_missing(known: PaperSet, missing: list[str], files: str) -> None:
    """Stop where files that belong together are not all there.

    Args:
        known: the set.
        missing: one text per missing file.
        files: what belongs together.

    Raises:
        UserError: any is missing.
    """
    if missing:
        more = f"; and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(
            f"files of the {known.name} set are missing",
            found="; ".join(missing[:3]) + more,
            expected=files,
            fix="unpack the download again, or remove the other file of each pair",
        )


def not_the_set(source: Path, known: PaperSet, expected: str) -> UserError:
    """Return the error for a folder that holds something else."""
    inside = [path.name for path in sorted(source.iterdir()) if not path.name.startswith(".")]
    return UserError(
        f"{source} is not the {known.name} set as it is handed out",
        found=", ".join(inside[:6]) or "an empty folder",
        expected=expected,
        fix="name the folder that holds them (docs/data.md shows the layouts)",
    )


def same_size(image: Path, label: Path, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    """Stop where a label does not fit its image.

    Args:
        image: named in the error.
        label: likewise.
        shapes: of both.

    Raises:
        UserError: they differ.
    """
    if shapes[0] != shapes[1]:
        said = [" x ".join(map(str, shape)) for shape in shapes]
        raise UserError(
            f"{label} is of another size than its image",
            found=f"{said[1]}; {image.name} has {said[0]}",
            expected="the same number of pixels along each axis",
            fix="fetch both files again",
        )


def only_codes(label: Path, codes: NDArray[Any], allowed: Mapping[int, str]) -> None:
    """Stop at codes that are not those of the original.

    Args:
        label: named in the error.
        codes: whole numbers of any shape.
        allowed: code -> what it means.

    Raises:
        UserError: others occur.
    """
    present = np.unique(codes)
    if not set(present.tolist()) <= set(allowed):
        raise UserError(
            f"{label} holds codes that the original does not have",
            found="values " + ", ".join(f"{code:g}" for code in present[:8]),
            expected=", ".join(f"{code} {meaning}" for code, meaning in allowed.items()),
            fix="fetch the original labels, unchanged",
        )


def odd_codes(label: Path, codes: NDArray[Any], allowed: Mapping[int, str]) -> str:
    """Note where a picture's mask was resampled, so that codes lie between the original ones.

    Args:
        label: named in the error.
        codes: of a mask.
        allowed: code -> what it means.

    Raises:
        UserError: no background, so that the codes must mean something else.
    """
    background = next(code for code, meaning in allowed.items() if meaning == "background")
    if not (codes == background).any():
        only_codes(label, codes, {background: "background"})
    said = ", ".join(map(str, allowed))
    odd = not np.isin(codes, list(allowed)).all()
    return f"masks with other codes than {said}, taken as the authors do" if odd else ""
