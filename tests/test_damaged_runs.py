"""A run folder in which one file is damaged: told, or gone on without; never a traceback.

Every file of a real run x every damage x every command. A command ends with 0, 1 (something was
left out) or 2 (told: found, expected, fix), leaves no half-written file, and only `train --resume`
writes into the run.
"""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synfoc import cli
from synfoc.report import figures

pytestmark = pytest.mark.filterwarnings("default")  # the command line tells them as notes
BOTH = ("data.labeled={domain: alpha, count: 2}", "medsam.weights=random:vit-tiny")
SETTINGS = (*BOTH, "unet.width=4", "train.evaluate_images=2", "train.log_every=1")


def scanners(root: Path) -> Path:
    """Two scanners with two training images and one test image of 32 px."""
    rng = np.random.default_rng(3)
    for domain, (split, count) in itertools.product("ab", (("train", 2), ("test", 1))):
        for i in range(count):
            label = np.zeros((32, 32), np.uint8)
            label[8 + i : 20 + i, 8:20] = 1
            image = label * 150 + rng.integers(0, 60, label.shape, np.uint8)
            for name, pixels in (("image", image), ("mask", label)):
                path = root / {"a": "alpha", "b": "beta"}[domain] / split / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return root


def status_of(*words: object) -> int:
    """Run the command line in this process; an exception other than its end is a traceback."""
    before, sys.argv = sys.argv, ["synfoc", *map(str, words)]
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    raise AssertionError("the command did not end")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data` and a trained, evaluated `run` of two networks."""
    root = tmp_path_factory.mktemp("damaged") / "läufe & mehr"
    changes = [word for setting in SETTINGS for word in ("--set", setting)]
    data, run = scanners(root / "data"), root / "run"
    trained = status_of(
        "train", "--data", data, "--size", 32, "--steps", 2, "-q", "-o", run, *changes,
        "--device", "cpu",
    )  # fmt: skip
    assert trained == 0
    assert status_of("evaluate", run, "--device", "cpu") == 0
    return root


FILES = (
    "config.yaml", "environment.json", "split.json", "metrics.jsonl", "summary.json",
    "base.safetensors", "checkpoints/best.safetensors", "checkpoints/last.safetensors",
    "metrics.json", "evaluation/cases.csv", "evaluation/estimates.csv",
    "evaluation/pictures/alpha__median.npz", ".lock",
)  # fmt: skip


def empty(path: Path) -> None:
    path.write_bytes(b"")


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(len(data))
    for at in rng.integers(0, max(1, len(data)), 12 if data else 0):
        data[at] ^= 1 << int(rng.integers(8))
    path.write_bytes(bytes(data))


def lists(path: Path) -> None:
    path.write_text("[]\n")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def foreign(path: Path) -> None:
    path.write_bytes("schön".encode("latin-1") + b"\x00\xff\xfe\n")


def pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def gone(path: Path) -> None:
    path.unlink()


DAMAGES = (empty, halve, flip, lists, folder, foreign, pointer, gone)
COMMANDS: dict[str, Callable[[Path], tuple[object, ...]]] = {
    "report": lambda at: ("report", at / "run", "-o", at / "page.html"),
    "evaluate": lambda at: ("evaluate", at / "run", "--out", at / "scores", "--device", "cpu"),
    "predict": lambda at: (
        "predict", at / "run", at / "data/beta/test/image", "-o", at / "masks", "--device", "cpu",
    ),
    "resume": lambda at: ("train", "--resume", at / "run", "-q"),
}  # fmt: skip
NEEDS = {
    "report": set(),
    "evaluate": {"split.json", "base.safetensors", "checkpoints/best.safetensors"},
    "predict": {"summary.json", "base.safetensors", "checkpoints/best.safetensors"},
    "resume": {
        "split.json", "metrics.jsonl", "base.safetensors", "checkpoints/best.safetensors",
        "checkpoints/last.safetensors", ".lock", "config.yaml", "summary.json",
    },
}  # fmt: skip
"""A command may refuse (status 2) only where one of these is damaged."""
READ_BY_REPORT = {
    "config.yaml", "environment.json", "split.json", "metrics.jsonl", "summary.json",
    "metrics.json", "evaluation/cases.csv", "evaluation/pictures/alpha__median.npz",
}  # fmt: skip


def unseen(file: str, damage: Callable[[Path], None]) -> bool:
    """A digit that is another digit; a file that need not be there."""
    return damage in (flip, gone)


def contents(root: Path) -> dict[str, bytes | None]:
    """Every file and folder below a folder, with what it holds."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
    }


PAIRS = list(itertools.product(FILES, COMMANDS))
SOME = [(*pair, DAMAGES[3 * i % len(DAMAGES)]) for i, pair in enumerate(PAIRS)]
OTHERS = [(*pair, d) for pair in PAIRS for d in DAMAGES if (*pair, d) not in SOME]


@pytest.mark.parametrize(("file", "command", "damage"), SOME)
def test_a_damaged_file(
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    file: str,
    command: str,
    damage: Callable[[Path], None],
) -> None:
    """Every file and command once; all damages: the slow twin of this test."""
    monkeypatch.setattr(figures, "svg", lambda figure, label: "")  # drawn, but not rendered

    def told() -> tuple[str, str]:
        return tuple(capsys.readouterr())

    check(whole, tmp_path, file, damage, command, told)


@pytest.mark.slow
@pytest.mark.parametrize(("file", "command", "damage"), OTHERS)
def test_a_damaged_file_of_every_kind(
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    file: str,
    command: str,
    damage: Callable[[Path], None],
) -> None:
    test_a_damaged_file(whole, tmp_path, monkeypatch, capsys, file, command, damage)


def check(
    whole: Path, at: Path, file: str, damage: Callable[[Path], None], command: str,
    told: Callable[[], tuple[str, str]],
) -> None:  # fmt: skip
    """One damage, one command, all promises."""
    shutil.copytree(whole / "run", at / "run")
    (at / "data").symlink_to(whole / "data")
    damage(at / "run" / file)
    before = contents(at / "run")
    told()
    status = status_of(*COMMANDS[command](at))
    out, err = told()
    assert status in (0, 1, 2)
    assert "Traceback" not in out + err
    assert not list(at.rglob("*.tmp")), "half a file"
    if command != "resume":
        assert contents(at / "run") == before
    if status == 2:
        assert file in NEEDS[command], err
        assert Path(file).stem in err
        assert all(f"  {fact}" in err for fact in ("found", "expected", "fix"))
        assert not (at / "scores").exists()
        assert not (at / "masks").exists()
    if command == "report":
        assert (at / "page.html").is_file()
        told_so = (status, Path(file).name in err) == (1, True)
        assert told_so == (file in READ_BY_REPORT) or unseen(file, damage)


REMEDIES = {
    "config.yaml": "resume",
    "summary.json": "resume",
    "split.json": "evaluate",
    "base.safetensors": "predict",
    "metrics.json": "report",
    "evaluation/cases.csv": "report",
    "evaluation/pictures/alpha__median.npz": "report",
}


@pytest.mark.parametrize("file", REMEDIES)
def test_the_fix_that_is_told_brings_the_file_back(
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    file: str,
) -> None:
    """The command in the message is run as it stands; then the file is as it was, or as good."""
    monkeypatch.chdir(tmp_path)
    at = tmp_path / "a b é"
    at.mkdir()
    shutil.copytree(whole / "run", at / "run")
    (at / "data").symlink_to(whole / "data")
    kept = (at / "run" / file).read_bytes()
    (at / "run" / file).write_text("[")
    words = COMMANDS["predict" if file == "summary.json" else REMEDIES[file]](at)
    assert status_of(*words) in ((0,) if file == "config.yaml" else (1, 2))
    told = capsys.readouterr().err
    if file != "config.yaml":
        fix = re.findall(r"  fix +(.*)", told)[0]
        command = re.search(r"synfoc [^`]*(?=`)|synfoc .*", fix)
        assert command is not None, fix
        assert status_of(*shlex.split(command[0])[1:]) == 0
        if "copy NEW/" in fix:
            shutil.copy(Path("NEW") / file, at / "run" / file)
    if not file.endswith(("npz", "split.json", "summary.json", "safetensors")):
        assert (at / "run" / file).read_bytes() == kept
    capsys.readouterr()
    assert status_of(*words) == 0
    assert Path(file).name not in capsys.readouterr().err
