"""The page: well-formed, self-contained, and right in its numbers, whatever the run lacks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from synfoc.config import load_config, parse_config
from synfoc.errors import UserError
from synfoc.report import view
from synfoc.report.facts import repeat_html
from synfoc.report.figures import curves_figure
from synfoc.report.load import _told_apart, load_views
from synfoc.report.notes import checks, headline
from synfoc.report.page import write_report
from synfoc.report.view import changes

MakeRun = Callable[..., Path]
ReadPage = Callable[[Path], tuple[str, str]]


def test_two_runs_on_one_page(make_run: MakeRun, read_page: ReadPage, tmp_path: Path) -> None:
    """MedSAM 70 over the unlabeled domains, supervised U-Net 40 - 10 = 30: 40 points apart."""
    runs = [make_run("synfoc"), make_run("supervised", branches=("unet",), lower=0.1)]
    html, text = read_page(write_report(tmp_path / "new" / "report.html", runs))
    assert "mean Dice of 70.0 % on the 3 domains without labels" in text
    assert "40.0 points above Supervised U-Net (30.0 %)" in text
    assert "<td><b>75.0</b><small>68.8 to 81.3</small></td>" in html
    assert "constants that differ from the paper’s" in text
    assert "unet.width 16 (paper: 64)" in text
    assert "rule honest" in text
    assert "both empty: 100 %" in text
    assert "95 % bootstrap interval over patients" in text
    assert "all cases of a patient are drawn together" in text
    assert "4 min 10 s, 0.61 s per step" in text
    assert "12 from" not in text
    assert "10 from Vendor A" in text
    assert "site<4>" in text
    # 4 domains x 3 cases, once per run: each image is embedded once for all its panels.
    assert html.count("data:image/png;base64,") == 24
    assert len(html) < 1_500_000


def test_a_single_branch_has_no_star_and_no_consensus(
    make_run: MakeRun, read_page: ReadPage, tmp_path: Path
) -> None:
    html, text = read_page(write_report(tmp_path / "r.html", [make_run(branches=("medsam",))]))
    assert "Supervised MedSAM" in text
    assert "<abbr" not in html
    assert "consensus" not in text
    assert "not used" in text
    assert "method.tau" not in text.split("Repeat it")[0]


def test_without_monitor_there_is_no_curve_of_pseudo_labels(make_run: MakeRun) -> None:
    views = load_views([make_run("a"), make_run("b", monitor=False)])
    with_it, without = map(curves_figure, views)
    assert "Dice of the pseudo-labels" in with_it
    assert "Dice of the pseudo-labels" not in without


def test_an_unevaluated_run_still_shows_its_curves(
    make_run: MakeRun, read_page: ReadPage, tmp_path: Path
) -> None:
    run = make_run("only trained", evaluated=False)
    _, text = read_page(write_report(tmp_path / "r.html", [run]))
    assert "has not been evaluated yet" in text
    assert f"synfoc evaluate '{run}'" in text, "as a shell takes it"
    assert "Mutual confidence" in text


def test_estimates_stand_below_the_scores_with_their_error(
    make_run: MakeRun, read_page: ReadPage, tmp_path: Path
) -> None:
    _, text = read_page(write_report(tmp_path / "r.html", [make_run(estimated=0.02)]))
    assert "Estimated Dice (%), made without labels" in text
    assert "off by 2.0 points in the mean over domains, +2.0 at worst" in text


def test_without_any_label_the_page_is_made_of_estimates(
    make_run: MakeRun, read_page: ReadPage, tmp_path: Path
) -> None:
    """MedSAM .9 .8 .7 .6, two points more: 77 over all domains."""
    run = make_run(evaluated=False, estimated=0.02)
    _, text = read_page(write_report(tmp_path / "r.html", [run]))
    assert "An estimate without labels: a mean Dice of 77.0 %. Nothing was measured." in text
    assert "no test image has a label, so every Dice is an estimate" in text
    assert "points in the mean over domains" not in text
    assert "has not been evaluated yet" not in text


def test_data_without_domains(make_run: MakeRun, read_page: ReadPage, tmp_path: Path) -> None:
    _, text = read_page(write_report(tmp_path / "r.html", [make_run(domains=("",))]))
    assert "mean Dice of 90.0 % on the test cases" in text
    assert "all cases" in text
    assert "24 from" not in text
    assert "All cases best" in text
    assert "no labels" not in text.split("Bold:")[0]


def test_an_empty_log_and_no_side_files(
    make_run: MakeRun, read_page: ReadPage, tmp_path: Path
) -> None:
    run = make_run()
    for name in ("environment.json", "split.json", "summary.json", "metrics.jsonl"):
        (run / name).unlink()
    _, text = read_page(write_report(tmp_path / "r.html", [run]))
    assert "Learning" not in text
    assert "10 from Vendor A" in text


def test_a_torn_last_line_is_left_out(make_run: MakeRun) -> None:
    """40 lines of steps and 8 of evaluations; the 49th was torn."""
    run = make_run(pictures=False)
    with (run / "metrics.jsonl").open("a") as log:
        log.write('{"step": 410, "loss": 0.')
    [view] = load_views([run])
    assert (len(view.steps), len(view.evaluations)) == (40, 8)


def test_a_report_replaces_the_old_one_and_names_a_wrong_folder(
    make_run: MakeRun, tmp_path: Path
) -> None:
    page = tmp_path / "r.html"
    page.write_text("old")
    with pytest.raises(UserError, match="not a run folder"):
        write_report(page, [make_run(pictures=False), tmp_path])
    assert page.read_text() == "old"


def test_paths_may_be_text_and_one_run_stands_for_itself(make_run: MakeRun, tmp_path: Path) -> None:
    run, page = make_run("a"), tmp_path / "r.html"
    assert write_report(str(page), str(run)) == page
    first = page.read_bytes()
    for given in (run, [str(run)], (run,)):
        assert write_report(page, given).read_bytes() == first


def test_other_scripts_and_dollars_in_names(
    make_run: MakeRun, read_page: ReadPage, tmp_path: Path
) -> None:
    """No warning for a missing glyph (warnings are errors here), no mathematics from a dollar."""
    run = make_run("lauf", domains=("北京医院", "$x_1$ & Söhne"), pictures=False)
    html, text = read_page(write_report(tmp_path / "r.html", [run]))
    assert "北京医院" in text
    assert html.count("$x_1$ &amp; Söhne") >= 2


def test_the_same_run_makes_the_same_page(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(domains=("A", "B"), pictures=False)
    pages = [write_report(tmp_path / name, [run]).read_bytes() for name in ("a.html", "b.html")]
    assert pages[0] == pages[1]


def test_changes_are_none_for_the_papers_own_setting() -> None:
    tree = {
        "data": {"path": "x", "set": "prostate", "labeled": {"domain": "RUNMC", "count": 20}},
        "unet": {"side": 384},
        "medsam": {"weights": "medsam", "side": 512, "tokens": "checkpoint"},
        "train": {"steps": 60_000, "rule": "paper"},
    }
    assert changes(parse_config(tree)) == []
    changed = changes(parse_config(tree, ("method.tau=0.9", "train.steps=30000", "train.seed=3")))
    assert [(c.key, c.value, c.paper) for c in changed] == [
        ("method.tau", "0.9", "0.95"),
        ("train.steps", "30,000", "60,000"),
    ]


@pytest.mark.parametrize("name", ["prostate", "fundus", "mnms", "busi"])
def test_the_papers_configs_differ_from_it_by_the_rule_alone(name: str) -> None:
    """And what is ours, or how a machine does the work, is told as such."""
    path = Path(__file__).resolve().parents[2] / "configs" / f"{name}.yaml"
    assert {c.key for c in changes(load_config(path))} == {"train.rule"}
    ours = load_config(path, ("medsam.tokens=object", "medsam.recompute=true", "train.keep=3"))
    assert {c.key: c.paper for c in changes(ours)}["medsam.tokens"] == "checkpoint"
    assert {c.key for c in changes(ours)} == {"train.rule", "medsam.tokens"}


def test_every_key_that_the_report_knows_is_one_of_the_config() -> None:
    """And of a method's own keys supervised training reads the batch alone."""
    keys = set(view._flat(parse_config({"data": {"path": "x"}})))
    known = view.PAPER.keys() | view._NOT_OF_THE_METHOD | view._UNLABELED_ONLY | view._OF_GUIDE
    known |= view._PAPER_WORDS.keys() | {k for own in view.PAPER_BY_SET.values() for k in own}
    assert known - keys == set()
    assert {k for k in keys - view._UNLABELED_ONLY if k.startswith("method.")} == {"method.batch"}


def test_a_guide_is_named_though_it_is_not_trained(make_run: MakeRun) -> None:
    """SemiSAM trains the U-Net alone, but the model that it asks decides what it learns."""
    tree = {"data": {"path": "x", "set": "busi"}, "medsam": {"rank": 8, "lr": 1.0}}
    method = ("method.branches=unet", "medsam.weights=sam-vit-b")
    guided = parse_config(tree, (*method, "method.name=semisam"))
    alone = parse_config(tree, (*method, "method.name=uamt"))
    named = {c.key for c in changes(guided)} - {c.key for c in changes(alone)}
    assert named == {"medsam.weights", "medsam.side"}


def test_checks_name_small_test_sets_empty_predictions_and_unlike_runs(make_run: MakeRun) -> None:
    first, second = make_run("a"), make_run("b", lower=0.1)
    for path, key, value in (
        (second / "metrics.json", "protocol", "paper"),
        (first / "summary.json", "skipped_steps", 2),
    ):
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    metrics = json.loads((first / "metrics.json").read_text())
    for scores in metrics["branches"]["unet"]["student"]["domains"].values():
        scores["patients"] = 5
    (first / "metrics.json").write_text(json.dumps(metrics))
    text = "\n".join(checks(load_views([first, second])))
    few = "few test patients, so wide intervals, and none below 3: Vendor A (5), Vendor B (5)"
    assert few in text
    assert "U-Net 3 of 8" in text
    assert "2 steps were skipped" in text
    assert "differ in the protocol: SynFoC (a) honest, SynFoC (b) paper" in text


def test_runs_of_one_method_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    one, two = tmp_path / "A-10/synfoc/seed1", tmp_path / "B-10/synfoc/seed1"
    assert _told_apart([one, two]) == ["A-10/synfoc/seed1", "B-10/synfoc/seed1"]
    assert _told_apart([one, two / "again"]) == ["seed1", "again"]
    assert _told_apart([one, one]) == ["seed1 1", "seed1 2"]


def test_a_run_is_named_from_inside_it(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_run("mine"))
    [view] = load_views([Path()])
    assert "synfoc train mine/config.yaml" in repeat_html(view)


def test_a_run_that_is_worse_is_said_to_be_below(make_run: MakeRun) -> None:
    """Supervised U-Net 40 - 10 = 30 against SynFoC's MedSAM 70."""
    views = load_views([make_run("b", branches=("unet",), lower=0.1), make_run("a")])
    assert "40.0 points below SynFoC: MedSAM (70.0 %)" in headline(views)


def test_the_report_never_loads_torch() -> None:
    code = (
        "import sys, synfoc.report.page, synfoc.report.pictures;"
        "print('torch' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
