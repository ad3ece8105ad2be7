"""YAML that does more than hold values, or holds too many, is refused."""

import pytest

from synfoc.yaml_text import MOST, MOST_CHARACTERS, parse_yaml


def test_plain_values_are_read() -> None:
    assert parse_yaml("a: [1, 2.5, yes, null, b]") == {"a": [1, 2.5, True, None, "b"]}


def test_an_alias_stands_for_what_it_names() -> None:
    assert parse_yaml("{a: &x [1, 2], b: *x}") == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1", "expected ',' or ']'"),
        ("!!python/object/apply:os.system [echo]", "could not determine a constructor"),
        ("!!int ''", "IndexError"),
        ("!!int []", "expected a scalar node"),
        ("!!timestamp x", "AttributeError"),
        ("{a: 1, a: 2}", "the key a stands twice"),
        ("&x [*x]", "an alias inside of what it stands for"),
        ("{? [1] : 2}", "unhashable"),
        ("a" * (MOST_CHARACTERS + 1), f"more than {MOST_CHARACTERS} characters"),
    ],
)  # fmt: skip
def test_what_is_no_plain_yaml_is_refused(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse_yaml(text)
    assert told in str(refused.value)


def test_aliases_cannot_stand_for_billions_of_values() -> None:
    """Nine levels of ten: a billion values in 300 characters."""
    lines = ["a0: &a0 [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]"]
    for level in range(1, 9):
        inner = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} [{inner}]")
    with pytest.raises(ValueError, match=f"more than {MOST} values"):
        parse_yaml("\n".join(lines))
