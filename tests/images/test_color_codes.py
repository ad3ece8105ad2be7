"""Labels in colors: how they become classes, and what is said of colors that nobody explained."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from synfoc.config import Data, changed, parse_config
from synfoc.errors import UserError
from synfoc.images.cases import load_cases, load_label
from synfoc.images.check import check_data
from synfoc.images.codes import remapping
from synfoc.images.color_codes import UnknownColors
from synfoc.images.paper_sets import Decode

INDICES = np.zeros((6, 8), np.uint8)
INDICES[1:3, 1:4] = 1
INDICES[4:, 5:] = 2
PALETTE = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
RED_BLUE = {"#ff0000": 1, "#0000ff": 2}


def pair(root: Path, label: np.ndarray | Image.Image, name: str = "a.png") -> None:
    rng = np.random.default_rng(list(name.encode()))
    for folder in ("image", "mask"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    stem = name.partition(".")[0]
    Image.fromarray(rng.integers(0, 255, (6, 8), np.uint8)).save(root / f"image/{stem}.png")
    label = label if isinstance(label, Image.Image) else Image.fromarray(label)
    label.save(root / "mask" / name)


def classes(root: Path, **settings: object) -> np.ndarray:
    table = load_cases(Data(path=root, **settings))
    return load_label(table.cases[0], table).pixels[0]


def palette(indices: np.ndarray, colors: np.ndarray) -> Image.Image:
    picture = Image.fromarray(indices).convert("P")
    picture.putpalette(colors.ravel().tolist())
    return picture


@pytest.mark.parametrize(
    "colors",
    [
        RED_BLUE,
        {"#F00": "1", "#0000FF": 2},
        {"#ff0000": "cup", "#0000ff": "disc"},
        {"cup": "#ff0000", "disc": ["#0000ff", "#00ff00"]},
        {1: "#ff0000", 2: "#00f"},
        {"background": "#000000", "cup": "#ff0000", "disc": "#0000ff"},
    ],
)
def test_colors_become_classes_however_they_are_written(
    tmp_path: Path, colors: Mapping[object, object]
) -> None:
    pair(tmp_path, PALETTE[INDICES])
    named = classes(tmp_path, colors=colors, classes=("cup", "disc"))
    assert np.array_equal(named, INDICES)


def test_colors_name_the_classes_where_nothing_else_does(tmp_path: Path) -> None:
    pair(tmp_path, PALETTE[INDICES])
    table = load_cases(Data(path=tmp_path, colors={"rim": "#0000ff", "cup": "#ff0000"}))
    assert table.classes == ("rim", "cup")
    assert np.array_equal(load_label(table.cases[0], table).pixels[0], (INDICES * 2) % 3)


def test_a_palette_and_rgb_of_one_label_are_the_same(tmp_path: Path) -> None:
    """Whatever the indices of the palette are; without data.colors they are the classes."""
    turned = palette(2 - INDICES, PALETTE[::-1])
    pair(tmp_path, turned)
    assert np.array_equal(classes(tmp_path, colors=RED_BLUE), INDICES)
    assert np.array_equal(classes(tmp_path), 2 - INDICES)
    pair(tmp_path, turned.convert("RGB"))
    assert np.array_equal(classes(tmp_path, colors=RED_BLUE), INDICES)


def test_gray_files_beside_colors_go_by_their_codes_and_the_remap(tmp_path: Path) -> None:
    """White named as a class is 1; 128 is what the remap says; an empty label is background."""
    pair(tmp_path, INDICES * np.uint8(100))
    settings = {"remap": {200: 2}, "colors": {"#646464": 1, "#ff0000": 1}}
    assert np.array_equal(classes(tmp_path, **settings), INDICES)
    pair(tmp_path, np.zeros((6, 8, 3), np.uint8))
    assert not classes(tmp_path, colors=RED_BLUE).any()
    pair(tmp_path, np.full((6, 8, 3), 255, np.uint8))
    assert (classes(tmp_path, colors={"#ffffff": 1}) == 1).all()


def test_16_bit_colors_that_are_8_bit_ones_are_those(tmp_path: Path) -> None:
    codes = PALETTE[INDICES][None].astype(np.uint16) * 257
    rule = Decode(colors=((0xFF0000, 1), (0x0000FF, 2)))
    assert np.array_equal(rule(codes)[0], INDICES)
    with pytest.raises(UserError, match="colors of more than 8 bits"):
        rule(codes - (codes > 0))


def setting(fix: str) -> dict[str, object]:
    """The settings of a fix as a shell and YAML read them."""
    tree: dict[str, object] = {}
    for change in re.findall(r"--set '(.+?)'", fix):
        tree = changed(tree, change)
    found = tree["data"]
    assert isinstance(found, dict)
    return found


def test_unknown_colors_are_counted_and_the_mapping_works_when_pasted(tmp_path: Path) -> None:
    """6 pixels of each color, 36 black; a second label has more blue, and red again."""
    pair(tmp_path, PALETTE[INDICES])
    more = INDICES.copy()
    more[0, :] = 2
    pair(tmp_path, PALETTE[more], "b.png")
    with pytest.raises(UnknownColors) as caught:
        classes(tmp_path)
    error = caught.value
    assert error.what == f"mask {tmp_path / 'mask/a.png'}: the label map is in colors"
    assert error.found == "#000000 36 px, #0000ff 6 px, #ff0000 6 px"
    assert setting(error.fix) == {"colors": {"#0000ff": 1, "#ff0000": 2}}
    problem = next(text for text in check_data(Data(path=tmp_path)).problems if "colors" in text)
    assert setting(problem) == {"colors": {"#0000ff": 1, "#ff0000": 2}}
    assert check_data(Data(path=tmp_path, **setting(problem))).problems == ()


def test_the_mapping_grows_and_keeps_what_is_set(tmp_path: Path) -> None:
    pair(tmp_path, PALETTE[INDICES])
    with pytest.raises(UnknownColors) as caught:
        classes(tmp_path, colors={"#ff0000": 1})
    assert "colors that data.colors does not name" in caught.value.what
    assert caught.value.found == "#0000ff 6 px"
    assert setting(caught.value.fix) == {"colors": RED_BLUE}
    assert np.array_equal(classes(tmp_path, **setting(caught.value.fix)), INDICES)


def test_a_color_around_all_is_background_where_nothing_is_black(tmp_path: Path) -> None:
    white = PALETTE.copy()
    white[0] = 255
    pair(tmp_path, white[INDICES])
    with pytest.raises(UnknownColors) as caught:
        classes(tmp_path)
    fix = setting(caught.value.fix)
    assert fix == {"colors": {"#ffffff": 0, "#0000ff": 1, "#ff0000": 2}}
    assert (classes(tmp_path, **fix) == 0).sum() == 36


def test_smoothed_edges_get_no_mapping(tmp_path: Path) -> None:
    """A red square of 40 x 40, about halved with smoothing: darker reds at its rim."""
    large = np.zeros((96, 128, 3), np.uint8)
    large[21:61, 33:73, 0] = 255
    small = Image.fromarray(large).resize((61, 45), Image.Resampling.BICUBIC)
    colors = len(small.getcolors(9999))
    pair(tmp_path, small)
    Image.fromarray(np.zeros((45, 61), np.uint8)).save(tmp_path / "image/a.png")
    for known in (None, {"#ff0000": 1}):
        with pytest.raises(UnknownColors) as caught:
            classes(tmp_path, colors=known)
        between = re.match(r"(\d+) of (\d+) colors lie between others: smoothed", caught.value.fix)
        assert between
        assert int(between[2]) == colors
        assert int(between[1]) > colors - 6
        assert "--set" not in caught.value.fix


def test_a_jpeg_label_in_colors_is_told_to_be_png(tmp_path: Path) -> None:
    pair(tmp_path, PALETTE[INDICES], "a.jpg")
    with pytest.raises(UnknownColors) as caught:
        classes(tmp_path)
    assert caught.value.fix == "save labels as PNG: JPEG changes pixel values"


def test_a_gap_between_classes_of_colors_is_closed_in_the_colors(tmp_path: Path) -> None:
    pair(tmp_path, PALETTE[INDICES])
    found = check_data(Data(path=tmp_path, colors={"#ff0000": 1, "#0000ff": 3}))
    assert setting(found.problems[0]) == {"colors": {"#ff0000": 1, "#0000ff": 2}}
    rule = Decode(((7, 3),), colors=((0xFF0000, 5),))
    assert remapping({3, 5}, 255, rule) == (
        "--set 'data.remap={7: 1, 3: 1}' --set 'data.colors={\"#ff0000\": 2}'"
    )


@pytest.mark.parametrize(
    ("colors", "expected"),
    [
        ("red", "each color in quotes"),
        ({"red": 1}, "each color in quotes"),
        ({"cup": None}, "each color in quotes"),
        ({"#ff000": 1}, "each color in quotes"),
        ({"#ff0000": 300}, "class indices from 0 to 255"),
        ({"cup": "#f00", "disc": "#ff0000"}, "one class for each color; #ff0000 has two"),
    ],
)
def test_colors_that_cannot_be_meant(colors: object, expected: str) -> None:
    """In YAML {cup: #f00} has nothing behind the colon, since # begins a comment."""
    with pytest.raises(UserError, match=r"data\.colors") as caught:
        parse_config({"data": {"path": "x", "colors": colors}})
    assert expected in caught.value.expected


def test_a_color_of_a_name_that_is_no_class(tmp_path: Path) -> None:
    pair(tmp_path, PALETTE[INDICES])
    with pytest.raises(UserError, match="#ff0000 stands for no class") as caught:
        classes(tmp_path, colors={"#ff0000": "cop"}, classes=("cup",))
    assert (caught.value.found, caught.value.expected) == ("cop", "cup")


def test_colors_go_before_the_codes_of_a_published_set(tmp_path: Path) -> None:
    folder = tmp_path / "Domain1/train/ROIs"
    pair(folder, PALETTE[INDICES])
    settings = {"set": "fundus", "colors": RED_BLUE}
    assert np.array_equal(classes(tmp_path, **settings), INDICES)


def test_a_config_keeps_the_colors_and_an_old_one_has_none() -> None:
    """As color -> class, so that YAML reads back what was meant."""
    config = parse_config({"data": {"path": "x", "colors": {"cup": "#F00"}}})
    text = yaml.safe_dump(config.model_dump(mode="json"))
    again = parse_config(yaml.safe_load(text))
    assert again.data.colors == config.data.colors == {"#ff0000": "cup"}
    old = config.model_dump(mode="json")
    del old["data"]["colors"]
    assert parse_config(old).data.colors is None
