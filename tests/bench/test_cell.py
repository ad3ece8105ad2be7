"""One cell: run to its end, gone on with, failed, left alone while another process has it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from synfoc.bench import cell as module
from synfoc.bench.cell import DONE, FAILED, STOPPED, run_cell
from synfoc.bench.folder import CellFolder, SuiteFolder, unfinished
from synfoc.bench.gather import gather
from synfoc.bench.scores import read_cell
from synfoc.bench.suite import load_suite
from synfoc.errors import Interrupted, UserError
from synfoc.storage import read_lines, write_json

SuiteFile = Callable[..., Path]
NAME = "squares/alpha-4/synfoc/seed1"


@pytest.fixture
def folder(suite_file: SuiteFile, squares: Path, tmp_path: Path) -> SuiteFolder:
    return SuiteFolder.begin(tmp_path / "out", load_suite(suite_file()), squares)


def test_a_cell_leaves_a_run_and_its_scores_under_each_protocol(folder: SuiteFolder) -> None:
    cell = folder.find(NAME)
    assert cell.state == "open"
    assert run_cell(folder.path, NAME) == DONE
    assert cell.state == "done"
    evaluations = [line for line in read_lines(cell.run.log) if "test" in line]
    assert [line["step"] for line in evaluations] == [3, 6]
    assert set(evaluations[0]["test"]) == {"unet"}
    best = max(evaluations, key=lambda line: (line["test_dice"], line["step"]))
    paper = json.loads(cell.metrics("paper").read_text())
    assert (paper["protocol"], paper["checkpoint"]) == ("paper", "best_on_test")
    assert paper["step"] == best["step"] and paper["steps"] == {"unet": best["step"]}
    mean = paper["branches"]["unet"]["student"]["mean_over_domains"]["dice"]
    assert mean == pytest.approx(best["test_dice"], abs=1e-6)
    honest = json.loads(cell.metrics("honest").read_text())
    assert honest == cell.run.read_metrics()
    assert cell.scores("honest").read_bytes() == cell.run.cases.read_bytes()


def test_under_protocol_paper_every_network_has_its_own_best_step(
    suite_file: SuiteFile, squares: Path, tmp_path: Path
) -> None:
    """Their scores are the largest that each of them had on the test set, at any evaluation."""
    both = {"branches": "both"}
    tiny = {"weights": "random:vit-tiny", "side": 32}
    methods = {"synfoc": {"title": "SynFoC", "settings": {"method": both, "medsam": tiny}}}
    suite = load_suite(suite_file(methods=methods, protocols=["paper"]))
    folder = SuiteFolder.begin(tmp_path / "out", suite, squares)
    assert run_cell(folder.path, NAME) == DONE
    cell = folder.find(NAME)
    evaluations = [line for line in read_lines(cell.run.log) if "test" in line]
    paper = json.loads(cell.metrics("paper").read_text())
    assert set(paper["steps"]) == set(paper["branches"]) == {"unet", "medsam", "fused"}
    for branch, step in paper["steps"].items():
        dice = {line["step"]: line["test"][branch]["student"] for line in evaluations}
        mean = paper["branches"][branch]["student"]["mean_over_domains"]["dice"]
        assert dice[step] == max(dice.values()) == pytest.approx(mean, abs=1e-6)
    assert paper["step"] == paper["steps"]["medsam"] == cell.run.read_summary()["test_step"]
    answers = read_cell(cell.scores("paper"))
    assert {branch for branch, _ in answers} == {"unet", "medsam", "fused"}
    assert cell.run.read_metrics() == paper
    assert cell.scores("paper").read_bytes() == cell.run.cases.read_bytes()
    assert paper["estimate"] is None
    assert len(cell.run.estimates.read_text().splitlines()) == 1, "names of columns alone"

    cell.done.unlink()
    for path in cell.run.checkpoints.glob("best_on_test_*"):
        path.unlink()
    assert run_cell(folder.path, NAME) == FAILED
    assert "no checkpoint that was best on the test set" in cell.failure.read_text()


def test_a_stopped_cell_goes_on_where_it_was(
    folder: SuiteFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Stopped after its first checkpoint and run again, it has the scores of an unbroken one."""
    cell = folder.find(NAME)
    train = module.train

    def stop_early(config: object, out: Path, *, resume: bool = False) -> Path:
        from synfoc.engine.train import Trainer

        before = Trainer._look_up

        def look_up(self: Trainer, *given: object) -> None:
            before(self, *given)  # type: ignore[arg-type]
            if self.progress.step == 3:
                raise Interrupted("stopped")

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_look_up", look_up)
            return train(config, out, resume=resume)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(module, "train", stop_early)
        assert run_cell(folder.path, NAME) == STOPPED
    assert cell.state == "begun"
    assert cell.trained() > 0
    write_json(cell.training, {"seconds": 1000})
    assert run_cell(folder.path, NAME) == DONE
    assert cell.read_done()[1] > cell.trained() > 1000, "all parts, and the scoring"
    broken = cell.scores("honest").read_bytes()
    shutil.rmtree(cell.run.path)
    assert run_cell(folder.path, NAME) == DONE
    assert cell.scores("honest").read_bytes() == broken
    assert 1000 > cell.trained() > cell.run.read_summary()["seconds"], "with its evaluations"


def test_a_run_of_other_settings_is_not_scored_as_this_cell(
    folder: SuiteFolder, suite_file: SuiteFile, squares: Path
) -> None:
    """Killed between its end and its scores; then the suite was changed."""
    assert run_cell(folder.path, NAME) == DONE
    folder.find(NAME).done.unlink()
    other = SuiteFolder.begin(folder.path, load_suite(suite_file(), ("train.steps=9",)), squares)
    assert run_cell(folder.path, NAME) == FAILED
    assert "train.steps = 9" in other.failures()[NAME]


def test_a_cell_killed_before_its_first_checkpoint_begins_anew(folder: SuiteFolder) -> None:
    cell = folder.find(NAME)
    cell.run.path.mkdir(parents=True)
    (cell.run.path / "environment.json").write_text("{}")
    assert run_cell(folder.path, NAME) == DONE


def test_a_done_cell_is_left_alone(folder: SuiteFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = folder.find(NAME)
    cell.done.parent.mkdir(parents=True)
    cell.done.write_text("{}")
    for protocol in folder.suite.protocols:
        cell.scores(protocol).touch()
        cell.metrics(protocol).touch()
    monkeypatch.setattr(module, "train", None)
    assert run_cell(folder.path, NAME) == DONE


def test_a_protocol_may_be_added_and_the_run_is_only_scored(
    suite_file: SuiteFile, squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then its tables show that it is missing."""
    methods = {"synfoc": {"title": "U-Net alone"}}
    paper = load_suite(suite_file(methods=methods, protocols=["paper"]))
    folder = SuiteFolder.begin(tmp_path / "out", paper, squares)
    assert run_cell(folder.path, NAME) == DONE
    scores = folder.find(NAME).scores("paper").read_bytes()

    both = load_suite(suite_file(methods=methods, protocols=["paper", "honest"]))
    folder = SuiteFolder.begin(folder.path, both, squares)
    cell = folder.find(NAME)
    assert (cell.state, unfinished(folder.cells)) == ("begun", folder.cells)
    assert gather(folder).count("done") == 0
    monkeypatch.setattr(module, "train", None)
    assert run_cell(folder.path, NAME) == DONE
    assert cell.state == "done"
    assert len(gather(folder).comparisons) == 2
    assert cell.scores("paper").read_bytes() == scores
    assert cell.run.read_metrics()["protocol"] == "paper", "the one that is named first"


def test_why_a_cell_failed_is_written_down_and_forgotten_when_it_works(
    folder: SuiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> Path:
        raise ValueError("shapes differ")

    with monkeypatch.context() as patch:
        patch.setattr(module, "train", broken)
        assert run_cell(folder.path, NAME) == FAILED
    assert folder.failures() == {NAME: "ValueError: shapes differ"}
    assert "Traceback" in json.loads(folder.find(NAME).failure.read_text())["traceback"]
    assert unfinished(folder.cells)[-1].name == NAME, "failed cells come last"
    assert run_cell(folder.path, NAME) == DONE
    assert folder.failures() == {}


def test_a_cell_of_another_process_is_not_touched(
    folder: SuiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = folder.find(NAME)
    cell.lock.parent.mkdir(parents=True)
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.1)
    with FileLock(cell.lock):
        assert run_cell(folder.path, NAME) == FAILED
    assert "another process" in folder.failures()[NAME]


def test_an_unknown_cell(folder: SuiteFolder) -> None:
    with pytest.raises(UserError, match="has no cell nobody"):
        run_cell(folder.path, "nobody")


def say_done(cell: CellFolder, settings: dict[str, Any]) -> None:
    """What a cell leaves when it was run with these settings."""
    cell.done.parent.mkdir(parents=True)
    cell.done.write_text(json.dumps({"settings": settings, "seconds": 1}))


def test_methods_may_be_added_and_done_cells_must_not_change(
    folder: SuiteFolder, suite_file: SuiteFile, squares: Path
) -> None:
    cell = folder.find(NAME)
    say_done(cell, cell.config.model_dump(mode="json"))
    more = load_suite(suite_file(seeds=[1, 2]))
    assert len(SuiteFolder.begin(folder.path, more, squares).cells) == 8
    other = load_suite(suite_file(), ("train.steps=9",))
    with pytest.raises(UserError, match=r"train.steps = 9 in the suite"):
        SuiteFolder.begin(folder.path, other, squares)


def test_a_setting_that_a_done_cell_did_not_know_had_its_default(
    folder: SuiteFolder, suite_file: SuiteFile, squares: Path
) -> None:
    """It was run by an earlier version; a later one may also have had a setting that is gone."""
    cell = folder.find(NAME)
    settings = cell.config.model_dump(mode="json")
    del settings["data"]["split_seed"], settings["data"]["labeled"]["patients"]
    del settings["augment"]
    settings["train"]["momentum"] = 0.9
    say_done(cell, settings)
    SuiteFolder.begin(folder.path, load_suite(suite_file()), squares)
    other = load_suite(suite_file(), ("data.split_seed=7",))
    with pytest.raises(UserError) as told:
        SuiteFolder.begin(folder.path, other, squares)
    assert told.value.found == "data.split_seed = 7 in the suite"
    assert told.value.expected == "data.split_seed = 1337, as it was run"


def test_a_folder_of_something_else_is_refused(
    suite_file: SuiteFile, squares: Path, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").write_text("")
    with pytest.raises(UserError, match="not the folder of a suite"):
        SuiteFolder.begin(tmp_path / "full", load_suite(suite_file()), squares)


def test_a_done_cell_may_go_on_as_a_machine_likes(
    folder: SuiteFolder, suite_file: SuiteFile, squares: Path
) -> None:
    """How much is kept in memory changes no score."""
    cell = folder.find(NAME)
    say_done(cell, cell.config.model_dump(mode="json"))
    other = load_suite(suite_file(), ("data.cache_gib=0.5",))
    cells = SuiteFolder.begin(folder.path, other, squares).cells
    assert {one.config.data.cache_gib for one in cells} == {0.5}


def test_a_lock_alone_does_not_fill_a_folder(
    suite_file: SuiteFile, squares: Path, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new/.lock").touch()
    assert SuiteFolder.begin(tmp_path / "new", load_suite(suite_file()), squares).cells
