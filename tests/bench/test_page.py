"""The page of a suite: who is first, nothing from outside, and right in any state of the suite."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synfoc.bench.figures import curves, mean_curve
from synfoc.bench.folder import SuiteFolder
from synfoc.bench.gather import gather
from synfoc.bench.page import headline
from synfoc.bench.results import write_results

MakeSuite = Callable[..., SuiteFolder]
ReadPage = Callable[[Path], tuple[str, str]]
TABLES = ("honest_eyes", "paper_eyes", "classes_honest_eyes", "classes_paper_eyes")


def by_method(noise: float) -> Callable[..., float]:
    """SynFoC .60, supervised .55; patients differ by twice the noise."""

    def dice(cell: Any, branch: str, domain: str, case: str, protocol: str) -> float:
        return 0.55 + 0.05 * (cell.method == "synfoc") + noise * (case in ("a1", "a2", "b1"))

    return dice


def test_everything_is_written(make_suite: MakeSuite, read_page: ReadPage) -> None:
    folder = make_suite()
    written = write_results(folder)
    names = {path.relative_to(folder.path).as_posix() for path in written}
    assert names == {
        *(
            f"tables/{name}.{suffix}"
            for name in (*TABLES, "cells", "regret")
            for suffix in ("md", "tex", "csv")
        ),
        "results.json",
        "report.html",
    }
    assert all(path.is_file() for path in written)
    html, text = read_page(written[-1])
    assert "SynFoC (recommended) is first on Eyes_1 & 50 % with a mean Dice of 67.5 %" in text
    assert "it is the reference; the next method, Supervised with 52.5 %, is 15.0 points" in text
    assert "Protocol paper: the checkpoint is the one that was best on the test set" in text
    assert "2 seeds: few to tell runs from luck" in text
    assert "A-2: cup / disc" in text
    assert "What failed" not in text
    assert "synfoc bench suite.yaml" in text
    assert html.count("<svg ") == 3
    assert "Dice on test (%)" in html
    assert len(html) < 400_000


def test_results_as_numbers(make_suite: MakeSuite) -> None:
    """52.5 % stands as the fraction .525."""
    folder = make_suite(states={"eyes/B-2/synfoc/seed2": "failed"})
    write_results(folder)
    found = json.loads(folder.results.read_text())
    table = found["tables"][0]
    assert (table["protocol"], table["data"], table["unit"]) == ("honest", "eyes", "px")
    sup = table["rows"][0]
    assert sup["mean"]["dice"]["value"] == pytest.approx(0.525)
    assert sup["columns"]["A-2"]["hd95"]["value"] == pytest.approx(9.5)
    assert sup["classes"]["A-2"]["cup"]["value"] == pytest.approx(0.575)
    assert sup["difference"]["value"] == pytest.approx(-0.15)
    assert sup["difference"]["seeds"] == [1]
    assert found["cells"]["eyes/B-2/synfoc/seed2"] == "failed"
    assert found["failures"]["eyes/B-2/synfoc/seed2"] == "no memory <left>"
    assert len(found["regret"]["runs"]) == 7


def test_nothing_done_yet(make_suite: MakeSuite, read_page: ReadPage) -> None:
    folder = make_suite(states=None)
    _, text = read_page(write_results(folder)[-1])
    assert "No cell is done yet, of 8." in text
    assert "Cells: 0 of 8 done" in text
    assert json.loads(folder.results.read_text())["tables"][0]["rows"][0]["mean"] is None


def test_failures_are_listed_with_their_error(make_suite: MakeSuite, read_page: ReadPage) -> None:
    states = {"eyes/A-2/sup/seed1": "failed", "eyes/B-2/sup/seed2": "open"}  # no seed has both
    _, text = read_page(write_results(make_suite(states=states))[-1])
    assert "What failed eyes/A-2/sup/seed1 no memory <left>" in text
    assert "1 of 3 rows have no mean yet. 6 of 8 cells are done." in text
    assert "2 cells are missing, so parts of the tables are, too." in text


def test_the_headline_tells_how_far_behind_the_second_is(make_suite: MakeSuite) -> None:
    """By 5 points in each of four patients: 2 of the 16 ways to set signs are as far, p = .125."""
    changes = {"methods": {"synfoc": {"branches": ["recommended"]}}}
    text = headline(gather(make_suite(changes, dice=by_method(0.0))))
    assert "it is the reference; the next method, Supervised with" in text
    assert "is 5.0 points behind, by the same patients (p = 0.125)." in text


def test_a_gap_that_may_be_chance_says_so_in_its_interval(make_suite: MakeSuite) -> None:
    """SynFoC wins 30 points in two patients of A, loses 20 in the third: 4 of 8 signs are as far.

    All of one patient are drawn in 1 of 27 draws, more than 2.5 %: -20 or 30, halved by domain B.
    """
    cases = {d: {f"{d.lower()}{i}": f"{d}{i}" for i in (1, 2, 3)} for d in ("A", "B")}

    def dice(cell: Any, branch: str, domain: str, case: str, protocol: str) -> float:
        gain = {"a1": 0.3, "a2": 0.3, "a3": -0.2}.get(case, 0.0)
        return 0.5 + gain * (cell.method == "synfoc")

    changes = {"methods": {"synfoc": {"branches": ["recommended"]}}}
    text = headline(gather(make_suite(changes, dice=dice, cases=cases)))
    assert "is 6.7 points behind, by the same patients (-10.0 to 15.0, p = 0.500)." in text


def test_the_headline_names_the_reference_where_another_is_first(make_suite: MakeSuite) -> None:
    changes = {"reference": "sup"}
    text = headline(gather(make_suite(changes)))
    assert text.startswith("SynFoC (recommended) is first")
    gap = "is 15.0 points behind, by the same patients (p = 0.250)."
    assert f"the reference, Supervised with 52.5 %, {gap}" in text  # two rows: Holm doubles .125


def test_the_headline_tells_rows_of_unlike_seeds(make_suite: MakeSuite) -> None:
    text = headline(gather(make_suite(states={"eyes/B-2/sup/seed2": "open"})))
    assert text.endswith("Not all rows have the same seeds yet. 7 of 8 cells are done.")


def test_over_several_data_sets(make_suite: MakeSuite, read_page: ReadPage) -> None:
    hearts = {"title": "Hearts", "path": "h", "labeled": [{"domain": "A", "count": 2}]}
    folder = make_suite({"data": {"hearts": hearts}})
    written = write_results(folder)
    assert folder.tables / "summary_honest.md" in written
    html, text = read_page(written[-1])
    assert "is first on 2 data sets with a mean Dice of 67.5 %" in text
    assert html.count("<svg ") == 6


def test_one_choice_and_one_method(make_suite: MakeSuite, read_page: ReadPage) -> None:
    one = {"eyes": {"labeled": [{"domain": "A", "count": 2}]}}
    folder = make_suite({"data": one, "seeds": [3], "protocols": ["honest"]})
    for cell in folder.cells:
        cell.run.log.unlink()
    html, text = read_page(write_results(folder)[-1])
    assert "1 seed: few to tell runs from luck" in text
    assert html.count("<svg ") == 1
    assert "choice without test labels" not in text


def test_unlike_runs_are_told(make_suite: MakeSuite, read_page: ReadPage) -> None:
    folder = make_suite()
    path = folder.cells[0].run.environment
    path.write_text(json.dumps(json.loads(path.read_text()) | {"device": "cuda"}))
    _, text = read_page(write_results(folder)[-1])
    assert "The runs differ in the device: cpu, cuda." in text


def test_the_same_suite_makes_the_same_files(make_suite: MakeSuite) -> None:
    folder = make_suite()
    first = {path: path.read_bytes() for path in write_results(folder)}
    assert {path: path.read_bytes() for path in write_results(folder)} == first


def test_curves_are_means_over_seeds_at_shared_steps() -> None:
    """Step 10: (.5 + .7) / 2 = 60 %. Step 20 is of one seed alone."""
    seeds = [
        [{"step": 10, "score": 0.5}, {"step": 20, "score": 0.9}],
        [{"step": 10, "score": 0.7}, {"step": 20, "score": None}],
    ]
    found = mean_curve("m", seeds, "score")
    assert found is not None
    assert (found.steps, found.values) == ((10,), (pytest.approx(60.0),))
    assert mean_curve("m", [[], seeds[0]], "score") is None
    assert mean_curve("m", [], "score") is None


def test_without_watching_the_curves_are_scores(make_suite: MakeSuite) -> None:
    folder = make_suite()
    log = folder.cells[0].run.log
    lines = [json.loads(text) for text in log.read_text().splitlines()]
    log.write_text("".join(json.dumps({**x, "test_dice": None}) + "\n" for x in lines))
    drawn = curves(gather(folder), "eyes")
    assert "score without test labels (%)" in drawn
    assert "Dice on test (%)" not in drawn


def test_other_scripts_and_markup_in_names(make_suite: MakeSuite, read_page: ReadPage) -> None:
    """No warning for a missing glyph (warnings are errors here), no markup from a name."""
    changes = {"methods": {"sup": {"title": "北京 <b> $x_1$"}}}
    _, text = read_page(write_results(make_suite(changes))[-1])
    assert "北京 <b> $x_1$" in text


def test_tables_never_load_torch() -> None:
    """A suite is looked at on a laptop, too."""
    code = (
        "import sys, synfoc.bench.results;"
        "print('torch' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
