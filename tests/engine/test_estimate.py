"""Dice without labels: by hand, by what sampled labels give, and on networks that are too sure."""

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.fakes import Fake, networks_of
from synfoc.batches.batch import Sides
from synfoc.config import Augment
from synfoc.engine import estimate as module
from synfoc.engine.estimate import (
    Calibration,
    calibrate,
    fit,
    plain_calibration,
    read_calibration,
)
from synfoc.engine.evidence import agreement, expected_dice, tally
from synfoc.engine.inference import Segmenter

SIDE = 16
STILL = Augment(brightness=(1, 1), contrast=(1, 1), blur=(0.1, 0.1))


def expected(P: Tensor, *, nested: bool = False) -> list[float]:
    """Mean over parts; NaN where one has no mask."""
    found = expected_dice(tally(P, nested=nested).numpy())
    values: list[float] = found.mean(-1).tolist()
    return values


def tallies_of(*parts: tuple[float, float]) -> np.ndarray:
    """One image whose parts have these expected Dice and agreements; e = 0: an empty mask."""
    # Dice 2 inside / (mask + mass) with mask = mass = 100, and 2 shared / both with both = 200.
    return np.array([[100 * e, 100 * (e > 0), 100, 100 * a, 200] for e, a in parts], float)


def test_expected_dice_by_hand() -> None:
    """Pixels of p = .9, .6, .2, 0: two are in the mask, which holds 1.5 of a mass of 1.7.

    2 * 1.5 / (2 + 1.7) = 3 / 3.7. The second image has no pixel above one half.
    """
    p = torch.tensor([[0.9, 0.6, 0.2, 0.0], [0.4, 0.4, 0.4, 0.4]]).view(2, 1, 2, 2)
    P = torch.cat([1 - p, p], 1)
    assert tally(P)[0, 0].tolist() == pytest.approx([1.5, 2, 1.7, 0, 0])
    assert expected(P) == pytest.approx([3 / 3.7, np.nan], nan_ok=True)


def test_nested_parts_hold_the_classes_inside() -> None:
    """One pixel of cup .5 and rim .3: the disc's probability is .8, its mask the whole pixel.

    Cup: 2 * .5 / (1 + .5) = 2/3. Disc: 2 * .8 / (1 + .8) = 8/9.
    """
    P = torch.tensor([0.2, 0.5, 0.3]).view(1, 3, 1, 1)
    assert expected(P, nested=True) == pytest.approx([(2 / 3 + 8 / 9) / 2])
    assert np.isnan(expected(P)), "the rim's own mask is empty"


def test_slices_add_up_to_a_volume() -> None:
    P = torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(0)).softmax(1)
    tall = P.movedim(0, 2).reshape(1, 2, 24, 8)
    assert expected_dice(tally(P).numpy().sum(0)) == pytest.approx(expected(tall))


def test_it_is_the_mean_dice_against_labels_drawn_from_the_probabilities() -> None:
    """200 labels of 1024 pixels each; the ratio of means is close to the mean of ratios."""
    generator = torch.Generator().manual_seed(1)
    p = torch.rand(1, 1, 32, 32, generator=generator)
    A = p > 0.5
    Y = torch.rand(200, 1, 32, 32, generator=generator) < p
    dice = 2 * (A & Y).sum((1, 2, 3)) / (A.sum() + Y.sum((1, 2, 3)))
    assert expected(torch.cat([1 - p, p], 1))[0] == pytest.approx(dice.mean().item(), abs=0.005)


def test_agreement_by_hand() -> None:
    """Of part 1 the pair shares 2 pixels and has 3 + 2: Dice 4 / 5. Part 2 is in neither mask.

    At half the side the middles of two by two pixels are asked, row and column 1: 1 shared, 1 + 1.
    """
    Q, other = torch.zeros(1, 4, 4, dtype=torch.int64), torch.zeros(1, 4, 4, dtype=torch.int64)
    Q[0, 1, :3], other[0, 1, :2] = 1, 1
    P = torch.full((1, 3, 4, 4), 1 / 3)
    found = tally(P, (Q, other))
    assert found[0, :, 3:].tolist() == [[2, 5], [0, 0]]
    assert agreement(found.numpy())[0] == pytest.approx([0.8, 0])
    small = tally(P, (Q, other[:, 1::2, 1::2]))
    assert small[0, 0, 3:].tolist() == [1, 2]
    assert agreement(small.numpy())[0, 0] == pytest.approx(1)


def test_networks_that_draw_the_same_line_agree_at_any_sides() -> None:
    """All that is right of 0.3 of the width, seen at 12 and at 4 pixels: no shift between."""
    maps = [
        ((torch.arange(side) + 0.5) / side > 0.3).long().expand(1, side, side) for side in (12, 4)
    ]
    found = tally(torch.full((1, 2, 4, 4), 0.5), (maps[0], maps[1]))
    assert agreement(found.numpy())[0, 0] == 1


def test_an_estimate_by_hand() -> None:
    """.1 + .3 e + .5 a, every part by itself and within [0, 1]; an empty mask by what it is worth.

    .1 + .27 + .4 = .77 and .1 + .15 + .1 = .35.
    """
    found = Calibration(0.1, 0.3, 0.5, empty=0.6)
    assert found.estimate(tallies_of((0.9, 0.8))) == pytest.approx(0.77)
    both = tallies_of((0.9, 0.8), (0.5, 0.2), (0, 0.9))
    assert found.estimate(both) == pytest.approx((0.77 + 0.35 + 0.6) / 3)
    stacked = np.stack([tallies_of((0.9, 0.8)), tallies_of((0, 0))])
    assert found.estimate(stacked) == pytest.approx([0.77, 0.6])
    assert Calibration(0.5, 0.5, 0.5).estimate(tallies_of((1, 1))) == 1
    assert Calibration(-0.9, 0.5, 0.5).estimate(tallies_of((0.5, 0.5))) == 0


def test_a_fit_finds_the_line_that_is_there() -> None:
    """Dice = .2 e + .8 a goes through both added points, so nothing is bent."""
    random = np.random.default_rng(0)
    evidence = random.uniform(0.1, 1, (40, 2))
    parts = np.stack([tallies_of((e, a)) for e, a in evidence])
    found = fit(parts, (evidence @ [0.2, 0.8])[:, None])
    assert (found.base, found.expected, found.agreement) == pytest.approx((0, 0.2, 0.8), abs=1e-6)


def test_what_misleads_gets_no_weight() -> None:
    """Where networks are surer of their worse masks, sureness counts nothing, not less."""
    pairs = [(0.9, 0.2), (0.8, 0.4), (0.7, 0.6), (0.6, 0.8)]
    found = fit(np.stack([tallies_of(p) for p in pairs]), np.array([[a] for _, a in pairs]))
    assert found.expected == pytest.approx(0, abs=1e-6)
    assert found.agreement > 0.8


def test_full_agreement_on_all_views_still_tells_what_none_would_be_worth() -> None:
    """8 perfect parts: the line falls to 0 for a mask that no other network sees."""
    found = fit(np.stack([tallies_of((1, 1))] * 8), np.ones((8, 1)))
    assert found.estimate(tallies_of((1, 1))) == pytest.approx(1)
    assert found.estimate(tallies_of((0.01, 0))) < 0.05


class Side(Fake):
    """Class 1 in the left part of the image, at a probability of 1 / (1 + e^-logit)."""

    def __init__(self, columns: int, logit: float) -> None:
        super().__init__()
        self.columns, self.logit = columns, logit

    def forward(self, x: Tensor) -> Tensor:
        z = torch.full_like(x[:, :1], -self.logit)
        z[..., : self.columns] = self.logit
        return torch.cat([torch.zeros_like(z), z], 1)


def two(**fakes: Fake) -> Segmenter:
    return Segmenter(networks_of(Sides(SIDE, SIDE, SIDE), **fakes), classes=1)


class Upside(Fake):
    """A network that finds the organ, the left half, in images whose top is bright."""

    def forward(self, x: Tensor) -> Tensor:
        z = torch.full_like(x[:, :1], -20.0)
        z[..., :8] = 20.0
        bright_above = (x[:, :1, :8].mean((2, 3)) > x[:, :1, 8:].mean((2, 3)))[..., None, None]
        z = torch.where(bright_above, z, -20.0)
        return torch.cat([torch.zeros_like(z), z], 1)


def half_of(count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels: the left half of each image is the organ."""
    image = np.full((count, SIDE, SIDE, 1), 0.5, np.float32)
    label = np.zeros((count, SIDE, SIDE), np.uint8)
    label[..., :8] = 1
    return image, label


def test_calibrate_holds_evidence_against_truth() -> None:
    """The student finds the half of 128 pixels; the teacher finds a half of that half.

    Both are sure, and their agreement is 2 * 64 / (64 + 128) everywhere. The teacher's Dice is
    (2 * 64 + 1) / (64 + 128 + 1.001) on all views of each image.
    """
    segmenter = two(unet=Side(8, 20), unet_teacher=Side(4, 20))
    images, labels = half_of()
    # Views are turned: what is on the right of an image is on their left.
    found = calibrate(segmenter, images, labels[..., ::-1].copy(), STILL, seed=0)
    assert set(found) == {("unet", "student"), ("unet", "teacher")}
    right, wrong = found["unet", "student"], found["unet", "teacher"]
    assert (right.views, wrong.views) == pytest.approx((1, 129 / 193.001), abs=1e-5)
    P = segmenter.probabilities(images, segmenter.answers())
    for answer in found:
        guess = found[answer].estimate(segmenter.tally(P, answer).numpy())
        # The two added points draw a little.
        assert guess == pytest.approx([found[answer].views] * 3, abs=0.04)


def test_two_networks_are_compared_with_each_other() -> None:
    segmenter = two(unet=Side(8, 20), medsam=Side(4, 20))
    P = segmenter.probabilities(half_of()[0], segmenter.answers())
    for answer in (("unet", "student"), ("medsam", "student")):
        assert agreement(segmenter.tally(P, answer).numpy()) == pytest.approx(128 / 192)


def test_a_single_network_without_teacher_has_its_probabilities_alone() -> None:
    segmenter = two(unet=Side(8, 20))
    found = calibrate(segmenter, *half_of(), STILL, seed=0)["unet", "student"]
    assert found.agreement == 0
    assert found.expected > 0


def test_views_are_turned_upside_down_with_their_labels() -> None:
    """A network that learned which way is up knows nothing of them; one that did not is right.

    The organ is on the right, so that it is on the left of a view.
    """
    images, labels = half_of()
    images[:, :8] = 0.9  # bright above; below in the views
    labels = labels[..., ::-1].copy()
    found = calibrate(two(unet=Upside()), images, labels, STILL, seed=0)["unet", "student"]
    assert found.views == pytest.approx(0, abs=0.01)
    found = calibrate(two(unet=Side(8, 20)), images, labels, STILL, seed=0)["unet", "student"]
    assert found.views == pytest.approx(1, abs=1e-4)


def test_views_go_from_plain_to_strong(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(module, "strong_views", lambda x, augment, _: seen.append(augment) or x)
    augment = Augment(brightness=(0.2, 2), contrast=(0.6, 1.4), blur=(0, 2))
    calibrate(two(unet=Side(8, 20)), *half_of(), augment, seed=0)
    brightness, blur = (np.array([getattr(a, k) for a in seen]) for k in ("brightness", "blur"))
    assert brightness == pytest.approx(np.array([(1, 1), (0.6, 1.5), (0.2, 2)]))
    assert blur == pytest.approx(np.array([(0, 0), (0, 1), (0, 2)]))


@pytest.mark.parametrize(("organs", "empty"), [(0, 18 / 19), (6, 0), (3, 9 / 19)])
def test_what_an_empty_mask_is_worth(organs: int, empty: float) -> None:
    """The network never answers; in so many of 6 images there is an organ. 3 views of each.

    Those without one were rightly left empty; one miss is always added.
    """
    images, labels = half_of(6)
    labels[organs:] = 0
    segmenter = two(unet=Side(0, 20), unet_teacher=Side(0, 20))
    found = calibrate(segmenter, images, labels, STILL, seed=0)["unet", "student"]
    assert found.empty == pytest.approx(empty)
    assert found.estimate(tallies_of((0, 0))) == pytest.approx(empty)


def test_parts_rightly_left_empty_do_not_hide_that_masks_are_too_sure() -> None:
    """Class 1 is drawn at half its size, class 2 is in no image and not drawn."""
    parts = np.stack([tallies_of((1, 0.5), (0, 0))] * 20)
    found = fit(parts, np.tile([0.5, 1.0], (20, 1)))
    assert found.views == pytest.approx(0.75)
    assert found.estimate(parts[0]) == pytest.approx((0.5 + 20 / 21) / 2, abs=0.03)


def test_without_labeled_images_nothing_is_known() -> None:
    segmenter = two(unet=Side(8, 4))
    assert calibrate(segmenter, *half_of(0), STILL, seed=0) == {}


def test_the_summary_gives_back_what_it_was_given() -> None:
    found = {
        ("fused", "teacher"): Calibration(0.9, 0.8, 0.7, 0.6),
        ("unet", "student"): Calibration(0.5, 0.5, 0.0),
    }
    summary = {"best_step": 40, "calibration": plain_calibration(found)}  # type: ignore[arg-type]
    assert read_calibration(summary, 40) == found
    assert read_calibration(summary, 50) == {}, "another step's networks are other networks"
    assert read_calibration({"best_step": 40}, 40) == {}


WEAK = {"probability", "zoom", "degrees", "elastic_sigma", "elastic_alpha"}
"""Keys of the weak view, which calibration leaves alone."""


def test_no_key_of_the_strong_view_is_forgotten_by_the_calibration() -> None:
    """At strength 0 each of them does nothing; a new key belongs there, or to the weak view."""
    before = Augment()
    after = module._weakened(before, 0)
    weakened = {key for key in Augment.model_fields if getattr(after, key) != getattr(before, key)}
    assert weakened | WEAK == set(Augment.model_fields)
    assert not weakened & WEAK
    assert (after.brightness, after.contrast, after.blur) == ((1, 1), (1, 1), (0, 0))
