"""Weak and strong views against arithmetic by hand, Pillow, scipy and a plain twin with loops."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from scipy import ndimage

from synfoc.batches.augment import (
    WeakViews,
    draw_regions,
    elastic_smoothing,
    gaussian_blur,
    strong_views,
    warp_images,
    warp_labels,
)
from synfoc.config import Augment
from synfoc.errors import UserError

CPU = torch.device("cpu")
NOTHING = {"zoom": (1.0, 1.0), "degrees": 0, "elastic_alpha": 0.0}


def seeded(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def grids_of(side: int, batch: int, number: int, **changes: object) -> torch.Tensor:
    augment = Augment.model_validate(changes)
    return WeakViews(augment, side, CPU).grids(batch, seeded(number))


def test_with_probability_zero_the_weak_view_is_the_image(generator: torch.Generator) -> None:
    """Every transform has its own coin; none falls, so nothing moves."""
    x, y = torch.rand(3, 2, 40, 40), torch.randint(4, (3, 40, 40))
    grids = WeakViews(Augment(probability=0), 40, CPU).grids(3, generator)
    assert torch.allclose(warp_images(x, grids), x, atol=1e-5)
    assert torch.equal(warp_labels(y, grids, 40), y)


def test_a_flip_mirrors_left_and_right() -> None:
    """Only the flip is left when zoom is 1 and rotation and elastic are 0."""
    x, y = torch.rand(2, 1, 33, 33), torch.randint(3, (2, 33, 33))
    grids = grids_of(33, 2, 0, probability=1, **NOTHING)
    assert torch.allclose(warp_images(x, grids), x.flip(-1), atol=1e-5)
    assert torch.equal(warp_labels(y, grids, 33), y.flip(-1))


def test_each_transform_is_used_for_half_of_the_images() -> None:
    """4000 coins: 50 % +- 4 standard deviations of 0.8 %. A flip alone mirrors x."""
    grids = grids_of(16, 4000, 1, **NOTHING)
    flipped = (grids[:, 0, 0, 0] > 0).float().mean()
    assert flipped.item() == pytest.approx(0.5, abs=0.032)


def test_zoom_shows_a_smaller_part_of_the_image() -> None:
    """Factors U(1, 1.5): the view spans 1/1.5 to 1 of width and height, always inside the image.

    Mean share = ln(1.5) / 0.5 = 0.811; 2000 images and two directions.
    """
    side = 32
    grids = grids_of(side, 2000, 2, probability=1, degrees=0, elastic_alpha=0)
    span = grids.amax((2, 3)) - grids.amin((2, 3))
    share = span / (2 * (side - 1) / side)
    assert share.min() >= 1 / 1.5 - 1e-5
    assert share.max() <= 1 + 1e-5
    assert share.mean().item() == pytest.approx(0.811, abs=0.006)
    assert abs(np.corrcoef(share.T.numpy())[0, 1]) < 0.1
    assert grids.abs().max() < 1


def test_rotation_is_a_whole_number_of_degrees_and_makes_black_corners() -> None:
    """Direction of the top row of the (mirrored) view: whole degrees from -20 to 20, all 41."""
    grids = grids_of(64, 1500, 3, probability=1, zoom=(1, 1), elastic_alpha=0)
    way = grids[:, :, 0, 0] - grids[:, :, 0, -1]
    degrees = torch.rad2deg(torch.atan2(way[:, 1], way[:, 0]))
    assert (degrees - degrees.round()).abs().max() < 1e-3
    assert set(degrees.round().int().tolist()) == set(range(-20, 21))

    turned = degrees.abs() > 10
    white = warp_images(torch.ones(1500, 1, 64, 64), grids)[turned]
    assert white[:, 0, 0, 0].max() == 0
    assert white[:, 0, 32, 32].min() == 1


def test_rotation_agrees_with_pillow() -> None:
    """A smooth blob turned by the drawn angle, after a flip: mean difference below 1/255."""
    side = 96
    row = torch.arange(side) - side / 2
    blob = torch.exp(-((row[:, None] - 12) ** 2 / 200 + (row + 20) ** 2 / 500))
    grids = grids_of(side, 1, 5, probability=1, zoom=(1, 1), elastic_alpha=0)
    way = grids[0, :, 0, 0] - grids[0, :, 0, -1]
    degrees = math.degrees(math.atan2(way[1], way[0]))
    view = warp_images(blob[None, None], grids)[0, 0]
    # Our angle turns the place that is read, so Pillow's turns the picture; both are mirrored.
    turned = Image.fromarray(blob.numpy()).rotate(degrees, Image.Resampling.BILINEAR)
    assert abs(degrees) > 5
    assert np.abs(view.numpy()[:, ::-1] - np.array(turned)).mean() < 1 / 255


def test_elastic_smoothing_is_scipys_gaussian_filter() -> None:
    """With one number per pixel: gaussian_filter(noise, 0.08 S, mode="constant")."""
    side = 64
    noise = np.random.default_rng(0).uniform(-1, 1, (side, side)).astype(np.float32)
    smooth = elastic_smoothing(side, 0.08, cells=side)
    ours = (smooth @ torch.from_numpy(noise) @ smooth.T).numpy()
    theirs = ndimage.gaussian_filter(noise, 0.08 * side, mode="constant", cval=0)
    assert np.abs(ours - theirs).max() < 1e-6


@pytest.mark.parametrize("side", [128, 288, 512])
def test_elastic_smoothing_with_few_cells_has_the_same_covariance(side: int) -> None:
    """Noise of variance 1/3 gives rows of covariance A A^T: the same within 0.2 %."""
    fine, coarse = elastic_smoothing(side, 0.08, cells=side), elastic_smoothing(side, 0.08)
    assert coarse.shape == (side, 63)
    exact = fine @ fine.T
    assert (coarse @ coarse.T - exact).abs().max() < 0.002 * exact.max()


def test_elastic_fields_are_as_strong_as_the_authors() -> None:
    """Spread of gaussian(U(-1, 1), s) * 2 S in the middle: 2 S / sqrt(3) / (2 sqrt(pi) s) = 4.07 px

    for s = 0.08 S, whatever S is; 600 images and two directions give +- 2 % each.
    """
    side = 96
    none = grids_of(side, 600, 8, probability=1, zoom=(1, 1), degrees=0, elastic_alpha=0)
    some = grids_of(side, 600, 8, probability=1, zoom=(1, 1), degrees=0)
    pixels = (some - none)[:, :, side // 2, side // 2] * side / 2
    assert pixels.std().item() == pytest.approx(4.07, rel=0.06)
    assert pixels.mean().abs() < 0.5


def test_the_composed_grid_equals_the_four_steps_walked_pixel_by_pixel() -> None:
    """A twin in plain Python with the same draws: zoom(rotate(flip(pixel + elastic)))."""
    side, augment = 24, Augment(probability=1)
    grid = WeakViews(augment, side, CPU).grids(1, seeded(11))[0]

    g = seeded(11)
    torch.rand(4, 1, generator=g)  # the coins
    factor = 1 + 0.5 * torch.rand(1, 2, generator=g)[0].double()
    corner = torch.rand(1, 2, generator=g)[0].double()
    degrees = int(torch.randint(-20, 21, (1,), generator=g))
    noise = 2 * torch.rand(2, 24, 24, generator=g).double().numpy() - 1
    dx, dy = (ndimage.gaussian_filter(n, 0.08 * side, mode="constant") * 2 * side for n in noise)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    middle = (side - 1) / 2
    for i, j in [(0, 0), (5, 17), (12, 12), (23, 3), (20, 23)]:
        x, y = j + dx[i, j], i + dy[i, j]
        x = side - 1 - x
        x, y = x - middle, y - middle
        x, y = cos * x - sin * y + middle, sin * x + cos * y + middle
        scaled_x, scaled_y = (
            x + corner[0] * side * (factor[0] - 1),
            y + corner[1] * side * (factor[1] - 1),
        )
        source = (scaled_x + 0.5) / factor[0] - 0.5, (scaled_y + 0.5) / factor[1] - 0.5
        ours = (grid[:, i, j].double() + 1) * side / 2 - 0.5
        assert ours.tolist() == pytest.approx([float(s) for s in source], abs=1e-3)


def test_label_and_image_move_together(generator: torch.Generator) -> None:
    """An image equal to its label stays so: below and above 1/2 up to pixels on an edge (1 %)."""
    side, n = 64, 32
    disc = ((torch.arange(side)[:, None] - 30) ** 2 + (torch.arange(side) - 36) ** 2) < 18**2
    y = disc.expand(n, -1, -1)
    grids = WeakViews(Augment(), side, CPU).grids(n, generator)
    image, label = warp_images(y[:, None].float(), grids)[:, 0], warp_labels(y, grids, side)
    assert ((image > 0.5) != label.bool()).float().mean() < 0.01
    assert len({int(one.sum()) for one in label}) > n // 2, "the views differ"


def test_a_smaller_label_is_the_nearest_pixel_of_the_larger(generator: torch.Generator) -> None:
    """Labels at L and P come from the grid at R, in one read: the same as two reads."""
    y = torch.randint(5, (4, 48, 48))
    grids = WeakViews(Augment(), 48, CPU).grids(4, generator)
    large, small = warp_labels(y, grids, 48), warp_labels(y, grids, 12)
    assert torch.equal(small, large[:, 2::4, 2::4])


def test_outside_the_image_is_black_and_background() -> None:
    """Shrinking to half (zoom 1/2) leaves a quarter of the view; the rest is 0 in both."""
    grids = grids_of(32, 8, 4, probability=1, zoom=(0.5, 0.5), degrees=0, elastic_alpha=0)
    image = warp_images(torch.ones(8, 1, 32, 32), grids)
    label = warp_labels(torch.ones(8, 32, 32), grids, 32)
    assert label.float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert (image[:, 0][label == 0] <= 0.5).all()


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(("brightness", "contrast"), [(0.4, 1.7), (1.8, 0.3), (1.0, 1.0)])
def test_strong_view_is_pillows_brightness_and_contrast(
    mode: str, brightness: float, contrast: float
) -> None:
    """Reference: ImageEnhance, whose 8-bit rounding (three times) is the whole difference."""
    rng = np.random.default_rng(1)
    shape = (40, 40) if mode == "L" else (40, 40, 3)
    picture = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
    expected = ImageEnhance.Brightness(picture).enhance(brightness)
    expected = np.array(ImageEnhance.Contrast(expected).enhance(contrast)) / 255
    x = torch.from_numpy(np.array(picture)).view(1, 40, 40, -1).movedim(-1, 1) / 255
    augment = Augment(
        brightness=(brightness, brightness), contrast=(contrast, contrast), blur=(0, 0)
    )
    ours = strong_views(x, augment, seeded(0))[0].movedim(0, -1).squeeze(-1).numpy()
    assert np.abs(ours - expected).max() < (1 + contrast + 0.5) / 255


def test_strong_view_draws_for_each_image_and_leaves_the_weak_one_alone() -> None:
    """Four equal images become four different ones inside [0, 1]."""
    weak = torch.rand(1, 1, 32, 32).expand(4, -1, -1, -1).clone()
    before = weak.clone()
    strong = strong_views(weak, Augment(), seeded(2))
    assert torch.equal(weak, before)
    assert strong.min() >= 0
    assert strong.max() <= 1
    assert len({round(float(view.mean()), 4) for view in strong}) == 4


def test_blur_is_a_gaussian_per_image() -> None:
    """Reference: scipy with mirrored edges, for sigmas from none to 2 px."""
    x, sigma = torch.rand(3, 2, 48, 48), torch.tensor([0.01, 0.7, 2.0])
    ours = gaussian_blur(x, sigma)
    for image, s, blurred in zip(x, sigma, ours, strict=True):
        for channel, result in zip(image, blurred, strict=True):
            expected = ndimage.gaussian_filter(
                channel.numpy(), float(s), mode="mirror", truncate=6 * 2.0 / float(s)
            )
            assert np.abs(result.numpy() - expected).max() < 6e-5


def test_blur_is_in_pixels_of_the_view() -> None:
    """sigma 2: a white pixel keeps (1 / (1 + 2 sum exp(-r^2 / 8)))^2 = 1 / 5.0133^2 = 0.0398."""
    x = torch.zeros(1, 1, 128, 128)
    x[..., 64, 64] = 1
    augment = Augment(brightness=(1, 1), contrast=(1, 1), blur=(2, 2))
    kept = strong_views(x, augment, seeded(0))[..., 64, 64].item()
    assert kept == pytest.approx(0.0398, abs=1e-4)


def test_regions_are_rectangles_of_the_drawn_area() -> None:
    """2 % to 40 % of the image, less what whole pixels cut off; aspects from 0.3 to 1 / 0.3."""
    side = 128
    regions = draw_regions(1000, side, (0.02, 0.4), seeded(3))
    height, width = regions.any(2).sum(1), regions.any(1).sum(1)
    assert torch.equal(regions.sum((1, 2)), height * width)
    share = (height * width).double() / side**2
    assert share.min() > 0.015
    assert share.max() <= 0.4
    aspect = height / width
    assert aspect.min() > 0.28
    assert aspect.max() < 3.6


def region_by_loop(side: int, rng: np.random.RandomState) -> tuple[int, int, int, int]:
    """Top, bottom, left and right as method.md states them, in plain Python."""
    area = rng.uniform(0.02, 0.4) * side**2
    while True:
        aspect = rng.uniform(0.3, 1 / 0.3)
        w, h = int(math.sqrt(area / aspect)), int(math.sqrt(area * aspect))
        x, y = rng.randint(0, side), rng.randint(0, side)
        if x + w <= side and y + h <= side:
            return y, y + h, x, x + w


@pytest.mark.parametrize(
    ("seed", "side", "region"),
    [(0, 384, (87, 329, 39, 177)), (3, 96, (20, 67, 38, 82)), (5, 32, (4, 22, 8, 13))],
)
def test_the_plain_loop_draws_what_the_authors_code_draws(
    seed: int, side: int, region: tuple[int, ...]
) -> None:
    """Rectangles that the authors' code drew from these seeds; the next test relies on the loop."""
    assert region_by_loop(side, np.random.RandomState(seed)) == region


def test_regions_are_distributed_as_by_the_plain_loop() -> None:
    """Means and spreads of top, bottom, left and right over 4000 regions: 4 standard errors."""
    side, n = 64, 4000
    rng = np.random.RandomState(0)
    theirs = np.array([region_by_loop(side, rng) for _ in range(n)], float)
    regions = draw_regions(n, side, (0.02, 0.4), seeded(1))
    rows, columns = regions.any(2).int(), regions.any(1).int()
    top, left = rows.argmax(1), columns.argmax(1)
    edges = torch.stack([top, top + rows.sum(1), left, left + columns.sum(1)], 1)
    ours = edges.double().numpy()
    error = np.sqrt(2 * theirs.var(0) / n)
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < 4 * error).all()
    assert (np.abs(ours.std(0) / theirs.std(0) - 1) < 0.05).all()


def test_a_region_that_cannot_fit_is_refused() -> None:
    """The whole image never fits beside itself."""
    with pytest.raises(UserError, match="paste_area"):
        draw_regions(1, 64, (0.5, 1.0), seeded(0))


def test_autocast_does_not_touch_the_grids() -> None:
    """bfloat16 has 8 bits: places would jump by whole pixels."""
    outside = grids_of(64, 2, 9)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(grids_of(64, 2, 9), outside)


@pytest.mark.gpu
def test_the_gpu_makes_the_same_views() -> None:
    """Draws are made on the CPU; what is left differs by rounding."""
    x = torch.rand(4, 1, 64, 64)
    views = []
    for device in (CPU, torch.device("cuda", 0)):
        g = seeded(6)
        weak = warp_images(x.to(device), WeakViews(Augment(), 64, device).grids(4, g))
        views.append(strong_views(weak, Augment(), g).cpu())
    assert (views[0] - views[1]).abs().max() < 1e-3
