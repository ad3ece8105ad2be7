"""What is wrong with the codes in label files, and what would make them class indices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synfoc.images.paper_sets import Decode, PaperSet
from synfoc.label_colors import color_text

MOST = 8
"""Codes for which a remap is suggested: more of them are traces of compression, not classes."""
NAMED = 3
"""Codes of which the first file is named."""
IGNORED = frozenset({255, 65535, -1, -100})
"""Codes by which tools mark pixels that nobody decided (UniMatch, PyTorch, Endoscapes)."""
OWN = "evaluation of a run's own data: data.remap in its config.yaml"
PLAIN = "save labels as PNG of class indices, without lossy compression or smoothed edges"


def outside(label: NDArray[Any]) -> int:
    """Return the index that fills more than half of the border of the slices (n, h, w).

    0 if none does.
    """
    edges = (label[:, 0], label[:, -1], label[:, :, 0], label[:, :, -1])
    found, counts = np.unique(np.concatenate([edge.ravel() for edge in edges]), return_counts=True)
    most = int(counts.argmax())
    return int(found[most]) if 2 * counts[most] > counts.sum() else 0


def class_gap(
    labels: Sequence[tuple[Path, set[int]]], rule: Decode, around: Sequence[int] = ()
) -> tuple[str, str] | None:
    """Return what is wrong with class indices, and the fix; None where they are 0..C, C >= 1.

    A remap is suggested where a few odd codes lie in at least half of the labels, beside the
    others: what is in a few files only, or takes the place of other classes, is a mistake there.

    Args:
        labels: the file of each label, and the class indices in it.
        rule: what made class indices of the codes in the files.
        around: what lies `outside` in each label, where that is known.
    """
    drawn = [(path, indices - {0}) for path, indices in labels if indices - {0}]
    if not drawn:
        return "background only", "label the structures, or check data.remap"
    present = set().union(*(indices for _, indices in drawn))
    gap = next(k for k in count(1) if k not in present)
    odd = {k for k in present if not 0 < k < gap}
    if not odd:
        return None
    holders = [indices for _, indices in drawn if indices & odd]
    there = set().union(*(indices for _, indices in labels))
    found = (
        f"class indices {some(there)}, in {len(holders)} of {len(drawn)} labels; "
        f"{_first_files(drawn, odd)}"
    )
    if any(ignored_in(indices, gap - 1) for indices in holders):
        return found, ignored_fix(odd, present, rule, "")
    beside = gap == 1 or any(indices - odd for indices in holders)
    if len(odd) > MOST or 2 * len(holders) < len(drawn) or not beside:
        more = ", or name all classes in data.classes" if len(odd) <= MOST else ""
        return found, f"correct the files with these codes ({PLAIN}){more}"
    add = f"add {remapping(present, 255, rule)}"
    border = next((k for k in sorted(odd) if 2 * sum(k == a for a in around) > len(labels)), 0)
    return (
        found,
        f"{_unless_inverted(add, present, border, rule)}, or name all classes in data.classes",
    )


def ignored_in(present: set[int], highest: int) -> set[int]:
    """Return the codes of a label that look like "ignore".

    They lie beside a class 1..highest, and none else is odd.
    """
    odd = {index for index in present if not 0 <= index <= highest}
    return odd if odd <= IGNORED and present - odd - {0} else set()


def ignored_fix(odd: set[int], present: set[int], rule: Decode, name: str) -> str:
    """Return what can be done today about codes that look like "ignore".

    `name`: and where they stay.
    """
    to_background = dict(rule.remap) | dict.fromkeys(sorted(odd), 0)
    return (
        f"{some(odd)} looks like an ignore code (pixels that nobody decided); pixels cannot be "
        "ignored yet. Remove the labels of these images (they then train without one), or crop "
        "both to what was decided. If it is background, add --set "
        f"'data.remap={to_background}'; if it is a class, add {remapping(present, 255, rule)}{name}"
    )


def _unless_inverted(fix: str, present: set[int], border: int, rule: Decode) -> str:
    """Return the fix, unless the odd index `border` is the background and 0 a class."""
    if not border or rule.remap:
        return fix
    inside = sorted((present | {0}) - {border})
    change = {border: 0} | {index: k for k, index in enumerate(inside, 1) if index != k}
    return (
        f"{border} fills the border, the labels look inverted: if it is background, add "
        f"--set 'data.remap={change}'; else {fix}"
    )


def remapping(present: set[int], highest: int, rule: Decode) -> str:
    """Return the setting that makes class indices of these, quoted for a shell.

    In order; or, where there are more than `highest`, to background. What `data.remap` says now
    goes on to hold.
    """
    indices = sorted(present - {0})
    if len(indices) <= highest:
        change = {index: k for k, index in enumerate(indices, 1) if index != k}
    else:
        change = {index: 0 for index in indices if not 0 < index <= highest}
    colored = {index for _, index in rule.colors}
    plain = {index: k for index, k in change.items() if index not in colored}
    now = {code: change.get(index, index) for code, index in rule.remap} | plain
    parts = [f"--set 'data.remap={now}'"] if now else []
    if any(index in change for index in colored):
        pairs = [f'"{color_text(c)}": {change.get(index, index)}' for c, index in rule.colors]
        parts.append(f"--set 'data.colors={{{', '.join(pairs)}}}'")
    return " ".join(parts)


def odd_fix(present: set[int], highest: int, rule: Decode, around: int = 0) -> str:
    """Return what to do about one label that holds class indices outside 0..highest.

    `around` is what lies `outside` in it.
    """
    odd = {index for index in present if not 0 <= index <= highest}
    if ignored_in(present, highest):
        return ignored_fix(odd, present, rule, f" and name it in data.classes ({OWN})")
    if len(odd) > MOST or min(odd) < 0:
        return f"correct the file: {PLAIN}"
    change = f"add {remapping(present, highest, rule)}"
    if around in odd and len(present | {0}) - 1 <= highest:
        change = _unless_inverted(change, present, around, rule)
    return f"{change} ({OWN}), or correct the file"


def inferred_names(count: int) -> tuple[str, ...]:
    """Names of classes that nobody has named: class1, class2, ..."""
    return tuple(f"class{k}" for k in range(1, count + 1))


def told_inferred(count: int, labels: int) -> str:
    """Return the notice that a class may be missing, since no label that was read has it."""
    return (
        f"{count} class{'es' * (count > 1)}, from {labels} label{'s' * (labels > 1)}; "
        "name them in data.classes if there are more"
    )


def missing_fix(present: set[int], classes: Sequence[str], otherwise: str) -> str:
    """Return what to do about indices that follow the classes, where nobody has named those.

    Then a class was in no label of the labeled images; a remap to background would hide it.
    """
    known = len(classes)
    more = sorted(index for index in present if index > known)
    follow = more and more == list(range(known + 1, known + 1 + len(more)))
    if tuple(classes) != inferred_names(known) or not follow or min(present) < 0:
        return otherwise
    names = ",".join(inferred_names(more[-1]))
    return (
        f"if {some(more)} is a class that no labeled image shows, name all and train again: "
        f"--set 'data.classes=[{names}]'; else {otherwise}"
    )


def published_fix(known: PaperSet) -> str:
    """Return what to do about a CSV that lists the published files of a set, codes and all."""
    codes = sorted(known.codes)
    indices = known.decode(np.array([[codes]])).ravel().tolist()
    remap = dict(zip(codes, indices, strict=True))
    return f"these are the codes of the published files: add --set 'data.remap={remap}'"


def some(values: Iterable[int] | Iterable[str]) -> str:
    """Return the values in order; of many the first ones, and how many there are."""
    ordered: list[Any] = sorted(values)
    shown = ", ".join(map(str, ordered[:MOST]))
    return f"{shown}, ... ({len(ordered)} values)" if len(ordered) > MOST else shown


def _first_files(labels: list[tuple[Path, set[int]]], odd: set[int]) -> str:
    """Return the first odd codes by the first file that holds them."""
    by_file: dict[Path, list[int]] = {}
    for code in sorted(odd)[:NAMED]:
        by_file.setdefault(next(path for path, codes in labels if code in codes), []).append(code)
    return "; ".join(f"{some(codes)} in {path}" for path, codes in by_file.items())
