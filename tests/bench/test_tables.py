"""Tables of a suite: numbers by hand, all formats, and what stands where something is missing."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synfoc.bench.folder import SuiteFolder
from synfoc.bench.gather import gather
from synfoc.bench.results import all_tables
from synfoc.bench.tables import Number, Row, Table, as_csv, html, latex, mark_best, markdown
from synfoc.report.tables import NONE

MakeSuite = Callable[..., SuiteFolder]


def tables(folder: SuiteFolder) -> dict[str, Table]:
    return {table.name: table for table in all_tables(gather(folder))}


def texts(table: Table, row: int) -> list[str]:
    return [cell.text for cell in table.rows[row].cells]


def prostate(*domains: str) -> dict[str, Any]:
    labeled = [{"domain": domain, "count": 20} for domain in domains]
    eyes = {"labeled": labeled, "published": "prostate"}
    names = {"medsam": "SynFoC (MedSAM)", "unet": "SynFoC (U-Net)"}
    return {"data": {"eyes": eyes}, "methods": {"synfoc": {"published": names}}}


def test_the_numbers_of_one_table(make_suite: MakeSuite) -> None:
    """Supervised, A labeled, seed 1: A .60 .62 .64 -> .62, B .40 .42 -> .41, mean .515.

    Seed 2 has .02 more, so 52.5 with a standard deviation of 2 / sqrt 2 = 1.4; the same with B
    labeled. Jaccard is .1 less, HD95 20 (1 - .525) = 9.5, ASD 5 (1 - .525) = 2.4. Fused is .15
    better everywhere: with four patients p = 2 / 16, times two rows = .25.
    """
    table = tables(make_suite())["honest_eyes"]
    assert table.columns == (
        *("A-2", "B-2", "mean Dice (%)", "mean Jaccard (%)", "mean HD95 (px)", "mean ASD (px)"),
        "Dice - SynFoC (recommended)",
    )
    assert [row.names for row in table.rows] == [
        ("Supervised", "U-Net"),
        ("SynFoC", "recommended"),
        ("SynFoC", "U-Net"),
    ]
    dice, jaccard = "52.5 ± 1.4", "42.5 ± 1.4"
    assert texts(table, 0) == [dice, dice, dice, jaccard, "9.5 ± 0.3", "2.4 ± 0.1", "-15.0"]
    assert table.rows[0].cells[-1].beside == ["p = 0.250"]
    assert texts(table, 1)[2] == "67.5 ± 1.4"
    assert texts(table, 1)[-1] == "reference"
    assert texts(table, 2)[-1] == "-5.0"
    assert [cell.best for cell in table.rows[1].cells] == [True] * 6 + [False]
    assert "After ±: standard deviation over 2 seeds." in " ".join(table.reading)
    caption = " ".join(table.notes)
    assert (
        "5 test cases of 2 domains; in A of 2 patients: a mean that holds a domain of fewer than 3"
        in caption
    )
    assert "Protocol honest: checkpoint and branch were chosen without test labels" in caption


def test_intervals_of_three_patients_a_domain(make_suite: MakeSuite) -> None:
    """Every patient of A has .62 with A labeled, of B .42 less: no draw moves the mean of 52."""
    cases = {"A": {f"a{i}": f"p{i}" for i in (1, 2, 3)}, "B": {f"b{i}": f"q{i}" for i in (1, 2, 3)}}

    def dice(cell: Any, branch: str, domain: str, case: str, protocol: str) -> float:
        return 0.62 - 0.2 * (domain != cell.labeled[0]) + 0.05 * (cell.method == "synfoc")

    table = tables(make_suite(dice=dice, cases=cases))["honest_eyes"]
    assert table.rows[0].cells[2].beside == ["52.0 to 52.0"]
    assert table.rows[0].cells[-1].beside[0] == "-5.0 to -5.0"
    assert "6 test cases of 2 domains; in A of 3 patients, elsewhere of no fewer." in table.notes


def test_one_seed_for_all_is_said_once(make_suite: MakeSuite) -> None:
    names = [
        f"eyes/{labeled}/{method}/seed2"
        for labeled in ("A-2", "B-2")
        for method in ("sup", "synfoc")
    ]
    table = tables(make_suite(states=dict.fromkeys(names, "open")))["honest_eyes"]
    assert "So far 1 of 2 seeds." in table.notes
    assert not any("±" in text for row in table.rows for text in [c.text for c in row.cells])
    assert "±" not in " ".join((*table.notes, *table.reading))
    assert not any("seeds" in text for row in table.rows for c in row.cells for text in c.beside)


def test_px_and_mm_have_no_mean(make_suite: MakeSuite) -> None:
    folder = make_suite()
    for cell in folder.cells:
        path = cell.scores("honest")
        lines = path.read_text().splitlines()
        in_mm = [line.replace(",px,", ",mm,") if ",B," in line else line for line in lines]
        path.write_text("\n".join(in_mm) + "\n")
    table = tables(folder)["honest_eyes"]
    assert table.columns[4] == "mean HD95 (mm and px: no mean)"
    assert texts(table, 0)[3:6] == ["42.5 ± 1.4", "–", "–"]
    assert not any(row.cells[at].best for row in table.rows for at in (4, 5))


def test_the_protocol_paper_shows_medsam_and_its_own_scores(make_suite: MakeSuite) -> None:
    """52.5 + 3 for looking at the test set; MedSAM is .2 better."""
    table = tables(make_suite())["paper_eyes"]
    assert [texts(table, row)[2][:4] for row in range(3)] == ["55.5", "75.5", "65.5"]
    assert "best on the test set" in " ".join(table.notes)


def test_a_missing_cell_is_a_dash_and_no_mean_over_the_rest(make_suite: MakeSuite) -> None:
    """Supervised has nothing on B, SynFoC has seed 1 alone there."""
    states = {
        "eyes/B-2/sup/seed1": "failed",
        "eyes/B-2/sup/seed2": "open",
        "eyes/B-2/synfoc/seed2": "begun",
    }
    found = tables(make_suite(states=states))
    table = found["honest_eyes"]
    assert texts(table, 0) == ["52.5 ± 1.4", *[NONE] * 6]
    assert texts(table, 1)[:3] == ["67.5 ± 1.4", "66.5", "66.5"]
    assert [cell.beside[-1:] for cell in table.rows[1].cells[1:3]] == [["1 of 2 seeds"]] * 2
    assert found["cells"].title == "Cells: 5 of 8 done"
    assert [row.names[1] for row in found["cells"].rows] == [
        "2 of 4, 1 failed",
        "3 of 4, 1 begun",
    ]


def test_a_suite_without_a_finished_cell(make_suite: MakeSuite) -> None:
    found = tables(make_suite(states=None))
    assert set(found) == {"honest_eyes", "paper_eyes", "cells"}
    assert texts(found["honest_eyes"], 0) == [NONE] * 7
    assert "No cell is done." in found["honest_eyes"].notes
    for table in found.values():
        assert markdown(table)
        assert latex(table)
        assert as_csv(table)
        assert html(table)


def test_several_data_sets_have_a_summary(make_suite: MakeSuite) -> None:
    """Hearts are .1 worse: 52.5 and 42.5, mean 47.5. Without a seed of hearts there is no mean."""
    hearts = {"title": "Hearts", "path": "h", "labeled": [{"domain": "A", "count": 2}]}
    changes = {"data": {"hearts": hearts}}

    def dice(cell: Any, branch: str, domain: str, case: str, protocol: str) -> float:
        base = 0.5 + 0.1 * (branch != "unet") + 0.02 * (case in ("a1", "b1"))
        return base - 0.1 * (cell.data == "hearts")

    table = tables(make_suite(changes, dice=dice))["summary_honest"]
    assert table.columns[:3] == ("Eyes_1 & 50 %", "Hearts", "mean over data sets")
    eyes, hearts_dice, mean = (cell.value for cell in table.rows[0].cells[:3])
    assert (eyes, hearts_dice) == (pytest.approx(50 + 5 / 6), pytest.approx(40 + 5 / 6))
    assert mean == pytest.approx(45 + 5 / 6)
    states = {f"hearts/A-2/sup/seed{seed}": "open" for seed in (1, 2)}
    folder = make_suite(changes, dice=dice, states=states, name="second")
    assert texts(tables(folder)["summary_honest"], 0)[1:] == [NONE] * 3


@pytest.mark.parametrize(("path", "p"), [("eyes", 2 / 2**4), ("other", 2 / 2**8)])
def test_two_data_sets_of_the_same_images_have_the_same_patients(
    make_suite: MakeSuite, path: str, p: float
) -> None:
    """15 points in each of four patients, however many data sets they are in, or of eight."""
    more = {"title": "More", "path": path, "labeled": [{"domain": "A", "count": 3}]}
    changes = {"data": {"more": more}, "methods": {"synfoc": {"branches": ["recommended"]}}}
    table = tables(make_suite(changes))["summary_honest"]
    assert table.rows[0].cells[-1].p == pytest.approx(p)


def test_the_papers_number_stands_beside_ours_by_its_name(make_suite: MakeSuite) -> None:
    """Prostate: SynFoC (MedSAM) 88.54 at RUNMC, 85.74 at BMC; (U-Net) 88.09."""
    found = tables(make_suite(prostate("RUNMC", "BMC")))
    for name in ("honest_eyes", "paper_eyes"):
        table = found[name]
        assert [cell.paper for cell in table.rows[1].cells[:2]] == [88.54, 85.74]
        assert table.rows[1].cells[2].paper == pytest.approx((88.54 + 85.74) / 2)
        assert table.rows[2].cells[0].paper == 88.09
        assert table.rows[0].cells[0].paper is None
        assert "paper 88.5" in markdown(table)
        assert "Numbers marked paper: printed by Ma et al. (CVPR 2025" in " ".join(table.notes)
    assert "under their protocol, not this one" in " ".join(found["honest_eyes"].notes)
    unnamed = tables(make_suite(name="second"))["honest_eyes"]
    assert "Ma et al. (CVPR 2025" not in " ".join(unnamed.notes)


def test_the_papers_number_stands_even_where_ours_is_missing(make_suite: MakeSuite) -> None:
    table = tables(make_suite(prostate("RUNMC"), states=None))["paper_eyes"]
    assert f"{NONE} (paper 88.5)" in markdown(table)


def fundus(**settings: Any) -> dict[str, Any]:
    labeled = [{"domain": f"Domain{i}", "count": 20} for i in (1, 2)]
    eyes = {"labeled": labeled, "published": "fundus", "settings": {"data": settings}}
    return {"data": {"eyes": eyes}, "methods": {"sup": {"published": {"unet": "SupOnly"}}}}


def test_classes_stand_apart_as_in_the_paper(make_suite: MakeSuite) -> None:
    """Cup .05 above and disc .05 below the mean of a case, which is 52.5 over both seeds.

    SupOnly in the paper, Domain1: cup 59.54, disc 73.89; Domain2: 71.28 and 74.23.
    """
    cases = {f"Domain{i}": {f"a{i}": "p"} for i in (1, 2)}

    def dice(cell: Any, branch: str, domain: str, case: str, protocol: str) -> float:
        return 0.5 + 0.02 * cell.seed + 0.1 * (cell.labeled[6] == "2") + 0.2 * (branch == "fused")

    found = tables(make_suite(fundus(nested=True), dice=dice, cases=cases))
    table = found["classes_honest_eyes"]
    assert table.shown[:3] == ("Domain1-20: cup / disc", "Domain2-20: cup / disc", "mean Dice (%)")
    line = markdown(table).splitlines()[4]
    assert "| 58.0 ± 1.4 / 48.0 ± 1.4 (paper 59.5 / 73.9) |" in line
    assert "| 68.0 ± 1.4 / 58.0 ± 1.4 (paper 71.3 / 74.2) |" in line
    assert "| 58.0 ± 1.4 (paper 69.7) |" in line  # mean of the four
    assert "| **78.0 ± 1.4** / **68.0 ± 1.4** |" in markdown(table)
    numbers = next(csv.DictReader(io.StringIO(as_csv(table))))
    assert [numbers[f"Domain1-20 {name}"] for name in ("cup", "disc")] == ["58", "48"]
    assert [numbers[f"Domain1-20 {n} paper"] for n in ("cup", "disc")] == ["59.54", "73.89"]
    assert numbers["mean Dice (%)"] == "58"
    cell = r"58.0 $\pm$ 1.4 / 48.0 $\pm$ 1.4 {\scriptsize (paper 59.5 / 73.9)}"
    assert cell in latex(table)
    assert r"\textbf{78.0 $\pm$ 1.4} / \textbf{68.0 $\pm$ 1.4}" in latex(table)
    assert "<small>paper 59.5 / 73.9</small>" in html(table)
    assert "<b>78.0\u00a0±\u00a01.4</b>\u00a0/\u00a0<b>68.0" in html(table)
    assert "scored together with those before it" in " ".join(table.notes)


def test_a_rim_does_not_stand_beside_the_paper_s_disc(make_suite: MakeSuite) -> None:
    table = tables(make_suite(fundus(nested=False)))["classes_paper_eyes"]
    assert all(cell.paper is None for row in table.rows for cell in row.cells[:4])
    assert "scored together with those before it" not in " ".join(table.notes)


def test_classes_of_a_missing_cell_are_one_dash(make_suite: MakeSuite) -> None:
    states = dict.fromkeys([f"eyes/B-2/sup/seed{seed}" for seed in (1, 2)], "failed")
    table = tables(make_suite(states=states))["classes_honest_eyes"]
    assert "| Supervised | U-Net | 57.5 ± 1.4 / 47.5 ± 1.4 | – | – |" in markdown(table)


def test_one_class_has_no_table_of_classes(make_suite: MakeSuite) -> None:
    folder = make_suite()
    for cell in folder.cells:
        for protocol in ("honest", "paper"):
            path = cell.scores(protocol)
            path.write_text(
                "".join(x for x in path.read_text().splitlines(True) if ",disc," not in x)
            )
    assert not [name for name in tables(folder) if name.startswith("classes")]


SMALL = Table(
    name="t",
    title="a_b & 5 %",
    heads=("method", "answer"),
    columns=("x|y", "mean"),
    rows=(
        Row(("*S*", "#1"), (Number(80.04, sd=0.5, best=True), Number(words="as {is}"))),
        Row(
            ("T<b>", "$x$"), (Number(), Number(-1.25, low=-2.04, high=0.04, p=0.0004, signed=True))
        ),
    ),
    notes=("One_note.",),
)


def test_markdown() -> None:
    assert markdown(SMALL) == (
        "**a\\_b & 5 %**\n\n"
        "| method | answer | x\\|y | mean |\n| --- | --- | ---: | ---: |\n"
        "| \\*S\\* | #1 | **80.0 ± 0.5** | as {is} |\n"
        "| T\\<b> | $x$ | – | -1.2 (-2.0 to 0.0; p < 0.001) |\n"
        "\nOne\\_note.\n"
    )


def test_latex_is_escaped() -> None:
    text = latex(SMALL)
    assert r"\caption{a\_b \& 5 \%. One\_note.}" in text
    assert r"\begin{tabular}{llrr}" in text
    assert r"{}*S* & \#1 & \textbf{80.0 $\pm$ 0.5} & as \{is\} \\" in text
    line = r"T\textless{}b\textgreater{} & \$x\$ & -- & "
    assert line + r"$-$1.2 {\scriptsize ($-$2.0 to 0.0; p \textless{} 0.001)} \\" in text
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("[a]", r"\midrule@{}[a] & x & -- \\"),
        ("*a", r"\midrule@{}*a & x & -- \\"),
        (" [a]", r"\midrule@{}[a] & x & -- \\"),
        ("a[b]*", r"\midrule@a[b]* & x & -- \\"),
        ("a\n\nb", r"\midrule@a b & x & -- \\"),
        ("−1 ≤ a_1", r"\midrule@$-$1 $\leq$ a\_1 & x & -- \\"),
    ],
)
def test_a_row_is_never_an_argument_of_the_line_before(name: str, cell: str) -> None:
    r"""After a line break or a rule TeX takes `*` and `[...]` for their own."""
    table = Table("t", "T", (name, "b"), ("c",), (Row((name, "x"), (Number(),)),))
    lines = latex(table).replace("\n", "@")
    assert cell in lines
    head = cell.replace(r"\midrule", r"\toprule").replace("& x & --", "& b & c")
    assert head in lines


def test_a_wide_latex_table_is_as_wide_as_a_line() -> None:
    """And a narrow one as wide as it is."""
    text = latex(SMALL)
    start = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
    assert start + "\n" + r"\begin{tabular}" in text
    assert r"\end{tabular}}" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex, booktabs, graphicx")
def test_latex_compiles(tmp_path: Path) -> None:
    """Every sign of the keyboard, at either end of a name, in a table of two pages' width."""
    signs = [chr(code) for code in range(33, 127)] + ["±", "×", "≤", "≥", "→", "−", NONE, "é"]
    rows = [Row((f"{sign}1{sign}", f"a {sign}"), (Number(-1.5, sd=0.5),) * 30) for sign in signs]
    every = " ".join(signs)
    wide = Table("t", every, ("[5pt]", "*"), (every, *"x" * 29), tuple(rows[::2]), notes=(every,))
    narrow = replace(wide, columns=("x",), rows=tuple(replace(r, cells=r.cells[:1]) for r in rows))
    (tmp_path / "t.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
        + latex(wide) + "\\clearpage\n" + latex(replace(narrow, title="n", notes=()))
        + "\\end{document}\n",
        encoding="utf-8",
    )  # fmt: skip
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert r"Overfull \hbox" not in done.stdout


def test_latex_leaves_hyphens_of_names() -> None:
    row = Row(("IDRiD-10", "U-Net"), (Number(words="2020-10"),))
    assert "IDRiD-10 & U-Net & 2020-10" in latex(Table("t", "T", ("a", "b"), ("c",), (row,)))


def test_csv_has_every_number_by_itself() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(SMALL))))
    assert rows[0]["x|y"] == "80.04"
    assert rows[0]["x|y sd"] == "0.5"
    assert (rows[0]["mean"], rows[0]["mean words"]) == ("", "as {is}")
    assert (rows[1]["mean"], rows[1]["mean p"]) == ("-1.25", "0.0004")
    assert (rows[1]["x|y"], rows[1]["mean low"], rows[1]["mean high"]) == ("", "-2.04", "0.04")


def test_formats_agree(make_suite: MakeSuite) -> None:
    """Every number of the CSV stands in Markdown, LaTeX and HTML, with one decimal."""
    table = tables(make_suite())["honest_eyes"]
    for row in csv.DictReader(io.StringIO(as_csv(table))):
        for name, value in row.items():
            if re.fullmatch(r"-?[\d.]+", value) and not name.endswith((" p", "seeds")):
                shown = f"{round(float(value), 1):.1f}"
                assert shown in markdown(table), name
                assert shown in html(table), name
                assert shown.replace("-", "$-$") in latex(table), name


def test_the_best_of_a_column_is_marked_ties_as_printed_included() -> None:
    """80.04 and 79.96 are both printed 80.0; distances are best when small."""
    rows = [
        Row(("m", ""), (Number(a), Number(b))) for a, b in ((80.04, 3.0), (79.96, 2.0), (70, None))
    ]
    marked = mark_best(rows, [True, False])
    assert [[cell.best for cell in row.cells] for row in marked] == [
        [True, False],
        [True, True],
        [False, False],
    ]
    assert not mark_best(rows[:1], [True, False])[0].cells[0].best
    assert not mark_best(rows, [None, None])[0].cells[0].best


@pytest.mark.parametrize(
    ("cell", "text", "beside"),
    [
        (Number(), NONE, []),
        (Number(1.0, seeds=1, planned=2), "1.0", ["1 of 2 seeds"]),
        (Number(1.0, seeds=2, planned=2), "1.0", []),
        (Number(1.25, signed=True), "+1.2", []),
        (Number(-0.01, signed=True), "0.0", []),
        (Number(5.0, p=0.05), "5.0", ["p = 0.050"]),
        (Number(paper=87.16), NONE, ["paper 87.2"]),
        (Number(low=1.0, high=2.0), NONE, []),
    ],
)
def test_a_cell_in_words(cell: Number, text: str, beside: list[str]) -> None:
    assert cell.text == text
    assert cell.beside == beside
