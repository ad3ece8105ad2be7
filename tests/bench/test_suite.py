"""SUITE.yaml: which cells it makes, where their settings come from, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from synfoc.bench.suite import Suite, cells_of, label_name, load_suite
from synfoc.config import Labeled
from synfoc.errors import UserError

SuiteFile = Callable[..., Path]
SUITES = sorted((Path(__file__).parents[2] / "suites").glob("*.yaml"))


def test_cells_are_the_product_with_seeds_outermost(suite_file: SuiteFile) -> None:
    cells = cells_of(load_suite(suite_file(seeds=[1, 2])), Path("data"))
    assert [cell.name for cell in cells[:5]] == [
        "squares/alpha-4/supervised/seed1",
        "squares/alpha-4/synfoc/seed1",
        "squares/beta-4/supervised/seed1",
        "squares/beta-4/synfoc/seed1",
        "squares/alpha-4/supervised/seed2",
    ]
    assert len(cells) == 2 * 2 * 2


def test_one_change_may_stand_for_itself(suite_file: SuiteFile) -> None:
    assert load_suite(suite_file(), "train.steps=9") == load_suite(suite_file(), ["train.steps=9"])


def test_settings_come_from_base_then_data_then_method(suite_file: SuiteFile) -> None:
    data = {
        "squares": {
            "path": "here",
            "labeled": [{"count": 4}],
            "settings": {"unet": {"width": 8}, "train": {"steps": 9}},
        }
    }
    methods = {"one": {"title": "One", "settings": {"train": {"steps": 12}}}}
    (cell,) = cells_of(load_suite(suite_file(data=data, methods=methods)), Path("root"))
    config = cell.config
    assert (config.unet.side, config.unet.width, config.train.steps) == (32, 8, 12)
    assert config.data.path == Path("root/here")
    assert config.train.seed == 1


def test_the_test_set_is_watched_only_for_the_paper_s_protocol(suite_file: SuiteFile) -> None:
    both = cells_of(load_suite(suite_file()), Path())
    honest = cells_of(load_suite(suite_file(protocols=["honest"])), Path())
    assert all(cell.config.train.watch_test for cell in both)
    assert not any(cell.config.train.watch_test for cell in honest)
    assert {cell.config.train.rule for cell in both} == {"honest"}


def test_a_suite_is_read_back_from_what_it_writes(suite_file: SuiteFile, tmp_path: Path) -> None:
    suite = load_suite(suite_file())
    copy = tmp_path / "copy.yaml"
    copy.write_text(suite.to_yaml())
    assert load_suite(copy) == suite


def test_a_data_set_may_begin_with_a_config(suite_file: SuiteFile, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("data: {path: elsewhere, nested: true}\nunet: {side: 64}\n")
    entry = {"path": ".", "labeled": [{"count": 2}], "config": "own.yaml"}
    (cell, _) = cells_of(load_suite(suite_file(data={"own": entry}, base={})), Path("d"))
    assert (cell.config.unet.side, cell.config.data.nested) == (64, True)
    assert cell.config.data.path == Path("d")


def test_a_change_of_every_cell_wins_over_what_the_suite_says(
    suite_file: SuiteFile, tmp_path: Path
) -> None:
    """Also over the config of a data set and the settings of a method; it is stored."""
    (tmp_path / "own.yaml").write_text("unet: {side: 64}\n")
    entry = {"path": ".", "labeled": [{"count": 2}], "config": "own.yaml"}
    methods = {"one": {"title": "One", "settings": {"unet": {"side": 96}, "train": {"steps": 9}}}}
    path = suite_file(data={"own": entry}, methods=methods)
    suite = load_suite(path, ("unet.side=32", "train.steps=5"))
    (tmp_path / "copy.yaml").write_text(suite.to_yaml())
    for one in (suite, load_suite(tmp_path / "copy.yaml")):
        for cell in cells_of(one, Path()):
            assert (cell.config.unet.side, cell.config.train.steps) == (32, 5)


@pytest.mark.parametrize("change", ["train.seed=3", "data.labeled.count=5", "data.path=x"])
def test_what_tells_cells_apart_cannot_be_changed_for_all(
    suite_file: SuiteFile, change: str
) -> None:
    with pytest.raises(UserError, match="cannot hold for every cell"):
        load_suite(suite_file(), (change,))


@pytest.mark.parametrize(
    ("labeled", "name"),
    [
        (Labeled(domain="a b/c", count=4), "a_b_c-4"),
        (Labeled(domain="A", patients=3), "A-3-patients"),
        (Labeled(), "all"),
        (Labeled(list=Path("x/mine.txt")), "mine"),
    ],
)
def test_a_choice_of_labels_has_a_name_that_is_a_folder(labeled: Labeled, name: str) -> None:
    assert label_name(labeled) == name


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_suite_that_comes_along_makes_cells(path: Path) -> None:
    suite = load_suite(path)
    cells = cells_of(suite, Path())
    assert len({cell.name for cell in cells}) == len(cells) > 1
    assert suite.against == "synfoc"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seedz": [1]}, "did you mean seeds?"),
        ({"data": {"x": {"path": ".", "labeld": []}}}, "data.x.labeled"),
        ({"reference": "nobody"}, "reference nobody is none of the methods"),
        ({"seeds": [1, 1]}, "named twice"),
        ({"seeds": list(range(20_000))}, "a suite has at most 10000"),
        ({"protocols": ["strict"]}, "'honest' or 'paper'"),
        ({"methods": {}}, "at least 1"),
        ({"methods": {"a/b": {"title": "x"}}}, "pattern"),
        ({"data": {"x": {"path": ".", "labeled": [{"count": 1}, {"count": 1}]}}}, "one choice"),
        ({"base": {"train": {"seed": 7}}}, "base cannot name .*train.seed"),
        ({"base": {"train": {"watch_test": True}}}, "paper watches the test set"),
        (
            {"methods": {"a": {"title": "A", "settings": {"data": {"path": "x"}}}}},
            "methods.a.settings cannot name",
        ),
    ],
)
def test_a_wrong_suite_is_refused(
    suite_file: SuiteFile, changes: dict[str, object], told: str
) -> None:
    with pytest.raises(UserError, match=told.replace("?", r"\?")):
        load_suite(suite_file(**changes))


def test_a_wrong_setting_of_one_cell_is_told_before_anything_runs(suite_file: SuiteFile) -> None:
    methods = {"one": {"title": "One", "settings": {"train": {"stepz": 3}}}}
    with pytest.raises(UserError, match=r"suite squares: squares, one: unknown key train.stepz"):
        cells_of(load_suite(suite_file(methods=methods)), Path())


def test_a_section_that_is_no_mapping_is_told_and_not_replaced_by_defaults(
    suite_file: SuiteFile,
) -> None:
    """`train: 3` would else train 30,000 steps."""
    suite = load_suite(suite_file(base={"train": 3}))
    with pytest.raises(UserError, match="train cannot be used"):
        cells_of(suite, Path("/data"))


def test_no_suite_and_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no suite at"):
        load_suite(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("[1, 2]")
    with pytest.raises(UserError, match="is not a suite"):
        load_suite(tmp_path / "list.yaml")


def test_the_reference_is_named_or_synfoc_or_the_first() -> None:
    def suite(*methods: str, reference: str | None = None) -> Suite:
        rows = {key: {"title": key} for key in methods}
        data = {"d": {"path": ".", "labeled": [{}]}}
        tree = {"name": "s", "data": data, "methods": rows, "reference": reference}
        return Suite.model_validate(yaml.safe_load(yaml.safe_dump(tree)))

    assert suite("a", "b").against == "a"
    assert suite("a", "synfoc").against == "synfoc"
    assert suite("a", "synfoc", reference="a").against == "a"
