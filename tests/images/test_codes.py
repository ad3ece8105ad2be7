"""Codes that are no classes: which files are named, and when a remap is suggested."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from synfoc.images.codes import PLAIN, class_gap, missing_fix, odd_fix, outside
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


def test_outside_is_what_fills_more_than_half_of_the_border() -> None:
    """Of 4 x 4 pixels the edges are 4 times 4: 9 of them, then 8."""
    label = np.zeros((1, 4, 4), np.uint8)
    label[0, 0], label[0, :2, 0] = 255, 255
    assert outside(label) == 0, "4 + 2 + 1 of 16"
    label[0, :, 0] = 255
    assert outside(label) == 255, "4 + 4 + 1 + 1 of 16"
    label[0, 0, 3] = 7
    assert outside(label) == 0, "8 of 16"


def test_inverted_labels_get_the_remap_that_turns_them() -> None:
    """255 around the structure in two of three labels; with 128 as a second structure; in one."""
    for codes, around, change in (
        ([{0, 255}, {0, 255}, {0, 255}], [255, 255, 0], "{255: 0, 0: 1}"),
        ([{0, 128, 255}] * 2, [255, 255], "{255: 0, 0: 1, 128: 2}"),
        ([{255}], [255], "{255: 0, 0: 1}"),
    ):
        gap = class_gap(labels(*codes), NONE, around)
        assert gap is not None
        assert gap[1].startswith(
            "255 fills the border, the labels look inverted: if it is background, add "
            f"--set 'data.remap={change}'; else add --set 'data.remap="
        )
    gap = class_gap(labels({0, 255}, {0, 255}), NONE, [255, 0])
    assert gap is not None
    assert gap[1].startswith("add --set 'data.remap={255: 1}'"), "half of the labels is not most"
    assert odd_fix({0, 255}, 1, NONE, 255).startswith("255 fills the border")
    assert odd_fix({0, 1, 200}, 1, NONE, 200).startswith("add --set 'data.remap={200: 0}'")


def test_0_is_told_only_where_it_is() -> None:
    gap = class_gap(labels({255}, {255}), NONE)
    assert gap is not None
    assert gap[0].startswith("class indices 255, in 2 of 2 labels")


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
    """128 is 2 already; 200 shall be background."""
    rule = Decode(((128, 2),))
    assert odd_fix({0, 1, 2, 200}, 2, rule) == (
        "add --set 'data.remap={128: 2, 200: 0}' (evaluation of a run's own data: data.remap in "
        "its config.yaml), "
        "or correct the file"
    )


def test_many_codes_or_codes_below_0_get_no_remap() -> None:
    for codes in ({0, *range(1, 30)}, {-7, 0, 1}):
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


def test_codes_in_half_of_the_labels_are_a_class() -> None:
    """5 lies beside 1 in one label of two; in one of three it is a mistake there."""
    gap = class_gap(labels({0, 1, 5}, {0, 1}), NONE)
    assert gap is not None
    assert gap[1].startswith("add --set 'data.remap={5: 2}'")
    gap = class_gap(labels({0, 1, 5}, {0, 1}, {1}), NONE)
    assert gap is not None
    assert gap[1].startswith("correct the files")


def test_eight_codes_may_be_classes_and_nine_are_compression() -> None:
    eight, nine = ({0, *range(10, 10 + count)} for count in (8, 9))
    gap = class_gap(labels(eight), NONE)
    assert gap is not None
    assert gap[1].startswith("add --set 'data.remap={10: 1, 11: 2, ")
    gap = class_gap(labels(nine), NONE)
    assert gap is not None
    assert gap[1] == f"correct the files with these codes ({PLAIN})"


def test_an_ignore_code_is_told_as_what_it_is() -> None:
    """255 beside class 1, or -1 as PyTorch's losses have it: neither a class nor background.

    The advice is what can be done today; 255 alone is a binary mask.
    """
    gap = class_gap(labels({0, 1, 255}, {0, 1}, {0, 1}), NONE)
    assert gap is not None
    for fix in (gap[1], odd_fix({0, 1, 255}, 1, NONE), odd_fix({0, 1, 2, 255}, 2, NONE)):
        assert fix.startswith(
            "255 looks like an ignore code (pixels that nobody decided); pixels cannot be ignored "
            "yet. Remove the labels of these images"
        )
    assert gap[1].endswith(
        "If it is background, add --set 'data.remap={255: 0}'; if it is a class, add --set "
        "'data.remap={255: 2}'"
    )
    assert odd_fix({0, 1, -1}, 255, NONE).startswith("-1 looks like an ignore code")
    for codes in ({0, 255}, {0, 128, 255}, {255}):
        assert "ignore" not in odd_fix(codes, 1, NONE)
        gap = class_gap(labels(codes), NONE)
        assert gap is not None
        assert "ignore" not in gap[1]
