"""Bytes without a meaning: flipped, cut, put in, said twice."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random

Mutator = Callable[[bytes, Random], bytes]
NUMBERS = (
    *(0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 64, 127, 128, 255, 256, 1000, 4096, 32767, 32768, 65535),
    *(65536, 2**24, 2**30, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, 2**63),
    *(2**64 - 1, -1, -2, -8, -128, -32768, -(2**31), -(2**63)),
)
"""Where programs that count bytes go wrong."""
REALS = (
    *(0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e-30, 1e-6, 1e6, 1e30, 3e38, 1e308),
    *(float("nan"), float("inf"), float("-inf")),
)


def spoil(data: bytes, rng: Random) -> bytes:
    """One to four changes that know nothing of the format."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(RAW)(data, rng)
    return data


def either(*mutators: Mutator) -> Mutator:
    """A mutator that is one of these."""

    def mutate(data: bytes, rng: Random) -> bytes:
        return rng.choice(mutators)(data, rng)

    return mutate


def place(data: Sequence[int] | bytes, rng: Random) -> int:
    """An index, near the beginning as often as anywhere: headers lie there."""
    end = max(1, len(data))
    return rng.randrange(min(end, 128)) if rng.random() < 0.5 else rng.randrange(end)


def put(data: bytes, at: int, new: bytes) -> bytes:
    """The data with some bytes replaced."""
    return data[:at] + new + data[at + len(new) :]


def put_number(data: bytes, at: int, form: str, value: float) -> bytes:
    """A number put in as `struct` writes it, cut to what the field can hold."""
    size = struct.calcsize(form)
    if form[-1] in "fd":
        try:
            return put(data, at, struct.pack(form, value))
        except OverflowError:
            return put(data, at, struct.pack(form, float("inf")))
    order = "big" if form[0] == ">" else "little"
    whole = int(value) % 2 ** (8 * size)
    return put(data, at, whole.to_bytes(size, order))


def draw_number(form: str, rng: Random) -> float:
    """A number worth trying in a field."""
    if form[-1] in "fd":
        return rng.choice(REALS)
    return rng.choice(NUMBERS) if rng.random() < 0.8 else rng.randrange(-300, 70_000)


def flip_bits(data: bytes, rng: Random) -> bytes:
    found = bytearray(data or b"\0")
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        found[place(found, rng)] ^= 1 << rng.randrange(8)
    return bytes(found)


def set_bytes(data: bytes, rng: Random) -> bytes:
    found = bytearray(data or b"\0")
    for _ in range(rng.choice((1, 1, 2, 8))):
        found[place(found, rng)] = rng.choice((0, 1, 127, 128, 254, 255, rng.randrange(256)))
    return bytes(found)


def truncate(data: bytes, rng: Random) -> bytes:
    return data[: place(data, rng)]


def cut_end(data: bytes, rng: Random) -> bytes:
    return data[: max(0, len(data) - rng.choice((1, 2, 4, 8, 100)))]


def insert(data: bytes, rng: Random) -> bytes:
    at, size = place(data, rng), rng.choice((1, 2, 3, 4, 16, 1000))
    new = bytes(size) if rng.random() < 0.3 else rng.randbytes(size)
    return data[:at] + new + data[at:]


def append(data: bytes, rng: Random) -> bytes:
    return data + rng.randbytes(rng.choice((1, 4, 100, 5000)))


def delete(data: bytes, rng: Random) -> bytes:
    at = place(data, rng)
    return data[:at] + data[at + rng.choice((1, 2, 4, 16, 500)) :]


def duplicate(data: bytes, rng: Random) -> bytes:
    at, size = place(data, rng), rng.choice((1, 4, 64, 1024))
    return data[: at + size] * rng.choice((1, 2)) + data[at:]


def zero_block(data: bytes, rng: Random) -> bytes:
    at = place(data, rng)
    return put(data, at, bytes(min(rng.choice((4, 64, 512, 4096)), len(data) - at)))


def swap_blocks(data: bytes, rng: Random) -> bytes:
    size = rng.choice((2, 16, 256))
    a, b = sorted((place(data, rng), place(data, rng)))
    if b - a < size or b + size > len(data):
        return flip_bits(data, rng)
    return (
        data[:a] + data[b : b + size] + data[a + size : b] + data[a : a + size] + data[b + size :]
    )


def odd_number(data: bytes, rng: Random) -> bytes:
    form = rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q", "<f", "<d"))
    at = place(data, rng)
    return put_number(data, at, form, draw_number(form, rng))[: max(len(data), at)]


def empty(data: bytes, rng: Random) -> bytes:
    return b""


def other_file(data: bytes, rng: Random) -> bytes:
    """What people rename by mistake: text, a page, an archive, another picture."""
    return rng.choice(
        (
            b"hello\n",
            b"<!DOCTYPE html><html>404</html>",
            b"PK\x03\x04" + data,
            b"\x1f\x8b\x08\x00" + data,
            b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,",
            b"%PDF-1.4\n",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
            bytes(len(data)),
            b"\xff" * 64,
        )
    )


RAW: tuple[Mutator, ...] = (
    flip_bits,
    flip_bits,
    set_bytes,
    set_bytes,
    truncate,
    cut_end,
    insert,
    append,
    delete,
    duplicate,
    zero_block,
    swap_blocks,
    odd_number,
    odd_number,
    empty,
    other_file,
)
