"""The colors of labels as a user writes them, and the class that each stands for.

`data.colors` goes either way: {"#ff0000": 1}, {"#ff0000": "cup"}, {"cup": "#ff0000"} or
{"cup": ["#ff0000", "#f00000"]}. It is kept as color -> class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from synfoc.errors import UserError

HOW = "colors and classes, e.g. {'#ff0000': 1} or {cup: '#ff0000'}, each color in quotes"
"""In YAML a # without quotes begins a comment."""
HIGHEST = 255

Named = dict[str, int | str]
"""Color as "#rrggbb" -> class, by its index or its name."""


def color_number(text: str) -> int | None:
    """Return the color 0xrrggbb of "#rrggbb" or "#rgb"; None where the text is none."""
    if not re.fullmatch(r"#([0-9a-fA-F]{3}){1,2}", text):
        return None
    digits = text[1:] if len(text) == 7 else "".join(digit * 2 for digit in text[1:])
    return int(digits, 16)


def color_text(color: int) -> str:
    """Return the color 0xrrggbb as "#rrggbb"."""
    return f"#{color:06x}"


def color_to_class(told: object) -> Named | None:
    """Return the setting `data.colors`, written either way, as color -> class.

    Raises:
        ValueError: no colors, a color of two classes, an index that no label can hold.
    """
    if told is None:
        return None
    if not isinstance(told, Mapping):
        raise ValueError(HOW)
    found: Named = {}
    for key, value in told.items():
        for color, meant in _pairs(key, value):
            if isinstance(meant, int) and not 0 <= meant <= HIGHEST:
                raise ValueError(f"class indices from 0 to {HIGHEST}")
            if found.setdefault(color, meant) != meant:
                raise ValueError(f"one class for each color; {color} has two")
    return found


def _pairs(key: object, value: object) -> list[tuple[str, int | str]]:
    """One entry of the setting as (color, class)."""
    color = color_number(str(key))
    if color is not None:
        return [(color_text(color), _class(value))]
    several = value if isinstance(value, list | tuple) else [value]
    numbers = [color_number(str(one)) for one in several]
    if not numbers:
        raise ValueError(HOW)
    pairs = []
    for number in numbers:
        if number is None:
            raise ValueError(HOW)
        pairs.append((color_text(number), _class(key)))
    return pairs


def _class(told: object) -> int | str:
    if isinstance(told, bool) or not isinstance(told, int | str) or told == "":
        raise ValueError(HOW)
    if isinstance(told, str) and told.isdecimal():
        return int(told)
    return told


def class_names(colors: Mapping[str, int | str] | None) -> tuple[str, ...] | None:
    """Return the classes that the colors name, in order; None where they do not name all."""
    meant = [one for one in (colors or {}).values() if not _background(one)]
    if not meant or not all(isinstance(one, str) for one in meant):
        return None
    return tuple(dict.fromkeys(str(one) for one in meant))


def color_indices(
    colors: Mapping[str, int | str] | None, classes: Sequence[str] | None
) -> tuple[tuple[int, int], ...]:
    """(color 0xrrggbb, class index) of the setting.

    Args:
        colors: from `color_to_class`.
        classes: names of 1, 2, ...; None: nobody has named them.

    Raises:
        UserError: a name that is no class.
    """
    found = []
    for text, meant in (colors or {}).items():
        index = 0 if _background(meant) else meant
        if isinstance(index, str):
            if index not in (classes or ()):
                raise UserError(
                    f"data.colors: {text} stands for no class",
                    found=index,
                    expected=", ".join(classes or ()) or "class indices: data.classes names none",
                    fix="correct the name, or add it to data.classes",
                )
            index = list(classes or ()).index(index) + 1
        found.append((color_number(text) or 0, index))
    return tuple(found)


def _background(meant: int | str) -> bool:
    return isinstance(meant, str) and meant.casefold() == "background"
