"""What choosing without test labels costs, by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from synfoc.bench.folder import SuiteFolder
from synfoc.bench.gather import gather
from synfoc.bench.regret import (
    RULES,
    Loss,
    RunRegret,
    kind_of,
    pick,
    run_regret,
    summarize,
)
from synfoc.bench.results import all_tables
from synfoc.storage import read_lines, write_json, write_text

MakeSuite = Callable[..., SuiteFolder]


def line(step: int, labeled: float, agreement: float | None, **test: float) -> dict[str, Any]:
    return {
        "step": step,
        "kind": "evaluation",
        "score": labeled,
        "labeled_dice": labeled,
        "agreement": agreement,
        "stability": None,
        "test": {branch: {"student": dice, "teacher": 1.0} for branch, dice in test.items()},
    }


def test_rules_pick_the_largest_product_and_of_equals_the_latest() -> None:
    """.9 x .5 = .45, .8 x .6 = .48, .9 x .4 = .36."""
    lines = [line(10, 0.9, 0.5), line(20, 0.8, 0.6), line(30, 0.9, 0.4)]
    assert pick(lines, ()) == 2
    assert pick(lines, ("labeled_dice",)) == 2
    assert pick(lines, ("agreement",)) == 1
    assert pick(lines, ("labeled_dice", "agreement")) == 1
    assert pick(lines, ("stability",)) is None
    assert pick([*lines, line(40, 0.9, None)], ("agreement",)) is None


def test_a_run_of_two_networks(make_suite: MakeSuite) -> None:
    """Test Dice .60 .58 .55 at steps 1 to 3, fused .02 more; every evidence is best at step 2.

    Fused, which it recommends: best .62, at the last step .57, at step 2 .60. Labeled Dice is the
    same at all steps: the last. The branch: fused is the best at step 2.
    """
    found = run_regret(make_suite().find("eyes/A-2/synfoc/seed1"))
    assert found is not None
    assert (found.kind, found.answer) == ("two networks", ("fused", "student"))
    late = {"last", "labeled Dice"}
    assert found.rules == pytest.approx({rule: 5.0 if rule in late else 2.0 for rule in RULES})
    assert found.answer_choice == pytest.approx(0.0)


def test_the_choice_of_the_branch_at_the_default_step(make_suite: MakeSuite) -> None:
    """It recommends the U-Net, .02 below fused at step 2; its own checkpoint regret is the same."""
    cell = make_suite().find("eyes/A-2/synfoc/seed1")
    write_json(cell.run.summary, {"recommended": "unet"})
    found = run_regret(cell)
    assert found is not None
    assert found.answer_choice == pytest.approx(2.0)
    assert found.rules["score"] == pytest.approx(2.0)


def test_a_run_counts_as_what_it_was(make_suite: MakeSuite) -> None:
    """Without unlabeled images a cell of SynFoC was trained supervised."""
    cell = make_suite().find("eyes/A-2/synfoc/seed1")
    assert kind_of(cell) == "two networks"
    config = cell.config
    method = config.method.model_copy(update={"name": "supervised"})
    cell.run.config.write_text(config.model_copy(update={"method": method}).to_yaml())
    assert kind_of(cell) == "no teacher"


def test_labels_alone_have_no_evidence(make_suite: MakeSuite) -> None:
    found = run_regret(make_suite().find("eyes/A-2/sup/seed1"))
    assert found is not None
    assert (found.kind, found.answer_choice) == ("no teacher", None)
    assert found.rules == pytest.approx({"last": 5.0, "score": 5.0, "labeled Dice": 5.0})


def test_a_run_that_did_not_watch_its_test_set_is_left_out(make_suite: MakeSuite) -> None:
    folder = make_suite()
    cell = folder.find("eyes/A-2/sup/seed1")
    lines = [{k: v for k, v in x.items() if k != "test"} for x in read_lines(cell.run.log)]
    write_text(cell.run.log, "".join(f"{x}\n" for x in map(_json, lines)))
    assert run_regret(cell) is None
    assert len(gather(folder).regrets) == 7


def test_cells_that_are_not_done_are_left_out(make_suite: MakeSuite) -> None:
    assert gather(make_suite(states=None)).regrets == ()
    folder = make_suite(states={"eyes/A-2/sup/seed1": "begun"}, name="b")
    assert len(gather(folder).regrets) == 7


def test_mean_and_largest(make_suite: MakeSuite) -> None:
    """Of four runs of two networks one lost its best step: there the score costs 0 points."""
    folder = make_suite()
    cell = folder.find("eyes/A-2/synfoc/seed1")
    lines = read_lines(cell.run.log)[1:]
    write_text(cell.run.log, "".join(f"{_json(x)}\n" for x in lines))
    by_choice = {(x.kind, x.choice): x for x in summarize(gather(folder).regrets)}
    score = by_choice["two networks", "score"]
    assert (score.mean, score.worst, score.runs) == (pytest.approx(1.5), pytest.approx(2.0), 4)
    assert ("no teacher", "agreement") not in by_choice
    assert ("no teacher", "answer") not in by_choice


def test_the_table(make_suite: MakeSuite) -> None:
    tables = {table.name: table for table in all_tables(gather(make_suite()))}
    table = tables["regret"]
    assert table.columns == (
        *("Eyes_1 & 50 %: mean", "Eyes_1 & 50 %: largest", "all: mean", "all: largest", "runs"),
    )
    rows = {row.names: [cell.text for cell in row.cells] for row in table.rows}
    assert rows["two networks", "score (as used)"] == ["2.0", "2.0", "2.0", "2.0", "4"]
    assert rows["two networks", "branch and role, not step"] == ["0.0", "0.0", "0.0", "0.0", "4"]
    assert rows["no teacher", "last (as used)"][-1] == "4"
    assert "without a teacher" in " ".join(table.notes)


def _json(value: dict[str, Any]) -> str:
    import json

    return json.dumps(value)


def test_a_recommended_teacher_is_the_answer_that_is_looked_at(make_suite: MakeSuite) -> None:
    """Its test Dice is 0 at all steps, so no step is lost; the best answer at step 2 has .60."""
    cell = make_suite().find("eyes/A-2/synfoc/seed1")
    write_json(cell.run.summary, {"recommended": "unet", "recommended_role": "teacher"})
    found = run_regret(cell)
    assert found is not None
    assert found.answer == ("unet", "teacher")
    assert set(found.rules.values()) == {0.0}
    assert found.answer_choice == pytest.approx(60.0)


def test_a_rule_whose_evidence_one_run_lacks_has_no_mean() -> None:
    """Means over other runs could not be compared with those of the other rules."""

    def one(name: str, **rules: float) -> RunRegret:
        return RunRegret(name, "eyes", "one network", ("unet", "student"), rules, None)

    found = summarize([one("a", last=4.0, score=1.0), one("b", last=2.0)])
    assert found == [Loss("one network", "last", 3.0, 4.0, 2)]
