"""Tables: the numbers a person reads, made from the numbers in the run folder."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from synfoc.errors import UserError
from synfoc.images.findings import Findings, Group
from synfoc.report.load import load_views
from synfoc.report.tables import (
    class_table,
    estimate_table,
    score_table,
)
from synfoc.report.terminal import print_findings, print_scores

MakeRun = Callable[..., Path]
DOMAINS = ("Vendor A", "Vendor B", "Klinik Süd", "site<4>")


def test_dice_is_percent_and_means_come_first(make_run: MakeRun) -> None:
    """MedSAM: .9 .8 .7 .6, so 75 over four domains and 70 over the three without labels."""
    table = score_table(load_views([make_run()]))
    assert table.title == "Dice (%)"
    assert table.columns[:2] == ("mean over domains", "mean without the labeled domain")
    assert table.standing == ("", "", "labeled", "no labels", "no labels", "no labels")
    medsam = table.rows[1]
    assert [cell.text for cell in medsam.cells] == ["75.0", "70.0", "90.0", "80.0", "70.0", "60.0"]
    assert medsam.cells[2].interval == "87.5 to 92.5"
    assert medsam.cells[1].interval == ""
    assert [row.recommended for row in table.rows] == [False, True, False]


def test_a_recommended_teacher_stands_among_the_students(make_run: MakeRun) -> None:
    """MedSAM's teacher is one point below its student: 74 over four domains."""
    run = make_run()
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(metrics | {"recommended_role": "teacher"}))
    table = score_table(load_views([run]))
    assert [row.answer for row in table.rows] == [
        ("unet", "student"),
        ("medsam", "student"),
        ("medsam", "teacher"),
        ("fused", "student"),
    ]
    assert [row.recommended for row in table.rows] == [False, False, True, False]
    assert table.rows[2].cells[0].text == "74.0"
    teachers = score_table(load_views([run]), role="teacher")
    assert [row.answer for row in teachers.rows] == [
        ("unet", "teacher"),
        ("medsam", "teacher"),
        ("fused", "teacher"),
    ]


def test_the_best_of_a_column_is_marked_and_ties_share_it(make_run: MakeRun) -> None:
    """Means without the labeled domain: U-Net 40, MedSAM 70, fused 70."""
    table = score_table(load_views([make_run()]))
    best = [[cell.best for cell in row.cells] for row in table.rows]
    assert [row[1] for row in best] == [False, True, True]
    assert [row[3] for row in best] == [False, False, True]


def test_for_distances_the_smallest_is_best(make_run: MakeRun) -> None:
    """HD95 = 20 (1 - dice): 4, 2 and 2.4 mm on the labeled domain."""
    table = score_table(load_views([make_run()]), "hd95")
    assert table.title == "HD95 (mm)"
    column = [row.cells[2] for row in table.rows]
    assert [cell.text for cell in column] == ["4.0", "2.0", "2.4"]
    assert [cell.best for cell in column] == [False, True, False]


def test_runs_stand_side_by_side_and_share_columns(make_run: MakeRun) -> None:
    views = load_views([make_run("a"), make_run("b", branches=("unet",), lower=0.1)])
    table = score_table(views)
    assert [(row.run, row.answer[0]) for row in table.rows] == [
        ("SynFoC", "unet"),
        ("SynFoC", "medsam"),
        ("SynFoC", "fused"),
        ("Supervised U-Net", "unet"),
    ]
    assert table.rows[3].cells[0].text == "40.0"
    assert not table.rows[3].recommended


def test_a_domain_that_a_run_lacks_leaves_a_gap_and_no_mean(make_run: MakeRun) -> None:
    views = load_views([make_run("a"), make_run("b", domains=("Vendor A", "Vendor B"))])
    row = score_table(views).rows[3]
    assert [cell.text for cell in row.cells] == ["65.0", "–", "80.0", "50.0", "–", "–"]


def test_two_runs_of_one_kind_are_told_apart_by_their_folder(make_run: MakeRun) -> None:
    names = [view.name for view in load_views([make_run("first"), make_run("second")])]
    assert names == ["SynFoC (first)", "SynFoC (second)"]


def test_without_domain_names_there_is_one_column(make_run: MakeRun) -> None:
    table = score_table(load_views([make_run(domains=("",))]))
    assert (table.columns, table.standing) == (("all cases",), ("",))


def test_a_missing_number_is_a_dash_and_never_best(make_run: MakeRun) -> None:
    run = make_run()
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["branches"]["unet"]["student"]["domains"]["Vendor A"]["hd95"] = None
    (run / "metrics.json").write_text(json.dumps(metrics))
    cell = score_table(load_views([run]), "hd95").rows[0].cells[2]
    assert (cell.text, cell.best) == ("–", False)


def test_classes_are_listed_by_domain(make_run: MakeRun) -> None:
    """U-Net on Vendor A: cavity .85, wall .75; Jaccard = .85 / 1.15 = 73.9 %."""
    head, first, second, *_ = class_table(load_views([make_run()])[0], "unet")
    assert head[3:] == ["Dice (%)", "Jaccard (%)", "HD95 (mm)", "ASD (mm)"]
    assert first[:6] == ["Vendor A", "24", "cavity", "85.0", "73.9", "3.0"]
    assert second[2:4] == ["wall", "75.0"]


def test_the_terminal_shows_markup_in_names_as_text(make_run: MakeRun) -> None:
    console = Console(file=io.StringIO(), width=140)
    print_scores(make_run(domains=("[red]site[/]", "B")), console=console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[red]site[/]" in text
    assert "medsam *" in text
    assert "HD95 (mm)" in text
    assert "protocol honest, rule honest, 96 test cases" in text


def test_findings_are_printed_with_their_problems() -> None:
    group = Group(
        domain="[b]A[/b]",
        split="train",
        cases=12,
        labeled=3,
        slices=12,
        patients=None,
        rows=(96, 96),
        columns=(96, 128),
        kinds={"uint8 gray": 12},
        spacing=None,
        unknown_spacing=12,
        intensity=(0, 255),
    )
    findings = Findings(
        root="data",
        layout="folders",
        classes=("cup",),
        nested=False,
        groups=(group,),
        shares={"[b]A[/b]": {"background": 0.9, "cup": 0.1}},
        duplicates=(),
        patients_on_both_sides=(),
        unreadable=(),
        unusable_labels=(),
        problems=("no test case",),
        notes=(),
    )
    console = Console(file=io.StringIO(), width=140)
    print_findings(findings, console=console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for words in ("[b]A[/b]", "96 x 96..128", "10.00 %", "problem: no test case"):
        assert words in text


def test_estimates_have_a_table_of_their_own(make_run: MakeRun) -> None:
    """Two points above what was measured; no column of them is marked as best."""
    views = load_views([make_run(estimated=0.02), make_run("plain")])
    table = estimate_table(views)
    assert table.title == "Estimated Dice (%), made without labels"
    assert [(row.run, row.answer[0]) for row in table.rows] == [
        (views[0].name, branch) for branch in ("unet", "medsam", "fused")
    ]
    cells = [cell.text for cell in table.rows[1].cells]
    assert cells == ["77.0", "72.0", "92.0", "82.0", "72.0", "62.0"]
    assert not any(cell.best for row in table.rows for cell in row.cells)
    assert estimate_table(views[1:]).rows == ()


def test_an_estimate_is_held_against_the_same_cases_only(make_run: MakeRun) -> None:
    """MedSAM is recommended; of one domain a test case has no label, so nothing is compared."""
    run = make_run(estimated=0.02)
    (view,) = load_views([run])
    assert view.estimate_errors == pytest.approx(dict.fromkeys(DOMAINS, 2.0))
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["estimate"]["branches"]["medsam"]["student"]["domains"]["Vendor A"]["cases"] = 25
    (run / "metrics.json").write_text(json.dumps(metrics))
    (view,) = load_views([run])
    assert set(view.estimate_errors) == set(DOMAINS[1:])


@pytest.mark.parametrize("evaluated", [True, False])
def test_the_terminal_shows_estimates(make_run: MakeRun, evaluated: bool) -> None:
    console = Console(file=io.StringIO(), width=160)
    print_scores(make_run(evaluated=evaluated, estimated=0.02), console=console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Estimated Dice (%), made without labels" in text and "77.0" in text
    assert ("75.0" in text) is evaluated
    assert ("protocol honest" in text) is evaluated


def test_a_run_without_scores_prints_no_row(make_run: MakeRun) -> None:
    assert score_table(load_views([make_run(evaluated=False)])).rows == ()


def test_no_run_is_an_error() -> None:
    with pytest.raises(UserError, match="no run"):
        load_views([])
