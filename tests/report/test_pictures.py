"""Pictures: contours where the label is, and files that people can open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synfoc.errors import UserError
from synfoc.example_files import Example
from synfoc.report.page import report
from synfoc.report.pictures import contours, example_html, write_pictures
from synfoc.runs import RunFolder


def test_a_contour_runs_around_its_pixels() -> None:
    """Rows 2..3 and columns 4..6: the outline at half height spans x 4..7 and y 2..4."""
    label = np.zeros((8, 10), np.uint8)
    label[2:4, 4:7] = 1
    [(k, points)] = contours(label)
    assert k == 1
    assert (points.min(0).tolist(), points.max(0).tolist()) == ([4, 2], [7, 4])
    assert np.array_equal(points[0], points[-1])


def test_a_contour_at_the_border_closes() -> None:
    [(_, points)] = contours(np.ones((3, 3), np.uint8))
    assert (points.min(), points.max()) == (0, 3)
    assert np.array_equal(points[0], points[-1])


def test_a_ring_is_drawn_once_where_another_class_fills_it() -> None:
    """Class 2 around class 1: one outline each; around background: its hole has its own."""
    label = np.zeros((9, 9), np.uint8)
    label[1:8, 1:8] = 2
    label[3:6, 3:6] = 1
    assert [k for k, _ in contours(label)] == [1, 2]
    label[3:6, 3:6] = 0
    assert [k for k, _ in contours(label)] == [2, 2]


def test_an_empty_label_has_no_contour() -> None:
    assert list(contours(np.zeros((4, 4), np.uint8))) == []


def example(side: int, spacing: tuple[float, float] | None = None) -> Example:
    image = np.full((side, side // 2), 90, np.uint8)
    label = np.ones_like(image)
    return Example("a<b", "A", "best", image, label, {"unet": label}, {"unet": 0.5}, spacing)


def test_a_large_image_is_shrunk_and_a_noisy_one_becomes_jpeg() -> None:
    html = example_html(example(1000), "k", ["unet", "medsam"])
    assert 'viewBox="0 0 192 384"' in html
    assert "U-Net <b>50.0</b>" in html
    assert "a&lt;b" in html
    assert "MedSAM" not in html
    assert "data:image/png" in html
    color = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    label = np.zeros((300, 300), np.uint8)
    noisy = Example("c", None, "worst", color, label, {"unet": label}, {"unet": None})
    html = example_html(noisy, "k", ["unet"])
    assert "data:image/jpeg" in html
    assert "U-Net <b>–</b>" in html


def test_pixels_that_are_not_square_are_shown_true() -> None:
    """100 rows of 2 mm and 50 columns of 1 mm: four times as tall as wide."""
    html = example_html(example(100, spacing=(2.0, 1.0)), "k", ["unet"])
    assert 'preserveAspectRatio="none" style="aspect-ratio: 0.250"' in html


def test_pictures_are_written_as_png(make_run: Callable[..., Path]) -> None:
    run = RunFolder(make_run(domains=("A", "北 $x$"), branches=("unet",)))
    made = write_pictures(run, run.read_examples()[0])
    names = [path.name for path in made]
    assert names == ["overview.png", "A__cases.png", "北_x_-82332f40__cases.png"]
    with Image.open(made[0]) as picture:
        assert picture.width > 300
        assert picture.height > 300


def test_a_run_without_examples_makes_no_picture(make_run: Callable[..., Path]) -> None:
    run = RunFolder(make_run(evaluated=False))
    assert run.read_examples() == ([], [])
    assert write_pictures(run, []) == []


def test_a_folder_in_the_way_of_a_picture_stops_a_report_before_it_writes(
    make_run: Callable[..., Path],
) -> None:
    run = make_run()
    (run / "pictures" / "overview.png").mkdir(parents=True)
    before = sorted(run.rglob("*"))
    with pytest.raises(UserError, match=r"cannot write .*overview\.png"):
        report([run])
    assert sorted(run.rglob("*")) == before
