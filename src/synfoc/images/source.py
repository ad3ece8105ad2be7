"""What a file's header says, and the refusal of a file that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from synfoc.errors import UnreadableError, UserError
from synfoc.images.nifti_header import default_place

MAX_PICTURE = 2**25
"""Most pixels of a 2-D picture: 8192 x 4096; in color they take 1.5 GiB where they are resized."""
MAX_VOLUME = 2**30
"""Most voxels of a volume: 1024 x 1024 x 1024."""
READABLE = "a whole picture (PNG, JPEG, TIFF, BMP) or a 2-D or 3-D NIfTI or NPY file"

Kind = Literal["picture", "nifti", "npy"]


@dataclass(frozen=True)
class Source:
    """What a file's header says."""

    kind: Kind
    shape: tuple[int, ...]
    """As stored, without the color axis: (h, w) of a picture, (x, y, z) of NIfTI."""
    color: bool
    zooms: tuple[float, ...] | None = None
    """Voxel size in mm along each axis of `shape`; None where the file states none."""
    places: tuple[NDArray[np.float64], ...] = ()
    """Affines that a NIfTI header states (nifti_header.py); none: the file states no place."""
    header: Any = None
    remark: str = ""
    """What a person should know of how it was read: "channels first: read as color"."""

    @property
    def affine(self) -> NDArray[np.float64] | None:
        """The affine by which a NIfTI is turned upright; None for files of other formats."""
        if self.kind != "nifti":
            return None
        return self.places[0] if self.places else default_place(self.zooms)


def refused(path: Path, found: str, fix: str, expected: str = READABLE) -> UnreadableError:
    """Return the error of a file that cannot be read."""
    return UnreadableError(f"cannot read image {path}", found=found, expected=expected, fix=fix)


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn whatever a decoder throws at a bad file into a UserError.

    Decoders throw anything: AttributeError, OverflowError, struct.error, RecursionError. So only
    their own calls belong inside: a fault of ours must not look like that of a file.
    """
    try:
        yield
    except UserError:
        raise
    except PermissionError:
        raise refused(path, "no permission to read it", "change its permissions") from None
    except MemoryError as error:
        found = "more than the memory of this machine holds, or a damaged header"
        raise refused(path, found, "see whether a viewer opens it; if so, crop it") from error
    except Exception as error:
        reason = " ".join(str(error).replace(str(path), path.name).split())[:200]
        found = f"damaged or cut short ({reason or type(error).__name__})"
        raise refused(path, found, "export or copy it again") from error


def equal_channels(data: NDArray[Any]) -> bool:
    """Whether a (..., 3) array is gray: its three channels agree everywhere."""
    return bool(
        np.array_equal(data[..., 0], data[..., 1]) and np.array_equal(data[..., 0], data[..., 2])
    )
