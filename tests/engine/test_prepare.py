"""What the data decide before the first step."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from synfoc.config import Config, parse_config
from synfoc.engine.prepare import prepare
from synfoc.errors import UserError


@pytest.fixture
def own(squares: Path, tmp_path: Path) -> Path:
    """A copy of the squares, to be changed."""
    return Path(shutil.copytree(squares, tmp_path / "own"))


def test_labels_in_colors_name_their_classes_in_the_stored_config(
    own: Path, settings: Callable[..., Config]
) -> None:
    """The resolved config, read back, gives the same labels; a mapping by name needs no classes."""
    for mask in own.rglob("mask/*.png"):
        with Image.open(mask) as picture:
            label = np.asarray(picture)
        Image.fromarray(np.dstack([label * np.uint8(200), label * 0, label * 0])).save(mask)
    prepared = prepare(settings(f"data.path={own}", 'data.colors={square: "#c80000"}'))
    assert prepared.table.classes == ("square",)
    stored = parse_config(yaml.safe_load(prepared.config.to_yaml()))
    assert stored.data.colors == {"#c80000": "square"}
    assert stored.data.classes == ("square",)
    assert prepare(stored).table.decode == prepared.table.decode


def test_how_axes_were_understood_is_told_before_the_first_step(
    own: Path, settings: Callable[..., Config]
) -> None:
    """The first image of each folder is read; that of a third scanner has its channels first."""
    before = prepare(settings(f"data.path={own}"))
    assert before.config.data.channels == 1
    folder = own / "gamma/train/image"
    folder.mkdir(parents=True)
    color = np.random.default_rng(0).integers(0, 255, (3, 32, 32), np.uint8)
    np.save(folder / "a.npy", color)
    after = prepare(settings(f"data.path={own}"))
    assert after.config.data.channels == 3
    assert [note for note in after.notices if note not in before.notices] == [
        "NPY of 8 bits with 3 on the first axis: read as color, channels first"
    ]


def test_a_class_of_test_labels_alone_stops_a_run_before_its_first_step(
    own: Path, settings: Callable[..., Config]
) -> None:
    """Labeled images show class 1 alone; with both classes named the run may begin."""
    mask = next(own.glob("*/test/mask/*.png"))
    with Image.open(mask) as picture:
        label = np.array(picture)
    label[0, 0] = 2
    Image.fromarray(label).save(mask)
    with pytest.raises(UserError, match="does not fit the classes") as refused:
        prepare(settings(f"data.path={own}"))
    assert "--set 'data.classes=[class1,class2]'" in refused.value.fix
    prepared = prepare(settings(f"data.path={own}", "data.classes=[class1, class2]"))
    assert "class2: in no label of the labeled images" in prepared.notices
