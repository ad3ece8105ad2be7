"""A suite from the outside: who may write its folder, and when."""

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from synfoc.bench import run as module
from synfoc.bench.folder import SuiteFolder
from synfoc.bench.run import run_suite
from synfoc.errors import UserError
from synfoc.storage import write_text

SuiteFile = Callable[..., Path]
PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "run_here", lambda folder, **_: True)


def test_a_suite_that_is_running_is_left_alone(
    suite_file: SuiteFile, squares: Path, tmp_path: Path, nothing_runs: None
) -> None:
    """Its cells read what is stored; a second command with other settings must not change it."""
    out = tmp_path / "out"
    run_suite(suite_file(), root=squares, out=out)
    cell = SuiteFolder.open(out).cells[0]
    write_text(cell.run.config, cell.config.to_yaml())  # begun
    stored = (out / "suite.yaml").read_bytes()
    with (
        FileLock(out / ".lock", timeout=0),
        pytest.raises(UserError, match="in use"),
    ):
        run_suite(suite_file(), root=squares, out=out, changes=("train.steps=99",))
    run_suite(suite_file(), root=squares, out=out, changes=("train.steps=99",), tables_only=True)
    assert (out / "suite.yaml").read_bytes() == stored
    run_suite(suite_file(), root=squares, out=out, changes=("train.steps=99",))
    assert SuiteFolder.open(out).cells[0].config.train.steps == 99


def test_paths_may_be_text(
    suite_file: SuiteFile, squares: Path, tmp_path: Path, nothing_runs: None
) -> None:
    out = tmp_path / "out"
    _, files = run_suite(str(suite_file()), root=str(squares), out=str(out))
    assert files[-1] == out / "report.html"
    assert run_suite(suite_file(), root=squares, out=out)[1] == files


def test_options_of_jobs_without_a_cluster_are_refused(
    suite_file: SuiteFile, squares: Path, tmp_path: Path, nothing_runs: None
) -> None:
    with pytest.raises(UserError, match="without --engine slurm"):
        run_suite(suite_file(), root=squares, out=tmp_path / "out", slurm=["partition=gpu"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"engine": "slurm", "workers": 4}, "array_parallelism=4"),
        ({"engine": "slurm", "tables_only": True}, "runs no cell"),
        ({"workers": 2, "tables_only": True}, "runs no cell"),
        ({"engine": "slurm", "slurm": ["mem_gb=nan"]}, "GiB above 0"),
    ],
)
def test_flags_that_would_change_nothing_are_refused(
    suite_file: SuiteFile, squares: Path, tmp_path: Path, flags: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        run_suite(suite_file(), root=squares, out=tmp_path / "out", **flags)
    assert not (tmp_path / "out").exists()


def test_tables_of_nothing_are_refused(
    suite_file: SuiteFile, squares: Path, tmp_path: Path, nothing_runs: None
) -> None:
    """Nor are those of one suite replaced by an empty table of another."""
    with pytest.raises(UserError, match="holds no cell of this suite"):
        run_suite(suite_file(), out=tmp_path / "out", tables_only=True)
    assert not (tmp_path / "out").exists()
    run_suite(suite_file(), root=squares, out=tmp_path / "out")
    files = {path: path.read_bytes() for path in (tmp_path / "out/tables").iterdir()}
    assert files
    other = suite_file(seeds=[7])
    with pytest.raises(UserError, match="the folder of another suite"):
        run_suite(other, root=squares, out=tmp_path / "out", tables_only=True)
    assert all(path.read_bytes() == text for path, text in files.items())


def test_a_lock_left_behind_does_not_make_a_folder_foreign(
    suite_file: SuiteFile, squares: Path, tmp_path: Path, nothing_runs: None
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").touch()
    run_suite(suite_file(), root=squares, out=tmp_path / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(UserError, match="not the folder of a suite"):
        run_suite(suite_file(), root=squares, out=tmp_path / "other")


# Python 3.11.3 and older do not know the filter.
SAFELY: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


def test_the_stored_suite_makes_the_tables_of_the_results(tmp_path: Path) -> None:
    """Means over data sets as docs/results.md has them.

    Half of its cells are of an earlier version, which knew fewer settings, and no data set is here.
    """
    with tarfile.open(PROJECT / "benchmarks/results/small-suite.tar.xz") as archive:
        archive.extractall(tmp_path, **SAFELY)
    suite, out = PROJECT / "suites/small.yaml", tmp_path / "small"
    failures, files = run_suite(suite, root=tmp_path / "none", out=out, tables_only=True)
    assert (failures, len(files)) == ({}, 41)
    lines = (out / "tables/summary_honest.md").read_text(encoding="utf-8").splitlines()
    rows = [line.split("|") for line in lines if line.startswith("| ")][2:]
    means = [row[6].strip(" *")[:4] for row in rows]
    assert means == ["47.3", "64.0", "47.7", "54.1", "49.2", "64.4", "64.6", "50.2", "64.6", "63.4"]
