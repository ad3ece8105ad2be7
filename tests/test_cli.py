"""The command line as a user meets it: status, messages, files; bad input is no traceback."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from synfoc import cli
from synfoc.storage import unreadable


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


Run = Callable[..., Ended]


SMALL = (
    "--size", 32, "--steps", 2, "--quiet", "--device", "cpu",
    "--set", "medsam.weights=random:vit-tiny", "--set", "unet.width=4",
    "--set", "train.evaluate_images=2",
)  # fmt: skip


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `synfoc ARGUMENTS` in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["synfoc", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        text = capsys.readouterr()
        return Ended(int(ended.value.code or 0), text.out, text.err)

    return call


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """Two scanners with 4 training and 2 test images of 32 px; class 1 is a bright square."""
    root, rng = tmp_path / "data", np.random.default_rng(3)
    for domain in ("alpha", "beta"):
        for split, count in (("train", 4), ("test", 2)):
            for i in range(count):
                label = np.zeros((32, 32), np.uint8)
                label[8 + i : 20 + i, 8:20] = 1
                noise = rng.integers(0, 60, label.shape, np.uint8)
                for name, pixels in (("image", label * 150 + noise), ("mask", label)):
                    path = root / domain / split / name / f"{i}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pixels).save(path)
    return root


@pytest.fixture
def trained(run: Run, squares: Path, tmp_path: Path) -> Path:
    """A run of two steps."""
    folder = tmp_path / "run"
    ended = run("train", "--data", squares, "--labeled", "alpha:2", "--out", folder, *SMALL)
    assert ended.status == 0, ended.err
    return folder


def test_help_is_quick() -> None:
    """No torch, no transformers; half a second is the promise, measured in benchmarks."""
    code = (
        "import sys; sys.argv = ['synfoc', '--help']\n"
        "from synfoc.cli import main\n"
        "try: main()\n"
        "except SystemExit as e: assert not e.code\n"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_own_data_from_one_line_to_masks(
    run: Run, trained: Path, squares: Path, tmp_path: Path
) -> None:
    evaluated = run("evaluate", trained, "--json", "--device", "cpu")
    assert evaluated.status == 0
    assert set(json.loads(evaluated.out)["branches"]) == {"unet", "medsam", "fused"}
    masks = tmp_path / "new masks é"
    predicted = run("predict", trained, squares / "beta/test/image", "-o", masks, "--overlay")
    assert predicted.status == 0
    assert "2 masks" in predicted.out
    assert (masks / "predictions.csv").is_file()
    reported = run("report", trained)
    assert reported.status == 0
    assert (trained / "report.html").stat().st_size > 10_000


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_run_that_may_not_be_written_is_scored_and_reported_elsewhere(
    run: Run, trained: Path, squares: Path, tmp_path: Path
) -> None:
    """Scores in a folder of their own, pages wherever: the run stays as it was, byte for byte."""
    before, scores = files_of(trained), tmp_path / "my scores"
    ended = run("evaluate", trained, "--out", scores, "--checkpoint", "last", "--device", "cpu")
    assert ended.status == 0, ended.err
    assert f"next: synfoc report '{scores}'" in ended.out
    metrics = json.loads((scores / "metrics.json").read_text())
    assert (metrics["run"], metrics["checkpoint"]) == (str(trained), "last")
    assert run("report", scores).status == 0
    assert {p.name for p in scores.iterdir()} == {
        "metrics.json", "evaluation", "report.html", "pictures"
    }  # fmt: skip
    page = tmp_path / "both.html"
    assert run("report", trained, scores, "-o", page).status == 0
    assert "not been evaluated" in page.read_text(), "the run itself has no scores"
    masks = tmp_path / "masks"
    ended = run(
        "predict", trained, squares / "beta/test/image", "-o", masks, "--checkpoint", "last"
    )
    assert ended.status == 0
    assert files_of(trained) == before


def test_a_report_writes_into_the_first_run_alone(run: Run, trained: Path, tmp_path: Path) -> None:
    scores = tmp_path / "scores"
    assert run("evaluate", trained, "--device", "cpu").status == 0
    assert run("evaluate", trained, "--out", scores, "--device", "cpu").status == 0
    before = files_of(trained)
    assert run("report", scores, trained).status == 0
    assert files_of(trained) == before
    assert run("report", trained).status == 0
    made = set(files_of(trained)) - set(before)
    assert {"report.html", "pictures/overview.png"} <= made


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        (("evaluate", "RUN", "--out", "RUN"), "leave --out out"),
        (("evaluate", "RUN", "--out", "DATA/scores"), "choose another --out"),
        (("evaluate", "RUN", "--out", "RUN/checkpoints"), "choose another --out"),
        (("evaluate", "RUN", "--checkpoint", "bset"), "one of: best, last"),
        (("predict", "RUN", "DATA/beta/test/image", "-o", "RUN"), "choose another --out"),
        (
            ("predict", "RUN", "DATA/beta/test/image", "-o", "OUT", "--checkpoint", "x"),
            "best, last",
        ),
        (("report", "RUN", "-o", "RUN/config.yaml"), "config.yaml.html"),
        (("report", "RUN", "-o", "DATA"), "DATA/report.html"),
        (("train", "--data", "DATA", "-o", "DATA/run", *map(str, SMALL)), "choose another --out"),
        (("train", "--data", "DATA", "-o", "RUN"), "synfoc train --resume RUN"),
    ],
)
def test_what_would_be_written_over_or_among_images_is_refused(
    run: Run, trained: Path, squares: Path, tmp_path: Path, words: tuple[str, ...], fix: str
) -> None:
    places = {"RUN": str(trained), "DATA": str(squares), "OUT": str(tmp_path / "out")}

    def placed(text: str) -> str:
        for name, place in places.items():
            text = text.replace(name, place)
        return text

    before = files_of(tmp_path)
    ended = run(*map(placed, words))
    assert ended.status == 2
    assert placed(fix) in ended.err
    assert files_of(tmp_path) == before


def test_a_folder_without_the_right_to_write_is_told_before_the_work(
    run: Run, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a share that is mounted to be read; the command in the message is the way out."""
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and allowed(path, mode))
    before = files_of(trained)
    for command, fix in (
        ("evaluate", f"synfoc evaluate {trained} --out DIR"),
        ("report", f"synfoc report {trained} -o FILE.html"),
    ):
        ended = run(command, trained)
        assert (ended.status, ended.err.strip().splitlines()[-1]) == (2, f"  fix       {fix}")
    assert files_of(trained) == before


def test_a_file_without_the_right_to_read_is_not_called_damaged(tmp_path: Path) -> None:
    error = unreadable(
        tmp_path / "a b.json", os.strerror(errno.EACCES), expected="JSON", fix="train again"
    )
    assert error.fix == f"chmod +rX '{tmp_path}/a b.json', or ask its owner to do so"


@pytest.mark.filterwarnings("ignore:the run has no summary.json")
def test_masks_after_a_stop_before_the_first_evaluation(
    run: Run, trained: Path, squares: Path, tmp_path: Path
) -> None:
    """No `best` and no summary yet: both commands name the way, and it works."""
    (trained / "checkpoints/best.safetensors").unlink()
    (trained / "summary.json").unlink()
    commands = {
        "predict": (trained, squares / "beta/test/image", "-o", tmp_path / "masks"),
        "evaluate": (trained, "--out", tmp_path / "scores"),
    }
    for command, words in commands.items():
        refused = run(command, *words)
        assert refused.status == 2
        assert "  fix       --checkpoint last; " in refused.err
        assert run(command, *words, "--checkpoint", "last").status == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no sh")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_output_stops_nothing(squares: Path, closed: str) -> None:
    """As some schedulers start a command."""
    command = f'exec "$0" -m synfoc data check "$1" {closed}'
    done = subprocess.run(["sh", "-c", command, sys.executable, squares], check=False)
    assert done.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_output_for_a_full_disk_is_told(squares: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "synfoc", "data", "check", str(squares)],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert "synfoc: cannot use the output\n  found     No space left" in done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_names_cannot_command_the_terminal(run: Run) -> None:
    """ESC [ 2 J would wipe the screen, U+202E turn the line around."""
    ended = run("evaluate", "a\x1b[2J\u202eb")
    assert ended.status == 2
    assert ended.err.startswith("synfoc: a\\u001b[2J\\u202eb is not a run folder")


@pytest.mark.parametrize(
    "words", [("weights", "list", "a\u202eb"), ("train", "-\u202e"), ("\u202e",)]
)
def test_an_argument_that_is_refused_cannot_turn_the_line(run: Run, words: tuple[str, ...]) -> None:
    ended = run(*words)
    assert ended.status == 2
    assert "\\u202e" in ended.err
    assert "\u202e" not in ended.err


@pytest.mark.skipif(sys.platform != "linux", reason="names of other systems are text")
def test_a_run_whose_name_is_not_utf8_is_refused(run: Run, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xffn"))
    path.mkdir()
    ended = run("evaluate", path)
    assert ended.status == 2
    assert "is not UTF-8" in ended.err
    assert f"{path!s}".encode(errors="replace") not in ended.err.encode()


@pytest.mark.parametrize("columns", ["0", "1", "x", ""])
def test_a_width_of_nothing_cuts_no_table(
    run: Run, squares: Path, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert "alpha" in run("data", "check", squares).out


def test_the_saved_config_repeats_the_run(run: Run, trained: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert run("train", trained / "config.yaml", "--out", again, "--quiet").status == 0
    last = "checkpoints/last.safetensors"
    assert (again / "config.yaml").read_text() == (trained / "config.yaml").read_text()
    one, other = (load_file(folder / last) for folder in (again, trained))
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_one_unreadable_image_does_not_stop_the_rest(
    run: Run, trained: Path, squares: Path, tmp_path: Path
) -> None:
    folder = squares / "beta/test/image"
    (folder / "torn.png").write_bytes((folder / "0.png").read_bytes()[:40])
    ended = run("predict", trained, folder, "-o", tmp_path / "masks")
    assert ended.status == 1
    assert "2 masks" in ended.out
    assert "torn.png" in ended.err


def test_masks_are_not_overwritten(run: Run, trained: Path, squares: Path, tmp_path: Path) -> None:
    arguments = ("predict", trained, squares / "beta/test/image", "-o", tmp_path / "masks")
    assert run(*arguments).status == 0
    assert run(*arguments).status == 2
    assert run(*arguments, "--overwrite").status == 0


def test_data_check_finds_it_sound(run: Run, squares: Path) -> None:
    ended = run("data", "check", squares, "--json")
    assert ended.status == 0
    assert json.loads(ended.out)["problems"] == []


def test_data_check_ends_with_1_where_training_would_be_unsound(run: Run, squares: Path) -> None:
    (squares / "beta/train/image/9.png").write_bytes(b"")
    assert run("data", "check", squares).status == 1


BAD = {
    "no data": (("train", "--data", "nowhere", "--labeled", "a:1"), "no data at nowhere"),
    "nothing given": (("train",), "nothing to train on"),
    "labeled without count": (("train", "--data", ".", "--labeled", "alpha"), "cannot read"),
    "typo in a key": (
        ("train", "--data", ".", "--set", "train.stesp=3"),
        "did you mean train.steps",
    ),
    "wrong type": (("train", "--data", ".", "--set", "train.steps=many"), "a whole number"),
    "odd side": (("train", "--data", ".", "--size", 100), "multiple of 16"),
    "no config": (("train", "absent.yaml"), "no config at absent.yaml"),
    "no run": (("evaluate", "absent"), "not a run folder"),
    "no run to go on with": (("train", "--resume", "absent"), "not a run folder"),
    "one setting twice": (
        ("train", "--data", ".", "--steps", 3, "--set", "train.steps=4"),
        "train.steps is given twice",
    ),
    "resume beside settings": (("train", "--resume", "x", "--steps", 3), "alone"),
    "unknown weights": (("weights", "get", "sam-vit-z"), "sam-vit-z"),
    "checked weights": (("weights", "check", "sam-vit-z"), "no known weights"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_with_status_2(
    run: Run, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, message = BAD[name]
    ended = run(*arguments)
    assert ended.status == 2
    assert message in ended.err
    assert "Traceback" not in ended.err
    for fact in ("found", "expected", "fix"):
        assert fact in ended.err
    assert not list(tmp_path.iterdir()), "something was left behind"


def spoil_image(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoil_size(path: Path) -> None:
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(path)


def spoil_values(path: Path) -> None:
    Image.fromarray(np.array([[0, 1], [2, 255]], np.uint8).repeat(16, 0).repeat(16, 1)).save(path)


def spoil_pixel(path: Path) -> None:
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(path)


BROKEN = {
    "truncated image": ("alpha/train/image/0.png", spoil_image),
    "empty image": ("alpha/train/image/0.png", lambda path: path.write_bytes(b"")),
    "text as image": ("alpha/train/image/0.png", lambda path: path.write_text("hello")),
    "label of another size": ("alpha/train/mask/0.png", spoil_size),
    "label values out of range": ("alpha/train/mask/0.png", spoil_values),
    "image of one pixel": ("alpha/train/image/0.png", spoil_pixel),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_data_is_told_with_status_2(
    run: Run, squares: Path, tmp_path: Path, name: str
) -> None:
    file, spoil = BROKEN[name]
    spoil(squares / file)
    folder = tmp_path / "run"
    classes = ("--set", "data.classes=[square]")
    ended = run(
        "train", "--data", squares, "--labeled", "alpha:2", "--out", folder, *SMALL, *classes
    )  # fmt: skip
    assert ended.status == 2, ended.out
    assert "Traceback" not in ended.err
    assert "found" in ended.err
    assert not folder.exists() or not any(folder.rglob("*.safetensors"))


ODD_NAMES = {
    "escape sequences": ("\x1b]0;title\x07\x1b[2J", "\\u001b]0;title\\u0007"),
    "a line of ours": ("x\nsynfoc: FORGED", "x"),
    "text turned around": ("\u202egnp", "\\u202egnp"),
    "marks of Rich": ("[bold red]x", "[bold red]x"),
}
"""What -> name of a folder, and what is shown of it."""


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_names_of_files_do_nothing_to_a_terminal(
    run: Run, squares: Path, name: str, as_json: tuple[str, ...]
) -> None:
    """A domain and a torn image of that name: in the table, in the problem, and as JSON."""
    odd, shown = ODD_NAMES[name]
    (squares / "alpha").rename(squares / odd)
    (squares / odd / "train/image" / f"{odd}.png").write_bytes(b"torn")
    ended = run("data", "check", squares, *as_json)
    assert ended.status == 1
    assert shown in ended.out
    assert not [c for c in ended.out if c in "\x1b\x07\u202e"]
    assert not [line for line in ended.out.splitlines() if line.startswith("synfoc: FORGED")]
    if as_json:
        assert json.loads(ended.out)["problems"]


def test_a_name_in_an_error_does_nothing_to_a_terminal(run: Run, tmp_path: Path) -> None:
    ended = run("data", "check", tmp_path / "\x1b[31m\nsynfoc: FORGED")
    assert ended.status == 2
    assert "\x1b" not in ended.err
    assert not [line for line in ended.err.splitlines() if line.startswith("synfoc: FORGED")]


@pytest.mark.parametrize("words", [("data", "check"), ("evaluate",), ("report",), ("train",)])
def test_a_name_longer_than_any_disk_has(run: Run, words: tuple[str, ...]) -> None:
    """255 bytes are the most that a name may have; 300 are told, not thrown."""
    ended = run(*words, "x" * 300)
    assert ended.status == 2
    for fact in ("found", "expected", "fix"):
        assert fact in ended.err


@pytest.mark.parametrize(
    ("labeled", "message"),
    [("gamma:2", "alpha"), ("alpha:99", "alpha"), ("alpha:0", "cannot read")],
)
def test_labeled_images_that_are_not_there(
    run: Run, squares: Path, tmp_path: Path, labeled: str, message: str
) -> None:
    ended = run("train", "--data", squares, "--labeled", labeled, "--out", tmp_path / "r", *SMALL)
    assert ended.status == 2
    assert message in ended.err


def test_info_tells_what_is_here_as_json(run: Run) -> None:
    told = json.loads(run("info", "--json").out)
    assert told["versions"]["torch"] == torch.__version__
    assert told["device"]["kind"] in ("cpu", "cuda")
    assert told["methods"]["synfoc"] == {
        "title": "SynFoC", "networks": "any", "unlabeled": True, "teacher": True,
    }  # fmt: skip
    assert {"litemedsam", "medsam"} <= {status["name"] for status in told["weights"]}
    assert "command" not in told, "paths of a machine belong to nobody's report"
    assert "synfoc, supervised, fixmatch" in run("info").out
