"""The header of a checkpoint: text beside the tensors, read without them; no torch.

format      FORMAT
progress    JSON: where the run stood
config      JSON: the config that the checkpoint was made with
sums?       JSON: {networks: CRC-32 of all tensors, base?: that of base.safetensors}, so that
a flipped bit and files of two runs are told
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from synfoc.config import Config, parse_config
from synfoc.errors import UserError
from synfoc.storage import obstacle, refuse_endless, unreadable

FORMAT = "synfoc checkpoint 2"


def read_header(path: Path, *, fix: str) -> dict[str, str]:
    """Return what stands in the header of a checkpoint.

    Raises:
        UserError: no such file, damaged, or no checkpoint of this version.
    """
    try:
        refuse_endless(path)
        with safe_open(path, framework="np") as file:
            header = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise unreadable(
            path, obstacle(path) or str(error), expected="a whole safetensors file", fix=fix
        ) from None
    if header.get("format") != FORMAT:
        raise UserError(
            f"{path} is not a checkpoint of this synfoc",
            found=f"format {header.get('format')}",
            expected=FORMAT,
            fix=fix,
        )
    return header


def header_json(header: dict[str, str], key: str, path: Path, *, fix: str) -> dict[str, Any]:
    """One object of a header.

    Raises:
        UserError: it is missing, or no JSON object.
    """
    try:
        value = json.loads(header.get(key, ""))  # a score that is none yet is -Infinity
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise unreadable(
            path, f"no {key} in its header", expected="a header as synfoc train writes it", fix=fix
        )
    return value


def header_config(path: Path, *, fix: str) -> Config:
    """Return the config that a checkpoint was made with.

    Raises:
        UserError: no such file, damaged, or no checkpoint.
    """
    tree = header_json(read_header(path, fix=fix), "config", path, fix=fix)
    return parse_config(tree, source=str(path))
