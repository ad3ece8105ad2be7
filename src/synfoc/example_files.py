"""Example pictures of a run: test cases to look at, one .npz each; no torch."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field

from synfoc.answers import BRANCHES, BranchName
from synfoc.errors import UserError
from synfoc.records import Fraction, Record, fault
from synfoc.storage import obstacle, parse_json, plain, replacing, unreadable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Kind: TypeAlias = Literal["best", "median", "worst"]
KINDS: tuple[Kind, ...] = ("best", "median", "worst")
LARGEST = 2**29
"""Bytes of all arrays of an example; what claims to hold more is not opened."""
Millimeters: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Example:
    """One test case to look at: best, median or worst of its domain, or the only one.

    The order is by the mean Dice over classes of the recommended branch. A volume gives the slice
    with the most label pixels.
    """

    case: str
    domain: str | None
    kind: Kind
    image: NDArray[np.uint8]
    """(h, w) or (h, w, 3), as shown to a person: 0..255."""
    label: NDArray[np.uint8]
    """(h, w), class indices 0..C."""
    masks: Mapping[BranchName, NDArray[np.uint8]]
    """Those of the branches that the run has: (h, w), class indices 0..C."""
    dice: Mapping[BranchName, float | None]
    """Of the whole case, mean over classes, in [0, 1]; None where it does not exist."""
    spacing: tuple[float, float] | None = None
    """mm between rows and between columns, so that pixels that are not square are shown true."""


class About(Record):
    """The JSON beside the arrays."""

    case: str
    domain: str | None
    kind: Kind
    dice: dict[BranchName, Fraction | None] = Field(default_factory=dict)
    spacing: Annotated[list[Millimeters], Field(min_length=2, max_length=2)] | None = None


def save_example(path: Path, example: Example) -> None:
    """Save one test case for the report's pictures.

    An .npz with the arrays `image`, `label` and one per branch, and as JSON in `info` what else is
    known: {case, domain, kind, dice, spacing?}.

    Args:
        path: `RunFolder.example(domain, kind)`.
        example: image, label and masks of one size.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    import numpy as np

    if any(mask.shape != example.label.shape for mask in example.masks.values()):
        raise ValueError("label and masks of an example must have one shape")
    if example.image.shape[:2] != example.label.shape:
        raise ValueError("an example needs an image of its label's size")
    info: dict[str, Any] = {"case": example.case, "domain": example.domain, "kind": example.kind}
    info["dice"] = example.dice
    if example.spacing:
        info["spacing"] = example.spacing
    with replacing(path) as part, part.open("wb") as file:
        text = np.array(json.dumps(plain(info), ensure_ascii=False))
        arrays: dict[str, Any] = {"image": example.image, "label": example.label, "info": text}
        arrays.update((str(branch), mask) for branch, mask in example.masks.items())
        np.savez_compressed(file, **arrays)


def load_example(path: Path, *, fix: str = "evaluate the run again") -> Example:
    """Read what `save_example` wrote.

    Args:
        path: the file.
        fix: what brings it back.

    Raises:
        UserError: the file is torn or not an example.
    """
    try:
        return _example(_arrays(path))
    except (OSError, MemoryError) as error:
        found = obstacle(path) or str(error)
    except (ValueError, KeyError, RecursionError) as error:
        found = obstacle(path) or f"damaged, or of another program ({error})"
    raise unreadable(path, found, expected="an .npz written by `synfoc evaluate`", fix=fix)


def load_examples(folder: Path, *, fix: str) -> tuple[list[Example], list[UserError]]:
    """All examples of a folder by domain, then best, median, worst; and why others are left out."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 (glob hides errors)
    except (FileNotFoundError, NotADirectoryError):
        names = []
    except OSError:
        return [], [unreadable(folder, obstacle(folder), expected="a folder", fix=fix)]
    paths = [folder / name for name in names if name.endswith(".npz") and name[0] != "."]
    read = [_example_or_error(path, fix) for path in paths]
    found = [one for one in read if isinstance(one, Example)]
    found.sort(key=lambda e: (e.domain or "", KINDS.index(e.kind)))
    return found, [one for one in read if isinstance(one, UserError)]


def _example_or_error(path: Path, fix: str) -> Example | UserError:
    try:
        return load_example(path, fix=fix)
    except UserError as error:
        return error


def _check_shapes(example: Example) -> None:
    """Make sure that a file that was read holds one picture.

    Raises:
        ValueError: an array has another type or size.
    """
    label = example.label
    if label.ndim != 2 or not label.size:
        raise ValueError(f"a label of shape {label.shape}")
    if example.image.shape not in (label.shape, (*label.shape, 3)):
        raise ValueError(f"an image of shape {example.image.shape}, a label of {label.shape}")
    arrays: dict[str, NDArray[np.uint8]] = {"image": example.image, "label": label}
    arrays.update((str(branch), mask) for branch, mask in example.masks.items())
    for name, array in arrays.items():
        if array.dtype != "uint8":
            raise ValueError(f"{name} of type {array.dtype}")
        if name != "image" and array.shape != label.shape:
            raise ValueError(f"{name} of shape {array.shape}, a label of {label.shape}")


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an archive.

    Raises:
        ValueError: it is damaged, or would unpack to more than any picture has.
        OSError, MemoryError: it cannot be read.
    """
    import numpy as np

    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > LARGEST:
            raise ValueError(f"{size} bytes of arrays, more than any picture has")
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, MemoryError, ValueError):
        raise
    except Exception as error:  # decoders throw anything: BadZipFile, zlib.error, TokenError
        raise ValueError(f"{type(error).__name__}: {error}") from None
    if bare := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise ValueError(f"{bare[0]} is no array")
    return arrays


def _example(arrays: Mapping[str, NDArray[Any]]) -> Example:
    """Return what the arrays of an example mean.

    Raises:
        ValueError, KeyError: they are not those that `save_example` writes.
    """
    info = parse_json(str(arrays["info"]).encode())
    if wrong := fault(info, About):
        raise ValueError("{} = {}, not {}".format(*wrong))
    spacing = info.get("spacing")
    example = Example(
        case=info["case"],
        domain=info["domain"],
        kind=info["kind"],
        image=arrays["image"],
        label=arrays["label"],
        masks={branch: arrays[branch] for branch in BRANCHES if branch in arrays},
        dice=info.get("dice", {}),
        spacing=(spacing[0], spacing[1]) if spacing else None,
    )
    _check_shapes(example)
    return example
