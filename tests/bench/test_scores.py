"""Score files -> arrays: what is read, what stands for `recommended`, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synfoc.bench.folder import SuiteFolder, unfinished, write_failure
from synfoc.bench.scores import Key, answering, read_cell, read_scores
from synfoc.bench.suite import Answering, Cell
from synfoc.errors import UserError
from synfoc.storage import read_json, write_json

MakeSuite = Callable[..., SuiteFolder]
HEAD = "case,patient,domain,class,branch,role,dice,jaccard,hd95,asd,unit,empty\n"


def test_one_case_is_the_mean_over_its_classes(tmp_path: Path) -> None:
    """Cup 0.6 and disc 0.8: 0.7. The teacher is another answer; cases are sorted by domain."""
    path = tmp_path / "honest.csv"
    path.write_text(
        HEAD
        + "e2,p,B,cup,unet,student,0.6,0.5,4,2,px,\n"
        + "e2,p,B,disc,unet,student,0.8,0.7,2,1,px,\n"
        + "e2,p,B,cup,unet,teacher,0,0,0,0,px,\n"
        + "e1,q,A,cup,unet,student,1,1,0,0,mm,\n"
        + "e1,q,A,disc,unet,student,1,1,0,0,mm,\n"
    )
    found = read_cell(path)
    assert list(found) == [("unet", "student"), ("unet", "teacher")]
    scores = found["unet", "student"]
    assert scores.cases == (("A", "e1"), ("B", "e2"))
    assert scores.patients == ("q", "p")
    assert scores.domains() == ["A", "B"]
    assert scores.values.tolist() == [[1, 1, 0, 0], pytest.approx([0.7, 0.6, 3, 1.5])]
    assert scores.unit == "mixed"
    by_class = {name: dice.tolist() for name, dice in scores.classes.items()}
    assert by_class == {"cup": [1, 0.6], "disc": [1, 0.8]}


def test_a_class_that_some_case_lacks_has_no_scores_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "honest.csv"
    rows = ("e1,q,A,cup,0.6", "e1,q,A,disc,0.8", "e2,q,A,disc,0.4")
    lines = (row.rsplit(",", 1) for row in rows)
    path.write_text(
        HEAD + "".join(f"{first},unet,student,{dice},0,0,0,px,\n" for first, dice in lines)
    )
    scores = read_cell(path)["unet", "student"]
    assert {name: dice.tolist() for name, dice in scores.classes.items()} == {"disc": [0.8, 0.4]}
    assert scores.values[:, 0].tolist() == pytest.approx([0.7, 0.4])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "an empty file"),
        ("case,patient\n", "domain"),
        (HEAD + "e1,q,A,cup,unet,student,0.5,0.4\n", "range"),
        (HEAD + "e1,q,A,cup,unet,student,much,0.4,1,1,px,\n", "much"),
    ],
)
def test_a_damaged_file_is_told(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "honest.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=f"(?s)cannot read the scores.*{found}"):
        read_cell(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_cell(tmp_path / "honest.csv")


@pytest.mark.parametrize(
    ("branch", "recommended", "had", "answers"),
    [
        ("unet", "fused teacher", ("unet", "medsam", "fused"), "unet student"),
        ("recommended", "fused student", ("unet", "medsam", "fused"), "fused student"),
        ("recommended", "fused teacher", ("unet", "medsam", "fused"), "fused teacher"),
        ("recommended", None, ("unet", "medsam", "fused"), "medsam student"),
        ("recommended", None, ("unet",), "unet student"),
        ("recommended", "fused student", ("medsam",), "medsam student"),
    ],
)
def test_who_answers(
    branch: Answering, recommended: str | None, had: tuple[str, ...], answers: str
) -> None:
    """`paper` passes no recommendation: then the foundation model, or the only network."""
    named: Any = tuple(recommended.split()) if recommended else None
    there = {(b, role): None for b in had for role in ("student", "teacher")}
    assert answering(branch, named, there) == tuple(answers.split())


def test_recommended_is_the_runs_choice_under_honest_and_medsam_under_paper(
    make_suite: MakeSuite,
) -> None:
    folder = make_suite()
    at = Key("eyes", "A-2", "synfoc", "recommended", 1)
    (honest, _), (paper, _) = (read_scores(folder, name) for name in folder.suite.protocols)
    assert honest[at].answer == ("fused", "student")
    assert paper[at].answer == ("medsam", "student")
    assert honest[at._replace(branch="unet")].answer == ("unet", "student")


def test_cells_that_are_not_done_are_left_out(make_suite: MakeSuite) -> None:
    """8 cells, 4 of them with two rows: 12 answers; one cell of each kind less: 9."""
    states = {"eyes/A-2/sup/seed1": "failed", "eyes/B-2/synfoc/seed2": "begun"}
    found = read_scores(make_suite(states=states), "honest")[0]
    assert len(found) == 12 - 1 - 2
    assert not [key for key in found if key.method == "sup" and key[1::3] == ("A-2", 1)]


def test_a_branch_that_a_run_does_not_have_is_left_out(make_suite: MakeSuite) -> None:
    changes = {"methods": {"sup": {"title": "S", "branches": ["unet", "medsam"]}}}
    settings = {"method": {"name": "supervised", "branches": "unet"}}
    changes["methods"]["sup"]["settings"] = settings
    found = read_scores(make_suite(changes), "honest")[0]
    assert {key.branch for key in found if key.method == "sup"} == {"unet"}


def test_methods_scored_on_different_cases_are_refused(make_suite: MakeSuite) -> None:
    folder = make_suite()
    cell = folder.find("eyes/B-2/synfoc/seed2")
    path = cell.scores("honest")
    path.write_text("".join(x for x in path.read_text().splitlines(True) if "b2" not in x))
    with pytest.raises(UserError, match=r"(?s)eyes/B-2/synfoc/seed2.*1 cases that only one"):
        read_scores(folder, "honest")
    assert read_scores(folder, "paper")[0]


def test_other_patients_are_refused(make_suite: MakeSuite) -> None:
    folder = make_suite()
    path = folder.find("eyes/B-2/synfoc/seed2").scores("honest")
    path.write_text(path.read_text().replace("q2", "q9"))
    with pytest.raises(UserError, match="other patients"):
        read_scores(folder, "honest")


def test_numbers_arrive(make_suite: MakeSuite) -> None:
    def dice(cell: Cell, branch: str, domain: str, case: str, protocol: str) -> float:
        return 0.25 if case == "a2" else 0.5

    found = read_scores(make_suite(dice=dice), "paper")[0]
    scores = found[Key("eyes", "A-2", "sup", "recommended", 2)]
    assert scores.values[:, 0].tolist() == pytest.approx([0.5, 0.25, 0.5, 0.5, 0.5])
    assert scores.unit == "px"


def test_seeds_may_be_scored_on_other_cases(make_suite: MakeSuite) -> None:
    """Where each seed holds out its own patients; methods of one seed have the same ones."""
    folder = make_suite()
    for cell in folder.cells:
        if cell.seed == 2:
            path = cell.scores("honest")
            kept = [x for x in path.read_text().splitlines(True) if not x.startswith("b2")]
            path.write_text("".join(kept))
    found = read_scores(folder, "honest")[0]
    assert {key.seed: len(scores.cases) for key, scores in found.items()} == {1: 5, 2: 4}


def test_a_recommended_teacher_is_shown_as_what_it_is(make_suite: MakeSuite) -> None:
    folder = make_suite()
    path = folder.find("eyes/A-2/synfoc/seed1").metrics("honest")
    write_json(path, {"recommended": "unet", "recommended_role": "teacher"})
    at = Key("eyes", "A-2", "synfoc", "recommended", 1)
    scores = read_scores(folder, "honest")[0][at]
    assert scores.answer == ("unet", "teacher")
    assert not scores.values.any()


def test_what_is_done_has_not_failed(make_suite: MakeSuite) -> None:
    """Killed after its last file was written and before the error of an earlier try was removed."""
    folder = make_suite()
    cell = folder.find("eyes/A-2/sup/seed1")
    write_failure(cell, "no memory left")
    assert cell.state == "done"
    assert folder.failures() == {}
    assert unfinished(folder.cells) == []


def test_a_failure_holds_the_end_of_the_log(make_suite: MakeSuite, tmp_path: Path) -> None:
    cell = make_suite().cells[0]
    (tmp_path / "log").write_text("".join(f"line {k}\n" for k in range(50)))
    write_failure(cell, "no memory left", log=tmp_path / "log")
    assert read_json(cell.failure)["log"] == [f"line {k}" for k in range(30, 50)]
