"""Read every file of a data set once and say what is there and what would make training unsound.

    cases -> Seen (one per case, read in threads, pixels dropped at once) -> Findings

A problem makes training unsound (exit status 1 of `synfoc data check`); a note is worth knowing.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from synfoc.config import Data
from synfoc.errors import UserError
from synfoc.images.case import CaseGroup
from synfoc.images.cases import Case, CaseTable, load_cases, load_image, load_label
from synfoc.images.codes import class_gap, outside, told_inferred
from synfoc.images.color_codes import LOSSY, UnknownColors, colors_fix
from synfoc.images.files import read_codes
from synfoc.images.findings import Fault, Findings, Group, Spacing
from synfoc.images.formats import equal_channels
from synfoc.images.geometry import SliceAxis
from synfoc.images.place_notes import Place, place_notes, read_place

THREADS = 4
SHOWN = 3
"""Examples named in one problem; the JSON holds all."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Seen:
    """What reading one case showed."""

    case: Case
    size: tuple[int, int, int] = (0, 0, 0)
    kind: str = ""
    """Number type and color: "uint8 gray", "uint8 color", "uint8 color (all gray)"."""
    spacing: Spacing | None = None
    low: float = 0.0
    high: float = 0.0
    pixels: Mapping[int, int] = field(default_factory=dict)
    """Class index -> pixels."""
    outside: int = 0
    """The class index that fills the border of the label."""
    odd_codes: frozenset[int] = frozenset()
    """Codes in the label that the published set does not have."""
    remark: str = ""
    """See `Source.remark`."""
    label_remark: str = ""
    """See `load_label`."""
    colors: Mapping[int, int] = field(default_factory=dict)
    """Color -> pixels of a label in colors that nobody explained."""
    around: int = 0
    """The color along its border."""
    digest: str = ""
    place: Place | None = None
    image_fault: Fault | None = None
    label_fault: Fault | None = None


def check_data(data: Data, *, progress: Progress | None = None) -> Findings:
    """Read all images and labels of a data set.

    Args:
        data: path, set, classes, nested, remap, colors and slice_axis are read.
        progress: called after each case with (cases done, cases in all).

    Raises:
        UserError: the cases cannot even be listed (no such folder, no image, a CSV that cannot be
            understood). Every other fault is a problem of the findings.
    """
    table = load_cases(data, missing_ok=True)
    seen: list[Seen] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for one in pool.map(lambda case: _see(case, table, data.slice_axis), table.cases):
            seen.append(one)
            if progress:
                progress(len(seen), len(table.cases))
    seen = _with_one_mapping(seen, table)
    duplicates, harmless = _duplicates(seen)
    both = _both_sides(table.cases)
    unreadable = tuple(one.image_fault for one in seen if one.image_fault)
    unusable = tuple(one.label_fault for one in seen if one.label_fault)
    findings = Findings(
        root=str(table.root),
        layout=table.layout,
        classes=table.classes,
        nested=table.nested,
        groups=tuple(_groups(seen)),
        shares=_shares(seen, table),
        duplicates=duplicates,
        patients_on_both_sides=both,
        unreadable=unreadable,
        unusable_labels=unusable,
        problems=(),
        notes=(*table.notices, *_notes(seen, table, harmless, data.slice_axis)),
    )
    return replace(findings, problems=tuple(_problems(findings, seen, table)))


def _see(case: Case, table: CaseTable, slice_axis: SliceAxis) -> Seen:
    try:
        image = load_image(case, slice_axis=slice_axis)
    except UserError as error:
        return Seen(case, image_fault=_fault(case, error))
    pixels = image.pixels
    color = "gray"
    if pixels.ndim == 4:
        color = "color (all gray)" if equal_channels(pixels) else "color"
    slices, rows, columns = pixels.shape[:3]
    seen = Seen(
        case,
        size=(slices, rows, columns),
        kind=f"{pixels.dtype} {color}",
        spacing=image.spacing,
        low=float(pixels.min()),
        high=float(pixels.max()),
        remark=image.remark,
        digest=hashlib.blake2b(pixels.tobytes(), digest_size=16, key=str(pixels.shape).encode())
        .hexdigest(),
        place=read_place(replace(case, labels=(), parts=()), slice_axis),
    )  # fmt: skip
    if not case.labels:
        return seen
    try:
        stack = load_label(case, table, like=image, slice_axis=slice_axis)
        label = stack.pixels
        odd = _odd_codes(case, table)
        place = read_place(case, slice_axis)
    except UnknownColors as error:
        fault = _fault(case, error)
        return replace(seen, label_fault=fault, colors=error.counts, around=error.around)
    except UserError as error:
        return replace(seen, label_fault=_fault(case, error))
    counts = np.bincount(label.ravel())
    shares = {int(k): int(counts[k]) for k in counts.nonzero()[0]}
    return replace(
        seen, pixels=shares, outside=outside(label), odd_codes=odd, place=place,
        label_remark=stack.remark,
    )  # fmt: skip


def _with_one_mapping(seen: list[Seen], table: CaseTable) -> list[Seen]:
    """Return the same, with one fix for all labels in colors.

    It maps the colors of all of them.
    """
    colored = [one for one in seen if one.colors and one.label_fault]
    lossy = any(one.label_fault and one.label_fault.fix == LOSSY for one in colored)
    if not colored or lossy:
        return seen
    counts: Counter[int] = Counter()
    for one in colored:
        counts.update(one.colors)
    around = Counter(one.around for one in colored).most_common(1)[0][0]
    fix = colors_fix(counts, table.decode.colors, around)
    return [
        replace(one, label_fault=replace(one.label_fault, fix=fix))
        if one.colors and one.label_fault
        else one
        for one in seen
    ]


def _odd_codes(case: Case, table: CaseTable) -> frozenset[int]:
    """Return codes that a published set does not have; its bounds decode any."""
    if table.paper is None or not table.decode.bounds:
        return frozenset()
    present = {int(code) for path in case.labels for code in np.unique(read_codes(path).pixels)}
    return frozenset(present - table.paper.codes)


def _fault(case: Case, error: UserError) -> Fault:
    return Fault(case.id, f"{error.what}: {error.found}", error.fix)


def _groups(seen: list[Seen]) -> Iterable[Group]:
    parts: dict[tuple[str, str], list[Seen]] = defaultdict(list)
    for one in seen:
        parts[one.case.domain or "-", one.case.split or "-"].append(one)
    for (domain, split), members in parts.items():
        read = [one for one in members if not one.image_fault]
        sizes = np.array([one.size for one in read] or [(0, 0, 0)])
        spacings = np.array([one.spacing for one in read if one.spacing])
        patients = {one.case.patient for one in members if one.case.patient}
        known = len(spacings) > 0
        yield Group(
            domain=domain,
            split=split,
            cases=len(members),
            labeled=sum(bool(one.case.labels) for one in members),
            slices=int(sizes[:, 0].sum()),
            patients=len(patients) or None,
            rows=(int(sizes[:, 1].min()), int(sizes[:, 1].max())),
            columns=(int(sizes[:, 2].min()), int(sizes[:, 2].max())),
            kinds=dict(Counter(one.kind for one in read)),
            spacing=(tuple(spacings.min(0).tolist()), tuple(spacings.max(0).tolist()))
            if known
            else None,
            unknown_spacing=len(read) - len(spacings),
            intensity=(
                min((one.low for one in read), default=0.0),
                max((one.high for one in read), default=0.0),
            ),
        )


def _shares(seen: list[Seen], table: CaseTable) -> dict[str, dict[str, float]]:
    sums: dict[str, Counter[int]] = defaultdict(Counter)
    for one in seen:
        if one.pixels:
            sums[one.case.domain or "-"].update(one.pixels)
    indices = sorted(set().union(*sums.values())) if sums else []
    if table.classes is not None:
        indices = list(range(len(table.classes) + 1))
    return {
        domain: {_class(k, table): count[k] / max(1, count.total()) for k in indices}
        for domain, count in sums.items()
    }


def _class(index: int, table: CaseTable) -> str:
    if index == 0:
        return "background"
    if table.classes is None:
        return f"class{index}"
    # The pixels of a nested set are parts minus what lies inside them.
    inner = table.classes[index - 2] if table.nested and index > 1 else None
    return table.classes[index - 1] + (f" without {inner}" if inner else "")


def _duplicates(seen: list[Seen]) -> tuple[tuple[tuple[str, ...], ...], int]:
    """Equal images on both sides of the split, and the number of equal ones on one side."""
    equal: dict[str, list[Case]] = defaultdict(list)
    for one in seen:
        if one.digest:
            equal[one.digest].append(one.case)
    several = [cases for cases in equal.values() if len(cases) > 1]
    bad = [cases for cases in several if len({case.split == "test" for case in cases}) > 1]
    harmless = sum(len(cases) - 1 for cases in several) - sum(len(cases) - 1 for cases in bad)
    return tuple(tuple(case.id for case in cases) for cases in bad), harmless


def _both_sides(cases: tuple[Case, ...]) -> tuple[str, ...]:
    sides: dict[CaseGroup, set[bool]] = defaultdict(set)
    for case in cases:
        if case.patient:
            sides[case.group].add(case.split == "test")
    return tuple(
        " ".join(part for part in group if part) for group, s in sides.items() if len(s) > 1
    )


def _problems(found: Findings, seen: list[Seen], table: CaseTable) -> Iterable[str]:
    if found.unreadable:
        yield _list_faults("images cannot be read", found.unreadable)
    if found.unusable_labels:
        yield _list_faults("labels cannot be used", found.unusable_labels)
    if found.duplicates:
        first = " = ".join(found.duplicates[0])
        yield (
            f"images equal on both sides of the split: {len(found.duplicates)}, e.g. {first}. "
            "Remove one of each"
        )
    if found.patients_on_both_sides:
        names = ", ".join(found.patients_on_both_sides[:SHOWN])
        yield (
            f"patients on both sides of the split: {len(found.patients_on_both_sides)}, e.g. "
            f"{names}. Move all images of a patient to one side"
        )
    if not any(case.labels and case.split != "test" for case in table.cases):
        yield "no labeled training image. Put label files of the same names into a folder `mask`"
    damaged = found.unreadable or found.unusable_labels
    if table.classes is None and not damaged and any(one.pixels for one in seen):
        labels = [(one.case.labels[0], set(one.pixels)) for one in seen if one.pixels]
        gap = class_gap(labels, table.decode, [one.outside for one in seen if one.pixels])
        if gap:
            yield f"classes: found {gap[0]}. Fix: {gap[1]}"


def _list_faults(what: str, faults: tuple[Fault, ...]) -> str:
    """Return the faults of each of the most frequent fixes."""
    by_fix: dict[str, list[Fault]] = defaultdict(list)
    for fault in faults:
        by_fix[fault.fix].append(fault)
    groups = sorted(by_fix.items(), key=lambda group: -len(group[1]))
    parts = []
    for fix, same in groups[:SHOWN]:
        shown = SHOWN if len(groups) == 1 else 1
        more = f"; and {len(same) - shown} more" if len(same) > shown else ""
        parts.append("; ".join(fault.reason for fault in same[:shown]) + f"{more}. Fix: {fix}")
    rest = sum(len(same) for _, same in groups[SHOWN:])
    return f"{what}: {len(faults)}. {'. '.join(parts)}" + (f". And {rest} others" if rest else "")


def _notes(
    seen: list[Seen], table: CaseTable, harmless: int, slice_axis: SliceAxis
) -> Iterable[str]:
    read = [one for one in seen if not one.image_fault]
    if harmless:
        yield f"equal images on one side of the split: {harmless}"
    flat = [one.case.id for one in read if one.low == one.high]
    if flat:
        yield f"images of a single value: {len(flat)}, e.g. {flat[0]}"
    remarked = [(remark, one) for one in read for remark in (one.remark, one.label_remark)]
    for remark, many in Counter(remark for remark, _ in remarked if remark).items():
        first = next(one.case.id for known, one in remarked if known == remark)
        yield f"{remark}: {many}, e.g. {first}"
    yield from _label_notes(read, table)
    yield from place_notes([one.place for one in read if one.place], slice_axis)
    gray = sum(one.kind.endswith("(all gray)") for one in read)
    if gray:
        yield f"color files that are gray all over: {gray}; data.channels = 1 suits them"
    unknown = sum(one.spacing is None for one in read)
    if unknown:
        yield f"images without pixel spacing: {unknown}; their distances are in pixels"
    bare = sum(case.split == "test" and not case.labels for case in table.cases)
    if bare:
        yield f"test images without a label: {bare}; not scored; their Dice is estimated"
    if len(table.domains) < 2:
        yield "one domain only: nothing can be said about images from other scanners"
    if all(case.labels for case in table.cases if case.split != "test"):
        yield "every training image has a label; those beyond labeled.count train as unlabeled"
    if not any(case.split for case in table.cases):
        yield "no split is given: data.test_fraction of the labeled patients will be held out"
    yield from _paper_notes(seen, table)


def _label_notes(read: list[Seen], table: CaseTable) -> Iterable[str]:
    labels = [(one.case, set(one.pixels)) for one in read if one.pixels]
    empty = [case.id for case, present in labels if present == {0}]
    if empty:
        yield f"labels without any class: {len(empty)}, e.g. {empty[0]}"
    full = [case.id for case, present in labels if len(present) == 1 and present != {0}]
    if full:
        yield (
            f"labels that one class fills all over: {len(full)}, e.g. {full[0]}; is what was drawn "
            "in another channel or file?"
        )
    shown = set().union(*(present for _, present in labels))
    names = enumerate(table.classes or (), start=1)
    absent = [name for k, name in names if labels and k not in shown]
    if absent:
        yield f"{', '.join(absent)}: in none of the labels ({len(labels)})"
    yield from _only_tested(labels, table)
    if table.classes is None and shown - {0} and max(shown) == len(shown - {0}):
        yield told_inferred(max(shown), len(labels))


def _only_tested(labels: Sequence[tuple[Case, set[int]]], table: CaseTable) -> Iterable[str]:
    """Yield a note on classes that test labels hold and no label of training."""
    tested: set[int] = set().union(*(found for case, found in labels if case.split == "test"))
    trained: set[int] = set().union(*(found for case, found in labels if case.split != "test"))
    for k in sorted(tested - trained - {0}) if trained else ():
        holders = [case for case, found in labels if k in found]
        name = table.classes[k - 1] if table.classes else f"class{k}"
        yield (
            f"{name} is only in test labels, in none of the training labels: {len(holders)}, e.g. "
            f"{holders[0].id}; nothing can learn it"
        )


def _paper_notes(seen: list[Seen], table: CaseTable) -> Iterable[str]:
    if table.paper is None:
        return
    odd = [one for one in seen if one.odd_codes]
    if odd:
        codes = ", ".join(map(str, sorted(odd[0].odd_codes)[:8]))
        yield f"labels with other codes than published: {len(odd)}, e.g. {odd[0].case.id}: {codes}"
    there = Counter(one.case.domain for one in seen if one.case.split == "train")
    for domain, count in zip(table.paper.domains, table.paper.training, strict=True):
        if there[domain] != count:
            yield f"{domain}: {there[domain]} training images; the published set has {count}"
