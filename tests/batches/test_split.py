"""Who trains with a label, who without, who is kept for the end; and the file that remembers it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synfoc.batches.split import Split, equal_images, load_split, make_split, save_split
from synfoc.batches.unlearned import without_labeled
from synfoc.config import Data, Labeled
from synfoc.errors import UserError
from synfoc.images.cases import Case, CaseTable
from synfoc.images.paper_sets import PROSTATE, Decode
from synfoc.storage import read_json, write_json

ROOT = Path("data")


def case(
    name: str, *, label: bool = True, patient: str | None = None, split: str | None = None
) -> Case:
    domain = name.split("/")[0] if "/" in name else None
    file = ROOT / f"{name}.png"
    labels = (ROOT / "mask" / f"{name}.png",) if label else ()
    return Case(name, file, labels, domain, patient, split)


def table(*cases: Case, root: Path = ROOT) -> CaseTable:
    return CaseTable(root, cases, ("lesion",), False, Decode())


def split(cases: CaseTable, seed: int = 0, **data: object) -> Split:
    return make_split(cases, Data(path=ROOT, split_seed=seed, **data))


def ids(cases: tuple[Case, ...]) -> list[str]:
    return [one.id for one in cases]


GIVEN = table(
    *(case(f"a/{k}", split="train", patient=f"p{k // 2}") for k in range(4)),
    case("a/t", split="test"),
    case("a/u", split="test", label=False),
    *(case(f"b/{k}", split="train") for k in range(2)),
    case("b/n", split="train", label=False),
    case("b/t", split="test"),
)


def test_the_first_images_of_a_domain_are_labeled_and_the_rest_lose_their_labels() -> None:
    made = split(GIVEN, labeled=Labeled(domain="a", count=2))
    assert ids(made.labeled) == ["a/0", "a/1"]
    assert ids(made.unlabeled) == ["a/2", "a/3", "b/0", "b/1", "b/n"]
    assert all(one.labels == () for one in made.unlabeled)
    assert ids(made.test) == ["a/t", "a/u", "b/t"], "one without a label can still be estimated"
    assert made.monitor == ()


def test_monitor_keeps_labels_apart_only_when_asked() -> None:
    made = split(GIVEN, labeled=Labeled(domain="a", count=2), monitor=True)
    assert ids(made.monitor) == ["a/2", "a/3", "b/0", "b/1"]
    assert all(one.labels for one in made.monitor)
    assert all(one.labels == () for one in made.unlabeled)


def test_with_nothing_said_every_label_counts() -> None:
    made = split(GIVEN)
    assert ids(made.labeled) == ["a/0", "a/1", "a/2", "a/3", "b/0", "b/1"]
    assert ids(made.unlabeled) == ["b/n"]


def test_patients_are_taken_whole() -> None:
    made = split(GIVEN, labeled=Labeled(patients=1))
    assert ids(made.labeled) == ["a/0", "a/1"]


def test_all_labeled_leaves_nobody_unlabeled() -> None:
    made = split(table(case("a/1", split="train"), case("a/2", split="train")))
    assert (len(made.labeled), made.unlabeled, made.test) == (2, (), ())


def test_the_paper_calls_a_domain_otherwise() -> None:
    known = CaseTable(
        ROOT, (case("I2CVB/0", split="train"),), ("prostate",), False, Decode(), PROSTATE
    )
    assert ids(split(known, labeled=Labeled(domain="HCRUDB")).labeled) == ["I2CVB/0"]


def test_a_fifth_of_the_labeled_patients_is_held_out_where_no_split_is_given() -> None:
    """Ten patients of two images: two are held out, with both images."""
    cases = table(*(case(f"a/{k:02d}", patient=f"p{k // 2}") for k in range(20)))
    made = split(cases)
    assert (len(made.test), len(made.labeled)) == (4, 16)
    assert {one.group for one in made.test}.isdisjoint(one.group for one in made.labeled)
    assert split(cases) == made
    assert len({tuple(ids(split(cases, seed).test)) for seed in range(10)}) > 1


def test_images_of_a_held_out_patient_do_not_train_even_unlabeled() -> None:
    """Only one patient can be held out; its unlabeled image is held out with the other."""
    cases = table(
        case("a/1", patient="p"), case("a/2", patient="p", label=False), case("a/3", patient="q"),
        case("a/4", patient="q", label=False),
    )  # fmt: skip
    made = split(cases)
    assert (len(made.labeled), len(made.unlabeled), len(made.test)) == (1, 1, 2)
    assert made.labeled[0].patient == made.unlabeled[0].patient != made.test[0].patient
    assert len({one.patient for one in made.test}) == 1


def test_another_domain_does_not_change_who_is_held_out() -> None:
    a = [case(f"a/{k}") for k in range(9)]
    b = [case(f"b/{k}") for k in range(9)]
    both = split(table(*a, *b))
    assert ids(split(table(*a)).test) == [name for name in ids(both.test) if name[0] == "a"]


def test_a_single_labeled_patient_is_not_held_out() -> None:
    made = split(table(case("a/1"), case("a/2", label=False)))
    assert (ids(made.labeled), made.test) == (["a/1"], ())


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("ab"), st.booleans(), st.sampled_from([None, "p", "q", "r"])),
        min_size=1,
        max_size=20,
    ),
    given_split=st.booleans(),
    fraction=st.sampled_from([0.0, 0.2, 0.5]),
    seed=st.integers(0, 3),
)
def test_sides_are_disjoint_by_patient_and_no_hidden_label_gets_out(
    rows: list[tuple[str, bool, str | None]], given_split: bool, fraction: float, seed: int
) -> None:
    cases = table(
        *(
            case(f"{domain}/{k}", label=label, patient=patient,
                 split=("test" if patient == "q" else "train") if given_split else None)
            for k, (domain, label, patient) in enumerate(rows)
        )
    )  # fmt: skip
    try:
        made = split(cases, seed, test_fraction=fraction)
    except UserError as error:
        assert error.what == "there is no labeled training image"
        return
    parts = (made.labeled, made.unlabeled, made.test)
    groups = [{one.group for one in part} for part in (made.labeled + made.unlabeled, made.test)]
    assert groups[0].isdisjoint(groups[1])
    assert len({name for part in parts for name in ids(part)}) == sum(map(len, parts))
    assert not any(one.labels for one in made.unlabeled)
    assert all(one.labels for one in made.labeled)
    if not given_split:
        held = {one.group for one in made.test}
        assert held == {one.group for one in made.test if one.labels}, "held out to be scored"


def test_a_list_names_images_by_id_or_by_path(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("# ours\na/3\n\nb/0.png\n" + str((ROOT / "a/1.png").resolve()) + "\n")
    made = split(GIVEN, labeled=Labeled(list=path))
    assert ids(made.labeled) == ["a/1", "a/3", "b/0"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("a/9", "1 lines: not in the data, e.g. a/9"),
        ("a/t", "1 lines: test images, e.g. a/t"),
        ("b/n", "1 lines: no label, e.g. b/n"),
    ],
)
def test_a_list_that_cannot_be_used(tmp_path: Path, line: str, found: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"a/0\n{line}\n")
    with pytest.raises(UserError) as caught:
        split(GIVEN, labeled=Labeled(list=path))
    assert caught.value.found == found


def test_what_cannot_be_labeled_is_told_with_a_way_out(tmp_path: Path) -> None:
    bare = table(case("a/1", label=False), case("b/1"))
    for cases, wanted, found, fix in (
        (GIVEN, Labeled(domain="A"), "a, b", "did you mean a?"),
        (GIVEN, Labeled(domain="a", count=9), "4 training images", "ask for 4"),
        (GIVEN, Labeled(patients=3), "2 training patients", "ask for 2"),
        (table(case("a/1")), Labeled(patients=1), "no patient", "add the column"),
        (table(case("a/1", label=False)), Labeled(), "1 images, none with a label", "label a few"),
        (bare, Labeled(domain="a"), "in domain a; training labels in: b", "among b"),
        (table(case("1")), Labeled(domain="a"), "no domains", "leave labeled.domain out"),
        (GIVEN, Labeled(list=tmp_path / "no.txt"), "No such file", "check the path"),
    ):
        with pytest.raises(UserError) as caught:
            split(cases, labeled=wanted)
        assert found in caught.value.found
        assert fix in caught.value.fix


def test_only_test_images_that_could_be_labeled_are_counted_beside_too_few() -> None:
    """a has the test images t and u, of which t has a label; b has one more."""
    for wanted, found in (
        (
            Labeled(domain="a", count=9),
            "4 training images with a label in domain a (and 1 for testing)",
        ),
        (Labeled(count=9), "6 training images with a label (and 2 for testing)"),
    ):
        with pytest.raises(UserError) as caught:
            split(GIVEN, labeled=wanted)
        assert caught.value.found == found


def written(root: Path) -> tuple[Split, CaseTable]:
    cases = []
    for k in range(4):
        image, label = root / "image" / f"{k} ä.png", root / "mask" / f"{k} ä.png"
        for file in (image, label):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"%d" % k)
        labels = (label, image) if k == 1 else (label,)
        cases.append(Case(f"{k}", image, labels, "a", f"p{k}", spacing=(0.0, 0.5, 0.5)))
    files = CaseTable(root, tuple(cases), ("x",), False, Decode())
    data = Data(path=root, labeled=Labeled(count=2), monitor=True, test_fraction=0.25, split_seed=1)
    made = make_split(files, data)
    return made, files


def test_a_saved_split_is_read_back_equal_even_elsewhere(tmp_path: Path) -> None:
    made, files = written(tmp_path / "here")
    save_split(tmp_path / "split.json", made, files)
    assert load_split(tmp_path / "split.json", verify=True) == made
    (tmp_path / "here").rename(tmp_path / "there")
    moved = load_split(tmp_path / "split.json", root=tmp_path / "there", verify=True)
    assert moved.labeled[0].image == tmp_path / "there" / made.labeled[0].image.relative_to(
        tmp_path / "here"
    )


def test_a_changed_file_is_noticed_and_a_touched_one_is_not(tmp_path: Path) -> None:
    made, files = written(tmp_path)
    save_split(tmp_path / "split.json", made, files)
    file = made.labeled[0].image
    os.utime(file, (1, 1))
    load_split(tmp_path / "split.json", verify=True)
    file.write_bytes(b"x")
    with pytest.raises(UserError, match="1 of 8 files differ"):
        load_split(tmp_path / "split.json", verify=True)
    file.unlink()
    with pytest.raises(UserError, match="gone"):
        load_split(tmp_path / "split.json", verify=True)


def test_labels_of_unlabeled_images_are_not_even_hashed(tmp_path: Path) -> None:
    made, files = written(tmp_path)
    hidden = {one.id for one in made.unlabeled}
    save_split(tmp_path / "s.json", Split(made.labeled, made.unlabeled, made.test), files)
    text = (tmp_path / "s.json").read_text(encoding="utf-8")
    assert all(f"mask/{name} ä.png" not in text for name in hidden)


@pytest.mark.parametrize("linked", [False, True])
def test_labeled_images_of_a_csv_of_full_paths_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    """The folder was named by a relative path, or by a link."""
    made, files = written(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    if linked:
        Path("link").symlink_to("here")
    table = replace(files, root=tmp_path / "link" if linked else Path("here"))
    save_split(tmp_path / "split.json", made, table)
    found = without_labeled(files.cases, read_json(tmp_path / "split.json"))
    labeled = {one.id for one in made.labeled}
    assert [one.id for one in found.cases] == [k for k in ids(files.cases) if k not in labeled]
    assert (found.labeled, found.seen) == (len(labeled), len(made.unlabeled))


def test_other_images_of_a_labeled_patient_are_left_out(tmp_path: Path) -> None:
    """a/0 is labeled, a/1 shows the same patient; p0 of domain b is another one."""
    names = {"a/0": "p0", "a/1": "p0", "a/2": "p1", "b/0": "p0"}
    cases = []
    for number, (name, patient) in enumerate(names.items()):
        for path in (tmp_path / f"{name}.png", tmp_path / "mask" / f"{name}.png"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes([number]) * 9)
        one = case(name, patient=patient, split="train")
        image, mask = tmp_path / f"{name}.png", tmp_path / "mask" / f"{name}.png"
        cases.append(replace(one, image=image, labels=(mask,)))
    files = table(*cases, root=tmp_path)
    made = split(files, labeled=Labeled(domain="a", count=1))
    save_split(tmp_path / "split.json", made, files)
    found = without_labeled(files.cases, read_json(tmp_path / "split.json"))
    assert (ids(found.cases), found.labeled, found.seen) == (["a/2", "b/0"], 2, 2)


def stored(root: Path, name: str, content: bytes, patient: str | None) -> Case:
    """A case whose files hold these bytes; its domain is the folder above, if there is one."""
    for path in (root / f"{name}.png", root / "mask" / f"{name}.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    one = case(name, patient=patient, split="train")
    return replace(one, image=root / f"{name}.png", labels=(root / "mask" / f"{name}.png",))


def run_of(root: Path, **contents: bytes) -> Path:
    """split.json of a run without domains that labeled patient1; `p1_s0` is of patient1."""
    cases = [stored(root, name, data, f"patient{name[1]}") for name, data in contents.items()]
    path = root / "split.json"
    first = tuple(one for one in cases if one.patient == "patient1")
    rest = tuple(one for one in cases if one.patient != "patient1")
    save_split(path, Split(first, rest, ()), table(*cases, root=root))
    return path


def test_patients_of_another_hospital_may_have_the_same_names(tmp_path: Path) -> None:
    """Neither names a domain, and no image is in both: patient1 is another one there."""
    path = run_of(tmp_path / "here", p1_s0=b"a", p2_s0=b"b")
    there = [stored(tmp_path / "there", f"p{k}_s0", b"%d" % k, f"patient{k}") for k in (1, 2)]
    found = without_labeled(there, read_json(path))
    assert (ids(found.cases), found.labeled) == (["p1_s0", "p2_s0"], 0)
    assert (found.by_name, found.namesakes) == ((), ("patient1",))


@pytest.mark.parametrize("shown", ["p1_s0", "p2_s0", "folder"])
def test_without_a_domain_names_count_where_an_image_is_called_the_same(
    tmp_path: Path, shown: str
) -> None:
    """p1_s1 is new. A copy of p1_s0 shows patient1; one of p2_s0, or the folder, that names agree.

    The copy of p1_s0 is not scored either.
    """
    path = run_of(tmp_path / "here", p1_s0=b"a", p2_s0=b"b")
    root = tmp_path / ("here" if shown == "folder" else "there")
    cases = [stored(root, "p1_s1", b"new", "patient1"), stored(root, "p3_s0", b"3", "patient3")]
    if shown != "folder":
        content = (tmp_path / "here" / f"{shown}.png").read_bytes()
        cases.append(stored(root, shown, content, f"patient{shown[1]}"))
    found = without_labeled(cases, read_json(path))
    assert "p1_s1" not in ids(found.cases)
    assert "p3_s0" in ids(found.cases)
    assert found.labeled == (2 if shown == "p1_s0" else 1)
    assert found.by_name == (() if shown == "p1_s0" else ("patient1",))
    assert found.namesakes == ()


def test_an_image_shows_its_patient_under_another_name_and_domain(tmp_path: Path) -> None:
    path = run_of(tmp_path / "here", p1_s0=b"a", p2_s0=b"b")
    cases = [
        stored(tmp_path / "there", "b/copy", b"a", "B-7"),
        stored(tmp_path / "there", "b/new", b"c", "B-7"),
        stored(tmp_path / "there", "b/other", b"d", "B-8"),
    ]
    found = without_labeled(cases, read_json(path))
    assert (ids(found.cases), found.labeled, found.by_name) == (["b/other"], 2, ())


def test_a_blank_slice_shows_no_patient(tmp_path: Path) -> None:
    """The run has it of two patients: the one elsewhere is left out, but not its patient."""
    path = run_of(tmp_path / "here", p1_s0=b"blank", p1_s1=b"a", p2_s0=b"blank")
    cases = [
        stored(tmp_path / "there", name, content, "B-7")
        for name, content in (("b/0", b"blank"), ("b/1", b"c"))
    ]
    found = without_labeled(cases, read_json(path))
    assert (ids(found.cases), found.labeled) == (["b/1"], 1)


def test_patients_of_one_named_domain_are_known_by_name(tmp_path: Path) -> None:
    one = stored(tmp_path, "a/0", b"0", "p0")
    save_split(tmp_path / "split.json", Split((one,), (), ()), table(one, root=tmp_path))
    other = stored(tmp_path / "there", "a/0", b"1", "p0")
    found = without_labeled([other], read_json(tmp_path / "split.json"))
    assert (found.cases, found.labeled, found.by_name) == ((), 1, ("a p0",))


def test_a_damaged_split_is_told(tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text("{}")
    with pytest.raises(UserError, match=r"cannot read .*split.json") as told:
        load_split(tmp_path / "split.json", fix="the fix")
    assert (told.value.found, told.value.fix) == ("root = nothing", "the fix")


def test_a_split_in_which_a_case_trains_and_tests_is_refused(tmp_path: Path) -> None:
    """Someone moved a labeled case to the test set: its score would be too high."""
    path = tmp_path / "split.json"
    save_split(path, *written(tmp_path))
    value = read_json(path)
    value["test"].append(value["labeled"][0])
    write_json(path, value)
    with pytest.raises(UserError, match="cannot read") as told:
        load_split(path)
    assert told.value.found.endswith("is in labeled and in test")


def test_ten_patients_of_a_real_scanner(shared_data: Path) -> None:
    """ACDC's first five training patients have two slices each."""
    from synfoc.images.cases import load_cases

    data = Data(
        path=shared_data / "cardiac_sax", labeled=Labeled(domain="ACDC", patients=5), monitor=True
    )
    made = make_split(load_cases(data), data)
    assert [len(part) for part in (made.labeled, made.unlabeled, made.test)] == [10, 190, 94]
    assert {one.domain for one in made.labeled} == {"ACDC"}


def test_every_domain_has_a_draw_of_its_own() -> None:
    """Patients of the same numbers at two hospitals are not held out together by rule."""
    cases = table(*(case(f"{domain}/{k}") for domain in "ab" for k in range(9)))
    apart = 0
    for seed in range(5):
        held = ids(split(cases, seed).test)
        a, b = ([name[2:] for name in held if name[0] == domain] for domain in "ab")
        assert len(a) == len(b) == 2
        apart += a != b
    assert apart


def test_test_images_are_compared_with_all_that_train() -> None:
    """t is the labeled a, u the unlabeled b, v is like none."""
    prints = {f"{name}.png": {"sha256": code} for name, code in zip("abtuv", "12123", strict=True)}
    parts = [tuple(case(name) for name in names) for names in ("a", "b", "tuv")]
    assert equal_images(Split(*parts), prints, ROOT) == ["t", "u"]  # type: ignore[arg-type]
