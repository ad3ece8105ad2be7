"""The config: defaults of the paper, closed to typos, one error per mistake, readable back."""

from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from synfoc.config import METHODS, Config, MethodName, load_config, parse_config
from synfoc.errors import UserError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
FILES = sorted(CONFIGS.glob("*.yaml"))


def written(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def error_of(*changes: str, tree: dict[str, Any] | None = None) -> UserError:
    with pytest.raises(UserError) as caught:
        parse_config({"data": {"path": "d"}} if tree is None else tree, changes)
    return caught.value


def test_every_config_of_the_project_loads() -> None:
    assert {path.stem for path in FILES} == {"demo", "prostate", "fundus", "mnms", "busi"}
    for path in FILES:
        assert load_config(path).train.seed == (1 if path.stem == "demo" else 1337)


@pytest.mark.parametrize(
    ("name", "side", "channels", "classes_nested", "steps", "batch", "count", "brightness"),
    [
        ("prostate", 384, 1, False, 60_000, 4, 20, (0.1, 2.0)),
        ("fundus", 256, 3, True, 30_000, 4, 20, (0.5, 1.5)),
        ("mnms", 288, 1, False, 60_000, 2, 5, (0.1, 2.0)),
        ("busi", 256, 1, False, 30_000, 4, 64, (0.1, 2.0)),
    ],
)
def test_the_papers_settings(
    name: str,
    side: int,
    channels: int,
    classes_nested: bool,
    steps: int,
    batch: int,
    count: int,
    brightness: tuple[float, float],
) -> None:
    """Section 4.2 of the paper and the authors' code, one row per data set."""
    config = load_config(CONFIGS / f"{name}.yaml")
    assert (config.data.set, config.data.channels, config.data.nested) == (
        name,
        channels,
        classes_nested,
    )
    assert config.data.labeled.count == count
    assert (config.unet.side, config.unet.width) == (side, 64)
    assert (config.medsam.weights, config.medsam.side, config.medsam.rank) == ("medsam", 512, 4)
    assert (config.train.steps, config.method.batch) == (steps, batch)
    assert config.augment.brightness == config.augment.contrast == brightness


def test_defaults_are_the_papers_method() -> None:
    config = parse_config({"data": {"path": "d"}})
    method = config.method
    assert (method.name, method.fusion, method.consistency) == ("synfoc", "smc", "cdcr")
    assert (method.tau, method.ema_decay, method.paste_area) == (0.95, 0.99, (0.02, 0.4))
    assert (config.unet.lr, config.unet.momentum, config.unet.weight_decay) == (0.03, 0.9, 1e-4)
    assert (config.medsam.betas, config.medsam.weight_decay) == ((0.9, 0.999), 0.1)
    assert config.medsam.lr == pytest.approx(0.03 / 250)
    assert config.data.monitor is False


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_config_read_back_is_equal(path: Path, tmp_path: Path) -> None:
    """The resolved copy in a run folder repeats the run."""
    config = load_config(path)
    assert load_config(written(tmp_path, config.to_yaml())) == config


def test_changes_win_over_the_file_and_are_yaml(tmp_path: Path) -> None:
    path = written(tmp_path, "data: {path: a}\ntrain: {steps: 10}")
    changes = (
        "data.path=b c/ü",
        "train.steps=20",
        "method.paste_area=[0.1, 0.2]",
        "data.remap={255: 1}",
        "data.labeled.domain=A",
        "train.tensorboard=true",
    )
    config = load_config(path, changes)
    assert config.data.path == Path("b c/ü")
    assert config.train.steps == 20
    assert config.method.paste_area == (0.1, 0.2)
    assert config.data.remap == {255: 1}
    assert config.data.labeled.domain == "A"
    assert config.train.tensorboard


def test_changes_leave_the_tree_that_was_given_alone() -> None:
    tree = {"data": {"path": "a", "labeled": {"domain": "A"}}}
    parse_config(tree, ("data.labeled.domain=B", "data.path=b"))
    assert tree == {"data": {"path": "a", "labeled": {"domain": "A"}}}


def test_a_config_cannot_be_changed() -> None:
    config = parse_config({"data": {"path": "d"}})
    with pytest.raises(ValidationError, match="frozen"):
        config.train.steps = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("train.step=5", "train.steps"),
        ("trian.steps=5", "train"),
        ("method.alfa=0.1", "method.alpha"),
        ("data.labelled.count=4", "data.labeled"),
        ("unet.with=16", "unet.width"),
    ],
)
def test_an_unknown_key_names_the_nearest(typo: str, meant: str) -> None:
    error = error_of(typo)
    assert "unknown key" in error.what
    assert meant in error.fix


@pytest.mark.parametrize(
    ("change", "expected", "fix"),
    [
        ("train.steps=many", "a whole number", "change train.steps"),
        ("train.steps=1.5", "a whole number", "change train.steps"),
        ("train.steps=0", "at least 1", "change train.steps"),
        ("medsam.lr=-1", "more than 0.0", "change medsam.lr"),
        ("medsam.lr=.inf", "a finite number", "change medsam.lr"),
        ("method.alpha=2", "at most 1.0", "change method.alpha"),
        ("data.test_fraction=1", "less than 1.0", "change data.test_fraction"),
        ("data.nested=perhaps", "true or false", "change data.nested"),
        ("data.classes=cup", "a list, such as [a, b]", "change data.classes"),
        ("data.classes=[cup, 3]", "text", "change data.classes.1"),
        ("data.remap={a: 1}", "a whole number", "change data.remap.a"),
        ("data.labeled=IDRiD", "keys with values, as key: value", "change data.labeled"),
        ("data.path=", "a path", "change data.path"),
        (
            "data.slice_axis=5",
            "'axial', 'coronal', 'sagittal', 0, 1 or 2",
            "change data.slice_axis",
        ),
        ("augment.contrast=[1]", "a value", "add augment.contrast.1"),
        ("method.name=synfc", "'synfoc', 'supervised'", "did you mean method.name = synfoc?"),
        ("method.fusion=average", "'smc'", "change method.fusion"),
    ],
)
def test_a_wrong_value_is_told_in_plain_words(change: str, expected: str, fix: str) -> None:
    error = error_of(change)
    assert error.expected.startswith(expected)
    assert error.fix == fix
    assert "Input" not in error.expected
    assert "valid" not in error.expected


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("train.steps=many", "train.steps"),
        ("train.steps=0", "train.steps"),
        ("method.tau=1", "method.tau"),
        ("method.tau=0", "method.tau"),
        ("method.fusion=mean", "method.fusion"),
        ("unet.side=100", "unet"),
        ("unet.side=8", "unet.side"),
        ("medsam.side=250", "medsam"),
        ("medsam.lr=-1", "medsam.lr"),
        ("method.paste_area=0.3", "method.paste_area"),
        ("data.test_fraction=1", "data.test_fraction"),
        ("data.channels=2", "data.channels"),
        ("data.set=lungs", "data.set"),
        ("data.remap=[1]", "data.remap"),
        ("train.precision=fp8", "train.precision"),
        ("train.devices=0", "train.devices"),
        ("train=5", "train"),
        ("data.classes=[a, a, b]", "data.classes"),
        ("train.seed=99999999999999999999", "train.seed"),
        ("augment.zoom=[2, 1]", "augment.zoom"),
        ("method.paste_area=[0.5, 0.1]", "method.paste_area"),
        ("unet.side=65", "unet.side"),
    ],
)
def test_a_wrong_value_names_its_key_and_what_would_do(change: str, key: str) -> None:
    error = error_of(change)
    assert key in error.what
    assert error.expected
    assert key in error.fix


@pytest.mark.parametrize("text", ["{255:1}", "{255: 1}", "{0:0,255:1}", "{0: 0, 255:1}"])
def test_a_remap_is_read_with_or_without_a_space(text: str) -> None:
    """YAML 1.1 takes 255:1 for 255 * 60 + 1 = 15301."""
    config = parse_config({"data": {"path": "x"}}, (f"data.remap={text}",))
    assert config.data.remap in ({255: 1}, {0: 0, 255: 1})


@pytest.mark.parametrize("path", ["/scans/exam 12:30", "a, 1:2", "2024-05-01 12:30:00"])
def test_a_path_is_taken_as_it_is(path: str) -> None:
    config = parse_config({"data": {"path": "x"}}, (f"data.path='{path}'",))
    assert str(config.data.path) == path


@pytest.mark.parametrize(
    "change",
    [
        "medsam.betas=[1.0, 0.999]",
        "augment.blur=[-2, -1]",
        "augment.zoom=[0, 1]",
        "augment.brightness=[-0.5, 1]",
        "method.paste_area=[0, 0.4]",
        "method.paste_area=[0.1, 0.95]",
    ],
)
def test_values_that_training_cannot_use_are_refused_at_once(change: str) -> None:
    assert change.partition("=")[0] in error_of(change).what


def test_an_error_is_short_whatever_was_given() -> None:
    assert len(error_of("train=" + "x" * 5000).found) < 100


def test_a_key_that_is_like_none_gets_no_guess() -> None:
    assert "did you mean" not in error_of("foo.bar=1").fix


def test_labeled_images_are_chosen_by_one_rule() -> None:
    both = error_of("data.labeled.count=4", "data.labeled.patients=2")
    assert "not both" in both.expected
    alone = error_of("data.labeled.list=l.txt", "data.labeled.count=4")
    assert "stands alone" in alone.expected


def test_a_config_without_data_says_so() -> None:
    error = error_of(tree={"train": {"steps": 5}})
    assert "data" in error.what


@pytest.mark.parametrize("change", ["train.steps", "=5", ""])
def test_a_change_that_is_no_change(change: str) -> None:
    assert "key=value" in error_of(change).expected


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("data: {path: [", "while parsing"),
        ("- a\n- b", "list"),
        ("", "an empty file"),
        ("# nothing", "NoneType"),
        ("just words", "str"),
    ],
)
def test_a_file_that_is_no_config(tmp_path: Path, text: str, found: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(written(tmp_path, text))
    assert found in caught.value.found


def test_a_missing_or_binary_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no config at"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="is not YAML"):
        load_config(tmp_path / "b.yaml")


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        load_config(tmp_path)


def test_every_key_has_a_default_but_the_data_path() -> None:
    assert Config.model_validate({"data": {"path": "d"}}).data.path == Path("d")
    with pytest.raises(ValidationError):
        Config.model_validate({})


def test_every_method_has_a_row_with_a_title_of_its_own() -> None:
    assert tuple(METHODS) == get_args(MethodName)
    assert len({about.title for about in METHODS.values()}) == len(METHODS)


def test_one_change_may_stand_for_itself(tmp_path: Path) -> None:
    """Not letter by letter."""
    file = tmp_path / "c.yaml"
    file.write_text("data: {path: d}")
    assert load_config(file, "train.steps=5") == load_config(file, ["train.steps=5"])
    assert parse_config({"data": {"path": "d"}}, "train.steps=5").train.steps == 5


@pytest.mark.parametrize(
    "change",
    [
        "unet.width=4611686018427387904",
        "method.batch=9999999999999999999999",
        "medsam.rank=1000000",
        "train.devices=100000",
        "data.cache_gib=1e300",
        "data.remap={1: 99999999999999999999}",
        "data.remap={99999999999999999999: 1}",
    ],
)
def test_numbers_that_no_machine_can_hold_are_refused_here(change: str) -> None:
    """Not by an overflow somewhere in torch or numpy."""
    error = error_of(change)
    assert change.partition("=")[0] in error.what
    assert "at most" in error.expected or "less than" in error.expected


@pytest.mark.parametrize(
    "change", ['medsam.weights="\\ud800"', 'data.classes=[a, "b\\udfff"]', 'data.path="x\\ud83d"']
)
def test_half_a_character_is_refused_before_anything_is_written(change: str) -> None:
    """YAML can name one; no file of the run could hold it."""
    assert change.partition("=")[0] in error_of(change).what


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        (("method.batch=1",), False),
        (("method.batch=2",), True),
        (("method.batch=2", "train.devices=2"), False),
        (("method.batch=1", "method.branches=medsam"), True),
        (("method.batch=2", "method.branches=unet", "method.name=bcp"), False),
        (("method.batch=4", "method.branches=unet", "method.name=bcp"), True),
    ],
)
def test_one_image_of_16_pixels_is_too_little_for_batch_norm(
    changes: tuple[str, ...], fits: bool
) -> None:
    """16 px are 1 px after four halvings; bcp shows half of a batch, a process its share of it."""
    changes = ("unet.side=16", *changes)
    if fits:
        assert parse_config({"data": {"path": "d"}}, changes).unet.side == 16
    else:
        assert "at least 32, not 16, or method.batch larger" in error_of(*changes).expected
