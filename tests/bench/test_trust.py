"""How far off the label-free Dice was, by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from synfoc.bench.folder import CellFolder, SuiteFolder
from synfoc.bench.gather import gather
from synfoc.bench.results import all_tables, write_results
from synfoc.bench.trust import run_errors, summarize_errors
from synfoc.storage import read_json, write_json

MakeSuite = Callable[..., SuiteFolder]
SYNFOC, SUP = "eyes/A-2/synfoc/seed1", "eyes/A-2/sup/seed1"


def estimated(
    cell: CellFolder, branch: str, domains: dict[str, tuple[float, float]], *, cases: int = 3
) -> None:
    """Write {domain: (estimated, measured)}, with a Dice of .9 on views of the labeled images."""
    role = {"base": 0.0, "expected": 1.0, "agreement": 0.0, "views": 0.9}
    write_json(
        cell.run.summary, {"recommended": branch, "calibration": {branch: {"student": role}}}
    )
    guessed, measured = (
        {
            branch: {
                "student": {"domains": {d: {"cases": n, "dice": v[i]} for d, v in domains.items()}}
            }
        }
        for i, n in enumerate((cases, 3))
    )
    write_json(
        cell.metrics("honest"),
        {
            "recommended": branch,
            "recommended_role": "student",
            "estimate": {"branches": guessed},
            "branches": measured,
        },
    )  # fmt: skip


def test_errors_of_one_run(make_suite: MakeSuite) -> None:
    """Estimated .80 and .60, measured .75 and .70; views of labeled images said .90."""
    cell = make_suite().find(SYNFOC)
    estimated(cell, "medsam", {"A": (0.80, 0.75), "B": (0.60, 0.70)})
    found = run_errors(cell)
    assert found is not None
    assert (found.kind, found.answer) == ("two networks", ("medsam", "student"))
    assert found.errors["estimate"] == pytest.approx({"A": 5.0, "B": -10.0})
    assert found.errors["labeled views"] == pytest.approx({"A": 15.0, "B": 20.0})


def test_what_cannot_be_checked_is_left_out(make_suite: MakeSuite) -> None:
    """A run that estimated nothing, and a domain of which a test case has no label."""
    folder = make_suite()
    assert gather(folder).errors == ()
    cell = folder.find(SYNFOC)
    estimated(cell, "medsam", {"A": (0.80, 0.75)}, cases=4)
    assert run_errors(cell) is None
    estimated(cell, "medsam", {"A": (0.80, 0.75)})
    assert len(gather(folder).errors) == 1
    cell.metrics("honest").unlink()
    assert run_errors(cell) is None


def test_mean_largest_and_bias(make_suite: MakeSuite) -> None:
    """Errors 5, -10 and 2 of one kind: mean size 17 / 3, largest -10, bias -1."""
    folder = make_suite()
    estimated(folder.find(SYNFOC), "medsam", {"A": (0.80, 0.75), "B": (0.60, 0.70)})
    estimated(folder.find("eyes/B-2/synfoc/seed2"), "fused", {"A": (0.72, 0.70)})
    estimated(folder.find(SUP), "unet", {"A": (0.40, 0.50)})
    summary = {(e.kind, e.source): e for e in summarize_errors(gather(folder).errors)}
    two = summary["two networks", "estimate"]
    assert (two.mean, two.worst, two.bias) == pytest.approx((17 / 3, -10, -1))
    assert two.domains == 3
    assert summary["no teacher", "labeled views"].worst == pytest.approx(40)


def test_the_table(make_suite: MakeSuite) -> None:
    folder = make_suite()
    assert "estimate" not in [table.name for table in all_tables(gather(folder))]
    estimated(folder.find(SYNFOC), "medsam", {"A": (0.80, 0.75), "B": (0.60, 0.70)})
    table = {table.name: table for table in all_tables(gather(folder))}["estimate"]
    rows = {row.names: [cell.text for cell in row.cells] for row in table.rows}
    assert rows["two networks", "estimated Dice"] == ["7.5", "-10.0", "7.5", "-10.0", "-2.5", "2"]
    assert rows["two networks", "Dice on views of the labeled images"][0] == "17.5"


def test_results_and_page_have_it(make_suite: MakeSuite) -> None:
    folder = make_suite()
    estimated(folder.find(SYNFOC), "medsam", {"A": (0.80, 0.75)})
    page = write_results(folder)[-1].read_text()
    assert "The Dice estimated without labels" in page
    assert (folder.tables / "estimate.md").is_file()
    (run,) = read_json(folder.results, "results")["estimate"]["runs"]
    assert run["errors"]["estimate"] == pytest.approx({"A": 5.0})
