"""The data check: what it counts, and what it calls a problem."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from synfoc.config import Data
from synfoc.errors import UserError
from synfoc.images.check import check_data
from synfoc.images.findings import Findings


def write(root: Path, name: str, *, label: object = None, seed: int | None = None) -> None:
    """A 4 x 5 image, different for each name, and a label whose first pixels are given."""
    domain, split, stem = name.split("/")
    rng = np.random.default_rng(seed if seed is not None else list(name.encode()))
    folder = root / domain / split
    (folder / "image").mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(1, 200, (4, 5), dtype=np.uint8)).save(folder / f"image/{stem}.png")
    if label is not None:
        codes = np.zeros(20, np.uint8)
        codes[: len(label)] = label
        (folder / "mask").mkdir(exist_ok=True)
        Image.fromarray(codes.reshape(4, 5)).save(folder / f"mask/{stem}.png")


def check(root: Path, **settings: object) -> Findings:
    return check_data(Data(path=root, **settings))


def sound(root: Path) -> None:
    write(root, "a/train/patient1_s1", label=[1, 1, 2])
    write(root, "a/train/patient1_s2", label=[1])
    write(root, "a/train/patient2_s1")
    write(root, "a/test/patient3_s1", label=[2])
    write(root, "b/train/x")


def test_a_sound_set_by_hand(tmp_path: Path) -> None:
    """Domain a has 60 labeled pixels: 3 of class 1, 2 of class 2."""
    sound(tmp_path)
    calls: list[tuple[int, int]] = []
    found = check_data(
        Data(path=tmp_path), progress=lambda done, total: calls.append((done, total))
    )
    assert found.problems == ()
    assert "2 classes, from 3 labels; name them in data.classes if there are more" in found.notes
    assert not any("data.classes" in note for note in check(tmp_path, classes=("x", "y")).notes)
    assert calls == [(k, 5) for k in range(1, 6)]
    rows = found.rows()
    assert rows[1][:8] == ("a", "train", "3", "2", "3", "2", "4 x 5", "uint8 gray")
    assert [row[:4] for row in rows[2:]] == [("a", "test", "1", "1"), ("b", "train", "1", "0")]
    assert found.class_rows() == [
        ("domain", "background", "class1", "class2"),
        ("a", "91.67 %", "5.00 %", "3.33 %"),
    ]
    assert json.loads(json.dumps(found.to_dict()))["groups"][0]["labeled"] == 2


def test_volumes_count_slices_and_tell_their_spacing(tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    for k, thick in enumerate((3.0, 5.0)):
        volume = nib.Nifti1Image(
            np.full((4, 5, 3), 700 + k, np.int16), np.diag([0.5, 0.5, thick, 1])
        )
        nib.save(volume, tmp_path / f"image/{k}.nii.gz")
    found = check(tmp_path)
    assert found.rows()[1][4:] == (
        "6", "-", "5 x 4", "int16 gray", "3..5 x 0.5 x 0.5", "700..701",
    )  # fmt: skip
    assert any("single value: 2" in note for note in found.notes)


def test_faults_are_listed_and_do_not_stop_the_check(tmp_path: Path) -> None:
    sound(tmp_path)
    (tmp_path / "a/train/image/patient1_s2.png").write_bytes(b"")
    Image.new("L", (2, 2)).save(tmp_path / "a/train/mask/patient1_s1.png")
    found = check(tmp_path)
    assert [fault.case for fault in found.unreadable] == ["a/train/patient1_s2"]
    assert [fault.case for fault in found.unusable_labels] == ["a/train/patient1_s1"]
    first, second = found.problems
    assert first.startswith("images cannot be read: 1.")
    assert "0 bytes" in first
    assert "another size" in second
    assert found.rows()[1][2] == "3"


def test_faults_of_several_kinds_are_told_with_the_fix_of_each(tmp_path: Path) -> None:
    """Two empty files, one of text: the fix of the first is not that of the last."""
    sound(tmp_path)
    for name in ("patient1_s1", "patient1_s2"):
        (tmp_path / f"a/train/image/{name}.png").write_bytes(b"")
    Image.new("L", (1, 1)).save(tmp_path / "b/train/image/x.png")
    problem = check(tmp_path).problems[0]
    assert problem.startswith("images cannot be read: 3. ")
    assert "patient1_s1.png: an empty file (0 bytes); and 1 more. Fix: export or copy" in problem
    assert problem.endswith("x.png: 1 x 1 pixels. Fix: export it again")


def test_a_missing_file_of_a_csv_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path, "a/train/1", label=[1])
    (tmp_path / "set.csv").write_text(
        "image,label\na/train/image/1.png,a/train/mask/1.png\ngone.png,\n"
    )
    (problem,) = check(tmp_path / "set.csv").problems
    assert "gone.png: no such file" in problem


def test_unexplained_codes_are_a_problem_with_the_remap(tmp_path: Path) -> None:
    write(tmp_path, "a/train/1", label=[255])
    (problem,) = check(tmp_path).problems
    assert "class indices 0, 255" in problem
    assert f"255 in {tmp_path / 'a/train/mask/1.png'}" in problem
    assert "--set 'data.remap={255: 1}'" in problem
    assert not any("classes, from" in note for note in check(tmp_path).notes), "not 255 classes"
    (problem,) = check(tmp_path, classes=("lesion",)).problems
    assert "pixel values 0, 255" in problem
    assert check(tmp_path, remap={255: 1}).problems == ()


def test_inverted_labels_are_told_with_the_remap_that_turns_them(tmp_path: Path) -> None:
    """255 everywhere but at one of 20 pixels."""
    write(tmp_path, "a/train/1", label=[255] * 8 + [0] + [255] * 11)
    (problem,) = check(tmp_path).problems
    assert "--set 'data.remap={255: 0, 0: 1}'" in problem
    (problem,) = check(tmp_path, classes=("lesion",)).problems
    assert "--set 'data.remap={255: 0, 0: 1}'" in problem
    found = check(tmp_path, remap={255: 0, 0: 1})
    assert found.class_rows()[1] == ("a", "95.00 %", "5.00 %")


def test_equal_images_and_patients_across_the_split_are_problems(tmp_path: Path) -> None:
    sound(tmp_path)
    write(tmp_path, "b/train/patient7_s1", seed=7)
    write(tmp_path, "b/test/patient7_s2", seed=7)
    write(tmp_path, "b/train/copy", seed=7)
    found = check(tmp_path)
    assert found.duplicates == (("b/train/copy", "b/train/patient7_s1", "b/test/patient7_s2"),)
    assert found.patients_on_both_sides == ("b patient7",)
    assert len(found.problems) == 2


def test_equal_images_on_one_side_are_a_note(tmp_path: Path) -> None:
    write(tmp_path, "a/train/1", label=[1], seed=3)
    write(tmp_path, "b/train/2", seed=3)
    found = check(tmp_path)
    assert found.problems == ()
    assert "equal images on one side of the split: 1" in found.notes


def test_no_labeled_training_image_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path, "a/train/1")
    write(tmp_path, "a/test/2", label=[1])
    (problem,) = check(tmp_path).problems
    assert problem.startswith("no labeled training image")


def test_notes_tell_what_is_worth_knowing(tmp_path: Path) -> None:
    write(tmp_path, "a/train/1", label=[])
    write(tmp_path, "a/train/2", label=[1])
    write(tmp_path, "a/test/3")
    Image.fromarray(np.full((4, 5, 3), 9, np.uint8)).save(tmp_path / "a/train/image/1.png")
    notes = "\n".join(check(tmp_path).notes)
    for part in (
        "labels without any class: 1, e.g. a/train/1",
        "gray all over: 1",
        "single value: 1",
        "without pixel spacing: 3",
        "test images without a label: 1",
        "one domain only",
        "every training image has a label",
    ):
        assert part in notes


def test_classes_that_no_label_shows_are_noted(tmp_path: Path) -> None:
    """Of three named classes the labels show the second; no label at all shows nothing."""
    write(tmp_path, "a/train/1", label=[2])
    named = ("x", "y", "z")
    assert "x, z: in none of the labels (1)" in check(tmp_path, classes=named).notes
    (tmp_path / "a/train/mask/1.png").unlink()
    assert not any("in none" in note for note in check(tmp_path, classes=named).notes)


def test_a_class_of_test_labels_alone_is_noted(tmp_path: Path) -> None:
    write(tmp_path, "a/train/1", label=[1])
    write(tmp_path, "a/test/2", label=[1, 2])
    told = "class2 is only in test labels, in none of the training labels: 1, e.g. a/test/2"
    assert any(note.startswith(told) for note in check(tmp_path).notes)
    write(tmp_path, "a/train/3", label=[2])
    assert not any("only in test labels" in note for note in check(tmp_path).notes)


def test_domains_whose_only_labeled_patient_trains_are_noted(tmp_path: Path) -> None:
    """b has two labeled images of one patient, c one image, a two patients; d has no label."""
    names = ("a/patient1_1", "a/patient2_1", "b/patient1_1", "b/patient1_2", "c/x")
    for name in names:
        write(tmp_path, name.replace("/", "//"), label=[1])
    write(tmp_path, "d//x")
    note = "no test image is held out of b, c: all labels there are of one patient, or one image"
    assert any(line.startswith(note) for line in check(tmp_path).notes)
    assert not any("held out of" in line for line in check(tmp_path, test_fraction=0).notes)
    write(tmp_path, "e/test/y", label=[1])
    assert not any("held out of" in line for line in check(tmp_path).notes)


def test_a_folder_that_holds_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no image in"):
        check(tmp_path)


def test_a_real_set_is_sound(shared_data: Path) -> None:
    assert check(shared_data / "breast_ultrasound").problems == ()


def test_the_published_samples_are_sound_and_far_from_complete(shared_data: Path) -> None:
    found = check(shared_data / "paper_layout" / "ProstateSlice")
    assert found.problems == ()
    assert "RUNMC: 1 training images; the published set has 338" in found.notes
    assert found.layout == "published layout of the prostate set"


def test_equal_bytes_of_another_shape_are_another_image(tmp_path: Path) -> None:
    """20 pixels of one value, 4 x 5 in training and 5 x 4 in test."""
    for split, shape in (("train", (4, 5)), ("test", (5, 4))):
        folder = tmp_path / "a" / split / "image"
        folder.mkdir(parents=True)
        Image.fromarray(np.full(shape, 7, np.uint8)).save(folder / "x.png")
    assert check(tmp_path).duplicates == ()


def test_an_image_on_both_sides_is_no_harmless_one(tmp_path: Path) -> None:
    """One pair in training, another across the split: each is told once."""
    write(tmp_path, "a/train/1", label=[1], seed=3)
    write(tmp_path, "a/train/2", seed=3)
    write(tmp_path, "a/train/3", seed=4)
    write(tmp_path, "a/test/4", seed=4)
    found = check(tmp_path)
    assert found.duplicates == (("a/train/3", "a/test/4"),)
    assert "equal images on one side of the split: 1" in found.notes


def test_shares_of_nested_classes_are_of_what_lies_between_their_outlines(tmp_path: Path) -> None:
    """One pixel of 20 is cup, three are the disc without it."""
    write(tmp_path, "a/train/1", label=[1, 2, 2, 2])
    assert check(tmp_path, classes=("cup", "disc"), nested=True).class_rows() == [
        ("domain", "background", "cup", "disc without cup"),
        ("a", "80.00 %", "5.00 %", "15.00 %"),
    ]
