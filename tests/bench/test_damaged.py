"""A cell that is done and whose files are cut or foreign: told, and left out of all tables."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from synfoc import cli
from synfoc.bench.folder import CellFolder, SuiteFolder
from synfoc.bench.gather import gather
from synfoc.bench.results import all_tables, write_results
from synfoc.bench.scores import read_scores
from synfoc.bench.tables import markdown
from synfoc.bench.watch import Forecast
from synfoc.errors import UserError
from synfoc.storage import read_json, write_json

MakeSuite = Callable[..., SuiteFolder]
NAME = "eyes/A-2/synfoc/seed1"
SCORED = "delete .*cell.json and run .* scored anew"
RUN = "restore it from a copy, or delete .*seed1 and run .* run anew"


def cut(path: Path) -> None:
    """Half of a file, as a full disk or a broken copy leaves it."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2].rstrip(b"\n"))


def cut_scores(cell: CellFolder) -> None:
    cut(cell.scores("honest"))


def cut_between_lines(cell: CellFolder) -> None:
    """All lines are whole, but the last case is gone; five had been scored."""
    write_json(cell.metrics("paper"), {"recommended": "fused", "cases": 5})
    path = cell.scores("paper")
    path.write_text("".join(x for x in path.read_text().splitlines(True) if "b2" not in x))


def keep_the_head(cell: CellFolder) -> None:
    path = cell.scores("honest")
    path.write_text(path.read_text().splitlines(True)[0])


def rename_a_column(cell: CellFolder) -> None:
    path = cell.scores("honest")
    path.write_text(path.read_text().replace("dice", "dsc", 1))


def cut_metrics(cell: CellFolder) -> None:
    cut(cell.metrics("honest"))


def recommend_nobody(cell: CellFolder) -> None:
    write_json(cell.metrics("honest"), {"recommended": "nobody"})


def cut_done(cell: CellFolder) -> None:
    cut(cell.done)


def empty_done(cell: CellFolder) -> None:
    write_json(cell.done, {})


def cut_log(cell: CellFolder) -> None:
    cell.run.log.write_text("torn\n" + cell.run.log.read_text())


def cut_summary(cell: CellFolder) -> None:
    cut(cell.run.summary)


def cut_environment(cell: CellFolder) -> None:
    cut(cell.run.environment)


@pytest.mark.parametrize(
    ("damage", "told", "fix"),
    [
        (cut_scores, r"cannot read the scores .*honest\.csv: ", SCORED),
        (cut_between_lines, r"scores .*paper\.csv: 4 cases, of 5 that were scored", SCORED),
        (keep_the_head, r"scores .*honest\.csv: 0 cases, of 0 that were scored", SCORED),
        (rename_a_column, r"honest\.csv: 'dice' is not in list", SCORED),
        (cut_metrics, r"cannot read .*honest\.json: not JSON", SCORED),
        (recommend_nobody, r"honest\.json: recommended = 'nobody'", SCORED),
        (cut_done, r"cannot read .*cell\.json: not JSON", SCORED),
        (empty_done, r"cannot read .*cell\.json: settings = nothing", SCORED),
    ],
)
def test_a_damaged_cell_is_told_and_left_out(
    make_suite: MakeSuite, damage: Callable[[CellFolder], None], told: str, fix: str
) -> None:
    """Under every protocol; the tables are those of a suite in which this cell has failed."""
    folder = make_suite()
    damage(folder.find(NAME))
    results = gather(SuiteFolder.begin(folder.path, folder.suite, folder.root))
    assert set(results.failures) == {NAME}
    text = results.failures[NAME]
    assert re.search(told, text)
    assert re.search(rf"fix +{fix}", text)
    assert results.states[NAME] == "failed"
    without = gather(make_suite(states={NAME: "failed"}, name="without"))
    assert [*map(markdown, all_tables(results))] == [*map(markdown, all_tables(without))]
    assert "3 of 4, 1 failed" in markdown(all_tables(results)[-1])


@pytest.mark.parametrize(
    ("damage", "told", "fix"),
    [
        (cut_log, r"metrics\.jsonl: 1 lines that cannot be read", RUN),
        (cut_summary, r"cannot read .*summary\.json: not JSON", "`synfoc train --resume .*seed1` "),
        (cut_environment, r"cannot read .*environment\.json: not JSON", "restore it from a copy"),
    ],
)
def test_scores_stand_where_another_file_of_the_run_is_damaged(
    make_suite: MakeSuite, damage: Callable[[CellFolder], None], told: str, fix: str
) -> None:
    """It is told, and nothing is trained again for it: the tables of scores are as they were."""
    folder = make_suite()
    whole = gather(folder)
    damage(folder.find(NAME))
    results = gather(SuiteFolder.begin(folder.path, folder.suite, folder.root))
    assert set(results.failures) == {NAME}
    assert re.search(told, results.failures[NAME])
    assert re.search(rf"fix +{fix}", results.failures[NAME])
    assert results.states == whole.states
    tables, before = (
        {table.name: markdown(table) for table in all_tables(one)} for one in (results, whole)
    )
    assert {name for name in tables if tables[name] != before[name]} <= {"regret"}
    assert len(results.regrets) == len(whole.regrets) - (damage is not cut_environment)
    write_results(folder)


def test_all_cells_damaged_leaves_empty_tables(make_suite: MakeSuite) -> None:
    folder = make_suite()
    for cell in folder.cells:
        cell.scores("honest").write_text("torn")
    write_results(folder)
    assert set(read_json(folder.results)["cells"].values()) == {"failed"}
    assert len(read_json(folder.results)["failures"]) == 8


def test_old_files_stay_where_cells_cannot_be_compared(make_suite: MakeSuite) -> None:
    """Both files read well: which of the two cells is out of date only a person can tell."""
    folder = make_suite()
    before = {path: path.read_bytes() for path in write_results(folder)}
    path = folder.find(NAME).scores("paper")
    path.write_text("".join(x for x in path.read_text().splitlines(True) if "b2" not in x))
    with pytest.raises(UserError, match="scored on different test cases"):
        write_results(folder)
    assert {path: path.read_bytes() for path in before} == before


def test_other_settings_are_refused_beside_a_damaged_cell(make_suite: MakeSuite) -> None:
    folder = make_suite()
    cut_done(folder.cells[0])
    changed = folder.suite.model_copy(update={"changes": ("train.steps=7",)})
    with pytest.raises(UserError, match="was run with other settings"):
        SuiteFolder.begin(folder.path, changed, folder.root)


def test_a_time_that_cannot_be_read_teaches_nothing(make_suite: MakeSuite) -> None:
    folder = make_suite()
    cut_done(folder.cells[0])
    assert Forecast(folder.cells[:1]).left(folder.cells[1:2], 1) is None


def test_the_command_makes_the_tables_and_fails(
    make_suite: MakeSuite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_suite()
    cut_scores(folder.find(NAME))
    suite = folder.path.with_name("suite.yaml")
    suite.write_text(yaml.safe_dump(yaml.safe_load((folder.path / "suite.yaml").read_text())))
    words = ("bench", suite, "--data", folder.root, "--out", folder.path, "--tables")
    monkeypatch.setattr(sys, "argv", ["synfoc", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    text = capsys.readouterr()
    assert f"synfoc: cell {NAME} failed: its results cannot be read" in text.err
    assert str(folder.find(NAME).scores("honest")) in text.err
    assert f"tables -> {folder.report}" in text.out
    assert len(read_scores(folder, "honest")[0]) == 12 - 2


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lists(path: Path) -> None:
    path.write_text("[]\n")


def foreign(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00{")


def folder_there(path: Path) -> None:
    path.unlink()
    path.mkdir()


def nulls(path: Path) -> None:
    path.write_text("null")


FILES = (
    "seed1/config.yaml", "seed1/environment.json", "seed1/metrics.jsonl", "seed1/summary.json",
    "seed1/bench/honest.csv", "seed1/bench/paper.json", "seed1/bench/cell.json",
    "seed1/bench/training.json", "seed1.failed.json", "../../../../suite.yaml",
    "../../../../suite.json",
)  # fmt: skip


@pytest.mark.parametrize("damage", [empty, cut, lists, foreign, folder_there, nulls])
def test_every_file_of_a_suite_may_be_damaged(
    make_suite: MakeSuite,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
) -> None:
    """One file at a time: the tables are made, and a file that they need is told."""
    folder = make_suite()
    cell = folder.find(NAME)
    write_json(cell.training, {"seconds": 3.0})
    write_json(cell.failure, {"cell": NAME, "error": "of an earlier time"})
    kept = folder.path.with_name("suite.yaml")
    kept.write_text(yaml.safe_dump(yaml.safe_load((folder.path / "suite.yaml").read_text())))
    words = ("bench", kept, "--data", folder.root, "--out", folder.path, "--tables")
    monkeypatch.setattr(sys, "argv", ["synfoc", *map(str, words)])
    quiet = {"training.json", "seed1.failed.json", "suite.yaml", "suite.json"}
    for name in FILES:
        path = cell.run.path.parent / name
        data = path.read_bytes()
        damage(path)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        assert f"tables -> {folder.report}" in told.out, (name, told.err)
        assert "Traceback" not in told.err
        if path.name not in quiet:
            assert ended.value.code == 1, name
            assert NAME in told.err
        if path.is_dir():
            path.rmdir()
        path.write_bytes(data)
