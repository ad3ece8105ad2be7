"""What pydantic finds wrong in a config or a suite, in the words and the form of our errors."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Sequence
from typing import Any

from pydantic_core import ErrorDetails

from synfoc.errors import UserError

WHOLE, NUMBER, SWITCH = "a whole number", "a finite number", "true or false"
LIST, SECTION = "a list, such as [a, b]", "keys with values, as key: value"
EXPECTED = {
    "int_type": WHOLE,
    "int_parsing": WHOLE,
    "int_from_float": WHOLE,
    "float_type": NUMBER,
    "float_parsing": NUMBER,
    "finite_number": NUMBER,
    "bool_type": SWITCH,
    "bool_parsing": SWITCH,
    "string_type": "text",
    "path_type": "a path",
    "tuple_type": LIST,
    "list_type": LIST,
    "dict_type": SECTION,
    "model_type": SECTION,
    "model_attributes_type": SECTION,
    "missing": "a value",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "string_pattern_mismatch": "text of the pattern {pattern}",
}
"""Type of pydantic's error -> what the value should have been."""


def config_error(error: ErrorDetails, source: str, known: Sequence[str]) -> UserError:
    """Return the first thing that is wrong in a file.

    Args:
        error: from a `ValidationError`.
        source: the file, for the message.
        known: every key that may be there; the nearest one to an unknown key is named.
    """
    # pydantic marks a key of a mapping that is itself wrong.
    key = ".".join(str(part) for part in error["loc"] if part != "[key]")
    kind, value = error["type"], error.get("input")
    if kind == "extra_forbidden":
        near = _nearest(key, known, cutoff=0.5)
        return UserError(
            f"{source}: unknown key {key}",
            found=f"{key} = {brief(value)}",
            expected="a key that exists (docs/cli.md, suites/small.yaml)",
            fix=f"did you mean {near}?" if near else f"choose among {', '.join(known[:3])}, ...",
        )
    expected = _expected(error)
    if kind == "missing":
        return UserError(
            f"{source}: {key} is missing", found="nothing", expected=expected, fix=f"add {key}"
        )
    return UserError(
        f"{source}: {key or 'config'} cannot be used",
        found=brief(value) if key else "this combination",
        expected=expected.removeprefix("Value error, "),
        fix=_change(key, value, expected) if key else "change one of the keys named above",
    )


def described(error: ErrorDetails) -> tuple[str, str, str]:
    """Return the key, what it holds, and what it should hold."""
    key = ".".join(str(part) for part in error["loc"] if part != "[key]")
    found = "nothing" if error["type"] == "missing" else brief(error.get("input"))
    return key, found, _expected(error)


def brief(value: object) -> str:
    """Return a value as Python writes it, cut where it is long or deep."""
    # What aliases of YAML repeat again and again would fill the memory as text.
    text = repr(value) if isinstance(value, str | int | float | None) else reprlib.repr(value)
    return text if len(text) <= 80 else text[:80] + " ..."


def _expected(error: ErrorDetails) -> str:
    context: dict[str, Any] = error.get("ctx", {})
    kind = error["type"]
    return EXPECTED[kind].format(**context) if kind in EXPECTED else error["msg"]


def _change(key: str, value: object, expected: str) -> str:
    """Return the word quoted in `expected` that a mistyped one was meant to be."""
    meant = _nearest(str(value), re.findall("'(.+?)'", expected), cutoff=0.75)
    return f"did you mean {key} = {meant}?" if meant else f"change {key}"


def _nearest(word: str, known: Sequence[str], *, cutoff: float) -> str:
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=cutoff)), "")
