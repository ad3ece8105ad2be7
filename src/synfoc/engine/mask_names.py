"""Which images are segmented, what their masks are called, and what must not be written over.

All of it is known before the first image is read, so a name that is taken stops `predict` before
anything is written.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from synfoc.errors import UserError
from synfoc.images.files import IMAGE_SUFFIXES, is_image, stem
from synfoc.images.layouts import IMAGE_FOLDERS, LABEL_FOLDERS, labels_among
from synfoc.images.listing import refuse_odd_name

OVERLAY, PROBABILITIES = "_overlay", "_probabilities"
LABELS = re.compile(rf"({'|'.join(LABEL_FOLDERS)})(tr|ts)?([^a-z].*)?$", re.IGNORECASE)
"""`labels`, nnU-Net's `labelsTr`, `mask_disc_cup`; not `gtx_clinic`."""
MASK_SUFFIXES = (".png", ".nii.gz", ".nii", ".npy")


def find_images(images: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Files behind the given files and folders: path of the mask below `out` -> file.

    A folder keeps its sub-folders. Hidden files, files of other types, masks that an earlier call
    left in `out` below it and (with a warning) labels are passed over: a folder `mask` beside a
    folder `image`, and `x_mask.png` beside `x.png`. A file that is named itself is always taken.

    Raises:
        UserError: nothing to do, a path that does not exist, a name that is not UTF-8, or two
            images with one name.
    """
    found: dict[Path, Path] = {}
    twins: dict[Path, Path] = {}
    masks: list[str] = []
    for given in images:
        if not given.exists():
            raise UserError(
                f"no image at {given}",
                found="no such file or folder",
                expected=f"a folder, or a file that ends with {' '.join(IMAGE_SUFFIXES)}",
                fix="check the path",
            )
        inside = [given]
        if given.is_dir():
            inside = sorted(p for p in given.rglob("*") if is_image(p) and p.is_file())
            inside = [p for p in inside if not _written(p, given, out)]
            labels = _labels(inside)
            inside = [p for p in inside if not labels & {p, p.parent}]
            masks += map(str, sorted(labels))
        for path in inside:
            name = path.relative_to(given) if given.is_dir() else Path(path.name)
            refuse_odd_name(path)
            _refuse_twin(twins, name, path)
            found.setdefault(name, path)
    if not found:
        raise UserError(
            "no images to segment",
            found=f"none in {', '.join(map(str, images)) or 'an empty list'}"
            + (f" (taken for labels: {', '.join(masks[:2])})" if masks else ""),
            expected=f"files that end with {' '.join(IMAGE_SUFFIXES)}",
            fix="name the folder that holds the images",
        )
    if masks:
        more = f" and {len(masks) - 3} more" if masks[3:] else ""
        warnings.warn(
            f"not segmented, since they look like labels of images beside them: "
            f"{', '.join(masks[:3])}{more}",
            stacklevel=2,
        )
    return found


def refuse_clashes(sources: Mapping[Path, Path], extras: Mapping[str, bool]) -> None:
    """No mask may have the name of another image's picture (`a_overlay.png` beside `a.png`).

    Raises:
        UserError: one would.
    """
    images = {name.with_name(stem(name)): image for name, image in sources.items()}
    for ending in (ending for ending, wanted in extras.items() if wanted):
        for bare, image in images.items():
            twin = images.get(bare.with_name(bare.name + ending))
            if twin is not None:
                raise UserError(
                    f"two files would get the name {bare.name}{ending}",
                    found=f"the mask of {twin} and what --{ending[1:]} writes for {image}",
                    expected=f"no image whose name is that of another one and {ending}",
                    fix=f"leave --{ending[1:]} out, or move {twin.name} elsewhere",
                )


def refuse_to_replace_images(out: Path, sources: Mapping[Path, Path]) -> None:
    """No mask may be written over an image that is to be segmented.

    Raises:
        UserError: it would.
    """
    images = {image.resolve() for image in sources.values()}
    folders = {name.parent: (out / name.parent).resolve() for name in sources}
    lost = [name for name in _outputs(sources) if folders[name.parent] / name.name in images]
    if lost:
        raise UserError(
            "masks would replace the images they are made of",
            found=f"{out / lost[0]} is an image" + (f", {len(lost)} in all" if lost[1:] else ""),
            expected="a folder for the masks that is not that of the images",
            fix="choose another --out",
        )


def refuse_to_overwrite(out: Path, sources: Mapping[Path, Path]) -> None:
    """Nothing that would be written may be there already.

    Raises:
        UserError: it is.
    """
    # Folders are listed, since asking for every name takes long on a disk of the network.
    folders = {folder: _names(out / folder) for folder in {Path(), *(n.parent for n in sources)}}
    there = [str(name) for name in _outputs(sources) if name.name in folders[name.parent]]
    if there:
        raise UserError(
            f"{out} already holds masks",
            found=", ".join(there[:4]) + (f" and {len(there) - 4} more" if there[4:] else ""),
            expected="a new folder, or one without masks of these names",
            fix="choose another --out, or add --overwrite",
        )


def _refuse_twin(twins: dict[Path, Path], name: Path, path: Path) -> None:
    """Remember who gets which mask: `a.png` and `a.jpg` would both get `a`."""
    bare = name.with_name(stem(name))
    twin = twins.setdefault(bare, path)
    if twin != path and twin.resolve() != path.resolve():
        raise UserError(
            f"two images would get the mask {bare}",
            found=f"{twin} and {path}",
            expected="one image per name",
            fix="give the folder above both, so that sub-folders are kept, or rename one",
        )


def _written(path: Path, given: Path, out: Path) -> bool:
    """Whether an image lies where an earlier call wrote masks: in `out`, below what is given."""
    inner = out.absolute()
    return given.absolute() in inner.parents and inner in path.absolute().parents


def _labels(paths: Sequence[Path]) -> set[Path]:
    """Folders of labels, and files that are labels of others in their folder."""
    folders: dict[Path, dict[str, Path]] = {}
    for path in paths:
        folders.setdefault(path.parent, {})[stem(path)] = path
    labels = {folder for folder in folders if _holds_labels(folder)}
    for folder, named in folders.items():
        if folder not in labels:
            labels.update(chain.from_iterable(labels_among(named)[0].values()))
    return labels


def _holds_labels(folder: Path) -> bool:
    """Whether a folder is one of labels, by its name and those beside it."""
    if not LABELS.match(folder.name):
        return False
    beside = (other.name.lower() for other in folder.parent.iterdir() if other.is_dir())
    return any(name.startswith(IMAGE_FOLDERS) for name in beside)


def _names(folder: Path) -> set[str]:
    """What a folder holds; nothing where there is none."""
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _outputs(sources: Iterable[Path]) -> list[Path]:
    """All that may be written for these masks."""
    endings = [*MASK_SUFFIXES, f"{OVERLAY}.png", *(PROBABILITIES + s for s in MASK_SUFFIXES[1:])]
    return [name.with_name(stem(name) + ending) for name in sources for ending in endings]
