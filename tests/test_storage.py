"""Atomic files and torn lines."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from synfoc import storage
from synfoc.errors import UserError
from synfoc.storage import last_line, obstacle, read_json, read_lines


def test_json_keeps_numbers_and_turns_nan_into_null(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    storage.write_json(
        path, {"a": np.float32(0.5), "b": math.nan, "c": (1, math.inf), "p": Path("x")}
    )
    assert json.loads(path.read_text()) == {"a": 0.5, "b": None, "c": [1, None], "p": "x"}
    assert storage.read_json(path)["a"] == 0.5
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), None])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, error: OSError | None) -> None:
    """Python's writers raise ENOSPC; safetensors tells it in words."""
    path = tmp_path / "last.safetensors"
    path.write_text("old")
    with (
        pytest.raises(UserError, match="no space left") as caught,
        storage.replacing(path) as part,
    ):
        part.write_text("ne")
        raise error or RuntimeError("I/O error: No space left on device (os error 28)")
    assert "resume" in caught.value.fix
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["last.safetensors"]


def test_a_folder_in_the_way_of_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        storage.write_text(tmp_path / "report.html", "page")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_line_for_a_full_disk_is_told() -> None:
    with pytest.raises(UserError, match="no space left"):
        storage.append_line(Path("/dev/full"), {"step": 1})


def test_other_errors_of_a_writer_pass_and_clean_up(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), storage.replacing(tmp_path / "a") as part:
        part.write_text("x")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_lines_come_back_and_a_torn_last_line_does_not(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for step in (10, 20, 30):
        storage.append_line(path, {"step": step, "loss": 1 / step if step < 30 else math.nan})
    with path.open("a") as file:
        file.write('{"step": 40, "lo')
    assert [line["step"] for line in storage.read_lines(path)] == [10, 20, 30]
    assert storage.read_lines(path)[2]["loss"] is None
    assert storage.read_lines(tmp_path / "none.jsonl") == []


def test_the_last_line_is_read_from_the_end(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    assert last_line(path) is None
    path.write_text('{"step": 1')
    assert last_line(path) is None, "torn"
    path.write_text("".join(f'{{"step": {k}}}\n' for k in range(20_000)) + '{"st')
    assert last_line(path) == {"step": 19_999}
    path.write_text('{"step": 1}\nno\n')
    with pytest.raises(UserError, match="the last line is not JSON"):
        last_line(path)


def test_resume_cuts_the_lines_after_its_step(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 10}\n{"step": 20}\n{"step": 30}\n{"st')
    storage.truncate_lines(path, 20)
    storage.append_line(path, {"step": 30, "again": True})
    assert [line["step"] for line in storage.read_lines(path)] == [10, 20, 30]


def test_a_damaged_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 10}\n{"st\n{"step": 30}\n')
    with pytest.raises(UserError, match="damaged") as caught:
        storage.read_lines(path)
    assert caught.value.found == "line 2 is not JSON"


def test_the_folder_one_stands_in_can_be_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with storage.new_folder(Path(), "a data set") as part:
        (part / "a.txt").write_text("a")
    assert (tmp_path / "here" / "a.txt").read_text() == "a"
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_to_a_folder_can_be_filled(tmp_path: Path, there: bool) -> None:
    """The folder on the other disk is filled; the link stays."""
    if there:
        (tmp_path / "disk").mkdir()
    link = tmp_path / "here"
    link.symlink_to("disk")
    storage.refuse_used(link)
    with storage.new_folder(link, "a data set") as part:
        (part / "a.txt").write_text("a")
    assert link.is_symlink()
    assert (tmp_path / "disk" / "a.txt").read_text() == "a"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "here"]


def test_a_mount_point_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.os.path, "ismount", lambda path: path == tmp_path)
    with pytest.raises(UserError, match="cannot become a new data set") as caught:
        storage.refuse_used(tmp_path)
    assert caught.value.fix == "name a new folder inside it"


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
@pytest.mark.parametrize("read", [read_json, read_lines, obstacle])
def test_a_pipe_or_a_device_is_never_waited_for(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with suppress(UserError):
            assert read(path) == "a pipe, a socket or a device, not a file"
