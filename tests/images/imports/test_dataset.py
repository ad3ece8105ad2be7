"""What holds for every source: all or nothing, cases.csv, the command line."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from synfoc import cli
from synfoc.config import Data
from synfoc.errors import UserError
from synfoc.images.cases import load_cases, load_label
from synfoc.images.check import check_data
from synfoc.images.imports import dataset
from synfoc.images.imports.dataset import import_data
from synfoc.images.imports.exams import Exam, Found
from synfoc.images.imports.splits import sides
from synfoc.images.paper_sets import BUSI, MNMS, PROSTATE


def unopened(domain: str, patient: str) -> Exam:
    """An exam that must not be loaded."""
    return Exam(domain, patient, lambda: pytest.fail("loaded"), patient)


@pytest.mark.parametrize("name", ["prostate", "mnms", "fundus", "busi"])
@pytest.mark.parametrize("split", ["paper", "patient"])
def test_what_is_written_has_no_problem(
    name: str, split: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Read back as training would: sizes, codes, patients on one side."""
    source = request.getfixturevalue(name)
    made = import_data(name, source, tmp_path / "new", split=split)  # type: ignore[arg-type]
    known = made.known
    data = Data(path=made.out, classes=known.classes, nested=known.nested)
    findings = check_data(data)
    assert not findings.unreadable
    assert not findings.unusable_labels
    assert not findings.patients_on_both_sides
    assert findings.layout == "CSV cases.csv"
    header = (made.out / "cases.csv").read_text().partition("\n")[0]
    assert header == "image,label,domain,split,patient,spacing"
    assert sum(group.cases for group in findings.groups) == len(made.rows)


@pytest.mark.parametrize("name", ["prostate", "mnms", "fundus", "busi"])
@pytest.mark.parametrize("split", ["paper", "patient"])
def test_the_configs_of_the_paper_read_what_is_written(
    name: str, split: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """With data.set, too, labels are class indices: published codes would invert the prostate."""
    source = request.getfixturevalue(name)
    made = import_data(name, source, tmp_path / "new", split=split)  # type: ignore[arg-type]
    plain = load_cases(Data(path=made.out, classes=made.known.classes, nested=made.known.nested))
    named = load_cases(Data(path=made.out, set=name))  # type: ignore[arg-type]
    assert named.cases == plain.cases
    assert (named.classes, named.nested, named.layout) == (
        plain.classes, plain.nested, "CSV cases.csv",
    )  # fmt: skip
    assert named.paper == made.known
    for case in named.cases:
        if case.labels:
            label = load_label(case, named).pixels
            assert np.array_equal(label, load_label(case, plain).pixels)
            assert label.any()
            assert not label[:, 0, 0].any()
    findings = check_data(Data(path=made.out, set=name))  # type: ignore[arg-type]
    assert not findings.unusable_labels


def test_a_folder_in_the_way(busi: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    assert import_data("busi", busi, tmp_path / "new").count("train") == 14
    with pytest.raises(UserError, match="in the way"):
        import_data("busi", busi, tmp_path / "new")
    with pytest.raises(UserError, match="seed"):
        import_data("busi", busi, tmp_path / "other", seed=-1)


def test_two_exams_of_one_name_are_refused(
    busi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a source is found to hold, no picture is written over another."""
    twins = Found(BUSI, (unopened("benign", "a"), unopened("benign", "a")), {}, "")
    monkeypatch.setitem(dataset.FINDERS, "busi", lambda _: twins)
    with pytest.raises(UserError, match="have one name") as caught:
        import_data("busi", busi, tmp_path / "new")
    assert caught.value.found == "benign/a"
    assert not (tmp_path / "new").exists()


def test_a_full_disk_leaves_nothing(
    busi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dataset, "write_exam", full)
    with pytest.raises(UserError, match="could not be written") as caught:
        import_data("busi", busi, tmp_path / "new")
    assert "No space left" in caught.value.found
    assert [path.name for path in tmp_path.iterdir()] == [busi.parent.name]


def test_ctrl_c_leaves_nothing(busi: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int, name: str) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_data("busi", busi, tmp_path / "new", progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == [busi.parent.name]


def test_the_numbers_of_the_paper_come_out_of_the_rules() -> None:
    """Of whole originals: BUSI 350 and 168 images, M&Ms 76, 100, 40, 40 patients train.

    76, 100, 40 and 40 are the numbers with which the names of the published test slices begin.
    Prostate: 10, 24, 10, 15, 24, 10 volumes, 80 % of 12, 30, 12, 19, 30, 13.
    """
    for name, known, training in (
        ("busi", BUSI, [350, 168]),
        ("mnms", MNMS, [76, 100, 40, 40]),
        ("prostate", PROSTATE, [10, 24, 10, 15, 24, 10]),
    ):
        module = sys.modules[f"synfoc.images.imports.{name}"]
        for domain, count in zip(known.domains, training, strict=True):
            exams = [unopened(domain, f"p{k:03d}") for k in range(module.HANDED_OUT[domain])]
            assert sides(exams, known, "paper", 0) == ["train"] * count + ["test"] * (
                len(exams) - count
            )


def test_another_domain_does_not_change_the_split_of_this_one() -> None:
    few = [unopened("UCL", f"p{k}") for k in range(9)]
    more = [unopened("BMC", f"p{k}") for k in range(7)]
    assert sides([*more, *few], PROSTATE, "patient", 4)[7:] == sides(few, PROSTATE, "patient", 4)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["synfoc", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_the_command(
    fundus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "new set"
    assert run(monkeypatch, "data", "import", "fundus", fundus, out) == 0
    text = capsys.readouterr()
    assert f"8 training and 4 test images -> {out}" in text.out
    assert "--set 'data.classes=[cup,disc]' --set data.nested=true" in text.out
    assert "synfoc: note: training images, in brackets those of the paper: Domain1 2 (50)" in (
        text.err
    )
    settings = ("--set", "data.classes=[cup,disc]", "--set", "data.nested=true")
    assert run(monkeypatch, "data", "check", out, *settings) == 1  # the eyes are all the same
    assert "images equal on both sides" in capsys.readouterr().out


def test_a_missing_domain_is_refused_with_what_helps(
    fundus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The fix is what it says: the same command with --split patient writes what there is."""
    shutil.rmtree(fundus / "Domain3")
    (fundus / "Domain4").rename(fundus / "REFUGE")
    words = ("data", "import", "fundus", fundus, tmp_path / "new")
    assert run(monkeypatch, *words) == 2
    text = capsys.readouterr().err
    assert "the paper's split of the fundus set needs all of its domains" in text
    found = "no labeled original of Domain3, Domain4; folders in"
    assert f"found     {found} {fundus}: Domain1, Domain2, REFUGE" in text
    assert "complete the download, or --split patient" in text
    assert not (tmp_path / "new").exists()
    assert run(monkeypatch, *words, "--split", "patient") == 0
    assert "Domain3 0 (400), Domain4 0 (400)" in capsys.readouterr().err


def test_the_command_refuses_with_status_2(
    fundus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, "data", "import", "prostate", fundus, tmp_path / "new") == 2
    text = capsys.readouterr().err
    assert "is not the prostate set as it is handed out" in text
    assert "found     Domain1, Domain2, Domain3, Domain4" in text
    assert not (tmp_path / "new").exists()
