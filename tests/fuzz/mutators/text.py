"""Values of JSON by their type, tokens of YAML, cells of CSV, and words on a command line."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any

from fuzz.mutators.raw import NUMBERS, REALS, Mutator, either, spoil

WORDS = (
    *("", " ", "\t", "null", "true", "no", "~", "0", "-1", "1e400", "nan", ".inf", "0x10", "1_0"),
    *(
        "é",
        "日本",
        "\u202e",
        "\x00",
        "\x1b[31m",
        "\ufeff",
        "\\",
        "'",
        '"',
        "[",
        "]",
        "{}",
        "{",
        ":",
    ),
    *("../..", "../../x", "/", "/etc/passwd", "/dev/zero", "~", "~root", ".", "-", "--help", "*"),
    *("C:\\x", "a" * 300, "[bold]x[/]", "%s", "$HOME", "alpha", "unet", "[/red]", "\ud800", "\n"),
)
"""Text that programs trip over."""
LEAVES: tuple[Any, ...] = (
    *(None, True, False, [], {}, [[]], [None], {"": None}, [1, 2, 3], {"a": 1}),
    *WORDS,
    *NUMBERS,
    *REALS,
    10**30,
)
TOKENS = (
    *(
        "!!python/object/apply:os.getcwd []",
        "!!python/name:os.system",
        "!!binary aGk=",
        "!!set {a}",
    ),
    *("!!timestamp 2020-01-01", "2020-01-01", "2020-13-45", "!!float x", "!!int x", "!!omap [a]"),
    *("&a [*a]", "*nobody", "<<: {a: 1}", "<<: *x", "? a", "- - -", "|", ">", "%YAML 9.9", "---"),
    *("12:30:45", "0b11", "0o7", "0777", "1e3", ".nan", "[[[[[[", "{{{{", "!x y", "!!null x"),
    *("\ttab: 1", "a: b: c", "'open", '"\\x"', '"\\uD800"', "# x", "yes", "=", "!!str", "@", "`"),
)
"""Pieces of YAML that mean something odd."""
SEPARATORS = (",", ";", "\t", "|")


def change_tree(tree: Any, rng: Random) -> Any:
    """A copy of nested values in which one to three places are something else."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 2, 3))):
        tree = _change_one(tree, rng)
    return tree


def _change_one(tree: Any, rng: Random) -> Any:
    places = _places(tree)
    if not places:
        return copy.deepcopy(rng.choice(LEAVES))
    holder, key = rng.choice(places)
    how = rng.randrange(8)
    value = holder[key]
    if how == 0:
        del holder[key]
    elif how == 1:
        holder[key] = [value] * rng.choice((0, 1, 2, 100))
    elif how == 2:
        holder[key] = {"x": value}
    elif how == 3 and isinstance(holder, dict):
        new = rng.choice((*WORDS, key.upper() if isinstance(key, str) else key))
        holder[new] = holder.pop(key)
    elif how == 4 and isinstance(value, str):
        holder[key] = _spoiled_word(value, rng)
    elif how == 5 and isinstance(value, int | float):
        holder[key] = rng.choice((-value, value + 1, value * 1000, str(value), value + 0.5))
    else:
        holder[key] = copy.deepcopy(rng.choice(LEAVES))
    return tree


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below a value; long lists by their first and last items."""
    found: list[tuple[Any, Any]] = []
    keys: list[Any] = []
    if isinstance(tree, dict):
        keys = list(tree)
    elif isinstance(tree, list):
        keys = [i for i in range(len(tree)) if i < 3 or i == len(tree) - 1]
    for key in keys:
        found.append((tree, key))
        found += _places(tree[key])
    return found


def _spoiled_word(word: str, rng: Random) -> str:
    how = rng.randrange(4)
    if how == 0:
        return word + rng.choice(WORDS)
    if how == 1:
        return rng.choice(WORDS) + word
    if how == 2:
        return word[: rng.randrange(len(word) + 1)]
    return word.swapcase()


def json_values(data: bytes, rng: Random) -> bytes:
    tree = change_tree(json.loads(data), rng)
    return json.dumps(tree, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")


def json_lines(data: bytes, rng: Random) -> bytes:
    """One line of a .jsonl file: changed, said twice, dropped, or without its end."""
    lines = data.splitlines(keepends=True)
    at, how = rng.randrange(len(lines)), rng.randrange(4)
    if how == 0:
        lines.insert(rng.randrange(len(lines) + 1), lines[at])
    elif how == 1:
        del lines[at]
    elif how == 2:
        lines[at] = lines[at].rstrip(b"\n")
    else:
        lines[at] = json_values(lines[at], rng) + b"\n"
    return b"".join(lines)


def odd_text(data: bytes, rng: Random) -> bytes:
    """The whole file in another encoding, with other line ends, nested deeply, or huge numbers."""
    text = data.decode("utf-8", "replace")
    changes: tuple[Callable[[], bytes], ...] = (
        lambda: b"\xef\xbb\xbf" + data,
        lambda: text.encode("utf-16"),
        lambda: text.encode("utf-32"),
        lambda: text.encode("latin-1", "replace") + b"\xe9",
        lambda: data.replace(b"\n", b"\r\n"),
        lambda: data.replace(b"\n", b"\r"),
        lambda: data.replace(b"\n", b"\n\n"),
        lambda: data.replace(b" ", b"\t"),
        lambda: data + b"\0",
        lambda: b"[" * 20_000,
        lambda: b'{"a":' * 20_000,
        lambda: data.replace(b"1", b"9" * 5000, 1),
        lambda: data.replace(b"0", b"NaN", 1),
        lambda: data.replace(b": ", b": Infinity, ", 1),
        lambda: b"null",
        lambda: b"[]",
        lambda: b'"x"',
        lambda: b"{}",
        lambda: data + data,
    )
    return rng.choice(changes)()


def yaml_values(data: bytes, rng: Random) -> bytes:
    """Values of a YAML file changed by their type."""
    import yaml

    try:
        tree = change_tree(yaml.safe_load(data), rng)
        return yaml.safe_dump(tree, sort_keys=False).encode("utf-8", "surrogatepass")
    except yaml.YAMLError:
        return spoil(data, rng)


def yaml_tokens(data: bytes, rng: Random) -> bytes:
    """A value or a line of a YAML file replaced by a token, or a token put in."""
    lines = data.decode("utf-8", "replace").splitlines()
    at, token = rng.randrange(len(lines)), rng.choice(TOKENS)
    key, sign, _ = lines[at].partition(":")
    how = rng.randrange(3)
    if how == 0 and sign:
        lines[at] = f"{key}: {token}"
    elif how == 1:
        lines.insert(at, token)
    else:
        lines[at] = token
    return "\n".join(lines).encode()


def csv_cells(data: bytes, rng: Random) -> bytes:
    """Cells, rows, columns and separators of a table."""
    rows = [line.split(",") for line in data.decode("utf-8", "replace").splitlines()]
    for _ in range(rng.choice((1, 1, 2, 3))):
        row = rng.choice(rows)
        at, how = rng.randrange(len(row)), rng.randrange(6)
        if how == 0:
            row[at] = rng.choice((*WORDS, *map(str, NUMBERS), *map(str, REALS), "9" * 5000))
        elif how == 1:
            row[at] = rng.choice(('"' + row[at], row[at] + '"', f'"{row[at]}"', '""', '"a""b"'))
        elif how == 2:
            row.insert(at, rng.choice(WORDS))
        elif how == 3 and len(row) > 1:
            del row[at]
        elif how == 4:
            rows.insert(rng.randrange(len(rows)), list(row))
        else:
            row[at] = rng.choice(("../", "/", "./", "..\\", "a|b|", "\x00")) + row[at]
    separator = rng.choice((",", ",", ",", *SEPARATORS))
    text = "\n".join(separator.join(row) for row in rows) + "\n"
    return text.encode("utf-8", "surrogatepass")


json_file = either(spoil, json_values, json_values, json_values, odd_text)
jsonl_file = either(spoil, json_lines, json_lines, json_lines, odd_text)
yaml_file = either(spoil, yaml_values, yaml_values, yaml_tokens, yaml_tokens, odd_text)
csv_file: Mutator = either(spoil, csv_cells, csv_cells, csv_cells, odd_text)
