"""Files of a run that were edited or cut: the first wrong value is named, whatever it is."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synfoc.case_tables import CASE_COLUMNS, read_cases
from synfoc.errors import UserError
from synfoc.example_files import load_example
from synfoc.headers import read_header
from synfoc.records import Line, Metrics, Summary, fault, read_record
from synfoc.runs import RunFolder
from synfoc.storage import parse_json, read_json

SCORES = {"cases": 2, "dice": 0.5, "jaccard": None, "hd95": 3, "dice_ci95": [0.25, None]}


def metrics(**changes: Any) -> dict[str, Any]:
    """Scores of one answer in one domain."""
    answer = {"mean_over_domains": SCORES, "domains": {"A": {**SCORES, **changes}}}
    return {"branches": {"unet": {"student": answer}}}


def test_what_is_written_is_accepted() -> None:
    assert fault(metrics(), Metrics) is None
    assert fault({"recommended": None, "calibration": {}, "later": [1]}, Summary) is None
    assert fault({"step": 3, "loss": None, "test": {"unet": {"teacher": 0}}}, Line) is None


@pytest.mark.parametrize(
    ("value", "kind", "key", "found"),
    [
        (metrics(dice="0.5"), Metrics, "branches.unet.student.domains.A.dice", "'0.5'"),
        (metrics(dice=8.5), Metrics, "branches.unet.student.domains.A.dice", "8.5"),
        (metrics(cases=2.5), Metrics, "branches.unet.student.domains.A.cases", "2.5"),
        (metrics(cases=True), Metrics, "branches.unet.student.domains.A.cases", "True"),
        (metrics(cases=None), Metrics, "branches.unet.student.domains.A.cases", "None"),
        (metrics(dice_ci95=[0.1]), Metrics, "branches.unet.student.domains.A.dice_ci95", "[0.1]"),
        ({"branches": {"unet": []}}, Metrics, "branches.unet", "[]"),
        ({"recommended": "nobody"}, Summary, "recommended", "'nobody'"),
        ({"best_step": 2**63}, Summary, "best_step", str(2**63)),
        ({"calibration": {"unet": {"student": {"base": 1}}}}, Summary,
         "calibration.unet.student.expected", "nothing"),
        ({"step": -1}, Line, "step", "-1"),
        ({"step": 1, "alpha": "x"}, Line, "alpha", "'x'"),
        ([], Line, "", "[]"),
    ],
)  # fmt: skip
def test_the_first_value_that_cannot_be_is_named(
    value: Any, kind: type, key: str, found: str
) -> None:
    wrong = fault(value, kind)
    assert wrong is not None
    assert wrong[:2] == (key, found)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"", "an empty file"),
        (b"[1]", "list"),
        (b"\xff{}", "not JSON: 'utf-8' codec"),
        (b'{"a": NaN}', "not JSON: NaN is no finite number"),
        (b'{"a": 1e999}', "not JSON: 1e999 is no finite number"),
        (b'{"a": 1, "b": 2, "a": 3}', "not JSON: the key a stands twice"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON: Exceeds the limit"),
        (b"[" * 100_000, "not JSON: nested too deeply"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    ],
)
def test_text_that_is_no_json_object(tmp_path: Path, text: bytes, found: str) -> None:
    path = tmp_path / "summary.json"
    path.write_bytes(text)
    with pytest.raises(UserError, match=r"cannot read .*summary\.json") as told:
        read_json(path, fix="the fix")
    assert told.value.found.startswith(found)
    assert told.value.fix == ("the fix" if "LFS" not in found else told.value.fix)
    assert ("git lfs pull" in told.value.fix) == ("LFS" in found)


def test_an_editor_of_windows_leaves_its_mark_and_the_file_opens(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf{}")
    assert read_json(tmp_path / "a.json") == parse_json(b"{}") == {}


def test_folder_link_and_nothing_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    found = {}
    for name in ("a folder", "link", "none"):
        with pytest.raises(UserError) as told:
            read_record(tmp_path / name, Summary, "summary", fix="-")
        found[name] = told.value.found
    assert found == {"a folder": "a folder", "link": "no such file", "none": "no such file"}


HEAD = ",".join(CASE_COLUMNS)
ROW = "c,p,d,k,unet,student,0.5,0.3,2,1,px,"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{HEAD}\n{ROW}\n{ROW[:20]}", "line 3 has more or fewer columns"),
        (f"{HEAD}\n{ROW},more\n", "line 2 has more or fewer columns"),
        (f"{HEAD.replace('dice', 'dsc')}\n{ROW}\n", "no column dice"),
        (f"{HEAD}\n{ROW.replace('unet', 'vnet')}\n", "line 2 is of vnet student"),
        (f"{HEAD}\n{ROW.replace('0.3', 'o.3')}\n", "line 2: o.3 is no finite number"),
        (f"{HEAD}\n{ROW.replace('0.3', 'nan')}\n", "line 2: nan is no finite number"),
        (f'{HEAD}\n"{ROW}\n', "unexpected end of data"),
        ("", "an empty file"),
        ("\0\0\0", "no column case"),
    ],
)
def test_a_table_of_cases_that_was_cut_or_edited(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "cases.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=r"cannot read .*cases\.csv") as told:
        read_cases(path, fix="synfoc evaluate RUN")
    assert found in told.value.found
    assert told.value.fix == "synfoc evaluate RUN"


def test_a_table_without_the_newest_column_opens(tmp_path: Path) -> None:
    """Earlier versions did not write `empty`."""
    (tmp_path / "cases.csv").write_text(f"{HEAD.removesuffix(',empty')}\n{ROW[:-1]}\n")
    assert len(read_cases(tmp_path / "cases.csv", fix="-")) == 1
    assert read_cases(tmp_path / "none.csv", fix="-") == []


INFO = {"case": "c", "domain": None, "kind": "best", "dice": {"unet": 0.5}}
GRAY = np.zeros((4, 6), np.uint8)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"label": GRAY[:3]}, "image of shape (4, 6), a label of (3, 6)"),
        ({"label": GRAY.astype(float)}, "label of type float64"),
        ({"unet": GRAY[:, :2]}, "unet of shape (4, 2)"),
        ({"label": GRAY[:0], "image": GRAY[:0]}, "label of shape (0, 6)"),
        ({"image": np.array([{}], object)}, "Object arrays cannot be loaded"),
        ({"info": json.dumps(INFO | {"kind": "odd"})}, "kind = 'odd'"),
        ({"info": json.dumps(INFO | {"dice": {"unet": "much"}})}, "dice.unet = 'much'"),
        ({"info": json.dumps(INFO | {"spacing": [1, 0]})}, "spacing.1 = 0"),
        ({"info": "[]"}, "= []"),
    ],
)
def test_an_example_whose_arrays_do_not_fit(
    tmp_path: Path, changes: dict[str, Any], found: str
) -> None:
    arrays = {"image": GRAY, "label": GRAY, "unet": GRAY, "info": json.dumps(INFO)}
    np.savez(tmp_path / "a.npz", **(arrays | changes))
    with pytest.raises(UserError, match=r"cannot read .*a\.npz") as told:
        load_example(tmp_path / "a.npz")
    assert found in told.value.found


def test_an_example_that_unpacks_to_half_a_gigabyte_is_not_opened(tmp_path: Path) -> None:
    """Two megabytes of zeros, packed."""
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("image.npy", "w") as file,
    ):
        for _ in range(513):
            file.write(bytes(2**20))
    with pytest.raises(UserError) as told:
        load_example(tmp_path / "a.npz")
    assert "more than any picture has" in told.value.found


def test_lines_of_the_log_come_in_order_and_garbage_is_counted(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    good = ['{"step": 20}', '{"step": 10, "loss": 1}', '{"step": 20, "kind": "evaluation"}']
    run.log.write_bytes(
        "\n".join([*good, "[]", '{"step": "x"}', '{"step": 30, "alpha": "y"}']).encode()
        + b"\n\xff\x00\n{" + b'"step": 4'
    )  # fmt: skip
    lines, lost = run.read_log()
    assert [line["step"] for line in lines] == [10, 20, 20]
    assert lines[2]["kind"] == "evaluation"
    assert lost == 4, "a last line without its end is none of them"


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff" * 8 + b"{}", (2).to_bytes(8, "little") + b"{}", b"version https://git-lfs"],
)
def test_a_header_that_lies(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "last.safetensors").write_bytes(data)
    with pytest.raises(UserError) as told:
        read_header(tmp_path / "last.safetensors", fix="the fix")
    assert "last.safetensors" in told.value.what
