"""The table of kinds: what is spoiled, and which command meets it.

A kind fills a room and returns the words of the command line. Everything that it draws comes from
the generator of the case, so that a case can be repeated alone by its number.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import yaml

from fuzz import samples
from fuzz.judge import Room
from fuzz.mutators import pictures, tiff, volumes
from fuzz.mutators.containers import safetensors, zip_members
from fuzz.mutators.raw import Mutator, either, spoil
from fuzz.mutators.text import (
    WORDS,
    csv_file,
    json_file,
    jsonl_file,
    odd_text,
    yaml_file,
)
from fuzz.stock import SETTINGS, Stock

Make = Callable[[Room, Stock, Random], list[str]]


@dataclass(frozen=True)
class Kind:
    """One row of the table."""

    make: Make
    share: int
    """Of the cases, in parts."""


JOURNAL = (".lock", "metrics.jsonl", "environment.json")
"""What training writes before it can know whether the data are whole."""

# Images ---------------------------------------------------------------------------------------


def images(draw: Callable[[Random], samples.Pair], mutate: Mutator) -> Make:
    """A data set with one spoiled image, or label, or both."""

    def make(room: Room, stock: Stock, rng: Random) -> list[str]:
        pair = draw(rng)
        image, label, which = pair.image, pair.label, rng.random()
        of_label = pictures.png if pair.label_suffix == ".png" else mutate
        if which < 0.7:
            image = mutate(image, rng)
        if which > 0.65:
            label = of_label(label, rng)
        data = room.inputs / "data"
        copy_tree(stock.data, data)
        split = rng.choice(("train", "test"))
        folder = data / "alpha" / split
        (folder / "image" / f"spoiled{pair.suffix}").write_bytes(image)
        (folder / "mask" / f"spoiled{pair.label_suffix}").write_bytes(label)
        spoiled = folder / "image"
        return on_data(room, stock, rng, data, spoiled)

    return make


def on_data(room: Room, stock: Stock, rng: Random, data: Path, images_at: Path) -> list[str]:
    """One of the commands that read a data set."""
    how = rng.random()
    if how < 0.5:
        return ["data", "check", str(data), *maybe(rng, "--json")]
    if how < 0.75:
        return predict(room, stock, rng, images_at)
    if how < 0.87:
        run = run_copy(room, stock)
        return ["evaluate", str(run), "--data", str(data), *CPU, *maybe(rng, "--json")]
    return train(room, stock, rng, "--data", str(data))


def predict(room: Room, stock: Stock, rng: Random, *images_at: Path) -> list[str]:
    """`predict` with the stock's run, which it only reads."""
    flags = [*maybe(rng, "--overlay"), *maybe(rng, "--probabilities")]
    places = map(str, images_at)
    return ["predict", str(stock.run), *places, "-o", str(room.out()), *CPU, *flags]


def train(room: Room, stock: Stock, rng: Random, *more: str) -> list[str]:
    """`train` for two steps with the stock's config."""
    room.stop_after = 8
    out = str(room.out())
    return ["train", str(stock.config), "--out", out, *maybe(rng, "--quiet"), *more]


CPU = ("--device", "cpu")


def maybe(rng: Random, word: str) -> list[str]:
    """The word in one of three cases."""
    return [word] if rng.random() < 1 / 3 else []


def copy_tree(source: Path, target: Path) -> None:
    """A copy whose files may be written."""
    shutil.copytree(source, target, copy_function=shutil.copyfile)


def run_copy(room: Room, stock: Stock, source: Path | None = None) -> Path:
    """A copy of the run that the command may write into."""
    run = room.out("run")
    copy_tree(source or stock.run, run)
    return run


# Tables, settings and words -------------------------------------------------------------------


def table(room: Room, stock: Stock, rng: Random) -> list[str]:
    """A CSV of cases."""
    data = room.inputs / "data"
    copy_tree(stock.data, data)
    lines = ["image,label,domain,split,patient,spacing"]
    for image in sorted(data.rglob("image/*.png")):
        inside = image.relative_to(data)
        domain, split = inside.parts[:2]
        label = str(inside).replace("/image/", "/mask/")
        lines.append(f"{inside},{label},{domain},{split},{domain}-{image.stem},0.5")
    path = data / "cases.csv"
    path.write_bytes(csv_file("\n".join([*lines, ""]).encode(), rng))
    return on_data(room, stock, rng, path, data / "alpha/test/image")


def config(room: Room, stock: Stock, rng: Random) -> list[str]:
    """A config, or a change on the command line."""
    path = room.inputs / "config.yaml"
    text = stock.config.read_bytes()
    path.write_bytes(yaml_file(text, rng) if rng.random() < 0.6 else text)
    room.stop_after = 8
    settings = [rng.choice(SOUND) for _ in range(rng.choice((0, 0, 1, 2, 4)))]
    more = [word for setting in settings for word in ("--set", setting)]
    return ["train", str(path), "--out", str(room.out()), "--quiet", *more]


KEYS = (
    *("data.path", "data.classes", "data.remap", "data.labeled", "data.labeled.list", "data.set"),
    *("data.slice_axis", "data.nested", "data.labeled.domain", "data.labeled.count", "data"),
    *("method.name", "method.branches", "method.tau", "unet.side", "augment.zoom", "train.steps"),
    *("train.seed", "train.precision", "train.rule", "medsam.betas", "", "x", "train", "a.b.c.d"),
    *("data.test_fraction", "data.split_seed", "data.cache_gib", "train.keep", "data.channels"),
)
VALUES = (
    *(
        "{1: 2}",
        "{255:1}",
        "[a, b]",
        "[1.0, 2.0]",
        "[2, 1]",
        "{}",
        "[]",
        "1e3",
        "2020-01-01",
        "0x1",
    ),
    *("!!python/object/apply:os.getcwd []", "&a [*a]", "{a: 1, a: 2}", "[[[[", "? x", "alpha"),
    *("{1: -1}", "{-1: 1}", "{99999999999999999999: 1}", "{1.5: 1}", "[a, a]", "['']", "/dev/null"),
)


SOUND = (
    *("train.steps=1", "train.steps=3", "unet.side=16", "unet.side=48", "unet.width=1"),
    *("method.name=supervised", "method.name=fixmatch", "method.name=bcp", "method.name=ustrun"),
    *(
        "method.batch=1",
        "method.batch=3",
        "method.fusion=own",
        "method.tau=0.1",
        "method.tau=0.999",
    ),
    *("data.nested=true", "data.remap={1: 1}", "data.remap={0: 1}", "data.classes=[a]"),
    *("data.classes=[a, b]", "data.labeled.count=1", "data.labeled.domain=beta", "data.channels=3"),
    *("data.labeled={}", "data.test_fraction=0", "data.test_fraction=0.9", "data.slice_axis=2"),
    *("data.cache_gib=0", "data.monitor=true", "train.rule=last", "train.rule=paper"),
    *("train.watch_test=true", "train.keep=2", "train.precision=bf16", "train.schedule=cosine"),
    *("train.evaluate_every=1", "train.evaluate_images=1", "augment.zoom=[1, 1]", "unet.lr=1e30"),
    *("augment.zoom=[0.1, 10]", "augment.blur=[0, 0]", "augment.degrees=180", "unet.momentum=0"),
    *("method.branches=medsam", "method.branches=both", "medsam.rank=1", "train.log_every=1000"),
)
"""Settings that a run can have, alone or together."""
PLAIN = ("1", "2", "16", "32", "48", "alpha:1", "beta:2", "3", "cpu", "unet", "medsam", "fused")
PLAIN += ("last", "best", "honest", "paper", "auto", "alpha", "litemedsam", "png", "nifti", "local")
"""Words that flags understand."""
COMMANDS = (
    *("check", "train", "evaluate", "predict", "report", "bench", "weights", "phantom", "import"),
)


def flags(room: Room, stock: Stock, rng: Random) -> list[str]:
    """Sound input, and words on the command line that are not."""
    value = rng.choice((*WORDS, *VALUES) if rng.random() < 0.5 else PLAIN).replace("\0", "0")
    setting = f"{rng.choice(KEYS)}{rng.choice(('=', '=', '=', '', ' = ', '=='))}{value}"
    if rng.random() < 0.4:
        setting = rng.choice(SOUND)
    command = rng.choice(COMMANDS)
    data = str(stock.data)
    if command == "check":
        words = ["data", "check", rng.choice((data, value)), "--set", setting]
    elif command == "train":
        room.stop_after = 8
        odd = rng.choice(
            (["--set", setting], ["--labeled", value], ["--size", value], ["--steps", value])
        )
        odd = rng.choice((odd, odd, ["--device", value], ["--devices", value], ["--resume", value]))
        words = ["train", str(stock.config), "--out", str(room.out()), "--quiet", *odd]
    elif command == "evaluate":
        odd = rng.choice((["--set", setting], ["--data", value], ["--protocol", value]))
        odd = rng.choice((odd, odd, ["--checkpoint", value], ["--data", data, "--set", setting]))
        words = ["evaluate", str(run_copy(room, stock)), *CPU, *odd]
    elif command == "predict":
        places = rng.choice(([data], [value], [data, value]))
        odd = rng.choice(([], ["--branch", value], ["--device", value], ["--probabilities", value]))
        words = ["predict", str(stock.run), *places, "-o", str(room.out()), *odd]
    elif command == "report":
        words = ["report", value, "-o", str(room.out("page.html"))]
    elif command == "bench":
        out = str(room.out())
        odd = rng.choice((["--set", setting], ["--slurm", setting], ["--workers", value], [value]))
        words = ["bench", str(stock.suite_file), "--data", str(stock.root), "--out", out]
        words += ["--tables", *odd]
    elif command == "phantom":
        room.stop_after = 8
        odd = rng.choice((["--patients", value], ["--seed", value], ["--format", value]))
        words = ["data", "phantom", str(room.out()), "--patients", "2", *odd]
    elif command == "import":
        name = rng.choice(("prostate", "mnms", "fundus", "busi", value))
        words = ["data", "import", name, rng.choice((data, value)), str(room.out())]
        words += rng.choice(([], ["--split", "patient"], ["--seed", value]))
    else:
        words = ["weights", rng.choice(("list", "check", "get")), value]
    if rng.random() < 0.07:
        words.insert(rng.randrange(len(words)), value)
    # No process can be given half of a character; a byte that is no UTF-8 is the next best.
    return [word.replace("\ud800", "\udc80") for word in words]


def names(room: Room, stock: Stock, rng: Random) -> list[str]:
    """Names of files and folders that break terminals, tables, pages and shells."""
    data = room.inputs / "data"
    copy_tree(stock.data, data)
    name = odd_name(rng)
    where = rng.choice(("image", "domain", "both", "root"))
    if where in ("image", "both"):
        for split in ("train", "test"):
            for part in ("image", "mask"):
                old = data / "alpha" / split / part / f"{split}0.png"
                old.rename(old.with_name(f"{name[:240]}.png"))
    if where in ("domain", "both"):
        (data / "alpha").rename(data / name)
    if where == "root":
        data = data.rename(data.with_name(name))
    room.stop_after = 8
    how = rng.randrange(5)
    if how == 0:
        tree = {"data": {"path": str(stock.data)}} | SETTINGS
        path = room.inputs / "config.yaml"
        path.write_text(yaml.safe_dump(tree))
        return ["train", str(path), "--data", str(data), "--out", str(room.out()), "--quiet"]
    if how == 1:
        return predict(room, stock, rng, data)
    return on_data(room, stock, rng, data, data)


PIECES = (
    *("\x1b[31m", "\x1b]0;x\x07", "\x1b[2J", "\x9b31m", "\r", "\x08", "\x07", "\x7f", "\t"),
    *("\nFORGED: fine", "\n", "\u202e", "\u2066", "\u200b", "\udc80", "\udcff\udcfe", "\u2028"),
    *("[bold]", "[/]", "[link=x]", "[", "'", '"', "`", "$(touch canary)", ";", "&", "|", "*", "?"),
    *(
        "<script>",
        "&lt;",
        "%s",
        "{0}",
        "\\",
        "-",
        "--",
        "~",
        "#",
        "=",
        ",",
        " ",
        ":",
        "é",
        "e\u0301",
    ),
    *("日本", "🩻", "\ufeff", "a" * 200, "\u0001", "=1+1", "@x", "nul", "__", ".", "..."),
)


def odd_name(rng: Random) -> str:
    """A name of one to three such pieces; no folder in it, at most 250 bytes."""
    pieces = [rng.choice(PIECES) for _ in range(rng.choice((1, 1, 2, 3)))]
    name = (rng.choice(("", "x")) + "".join(pieces) + rng.choice(("", "1"))).replace("/", "")
    while len(name.encode("utf-8", "surrogateescape")) > 240:
        name = name[:-1]
    return name if name.strip(".") else f"x{name}"


# Run folders ----------------------------------------------------------------------------------

BY_SUFFIX: Mapping[str, Mutator] = {
    ".yaml": yaml_file,
    ".json": json_file,
    ".jsonl": jsonl_file,
    ".csv": csv_file,
    ".npz": either(spoil, zip_members(volumes.npy), zip_members(volumes.npy)),
    ".png": pictures.png,
    ".html": spoil,
    ".safetensors": safetensors,
}


def run_files(room: Room, stock: Stock, rng: Random) -> list[str]:
    """A run of which a file was changed, or is gone, or is a folder."""
    run = run_copy(room, stock)
    small = [p for p in sorted(run.rglob("*")) if p.suffix in BY_SUFFIX]
    small = [p for p in small if p.suffix != ".safetensors" or rng.random() < 0.2]
    spoil_file(rng.choice(small), rng)
    return on_run(room, rng, run, stock)


def spoil_file(path: Path, rng: Random) -> None:
    """Change a file by its type; sometimes delete it, or put a folder or a link in its place."""
    how = rng.random()
    if how > 0.06:
        path.write_bytes(BY_SUFFIX[path.suffix](path.read_bytes(), rng))
        return
    path.unlink()
    if how < 0.02:
        path.mkdir()
    elif how < 0.03:
        path.symlink_to(path.name)
    elif how < 0.04:
        path.symlink_to("nowhere")


def on_run(room: Room, rng: Random, run: Path, stock: Stock) -> list[str]:
    """One of the commands that read a run."""
    how = rng.randrange(4)
    if how == 0:
        return ["evaluate", str(run), *CPU, *maybe(rng, "--json")]
    if how == 1:
        other = [str(stock.run)] if rng.random() < 0.3 else []
        return ["report", str(run), *other, "-o", str(room.out("page.html"))]
    if how == 2:
        return ["report", str(run)]
    images_at = str(stock.data / "beta/test/image")
    return ["predict", str(run), images_at, "-o", str(room.out()), *CPU]


def resumed(room: Room, stock: Stock, rng: Random) -> list[str]:
    """A stopped run of which a file was changed, gone on with."""
    run = run_copy(room, stock, stock.stopped)
    files = [p for p in sorted(run.rglob("*")) if p.suffix in BY_SUFFIX]
    spoil_file(rng.choice(files), rng)
    room.may_change, room.stop_after = JOURNAL, 8
    return ["train", "--resume", str(run), "--quiet"]


def checkpoint(room: Room, stock: Stock, rng: Random) -> list[str]:
    """A checkpoint of which the header or a tensor was changed."""
    stopped = rng.random() < 0.4
    run = run_copy(room, stock, stock.stopped if stopped else None)
    path = run / "checkpoints" / ("last.safetensors" if stopped else "best.safetensors")
    path.write_bytes(safetensors(path.read_bytes(), rng))
    if stopped:
        room.may_change, room.stop_after = JOURNAL, 8
        return ["train", "--resume", str(run), "--quiet"]
    return on_run(room, rng, run, stock)


def predictions(room: Room, stock: Stock, rng: Random) -> list[str]:
    """Masks of an earlier call whose list was changed."""
    out = room.out()
    copy_tree(stock.masks, out)
    path = rng.choice((out / "predictions.csv", out / "predictions.csv", out / "test0.png"))
    path.write_bytes(BY_SUFFIX[path.suffix](path.read_bytes(), rng))
    images_at = str(stock.data / rng.choice(("alpha/train/image", "beta/test/image")))
    words = ["predict", str(stock.run), images_at, "-o", str(out), *CPU]
    return [*words, *maybe(rng, "--overwrite")]


# Suites and weights ---------------------------------------------------------------------------


def suite(room: Room, stock: Stock, rng: Random) -> list[str]:
    """A suite whose file was changed: its tables, sometimes its cells, too."""
    path = room.inputs / "suite.yaml"
    path.write_bytes(yaml_file(stock.suite_file.read_bytes(), rng))
    out, room.stop_after = room.out(), 10
    words = ["bench", str(path), "--data", str(stock.root), "--out", str(out), *CPU]
    if rng.random() < 0.1:
        return words
    copy_tree(stock.suite, out)
    return [*words, "--tables"]


def suite_files(room: Room, stock: Stock, rng: Random) -> list[str]:
    """The folder of a suite of which a file was changed."""
    out = room.out()
    copy_tree(stock.suite, out)
    files = [p for p in sorted(out.rglob("*")) if p.suffix in BY_SUFFIX]
    read = (
        "bench",
        "config.yaml",
        "summary.json",
        "metrics.jsonl",
        "suite.json",
        "environment.json",
    )
    files = [p for p in files if p.name in read or p.parent.name == "bench" or rng.random() < 0.1]
    spoil_file(rng.choice(files), rng)
    words = ["bench", str(stock.suite_file), "--data", str(stock.root), "--out", str(out), *CPU]
    room.stop_after = 10
    return [*words, "--tables"] if rng.random() < 0.9 else words


def weights(room: Room, stock: Stock, rng: Random) -> list[str]:
    """Weights of a foundation model that were changed: .pth, .safetensors, a folder of the hub."""
    name = rng.choice(("sam.pth", "sam.safetensors", "hub"))
    path = room.inputs / name
    if name == "hub":
        copy_tree(stock.weights / name, path)
        spoil_file(rng.choice(sorted(path.iterdir())), rng)
    else:
        data = (stock.weights / name).read_bytes()
        mutate = safetensors if name != "sam.pth" else either(spoil, zip_members(spoil))
        path.write_bytes(mutate(data, rng))
    room.stop_after = 8
    words = ["train", str(stock.config), "--out", str(room.out()), "--quiet"]
    more = ("method.branches=medsam", f"medsam.weights={path}")
    return [*words, *(word for setting in more for word in ("--set", setting))]


def cache(room: Room, stock: Stock, rng: Random) -> list[str]:
    """The cache of weights: what `weights list`, `check` and `get` make of it."""
    home = room.out("home") / "synfoc"
    home.mkdir(parents=True)
    content = rng.randbytes(200)
    record = b'{"size": 200, "sha256": "00", "source": "x"}'
    (home / "litemedsam.safetensors").write_bytes(content)
    (home / "litemedsam.json").write_bytes(either(json_file, odd_text)(record, rng))
    placed = home / rng.choice(("facebook--sam-vit-base", "wanglab--medsam-vit-base"))
    placed.mkdir()
    (placed / "config.json").write_bytes(json_file(b'{"vision_config": {}}', rng))
    if rng.random() < 0.3:
        (home / "lite_medsam.pth").write_bytes(content)
    command = rng.choice((["list"], ["check"], ["get", "litemedsam"], ["get", "sam-vit-b"]))
    return ["weights", *command]


KINDS: Mapping[str, Kind] = {
    "png": Kind(images(samples.draw_png, pictures.png), 10),
    "jpeg": Kind(images(samples.draw_jpeg, pictures.jpeg), 6),
    "bmp": Kind(images(samples.draw_bmp, pictures.bmp), 5),
    "tiff": Kind(images(samples.draw_tiff, tiff.tiff), 10),
    "nifti": Kind(images(samples.draw_nifti, volumes.nifti), 10),
    "nifti-gz": Kind(images(samples.draw_nifti_gz, volumes.zipped(volumes.nifti)), 6),
    "npy": Kind(images(samples.draw_npy, volumes.npy), 8),
    "csv": Kind(table, 6),
    "names": Kind(names, 6),
    "config": Kind(config, 6),
    "flags": Kind(flags, 6),
    "run": Kind(run_files, 8),
    "resume": Kind(resumed, 4),
    "checkpoint": Kind(checkpoint, 4),
    "predictions": Kind(predictions, 3),
    "suite": Kind(suite, 4),
    "suite-folder": Kind(suite_files, 4),
    "weights": Kind(weights, 3),
    "cache": Kind(cache, 2),
}


def kind_of(number: int) -> str:
    """Which kind a case is of: by turns, in the proportions of the table."""
    turns = order(KINDS)
    return turns[number % len(turns)]


def order(kinds: Mapping[str, Kind]) -> Sequence[str]:
    """All turns of one round, each kind spread over it as evenly as can be."""
    slots = [
        ((i + 0.5) / kind.share, name) for name, kind in kinds.items() for i in range(kind.share)
    ]
    return [name for _, name in sorted(slots)]
