"""YAML of configs and suites -> plain values; nothing in it is run, and nothing in it explodes."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

MOST = 100_000
"""Values of a file, those counted again that an alias repeats."""
MOST_CHARACTERS = 2_000_000
"""Characters of a file, which is not read further: /dev/zero has no end."""


def parse_yaml(text: str) -> Any:
    """Return what a text holds: mappings, lists, text, numbers, true, false, null.

    Raises:
        ValueError: it is too long, is no YAML, has a tag of Python or another language, a key
            twice in one mapping, or aliases that repeat each other too often.
        RecursionError: it is nested too deeply.
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"more than {MOST_CHARACTERS} characters")
    try:
        tree = yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    except (TypeError, LookupError, AttributeError, OverflowError) as error:
        # Of values such as !!int [] that the library converts without a look.
        raise ValueError(f"{type(error).__name__}: {error}") from None
    if _size(tree, {}) > MOST:
        raise ValueError(f"aliases that stand for more than {MOST} values")
    return tree


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which the library would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """As the library does, but for that."""
        if isinstance(node, yaml.MappingNode):
            names: set[tuple[str, str]] = set()
            for key, _ in node.value:
                name = (key.tag, str(key.value))
                if name in names and isinstance(key, yaml.ScalarNode):
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value} stands twice", key.start_mark
                    )
                names.add(name)
        return super().construct_mapping(node, deep=deep)


def _size(tree: Any, known: dict[int, int]) -> int:
    """Values in a tree as if it were written out.

    Raises:
        ValueError: a value is inside itself.
    """
    if not isinstance(tree, dict | list | tuple | set):
        return 1
    if id(tree) not in known:
        known[id(tree)] = -1
        inner = [*tree, *tree.values()] if isinstance(tree, dict) else list(tree)
        known[id(tree)] = 1 + sum(_size(one, known) for one in inner)
    if known[id(tree)] < 0:
        raise ValueError("an alias inside of what it stands for")
    return known[id(tree)]
