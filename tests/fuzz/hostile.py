"""Fixed cases: input that somebody made to run code, fill memory, never end or write elsewhere.

Each is made as a kind of kinds.py is. `canary` in the room's root is what a payload would create.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import yaml

from fuzz import samples
from fuzz.judge import Room
from fuzz.kinds import CPU, Make, copy_tree, names, predict, run_copy, train
from fuzz.mutators.containers import safetensors_of, safetensors_parts, zip_of
from fuzz.mutators.pictures import png_of
from fuzz.mutators.volumes import npy_of
from fuzz.stock import SIDE, Stock

Payload = Callable[[Room, Stock], bytes]
MIB = 2**20


class Canary:
    """An object that writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


# Code in files --------------------------------------------------------------------------------


def bare_pickle(room: Room, stock: Stock, *, protocol: int = 2) -> bytes:
    return pickle.dumps({"x": Canary(room.canary)}, protocol)


def torch_pickle(room: Room, stock: Stock) -> bytes:
    """What `torch.load` unpickles: an archive whose data.pkl was replaced."""
    with zipfile.ZipFile(stock.weights / "sam.pth") as archive:
        members = [(i.filename, archive.read(i)) for i in archive.infolist()]
    found = [(n, bare_pickle(room, stock) if n.endswith("data.pkl") else c) for n, c in members]
    return zip_of(found, packing=zipfile.ZIP_STORED)


def torch_paths(room: Room, stock: Stock) -> bytes:
    """An archive of PyTorch with members that lie outside of it."""
    with zipfile.ZipFile(stock.weights / "sam.pth") as archive:
        members = [(i.filename, archive.read(i)) for i in archive.infolist()]
    more = [("../../canary", b"x"), (str(room.canary), b"x"), ("sam/../../canary", b"x")]
    return zip_of([*members, *more], packing=zipfile.ZIP_STORED)


def script_archive(room: Room, stock: Stock) -> bytes:
    """What looks like TorchScript: `torch.load` sends it elsewhere."""
    members = [("a/constants.pkl", bare_pickle(room, stock)), ("a/version", b"3\n")]
    members += [("a/data.pkl", bare_pickle(room, stock)), ("a/code/x.py", b"import os\n")]
    return zip_of(members, packing=zipfile.ZIP_STORED)


def old_torch(room: Room, stock: Stock) -> bytes:
    """The layout of torch before 1.6: pickles one after another."""
    magic = 0x1950A86A20F9469CFC6C
    parts = (magic, 1001, {"little_endian": True}, Canary(room.canary))
    return b"".join(pickle.dumps(part, 2) for part in parts)


def tar_archive(room: Room, stock: Stock) -> bytes:
    """The oldest layout of torch, with members that lead outside."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors", "../../canary"):
            content = bare_pickle(room, stock)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def weights_case(payload: Payload, suffix: str = ".pth") -> Make:
    """Train with a file as weights of the foundation model."""

    def make(room: Room, stock: Stock, rng: Random) -> list[str]:
        path = room.inputs / f"weights{suffix}"
        path.write_bytes(payload(room, stock))
        return with_weights(room, stock, path)

    return make


def with_weights(room: Room, stock: Stock, path: Path) -> list[str]:
    words = ["train", str(stock.config), "--out", str(room.out()), "--quiet"]
    words += ["--set", "method.branches=medsam"]
    return [*words, "--set", f"medsam.weights={path}"]


def hub_folder(room: Room, stock: Stock, rng: Random) -> list[str]:
    """A folder of the hub with a pickle for weights, and code that its config names."""
    folder = room.inputs / "hub"
    folder.mkdir()
    (folder / "pytorch_model.bin").write_bytes(torch_pickle(room, stock))
    config = json.loads((stock.weights / "hub/config.json").read_text())
    config |= {"auto_map": {"AutoModel": "code.Sam"}, "trust_remote_code": True}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(room.canary)!r}, 'w')\n")
    return with_weights(room, stock, folder)


def hub_sizes(room: Room, stock: Stock, rng: Random, *, key: str, value: int) -> list[str]:
    """A config of the hub whose network would not fit into any memory."""
    folder = room.inputs / "hub"
    copy_tree(stock.weights / "hub", folder)
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"][key] = value
    (folder / "config.json").write_text(json.dumps(config))
    return with_weights(room, stock, folder)


# Headers that lie -----------------------------------------------------------------------------


def tensor(dtype: str, shape: list[int], offsets: list[int]) -> bytes:
    return safetensors_of(
        {"x": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}, bytes(64)
    )


LIES: Mapping[str, bytes] = {
    "length 2**63": struct.pack("<Q", 2**63) + b"{}",
    "length 2**40": struct.pack("<Q", 2**40) + b"{}",
    "length 99 MB": struct.pack("<Q", 99 * 10**6) + b"{}",
    "10 TB tensor": tensor("F32", [2**40], [0, 2**42]),
    "shape that overflows": tensor("F32", [2**32, 2**32, 2**32], [0, 64]),
    "negative offsets": tensor("F32", [4], [-16, 0]),
    "end before start": tensor("F32", [4], [32, 16]),
    "overlap": safetensors_of(
        {
            "a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
            "b": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]},
        },
        bytes(24),
    ),
    "deep header": safetensors_of(b"[" * 100_000, b""),
    "no header": safetensors_of(b"", b""),
    "metadata of numbers": safetensors_of({"__metadata__": {"a": 1}}, b""),
    "a pickle": pickle.dumps({"a": 1}),
}


def lying_weights(data: bytes) -> Make:
    return weights_case(lambda room, stock: data, ".safetensors")


def lying_checkpoint(data: bytes, room: Room, stock: Stock, rng: Random) -> list[str]:
    run = run_copy(room, stock)
    (run / "checkpoints/best.safetensors").write_bytes(data)
    return ["predict", str(run), str(stock.data), "-o", str(room.out()), *CPU]


def checkpoint_pickle(room: Room, stock: Stock, rng: Random) -> list[str]:
    """A checkpoint that is a pickle, under the name of safetensors."""
    return lying_checkpoint(torch_pickle(room, stock), room, stock, rng)


def checkpoint_config(room: Room, stock: Stock, rng: Random, *, text: str) -> list[str]:
    """A checkpoint whose header holds another text for its config."""
    run = run_copy(room, stock, stock.stopped)
    path = run / "checkpoints/last.safetensors"
    header, body = safetensors_parts(path.read_bytes())
    header["__metadata__"]["config"] = text
    path.write_bytes(safetensors_of(header, body))
    return ["train", "--resume", str(run), "--quiet"]


# YAML -----------------------------------------------------------------------------------------


def yaml_texts(room: Path) -> Mapping[str, str]:
    """Name -> text of a value or of lines, by what it would do."""
    canary = str(room / "canary")
    laughs = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    letters = "abcdefghijkl"
    for before, name in itertools.pairwise(letters):
        laughs.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]")
    merged = ["a: &a {k: 1}"]
    for before, name in itertools.pairwise("abcdefghij"):
        merged.append(f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 10)}]}}")
    return {
        "apply": f"x: !!python/object/apply:os.system ['touch {canary}']",
        "new": f"x: !!python/object/new:open ['{canary}', w]",
        "name": "x: !!python/name:os.system",
        "module": "x: !!python/module:os",
        "apply as data.path": f"data: {{path: !!python/object/apply:open ['{canary}', w]}}",
        "laughs": "\n".join([*laughs, "data: *l"]),
        "laughs as a class": "\n".join([*laughs, "data: {path: x, classes: *l}"]),
        "laughs as keys": "\n".join([*laughs, "data: {path: x, remap: {1: *l}}"]),
        "laughs by merging": "\n".join(merged),
        "a tag on nothing": "data: {path: !!int ''}",
        "a tag on a list": "data: {path: !!float [1]}",
        "a tag on text": "data: {path: !!bool maybe}",
        "a date that is none": "data: {path: !!timestamp x}",
        "a day that is none": "data: {path: 2020-13-45}",
        "a key twice": "data: {path: x, path: y}",
        "itself": "data: &a {path: *a}",
        "itself as a list": "data: {path: x, classes: &a [*a]}",
        "deep list": "[" * 50_000,
        "deep mapping": "{a: " * 50_000,
        "deep blocks": "\n".join(" " * i + "a:" for i in range(3000)),
        "wide number": "data: {path: x, split_seed: " + "9" * 100_000 + "}",
        "merge": "data: {<<: [{path: x}, *x]}",
        "long line": "data: {path: " + "x" * 5_000_000 + "}",
        "binary": "data: {path: !!binary AAAA}",
        "complex key": "? [a, b]\n: 1\n? {a: 1}\n: 2",
        "two documents": "data: {path: x}\n---\ndata: {path: y}",
        "date as a seed": "data: {path: x, split_seed: 2020-01-01}",
        "NUL in a path": 'data: {path: "x\\0y"}',
        "surrogate in a path": 'data: {path: "x\\ud800y"}',
        "escape in a key": '"\\e[31mx": 1',
        "escape in a value": 'train: {device: "\\e[31mx"}',
    }


def yaml_case(room: Room, stock: Stock, rng: Random, *, name: str) -> list[str]:
    path = room.inputs / "config.yaml"
    path.write_text(yaml_texts(room.root)[name])
    return ["train", str(path), "--out", str(room.out()), "--quiet"]


def yaml_flag(room: Room, stock: Stock, rng: Random, *, name: str) -> list[str]:
    """The same as a value of --set."""
    text = yaml_texts(room.root)[name][:100_000].replace("\0", "")
    return ["data", "check", str(stock.data), "--set", f"data.classes={text.removeprefix('x: ')}"]


def setting_case(room: Room, stock: Stock, rng: Random, *, setting: str) -> list[str]:
    """A setting that is in range, or nearly, and asks for more than any machine has."""
    room.stop_after = 8
    out = str(room.out())
    return ["train", str(stock.config), "--out", out, "--quiet", "--set", setting]


SETTINGS = (
    *("unet.width=4096", "unet.width=4611686018427387904"),
    *("method.batch=9999999999999999999999", "train.devices=100000", "train.steps=10**30"),
    *("train.steps=9223372036854775808", "train.seed=9223372036854775807", "train.keep=1e30"),
    *(
        "train.evaluate_images=9999999999999999999999",
        "data.cache_gib=1e300",
        "medsam.rank=1000000",
    ),
    *("unet.lr=1e300", "unet.weight_decay=1e300", "augment.elastic_alpha=1e300"),
    *(
        'data.classes=[a, "\\ud83d"]',
        'medsam.weights="\\ud800"',
        "data.remap={1: 99999999999999999999}",
    ),
)


def suite_case(room: Room, stock: Stock, rng: Random, *, change: str) -> list[str]:
    """A suite with one thing that leads elsewhere."""
    tree = yaml.safe_load(stock.suite_file.read_text())
    if change == "name":
        tree["name"] = "../../../x"
    elif change == "config":
        tree["data"]["squares"]["config"] = "/etc/passwd"
    elif change == "zero":
        tree["data"]["squares"]["config"] = "/dev/zero"
    elif change == "cell":
        tree["methods"]["../../x"] = tree["methods"]["synfoc"]
    elif change == "list":
        tree["data"]["squares"]["labeled"] = [{"list": "../../../.."}]
    else:
        tree["seeds"] = list(range(10**6))
    path = room.inputs / "suite.yaml"
    path.write_text(yaml.safe_dump(tree))
    return ["bench", str(path), "--data", str(stock.root), "--tables"]


def stored_code(room: Room, stock: Stock, rng: Random, *, file: str) -> list[str]:
    """A run whose stored YAML, or picture, holds code."""
    run = run_copy(room, stock)
    if file.endswith(".npz"):
        objects = samples.npy_bytes(np.array([Canary(room.canary)]), pickled=True)
        members = [("image.npy", objects), ("label.npy", objects), ("info.npy", objects)]
        more = [("../../../canary", b"x"), (str(room.canary), b"x")]
        (run / file).write_bytes(zip_of([*members, *more]))
    else:
        (run / file).write_text(yaml_texts(room.root)["apply"])
    return ["report", str(run)]


def deep_json(room: Room, stock: Stock, rng: Random, *, file: str) -> list[str]:
    run = run_copy(room, stock)
    deep = '{"step": 1, "branches": ' + "[" * 200_000
    (run / file).write_text(deep + "\n" + deep + "\n")
    return ["report", str(run)]


# Images ---------------------------------------------------------------------------------------


def image_case(name: str, payload: Payload, command: str = "check") -> Make:
    """One image of a data set is this file."""

    def make(room: Room, stock: Stock, rng: Random) -> list[str]:
        data = room.inputs / "data"
        copy_tree(stock.data, data)
        folder = data / "alpha/train/image"
        (folder / name).write_bytes(payload(room, stock))
        if command == "check":
            return ["data", "check", str(data)]
        if command == "train":
            return train(room, stock, rng, "--data", str(data))
        return predict(room, stock, rng, folder)

    return make


def object_npy(room: Room, stock: Stock) -> bytes:
    return samples.npy_bytes(np.array([[Canary(room.canary)]], dtype=object), pickled=True)


def npy_code(room: Room, stock: Stock) -> bytes:
    code = f"__import__('builtins').open({str(room.canary)!r}, 'w')"
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({code},)}}"
    return npy_of(text.encode(), bytes(1024))


def npy_deep(room: Room, stock: Stock) -> bytes:
    return npy_of(b"(" * 5000 + b")" * 5000, bytes(1024))


def npy_size(shape: str, dtype: str = "|u1") -> Payload:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}"
    return lambda room, stock: npy_of(text.encode(), bytes(1024))


def png_size(width: int, height: int, depth: int = 1, color: int = 0) -> Payload:
    """A whole PNG of zeros: a few kilobytes for gigabytes."""

    def payload(room: Room, stock: Stock) -> bytes:
        bands = {0: 1, 2: 3, 4: 2, 6: 4}[color]
        size = height * (1 + (width * depth * bands + 7) // 8)
        head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
        return png_of([(b"IHDR", head), (b"IDAT", zeros(size)), (b"IEND", b"")])

    return payload


def png_text(name: bytes) -> Payload:
    """A whole small PNG with a compressed text or profile of a gigabyte."""

    def payload(room: Room, stock: Stock) -> bytes:
        head = struct.pack(">IIBBBBB", 32, 32, 8, 0, 0, 0, 0)
        chunks = [(b"IHDR", head), (name, b"k\0\0" + zeros(1024 * MIB))]
        return png_of([*chunks, (b"IDAT", zlib.compress(bytes(33 * 32))), (b"IEND", b"")])

    return payload


def zeros(size: int) -> bytes:
    """Zeros as a zlib stream, made in no time: one compressed piece many times over."""
    piece = 4 * MIB
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(piece)) + packer.flush(zlib.Z_FULL_FLUSH)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    last = packer.compress(bytes(size % piece)) + packer.flush()
    # Adler-32 of zeros: a = 1, b = size mod 65521.
    check = struct.pack(">I", (size % 65521) << 16 | 1)
    return b"\x78\xda" + block * (size // piece) + last + check


def nifti_bomb(mib: int, *, datatype: int = 2, honest: bool = True) -> Payload:
    """A volume of zeros in gzip members of 16 MiB; its header tells the size, or a small one."""

    def payload(room: Room, stock: Stock) -> bytes:
        width = {2: 1, 16: 4, 64: 8}[datatype]
        depth = mib * MIB // (512 * 512 * width) if honest else 4
        header = nifti_header((512, 512, depth), datatype, 8 * width)
        member = gzip.compress(bytes(16 * MIB), 9, mtime=0)
        return gzip.compress(header, mtime=0) + member * (mib // 16)

    return payload


def nifti_lie(shape: tuple[int, int, int], datatype: int = 2) -> Payload:
    """A header of many gigabytes, and a hundred bytes behind it."""
    bits = {2: 8, 16: 32, 64: 64}[datatype]
    return lambda room, stock: nifti_header(shape, datatype, bits) + bytes(100)


def nifti_header(shape: tuple[int, int, int], datatype: int, bits: int) -> bytes:
    data = bytearray(352)
    struct.pack_into("<i", data, 0, 348)
    struct.pack_into("<8h", data, 40, 3, *shape, 1, 1, 1, 1)
    struct.pack_into("<hh", data, 70, datatype, bits)
    struct.pack_into("<8f", data, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", data, 108, 352)
    struct.pack_into("<hh", data, 252, 0, 1)
    for axis in range(3):
        struct.pack_into("<f", data, 280 + 20 * axis, 1.0)
    data[344:348] = b"n+1\0"
    return bytes(data)


def tiff_bomb(width: int, height: int) -> Payload:
    """One deflated strip of zeros."""

    def payload(room: Room, stock: Stock) -> bytes:
        strip = zeros(width * height)
        values = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 273: 8, 277: 1}
        values |= {278: height, 279: len(strip)}
        body = struct.pack("<H", len(values))
        for tag, value in sorted(values.items()):
            body += struct.pack("<HHII", tag, 4, 1, value)
        return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + body + bytes(4)

    return payload


def jpeg_size(room: Room, stock: Stock) -> bytes:
    data = samples.draw_jpeg(Random(1)).image
    frame = next(i for i in range(len(data)) if data[i : i + 2] in (b"\xff\xc0", b"\xff\xc2"))
    return data[: frame + 5] + struct.pack(">HH", 65_500, 65_500) + data[frame + 9 :]


def bmp_size(room: Room, stock: Stock) -> bytes:
    """8-bit run lengths: 65000 x 65000 pixels from nothing."""
    head = struct.pack("<IiiHHIIiiII", 40, 65_000, 65_000, 1, 8, 1, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 2000, 0, 0, 54 + 1024) + head + bytes(1024) + b"\0\1"


def npz_bomb(room: Room, stock: Stock, rng: Random) -> list[str]:
    """A picture of a run that unpacks to 4 GiB."""
    run = run_copy(room, stock)
    path = next((run / "evaluation/pictures").glob("*.npz"))
    size = 4096 * MIB
    header = npy_of(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size},)}}".encode(), b"")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        info = zipfile.ZipInfo("image.npy")
        info.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(info, "w", force_zip64=True) as member:
            member.write(header)
            member.write(bytes(64 * MIB))  # the rest is missing: a header that lies
    path.write_bytes(file.getvalue())
    return ["report", str(run)]


# Files that are none --------------------------------------------------------------------------


def special(how: str, *, command: str) -> Make:
    """In the place of an image, a config or a file of a run: a pipe, a device, a link, a folder."""

    def make(room: Room, stock: Stock, rng: Random) -> list[str]:
        data = room.inputs / "data"
        copy_tree(stock.data, data)
        image = data / "alpha/train/image/odd.png"
        if command == "config":
            place_special(room.inputs / "config.yaml", how)
            return train_with(room, room.inputs / "config.yaml")
        if command == "csv":
            place_special(room.inputs / "cases.csv", how)
            return ["data", "check", str(room.inputs / "cases.csv")]
        if command in ("metrics.jsonl", "summary.json", "checkpoints/best.safetensors"):
            run = run_copy(room, stock)
            (run / command).unlink()
            place_special(run / command, how)
            return (
                ["predict", str(run), str(data), "-o", str(room.out()), *CPU]
                if (command.endswith("safetensors"))
                else ["report", str(run)]
            )
        place_special(image, how)
        if command == "check":
            return ["data", "check", str(data)]
        if command == "train":
            return train(room, stock, rng, "--data", str(data))
        return predict(room, stock, rng, image if command == "predict" else image.parent)

    return make


def train_with(room: Room, config: Path) -> list[str]:
    room.stop_after = 8
    return ["train", str(config), "--out", str(room.out()), "--quiet"]


def place_special(path: Path, how: str) -> None:
    if how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    elif how == "itself":
        path.symlink_to(path.name)
    elif how == "parent":
        path.symlink_to("..")
    else:
        path.symlink_to(how)


def linked_out(room: Room, stock: Stock, rng: Random, *, name: str, overwrite: bool) -> list[str]:
    """Masks go where a link to somebody's file lies: the link is replaced, or it is refused."""
    precious = room.inputs / "precious"
    precious.write_text("precious")
    out = room.out()
    out.mkdir()
    (out / name).symlink_to(precious)
    images_at = str(stock.data / "beta/test/image")
    words = ["predict", str(stock.run), images_at, "-o", str(out), *CPU, "--overlay"]
    return [*words, *(["--overwrite"] if overwrite else [])]


def linked_run(room: Room, stock: Stock, rng: Random, *, name: str) -> list[str]:
    """A file that `evaluate` and `report` write is a link to somebody's file."""
    precious = room.inputs / "precious"
    run = run_copy(room, stock)
    precious.write_bytes((run / name).read_bytes())
    (run / name).unlink()
    (run / name).symlink_to(precious)
    if name == "report.html":
        return ["report", str(run)]
    return ["evaluate", str(run), *CPU]


def out_is_input(room: Room, stock: Stock, rng: Random) -> list[str]:
    """Masks into the folder of the images, by a link."""
    data = room.inputs / "data"
    copy_tree(stock.data, data)
    out = room.work / "out"
    out.symlink_to(data / "beta/test/image")
    images_at = str(data / "beta/test/image")
    return ["predict", str(stock.run), images_at, "-o", str(out), *CPU, "--overwrite"]


def csv_paths(room: Room, stock: Stock, rng: Random, *, cell: str) -> list[str]:
    """A table whose image lies elsewhere; its mask must not be written there."""
    path = room.inputs / "cases.csv"
    path.write_text(
        f"image,label,domain\n{cell},,a\n{stock.data}/alpha/train/image/train0.png,,b\n"
    )
    return ["evaluate", str(run_copy(room, stock)), "--data", str(path), *CPU]


def closed(room: Room, stock: Stock, rng: Random) -> list[str]:
    """A folder of images that may not be read (as root it may)."""
    data = room.inputs / "data"
    copy_tree(stock.data, data)
    (data / "beta/train/image").chmod(0)
    return ["data", "check", str(data)]


def name_case(piece: str) -> Make:
    """An odd name at every place where names are drawn, by the kind `names`."""

    def make(room: Room, stock: Stock, rng: Random) -> list[str]:
        class Fixed(Random):
            def choice(self, seq):  # type: ignore[no-untyped-def]
                return piece if piece in seq else super().choice(seq)

        return names(room, stock, Fixed(rng.random()))

    return make


WEIGHTS: Mapping[str, Payload] = {
    "a bare pickle": bare_pickle,
    "a bare pickle of protocol 5": partial(bare_pickle, protocol=5),
    "a pickle in PyTorch's archive": torch_pickle,
    "paths in PyTorch's archive": torch_paths,
    "a script's archive": script_archive,
    "pickles of old PyTorch": old_torch,
    "a tar of old PyTorch": tar_archive,
}
BOMBS: Mapping[str, tuple[str, Payload]] = {
    "PNG of 60000 x 60000": ("bomb.png", png_size(60_000, 60_000)),
    "PNG of 8192 x 8192, 16-bit RGBA": ("bomb.png", png_size(8192, 8192, 16, 6)),
    "PNG of 13000 x 13000": ("bomb.png", png_size(13_000, 13_000, 8)),
    "PNG of 2**31 x 1": ("bomb.png", png_size(2**31 - 1, 1)),
    "text of PNG": ("bomb.png", png_text(b"zTXt")),
    "profile of PNG": ("bomb.png", png_text(b"iCCP")),
    "JPEG of 65500 x 65500": ("bomb.jpg", jpeg_size),
    "BMP of 65000 x 65000": ("bomb.bmp", bmp_size),
    "TIFF of 60000 x 60000": ("bomb.tif", tiff_bomb(60_000, 60_000)),
    "TIFF of 8192 x 8192": ("bomb.tif", tiff_bomb(8192, 8192)),
    "NIfTI of 3 GiB": ("bomb.nii.gz", nifti_bomb(3072)),
    "NIfTI of 1 GiB in doubles": ("bomb.nii.gz", nifti_bomb(1024, datatype=64)),
    "NIfTI of 3 GiB behind a small header": ("bomb.nii.gz", nifti_bomb(3072, honest=False)),
    "NIfTI header of 8 GiB": ("lie.nii", nifti_lie((1024, 1024, 1024), 64)),
    "NIfTI header of 32 TiB": ("lie.nii", nifti_lie((32767, 32767, 32767))),
    "NPY header of 8 GiB": ("lie.npy", npy_size("(1024, 1024, 1024)", "<f8")),
    "NPY header of 2**80": ("lie.npy", npy_size("(1099511627776, 1099511627776)")),
    "NPY header that overflows": ("lie.npy", npy_size("(4294967296, 4294967296, 2)")),
}
_ROOM = Path("/")
HOSTILE: Mapping[str, Make] = {
    **{f"weights: {name}": weights_case(payload) for name, payload in WEIGHTS.items()},
    **{f"weights .bin: {n}": weights_case(p, ".bin") for n, p in list(WEIGHTS.items())[:3]},
    "weights: a pickle named safetensors": weights_case(torch_pickle, ".safetensors"),
    "weights: code in a hub folder": hub_folder,
    "weights: hub width 10**6": partial(hub_sizes, key="hidden_size", value=10**6),
    "weights: hub of 10**7 layers": partial(hub_sizes, key="num_hidden_layers", value=10**7),
    "weights: hub image of 10**6": partial(hub_sizes, key="image_size", value=10**6),
    "weights: hub of 0 heads": partial(hub_sizes, key="num_attention_heads", value=0),
    **{f"safetensors as weights: {name}": lying_weights(data) for name, data in LIES.items()},
    **{f"checkpoint: {name}": partial(lying_checkpoint, data) for name, data in LIES.items()},
    "checkpoint: a pickle": checkpoint_pickle,
    "checkpoint: deep config": partial(checkpoint_config, text="[" * 100_000),
    "checkpoint: config is no config": partial(checkpoint_config, text="7"),
    "checkpoint: config is no JSON": partial(checkpoint_config, text="{"),
    **{f"yaml: {name}": partial(yaml_case, name=name) for name in yaml_texts(_ROOM)},
    **{f"--set: {name}": partial(yaml_flag, name=name) for name in list(yaml_texts(_ROOM))[:12]},
    **{f"setting: {s!a}": partial(setting_case, setting=s) for s in SETTINGS},
    **{
        f"suite: {change}": partial(suite_case, change=change)
        for change in ("name", "config", "zero", "cell", "list", "a million seeds")
    },
    "run: code in config.yaml": partial(stored_code, file="config.yaml"),
    "run: code in a picture": partial(stored_code, file="evaluation/pictures/x.npz"),
    "run: a picture of 4 GiB": npz_bomb,
    **{
        f"run: deep {file}": partial(deep_json, file=file)
        for file in ("metrics.json", "metrics.jsonl", "summary.json", "environment.json")
    },
    "image: objects in NPY": image_case("x.npy", object_npy),
    "predict: objects in NPY": image_case("x.npy", object_npy, "predict"),
    "image: code in the header of NPY": image_case("x.npy", npy_code),
    "image: deep header of NPY": image_case("x.npy", npy_deep),
    **{f"bomb: {name}": image_case(*bomb) for name, bomb in BOMBS.items()},
    **{f"bomb for predict: {name}": image_case(*bomb, "predict") for name, bomb in BOMBS.items()},
    "bomb for train: PNG": image_case(*BOMBS["PNG of 60000 x 60000"], "train"),
    "bomb for train: NIfTI": image_case(*BOMBS["NIfTI of 3 GiB"], "train"),
    **{
        f"{how} for {command}": special(how, command=command)
        for how in ("pipe", "/dev/zero", "/dev/null", "folder", "itself", "parent")
        for command in ("check", "predict", "predict its folder", "train", "config", "csv")
    },
    **{
        f"{how} for {file}": special(how, command=file)
        for how in ("pipe", "/dev/zero", "folder", "itself")
        for file in ("metrics.jsonl", "summary.json", "checkpoints/best.safetensors")
    },
    **{
        f"link in the out: {name}{', --overwrite' * again}": partial(
            linked_out, name=name, overwrite=again
        )
        for name in ("test0.png", "predictions.csv", "test0_overlay.png")
        for again in (False, True)
    },
    **{
        f"link in a run: {name}": partial(linked_run, name=name)
        for name in ("report.html", "metrics.json", "evaluation/cases.csv")
    },
    "the out is a link to the images": out_is_input,
    **{
        f"csv: image {cell}": partial(csv_paths, cell=cell)
        for cell in ("../../../../etc/passwd", "/etc/passwd", "/dev/zero", "../in/cases.csv", "..")
    },
    "a closed folder": closed,
    **{
        f"name: {piece!a}": name_case(piece)
        for piece in (
            "\x1b]0;x\x07",
            "\nFORGED: fine",
            "\u202e",
            "\udcff\udcfe",
            "[bold]",
            "-",
            "a" * 200,
        )
    },
}
"""Name -> how it is made."""

assert SIDE == 32  # as samples draws them
