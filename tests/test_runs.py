"""The run folder: what it may hold, what it tells, errors that help."""

from __future__ import annotations

import json
import os
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from synfoc.config import Config, Data
from synfoc.errors import UserError
from synfoc.example_files import Example, load_example, save_example
from synfoc.runs import RunFolder

CONFIG = Config(data=Data(path=Path("data")))


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


def test_who_trains_a_run_sweeps_torn_temporary_files(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    torn = run.checkpoints / ".last.safetensors.77.tmp"
    torn.write_bytes(b"half")
    with run.held():
        assert not torn.exists()


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    torn = run.checkpoints / ".last.safetensors.77.tmp"
    with run.held():
        torn.write_bytes(b"being written")
        with pytest.raises(UserError, match="is being trained"), RunFolder(run.path).held():
            pytest.fail("two at once")
        assert torn.exists()
    with run.held():
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


def test_a_run_without_scores_says_how_to_get_them(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "my run")
    with pytest.raises(UserError, match="no scores") as caught:
        run.read_metrics()
    assert caught.value.fix.startswith("synfoc evaluate '")
    assert (run.read_summary(), run.read_cases(), run.read_examples()) == ({}, [], ([], []))


def test_an_example_survives_the_disk(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    label = (image > 5).astype(np.uint8)
    for domain, kind in [("B/2", "worst"), ("B/2", "best"), (None, "median")]:
        masks, dice = {"unet": 1 - label}, {"unet": np.float64(0.5)}
        example = Example("c", domain, kind, image, label, masks, dice)
        save_example(run.example(domain, kind), example)
    found, damaged = run.read_examples()
    assert damaged == []
    assert [(e.domain, e.kind) for e in found] == [
        (None, "median"),
        ("B/2", "best"),
        ("B/2", "worst"),
    ]
    assert found[0].dice == {"unet": 0.5}
    assert np.array_equal(found[1].image, image)
    assert np.array_equal(found[1].masks["unet"], 1 - label)
    assert set(found[1].masks) == {"unet"}


def test_an_example_of_an_earlier_version_opens(tmp_path: Path) -> None:
    """What is known of it is JSON in `info`; a key that is not known is left out there."""
    image = np.zeros((2, 3), np.uint8)
    info = {"case": "c", "domain": None, "kind": "best", "dice": {"unet": 0.5, "fused": None}}
    for name, spacing in (("flat", {}), ("volume", {"spacing": [2.0, 1.0]})):
        arrays = {"image": image, "label": image, "unet": image + 1}
        np.savez(tmp_path / f"{name}.npz", **arrays, info=json.dumps(info | spacing))
    flat, volume = (load_example(tmp_path / f"{name}.npz") for name in ("flat", "volume"))
    assert (flat.case, flat.domain, flat.kind, flat.dice) == tuple(info.values())
    assert list(flat.masks) == ["unet"] and flat.masks["unet"].all()
    assert (flat.spacing, volume.spacing) == (None, (2.0, 1.0))
    save_example(tmp_path / "again.npz", volume)
    with np.load(tmp_path / "again.npz") as file:
        assert json.loads(str(file["info"])) == info | {"spacing": [2.0, 1.0]}


def test_a_torn_example_is_named(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    run.example("A", "best").write_bytes(b"PK torn")
    found, (error,) = run.read_examples()
    assert found == []
    assert "A__best.npz" in error.what and "BadZipFile" in error.found
    assert error.fix == f"synfoc evaluate {run.path}"


def test_an_array_whose_header_does_not_end_is_named(tmp_path: Path) -> None:
    """numpy raises what Python's tokenizer does."""
    text = b"{'descr': '|u1', 'shape': (((\n"
    header = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("label.npy", header + bytes(16))
        archive.writestr("info.txt", "{}")
    with pytest.raises(UserError) as error:
        load_example(tmp_path / "a.npz")
    assert error.value.found.startswith("damaged, or of another program")


def test_domains_of_like_names_keep_their_own_pictures(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    names = [run.example(domain, "best").name for domain in ("GE 1.5T", "GE_1.5T", "GE/1.5T", None)]
    assert len(set(names)) == 4
    assert names[1] == "GE_1.5T__best.npz"


def test_a_config_cut_anywhere_is_not_read_as_one_with_defaults(tmp_path: Path) -> None:
    """Half of a YAML file is YAML: what is missing would be a default, and no error."""
    run = RunFolder(tmp_path)
    text = CONFIG.to_yaml()
    lines = text.splitlines(keepends=True)
    assert lines[-1] == "...\n"
    read = []
    for count in range(2, len(lines)):
        run.config.write_text("".join(lines[:count]))
        with suppress(UserError):
            read.append(run.read_config()[0])
    assert read == [CONFIG], "without the mark alone"


def test_a_config_without_a_mark_of_its_end_is_read_if_it_has_all_keys(tmp_path: Path) -> None:
    """Version 0.1 wrote none."""
    run = RunFolder(tmp_path)
    run.config.write_text(CONFIG.to_yaml().removesuffix("...\n"))
    assert run.read_config() == (CONFIG, None)
