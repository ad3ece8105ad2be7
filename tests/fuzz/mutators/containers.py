"""Files with files in them: safetensors, NPZ and the ZIP of PyTorch."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from random import Random
from typing import Any

from fuzz.mutators.raw import Mutator, draw_number, either, put_number, spoil
from fuzz.mutators.text import change_tree

DTYPES = ("F32", "F64", "F16", "BF16", "I64", "I8", "U8", "BOOL", "F8_E4M3", "C64", "F33", "", None)


def safetensors_parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and tensors of a whole file."""
    (size,) = struct.unpack_from("<Q", data, 0)
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def safetensors_of(header: Any, body: bytes) -> bytes:
    """A file with this header, whatever it says."""
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return struct.pack("<Q", len(text)) + text + body


def tensor_entry(data: bytes, rng: Random) -> bytes:
    """Type, shape or offsets of one tensor, or one tensor under another name."""
    header, body = safetensors_parts(data)
    name = rng.choice([key for key in header if key != "__metadata__"])
    entry = header[name]
    how = rng.randrange(6)
    if how == 0:
        entry["dtype"] = rng.choice(DTYPES)
    elif how == 1:
        entry["shape"] = [*entry["shape"][:-1], int(draw_number("<q", rng))]
    elif how == 2:
        entry["shape"] = entry["shape"][::-1] + [1] * rng.randrange(2)
    elif how == 3:
        entry["data_offsets"][rng.randrange(2)] = int(draw_number("<q", rng))
    elif how == 4:
        header[rng.choice(("", "x", name + "/0", "unet.student/" + name))] = header.pop(name)
    else:
        del header[name]
    return safetensors_of(header, body)


def header_tree(data: bytes, rng: Random) -> bytes:
    """Any value of the header, as JSON values are changed."""
    header, body = safetensors_parts(data)
    return safetensors_of(change_tree(header, rng), body)


def metadata(data: bytes, rng: Random) -> bytes:
    """A text in the metadata, which is JSON itself where synfoc wrote it."""
    header, body = safetensors_parts(data)
    about = header.setdefault("__metadata__", {"format": "pt"})
    key = rng.choice(list(about))
    try:
        about[key] = json.dumps(change_tree(json.loads(about[key]), rng))
    except ValueError:
        about[key] = rng.choice(("", "null", "synfoc checkpoint 1", "{", "[]", "NaN", "\0"))
    if rng.random() < 0.2:
        del about[key]
    return safetensors_of(header, body)


def tensor_bytes(data: bytes, rng: Random) -> bytes:
    """Numbers that are NaN, infinite or huge."""
    header, body = safetensors_parts(data)
    at = 4 * rng.randrange(max(1, len(body) // 4))
    return safetensors_of(header, put_number(body, at, "<f", draw_number("<f", rng))[: len(body)])


def header_length(data: bytes, rng: Random) -> bytes:
    return put_number(data, 0, "<Q", draw_number("<Q", rng))


safetensors = either(
    spoil, tensor_entry, tensor_entry, header_tree, metadata, metadata, tensor_bytes, header_length
)


def zip_members(mutate: Mutator) -> Mutator:
    """One member of an archive spoiled, dropped, renamed or said twice; checksums are right."""

    def inside(data: bytes, rng: Random) -> bytes:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
            packing = archive.infolist()[0].compress_type
        at = rng.randrange(len(members))
        name, content = members[at]
        how = rng.randrange(5)
        if how == 0:
            del members[at]
        elif how == 1:
            odd = ("../../x.npy", "/x.npy", "", name.upper(), "a" * 300, name + "/", "é\n.npy")
            members[at] = (rng.choice(odd), content)
        else:
            members[at] = (name, mutate(content, rng))
        return zip_of(members, packing=packing)

    return inside


def zip_of(members: list[tuple[str, bytes]], *, packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of these members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packing) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, packing)
    return file.getvalue()
