"""Codes that are no classes: which files are named, and when a remap is suggested."""

from __future__ import annotations

from pathlib import Path

from synfoc.images.codes import PLAIN, class_gap, missing_fix, odd_fix
from synfoc.images.paper_sets import Decode

NONE = Decode()


def labels(*codes: set[int]) -> list[tuple[Path, set[int]]]:
    """Labels 0.png, 1.png, ..."""
    return [(Path(f"{k}.png"), one) for k, one in enumerate(codes)]


def test_indices_without_a_gap_are_sound() -> None:
    assert class_gap(labels({0, 2}, {0}, {0, 1}), NONE) is None
    gap = class_gap(labels({0}, {0}), NONE)
    assert gap is not None
    assert gap[0] == "background only"


def test_a_few_codes_in_most_labels_are_remapped_in_order() -> None:
    """Black and white; three grays; and 5 beside 1, twice of three labels."""
    for codes, remap in (
        ([{0, 255}, {0, 255}], "{255: 1}"),
        ([{0, 85, 170, 255}, {0, 85}], "{85: 1, 170: 2, 255: 3}"),
        ([{0, 1, 5}, {0, 1, 5}, {1}], "{5: 2}"),
    ):
        gap = class_gap(labels(*codes), NONE)
        assert gap is not None
        assert gap[1].startswith(f"add --set 'data.remap={remap}', or name all classes")


def test_odd_codes_of_one_label_in_twelve_are_a_mistake_there() -> None:
    """Grays in one file beside 1, 2, 3 in the others: a remap to 4, 5, 6 would be wrong."""
    gap = class_gap(labels(*[{0, 1, 2, 3}] * 5, {0, 85, 170, 255}, *[{0, 1, 2, 3}] * 6), NONE)
    assert gap is not None
    found, fix = gap
    assert found == (
        "class indices 0, 1, 2, 3, 85, 170, 255, in 1 of 12 labels; 85, 170, 255 in 5.png"
    )
    assert (
        fix == f"correct the files with these codes ({PLAIN}), or name all classes in data.classes"
    )


def test_two_ways_to_write_one_class_are_no_two_classes() -> None:
    """Half of the labels hold 1, half 255, none both."""
    gap = class_gap(labels({0, 1}, {0, 255}), NONE)
    assert gap is not None
    assert gap[1].startswith("correct the files")


def test_a_lossy_label_gets_no_remap_of_every_code() -> None:
    """170 codes; the first three are named, each by its first file."""
    gap = class_gap(labels({0, 4}, {0, *range(4, 174)}), NONE)
    assert gap is not None
    found, fix = gap
    assert found.startswith("class indices 0, 4, 5, 6, 7, 8, 9, 10, ... (171 values), in 2 of 2")
    assert found.endswith("4 in 0.png; 5, 6 in 1.png")
    assert fix == f"correct the files with these codes ({PLAIN})"


def test_a_suggested_remap_keeps_the_one_that_is_set() -> None:
    """128 is 2 already; 255 shall be background."""
    rule = Decode(((128, 2),))
    assert odd_fix({0, 1, 2, 255}, 2, rule) == (
        "add --set 'data.remap={128: 2, 255: 0}' (evaluation of a run's own data: data.remap in "
        "its config.yaml), "
        "or correct the file"
    )


def test_many_codes_or_codes_below_0_get_no_remap() -> None:
    for codes in ({0, *range(1, 30)}, {-1, 0, 1}):
        assert odd_fix(codes, 2, NONE) == f"correct the file: {PLAIN}"


def test_the_next_index_is_a_class_that_nobody_has_named() -> None:
    """Trained on labels of 1 and 2; a test label holds 3: to remap it to 0 would hide a class."""
    fix = missing_fix({0, 1, 3}, ("class1", "class2"), "the remap")
    assert fix == (
        "if 3 is a class that no labeled image shows, name all and train again: "
        "--set 'data.classes=[class1,class2,class3]'; else the remap"
    )
    for present, classes in (
        ({0, 1, 255}, ("class1", "class2")),
        ({0, 4}, ("class1", "class2")),
        ({-1, 3}, ("class1", "class2")),
        ({0, 1, 3}, ("cup", "disc")),
    ):
        assert missing_fix(present, classes, "the remap") == "the remap"
