"""One file per class: columns `label:NAME` of a CSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synfoc.batches.split import load_split, make_split, save_split
from synfoc.config import Data, Labeled
from synfoc.errors import UserError
from synfoc.images.cases import load_cases, load_label
from synfoc.images.check import check_data

DISC = np.zeros((6, 8), np.uint8)
DISC[1:5, 1:7] = 255
CUP = np.zeros((6, 8), np.uint8)
CUP[2:4, 3:5] = 255
BOTH = (DISC > 0).astype(np.uint8) + (CUP > 0)
"""0, 1 disc, 2 cup: the cup lies within the disc."""


def write(root: Path, table: str, **files: np.ndarray) -> Path:
    for name, pixels in {"x": np.arange(48, dtype=np.uint8).reshape(6, 8), **files}.items():
        Image.fromarray(pixels).save(root / f"{name}.png")
    (root / "cases.csv").write_text(table)
    return root / "cases.csv"


def labels_of(path: Path, **settings: object) -> np.ndarray:
    table = load_cases(Data.model_validate({"path": path, **settings}))
    return load_label(table.cases[0], table).pixels[0]


@pytest.mark.parametrize(
    ("columns", "cells", "disc", "cup"),
    [("label:disc,label:cup", "d.png,c.png", 1, 2), ("Label: cup;LABEL:disc", "c.png;d.png", 2, 1)],
)
def test_columns_number_the_classes_and_the_smaller_file_is_on_top(
    tmp_path: Path, columns: str, cells: str, disc: int, cup: int
) -> None:
    separator = ";" if ";" in columns else ","
    path = write(tmp_path, f"image{separator}{columns}\nx.png{separator}{cells}\n", d=DISC, c=CUP)
    expected = np.choose(BOTH, (0, disc, cup))
    assert np.array_equal(labels_of(path), expected)
    classes = load_cases(Data(path=path)).classes
    assert classes == (("disc", "cup") if disc == 1 else ("cup", "disc"))


def test_the_classes_of_a_nested_set_go_from_the_inside_to_the_outside(tmp_path: Path) -> None:
    """The cup, of 4 pixels, is on top of its disc; before it the disc would be called cup."""
    header = "image,label:cup,label:disc"
    path = write(tmp_path, f"{header}\nx.png,c.png,d.png\n", d=DISC, c=CUP)
    inner_first = np.choose(BOTH, (0, 2, 1))
    assert np.array_equal(labels_of(path, nested=True), inner_first)
    assert np.array_equal(labels_of(path), inner_first)
    path.write_text("image,label:disc,label:cup\nx.png,d.png,c.png\n")
    with pytest.raises(UserError, match="from the inside to the outside") as refused:
        labels_of(path, nested=True)
    assert refused.value.fix.startswith("put the column label:cup before label:disc")


def test_in_a_nested_set_the_earlier_class_is_on_top_though_it_is_larger(tmp_path: Path) -> None:
    """A disc of 2 columns of pixels, drawn too small for its cup of 3: part 1 is the whole cup."""
    cup, disc = np.zeros((6, 8), np.uint8), np.zeros((6, 8), np.uint8)
    cup[:, 2:5] = disc[:, 4:6] = 255
    path = write(tmp_path, "image,label:cup,label:disc\nx.png,c.png,d.png\n", d=disc, c=cup)
    assert labels_of(path, nested=True)[0].tolist() == [0, 0, 1, 1, 1, 2, 0, 0]
    assert labels_of(path)[0].tolist() == [0, 0, 1, 1, 2, 2, 0, 0]


@pytest.mark.parametrize("start", ["mask", "Segmentation", "labels"])
def test_a_column_of_a_class_is_called_like_one_of_labels(tmp_path: Path, start: str) -> None:
    path = write(tmp_path, f"image,{start}:cup\nx.png,c.png\n", c=CUP)
    assert np.array_equal(labels_of(path), CUP > 0)
    path.write_text(f"image,{start}_cup\nx.png,c.png\n")
    (note, *_) = load_cases(Data(path=path)).notices
    assert note == f"columns that are not read: {start}_cup (did you mean label:cup?)"


def test_an_empty_cell_is_a_class_that_is_not_there(tmp_path: Path) -> None:
    """With no cell filled the image is unlabeled."""
    table = "image,label:disc,label:cup\nx.png,,c.png\ny.png,,\n"
    path = write(tmp_path, table, c=CUP, y=DISC)
    assert np.array_equal(labels_of(path), 2 * (CUP > 0))
    assert [bool(case.labels) for case in load_cases(Data(path=path)).cases] == [True, False]


def test_files_of_one_class_are_joined_and_names_of_the_config_number_them(tmp_path: Path) -> None:
    """Two lesions in a file each; data.classes has the class second."""
    other = np.roll(CUP, 3, axis=1)
    path = write(tmp_path, "image,label:lesion\nx.png,a.png|b.png\n", a=CUP, b=other)
    both = (CUP > 0) | (other > 0)
    assert np.array_equal(labels_of(path), both)
    assert np.array_equal(labels_of(path, classes=["organ", "lesion"]), 2 * both)


def test_overlaps_and_files_merged_into_one_class_are_noted(tmp_path: Path) -> None:
    path = write(tmp_path, "image,label:disc,label:cup\nx.png,d.png,c.png\n", d=DISC, c=CUP)
    assert any("overlap" in note for note in check_data(Data(path=path)).notes)
    merged = write(tmp_path, "image,label\nx.png,d.png|c.png\n", d=DISC // 255, c=CUP // 255)
    notes = check_data(Data(path=merged)).notes
    assert any("columns label:NAME: 1, e.g. x" in note for note in notes)
    apart = write(tmp_path, "image,label\nx.png,d.png|c.png\n", d=DISC // 255, c=CUP // 127)
    assert not any("label:NAME" in note for note in check_data(Data(path=apart)).notes)


@pytest.mark.parametrize(
    ("table", "settings", "told"),
    [
        ("image,label,label:cup\nx.png,c.png,c.png\n", {}, "the column label beside label:cup"),
        ("image,label:cup,label: cup\nx.png,c.png,c.png\n", {}, "two columns for label:cup"),
        ("image,label:cup\nx.png,c.png\n", {"remap": {255: 1}}, "data.remap has no meaning"),
        ("image,label:cup\nx.png,c.png\n", {"classes": ["disc"]}, "label:cup is of no class"),
        ("image,label:cup\nx.png,d.png\n", {}, "the codes 7, 255"),
        ("image,label:cup,label:Cup\nx.png,c.png,c.png\n", {}, "two columns for label:cup"),
        ("image,label:a,label:b\nx.png,c.png,c.png\n", {}, "one file for a and b: c.png"),
        ("image,label:background\nx.png,c.png\n", {}, "leave out its column"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, table: str, settings: dict[str, object], told: str
) -> None:
    path = write(tmp_path, table, c=CUP, d=np.maximum(DISC, np.uint8(7)))
    with pytest.raises(UserError) as refused:
        labels_of(path, **settings)
    assert told in str(refused.value)


def test_a_run_remembers_the_class_of_each_file(tmp_path: Path) -> None:
    path = write(tmp_path, "image,label:disc,label:cup\nx.png,d.png,c.png\n", d=DISC, c=CUP)
    data = Data(path=path, labeled=Labeled(count=1))
    table = load_cases(data)
    split = make_split(table, data)
    save_split(tmp_path / "split.json", split, table)
    again = load_split(tmp_path / "split.json")
    assert again == split
    assert np.array_equal(load_label(again.labeled[0], table).pixels[0], BOTH)
