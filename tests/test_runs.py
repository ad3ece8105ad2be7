"""The run folder: atomic files, torn lines, errors that help."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from synfoc import runs
from synfoc.errors import UserError
from synfoc.runs import RunFolder


def test_a_new_run_gets_its_folders_and_missing_parents(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "läufe und mehr" / "run 1")
    assert run.checkpoints.is_dir()
    assert run.example_folder == run.path / "evaluation" / "pictures"
    assert run.example_folder.is_dir()


def test_a_folder_with_anything_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="not empty") as caught:
        RunFolder.create(tmp_path)
    assert caught.value.found == "thesis.tex"
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_resume_opens_a_run_and_sweeps_torn_temporary_files(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    run.config.write_text("data: {path: x}\n")
    torn = run.checkpoints / ".last.safetensors.77.tmp"
    torn.write_bytes(b"half")
    assert RunFolder.create(run.path, resume=True).config == run.config
    assert not torn.exists()


@pytest.mark.parametrize("make", ["nothing", "folder", "file"])
def test_what_is_not_a_run_folder_is_named(tmp_path: Path, make: str) -> None:
    path = tmp_path / "there"
    if make == "folder":
        path.mkdir()
    if make == "file":
        path.write_text("x")
    with pytest.raises(UserError, match="not a run folder") as caught:
        RunFolder.open(path)
    expected = {"nothing": "no such folder", "folder": "an empty folder", "file": "a file"}
    assert caught.value.found == expected[make]


def test_a_run_inside_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write"):
        RunFolder.create(tmp_path / "file" / "run")


def test_a_name_that_no_disk_takes_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write"):
        RunFolder.create(tmp_path / ("n" * 300))


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc on this system")
def test_a_file_system_that_takes_no_folder_is_told() -> None:
    with pytest.raises(UserError, match="cannot write"):
        RunFolder.create(Path("/proc/run"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_an_unwritable_folder_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot write"):
        RunFolder.create(tmp_path / "run")


def test_json_keeps_numbers_and_turns_nan_into_null(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    runs.write_json(path, {"a": np.float32(0.5), "b": math.nan, "c": (1, math.inf), "p": Path("x")})
    assert json.loads(path.read_text()) == {"a": 0.5, "b": None, "c": [1, None], "p": "x"}
    assert runs.read_json(path)["a"] == 0.5
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), None])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, error: OSError | None) -> None:
    """Python's writers raise ENOSPC; safetensors tells it in words."""
    path = tmp_path / "last.safetensors"
    path.write_text("old")
    with (
        pytest.raises(UserError, match="no space left") as caught,
        runs.replacing(path) as part,
    ):
        part.write_text("ne")
        raise error or RuntimeError("I/O error: No space left on device (os error 28)")
    assert "resume" in caught.value.fix
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["last.safetensors"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_line_for_a_full_disk_is_told() -> None:
    with pytest.raises(UserError, match="no space left"):
        runs.append_line(Path("/dev/full"), {"step": 1})


def test_other_errors_of_a_writer_pass_and_clean_up(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), runs.replacing(tmp_path / "a") as part:
        part.write_text("x")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_lines_come_back_and_a_torn_last_line_does_not(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for step in (10, 20, 30):
        runs.append_line(path, {"step": step, "loss": 1 / step if step < 30 else math.nan})
    with path.open("a") as file:
        file.write('{"step": 40, "lo')
    assert [line["step"] for line in runs.read_lines(path)] == [10, 20, 30]
    assert runs.read_lines(path)[2]["loss"] is None
    assert runs.read_lines(tmp_path / "none.jsonl") == []


def test_resume_cuts_the_lines_after_its_step(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 10}\n{"step": 20}\n{"step": 30}\n{"st')
    runs.truncate_lines(path, 20)
    runs.append_line(path, {"step": 30, "again": True})
    assert [line["step"] for line in runs.read_lines(path)] == [10, 20, 30]


def test_a_damaged_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 10}\n{"st\n{"step": 30}\n')
    with pytest.raises(UserError, match="damaged") as caught:
        runs.read_lines(path)
    assert caught.value.found == "line 2 is not JSON"


def test_a_run_without_scores_says_how_to_get_them(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "my run")
    with pytest.raises(UserError, match="no scores") as caught:
        run.read_metrics()
    assert caught.value.fix.startswith("synfoc evaluate '")
    assert (run.read_summary(), run.read_cases(), run.read_examples()) == ({}, [], [])


def test_an_example_survives_the_disk(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    label = (image > 5).astype(np.uint8)
    for domain, kind in [("B/2", "worst"), ("B/2", "best"), (None, "median")]:
        info = {"case": "c", "domain": domain, "kind": kind, "dice": {"unet": np.float64(0.5)}}
        runs.save_example(run.example(domain, kind), image, label, {"unet": 1 - label}, info)
    found = run.read_examples()
    assert [(e.info["domain"], e.info["kind"]) for e in found] == [
        (None, "median"),
        ("B/2", "best"),
        ("B/2", "worst"),
    ]
    assert found[0].info["dice"] == {"unet": 0.5}
    assert np.array_equal(found[1].image, image)
    assert np.array_equal(found[1].masks["unet"], 1 - label)
    assert set(found[1].masks) == {"unet"}


def test_a_torn_example_is_named(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    run.example("A", "best").write_bytes(b"PK torn")
    with pytest.raises(UserError, match="A__best"):
        run.read_examples()


def test_environment_names_versions_without_loading_torch() -> None:
    code = (
        "import sys; from synfoc import runs; e = runs.environment();"
        "print(e['versions']['torch'], 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, torch_loaded, numpy_loaded = done.stdout.split()
    assert version[0].isdigit()
    assert (torch_loaded, numpy_loaded) == ("False", "False")
