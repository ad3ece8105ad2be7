"""Fields of NIfTI, and the text of an NPY header."""

from __future__ import annotations

import gzip
import struct
import zlib
from random import Random

from fuzz.mutators.raw import Mutator, draw_number, either, put, put_number, spoil

FIELDS = {
    "sizeof_hdr": (0, "<i"),
    "dim_info": (39, "<B"),
    **{f"dim{i}": (40 + 2 * i, "<h") for i in range(8)},
    "intent_code": (68, "<h"),
    "datatype": (70, "<h"),
    "bitpix": (72, "<h"),
    **{f"pixdim{i}": (76 + 4 * i, "<f") for i in range(8)},
    "vox_offset": (108, "<f"),
    "scl_slope": (112, "<f"),
    "scl_inter": (116, "<f"),
    "slice_code": (122, "<B"),
    "xyzt_units": (123, "<B"),
    "qform_code": (252, "<h"),
    "sform_code": (254, "<h"),
    **{f"quatern{i}": (256 + 4 * i, "<f") for i in range(6)},
    **{f"srow{i}": (280 + 4 * i, "<f") for i in range(12)},
}
"""Name -> offset and form, in NIfTI-1."""
DATATYPES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, 999)
MAGIC = (b"n+1\0", b"ni1\0", b"n+2\0", b"\0\0\0\0", b"n+9\0")


def nifti_fields(data: bytes, rng: Random) -> bytes:
    """One to three fields of the header replaced."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice(list(FIELDS))
        at, form = FIELDS[name]
        value = draw_number(form, rng)
        if name == "datatype":
            value = rng.choice(DATATYPES)
        elif name in ("qform_code", "sform_code", "dim0"):
            value = rng.choice((-1, 0, 1, 2, 3, 4, 5, 7, 8, 300))
        data = put_number(data, at, form, value)
    return data


def nifti_magic(data: bytes, rng: Random) -> bytes:
    return put(data, 344, rng.choice(MAGIC))


def nifti_order(data: bytes, rng: Random) -> bytes:
    """The size of the header in the other byte order, so that all other fields are read so."""
    return put(data, 0, struct.pack(">i", 348))


def nifti_extension(data: bytes, rng: Random) -> bytes:
    """An extension whose size lies."""
    size = int(draw_number("<i", rng)) % 2**32
    return data[:348] + b"\x01\0\0\0" + struct.pack("<II", size, 2) + data[352:]


nifti = either(
    spoil, nifti_fields, nifti_fields, nifti_fields, nifti_magic, nifti_order, nifti_extension
)


def zipped(mutate: Mutator) -> Mutator:
    """The mutator of what is in a gzip file; or the file itself is spoiled."""

    def inside(data: bytes, rng: Random) -> bytes:
        how = rng.randrange(6)
        if how == 0:
            return spoil(data, rng)
        try:
            plain = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            return spoil(data, rng)
        if how == 1:
            return plain  # not compressed, whatever its name says
        if how == 2:
            return data + data[: rng.choice((5, len(data)))]
        return gzip.compress(mutate(plain, rng), 1, mtime=0)

    return inside


SHAPES = (
    *("()", "(0,)", "(32,)", "(32, 0)", "(1, 1)", "(32, 32, 32, 2)", "(-1, 32)", "(32, -32)"),
    *("(1099511627776, 8)", "(4294967296, 4294967296)", "(32.0, 32)", "(True, 32)", "32", "None"),
    *("(32, '32')", "[32, 32]", "(32, 32", "((32, 32),)", "(9999999999999999999999, 2)"),
    *("(65536, 65536)", "(1024, 1024, 1024)", "(2, 512)", "(1024,)", "(16, 64)"),
)
DESCRIPTIONS = (
    *("'|O'", "'<U4'", "'|S3'", "'<c16'", "'<M8[s]'", "'|V8'", "'|b1'", "'>u2'", "'<f2'", "'<f16'"),
    *("'<i8'", "'>f8'", "'<u3'", "''", "None", "[('a', '<u1')]", "[('a', '|O')]", "('<u1', (4,))"),
    *("[]", "'|u1' * 4", "'<u1\\x00'", "'é'", "{}", "'|i1'", "'<f4'", "'object'"),
)


def npy_header(data: bytes, rng: Random) -> bytes:
    """A value of the header replaced, or its text spoiled; its length is made right again."""
    text, body = npy_parts(data)
    how = rng.randrange(5)
    if how == 0:
        text = _value(text, "'shape': ", rng.choice(SHAPES))
    elif how == 1:
        text = _value(text, "'descr': ", rng.choice(DESCRIPTIONS))
    elif how == 2:
        text = _value(text, "'fortran_order': ", rng.choice(("True", "1", "None", "'no'", "[]")))
    elif how == 3:
        text = spoil(text, rng)
    else:
        text = rng.choice(
            (
                b"{}",
                b"[1, 2]",
                b"__import__('os').system('true')",
                b"(" * 200 + b")" * 200,
                b"-" * 5000 + b"1",
                b"{'descr': '<u1', 'fortran_order': False, 'shape': (32, 32), 'more': 1}",
                b"{'descr': '<u1', 'shape': (32, 32)}",
                b"# nothing",
                b"\xff\xfe" + text,
                b" " * 20_000 + text,
            )
        )
    return npy_of(text, body, version=rng.choice((1, 1, 2, 3)))


def npy_length(data: bytes, rng: Random) -> bytes:
    """The length of the header, or its version, lies."""
    if rng.random() < 0.5:
        return put(data, 6, bytes((rng.choice((0, 1, 2, 3, 4, 255)), rng.choice((0, 1, 9)))))
    return put_number(data, 8, "<H", draw_number("<H", rng))


def npy_parts(data: bytes) -> tuple[bytes, bytes]:
    """Text of the header and what follows; of a whole file."""
    wide = data[6] > 1
    (size,) = struct.unpack_from("<I" if wide else "<H", data, 8)
    start = 12 if wide else 10
    return data[start : start + size], data[start + size :]


def npy_of(text: bytes, body: bytes, *, version: int = 1) -> bytes:
    """An NPY file whose header has this text."""
    form = "<H" if version == 1 and len(text) < 65_000 else "<I"
    kind = 1 if form == "<H" else max(2, version)
    return b"\x93NUMPY" + bytes((kind, 0)) + struct.pack(form, len(text) + 1) + text + b"\n" + body


def _value(text: bytes, key: str, new: str) -> bytes:
    """Replace what follows a key, as far as the comma that ends it."""
    before, sign, after = text.partition(key.encode())
    if not sign:
        return text
    end = after.find(b"), ") + 1 if key == "'shape': " else after.find(b", ")
    return before + sign + new.encode() + after[max(end, 0) :]


npy = either(spoil, npy_header, npy_header, npy_header, npy_length)
