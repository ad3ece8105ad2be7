"""Dice without labels: by hand, by what sampled labels give, and on networks that are too sure."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from synfoc.batches.batch import Sides
from synfoc.config import Augment
from synfoc.engine.estimate import (
    Calibration,
    calibrate,
    plain_calibration,
    read_calibration,
)
from synfoc.engine.expected import expected_dice, tally
from synfoc.engine.inference import Segmenter

SIDE = 16
STILL = Augment(brightness=(1, 1), contrast=(1, 1), blur=(0.1, 0.1))


def expected(P: Tensor, *, nested: bool = False) -> list[float]:
    """Mean over parts; NaN where one has no mask."""
    found = expected_dice(tally(P, P.shape[1] - 1, nested=nested).numpy())
    values: list[float] = found.mean(-1).tolist()
    return values


def tallies_of(*expected: float) -> np.ndarray:
    """One image whose parts have these expected Dice; 0 stands for an empty mask."""
    # 2 inside / (mask + mass) with mask = mass = 100
    return np.array([[100 * e, 100 * (e > 0), 100] for e in expected], float)


def test_expected_dice_by_hand() -> None:
    """Pixels of p = .9, .6, .2, 0: two are in the mask, which holds 1.5 of a mass of 1.7.

    2 * 1.5 / (2 + 1.7) = 3 / 3.7. The second image has no pixel above one half.
    """
    p = torch.tensor([[0.9, 0.6, 0.2, 0.0], [0.4, 0.4, 0.4, 0.4]]).view(2, 1, 2, 2)
    P = torch.cat([1 - p, p], 1)
    assert tally(P, 1)[0, 0].tolist() == pytest.approx([1.5, 2, 1.7])
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
    assert expected_dice(tally(P, 1).numpy().sum(0)) == pytest.approx(expected(tall))


def test_it_is_the_mean_dice_against_labels_drawn_from_the_probabilities() -> None:
    """200 labels of 1024 pixels each; the ratio of means is close to the mean of ratios."""
    generator = torch.Generator().manual_seed(1)
    p = torch.rand(1, 1, 32, 32, generator=generator)
    A = p > 0.5
    Y = torch.rand(200, 1, 32, 32, generator=generator) < p
    dice = 2 * (A & Y).sum((1, 2, 3)) / (A.sum() + Y.sum((1, 2, 3)))
    assert expected(torch.cat([1 - p, p], 1))[0] == pytest.approx(dice.mean().item(), abs=0.005)


def test_a_calibration_by_hand() -> None:
    """10 % were expected to be lost, 25 % were: every loss counts 2.5 times, down to nothing."""
    found = Calibration(expected=0.9, dice=0.75)
    assert found.factor == pytest.approx(2.5)
    assert found.estimate(tallies_of(0.8)) == pytest.approx(0.5)
    assert found.estimate(tallies_of(0.3)) == 0
    assert found.estimate(tallies_of(1.0)) == 1
    assert Calibration(expected=0.7, dice=0.8).factor == 1, "it never makes an estimate better"
    assert np.isfinite(Calibration(expected=1.0, dice=0.5).factor)


def test_every_part_is_estimated_by_itself() -> None:
    """Factor 2, expected .95 and .95, and an empty mask: 0.9, 0.9 and what emptiness is worth."""
    found = Calibration(expected=0.9, dice=0.8, empty=0.6)
    assert found.estimate(tallies_of(0.95, 0.95, 0)) == pytest.approx((0.9 + 0.9 + 0.6) / 3)
    assert found.estimate(tallies_of(0.4, 0.95)) == pytest.approx((0 + 0.9) / 2)
    assert found.estimate(np.stack([tallies_of(0.95), tallies_of(0)])) == pytest.approx([0.9, 0.6])


class Side(nn.Module):
    """Class 1 in the left part of the image, at a probability of 1 / (1 + e^-logit)."""

    def __init__(self, columns: int, logit: float) -> None:
        super().__init__()
        self.columns, self.logit = columns, logit

    def forward(self, x: Tensor) -> Tensor:
        z = torch.full_like(x[:, :1], -self.logit)
        z[..., : self.columns] = self.logit
        return torch.cat([torch.zeros_like(z), z], 1)


def two(**networks: nn.Module) -> Segmenter:
    names = ("unet", "unet_teacher", "medsam", "medsam_teacher")
    found = {name: networks.get(name) for name in names}
    return Segmenter(SimpleNamespace(**found, sides=Sides(SIDE, SIDE, SIDE)), classes=1)  # type: ignore[arg-type]


def half_of(count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels: the left half of each image is the organ."""
    image = np.full((count, SIDE, SIDE, 1), 0.5, np.float32)
    label = np.zeros((count, SIDE, SIDE), np.uint8)
    label[..., :8] = 1
    return image, label


def test_calibrate_holds_expectation_against_truth() -> None:
    """The student finds the half of 128 pixels; the teacher finds a half of that half.

    Both expect to lose nothing. The teacher's Dice is (2 * 64 + 1) / (64 + 128 + 1.001).
    """
    segmenter = two(unet=Side(8, 20), unet_teacher=Side(4, 20))
    found = calibrate(segmenter, *half_of(), STILL, seed=0)
    assert set(found) == {("unet", "student"), ("unet", "teacher")}
    right, wrong = found["unet", "student"], found["unet", "teacher"]
    assert (right.expected, right.dice) == pytest.approx((1, 1), abs=1e-4)
    assert wrong.dice == pytest.approx(129 / 193.001)
    assert wrong.estimate(tallies_of(1 - 1e-4)) == pytest.approx(1 - 1e-4 * (1 - wrong.dice) / 1e-3)
    assert right.estimate(tallies_of(0.9)) == pytest.approx(0.9)
    assert wrong.overall == wrong.dice


def test_a_calibrated_estimate_is_right_on_what_it_was_calibrated_on() -> None:
    """A mask of 6 of 8 columns at p = .88: its estimate is its mean Dice on those images."""
    segmenter = two(unet=Side(6, 2), unet_teacher=Side(6, 2))
    images, labels = half_of()
    found = calibrate(segmenter, images, labels, STILL, seed=0)["unet", "student"]
    P = segmenter.probabilities(images, [("unet", "student")])["unet", "student"]
    guess = found.estimate(tally(P, 1).numpy()).mean()
    assert guess == pytest.approx(min(found.dice, found.expected))


@pytest.mark.parametrize(("organs", "empty"), [(0, 24 / 25), (6, 0), (3, 12 / 25)])
def test_what_an_empty_mask_is_worth(organs: int, empty: float) -> None:
    """The network never answers; in so many of 6 images there is an organ. 4 views of each.

    Those without one were rightly left empty; one miss is always added.
    """
    images, labels = half_of(6)
    labels[organs:] = 0
    segmenter = two(unet=Side(0, 20), unet_teacher=Side(0, 20))
    found = calibrate(segmenter, images, labels, STILL, seed=0)["unet", "student"]
    assert found.empty == pytest.approx(empty)
    assert found.estimate(tallies_of(0)) == pytest.approx(empty)


def test_parts_rightly_left_empty_do_not_hide_that_masks_are_too_sure() -> None:
    """Class 1 is drawn at half its size, class 2 is in no image and not drawn."""
    images, labels = half_of()

    class First(Side):
        def forward(self, x: Tensor) -> Tensor:
            z = super().forward(x)
            return torch.cat([z, torch.full_like(z[:, :1], -30)], 1)

    names = ("unet", "unet_teacher", "medsam", "medsam_teacher")
    networks = dict.fromkeys(names) | {"unet": First(4, 20), "unet_teacher": First(4, 20)}
    segmenter = Segmenter(SimpleNamespace(**networks, sides=Sides(SIDE, SIDE, SIDE)), classes=2)  # type: ignore[arg-type]
    found = calibrate(segmenter, images, labels, STILL, seed=0)["unet", "student"]
    assert found.dice == pytest.approx(129 / 193.001)
    assert found.overall == pytest.approx((129 / 193.001 + 1) / 2)
    assert found.factor > 100


def test_without_labeled_images_nothing_is_known() -> None:
    segmenter = two(unet=Side(8, 4))
    assert calibrate(segmenter, *half_of(0), STILL, seed=0) == {}


def test_the_summary_gives_back_what_it_was_given() -> None:
    found = {
        ("fused", "teacher"): Calibration(0.9, 0.8, 0.7, 0.6),
        ("unet", "student"): Calibration(0.5, 0.5),
    }
    summary = {"best_step": 40, "calibration": plain_calibration(found)}  # type: ignore[arg-type]
    assert read_calibration(summary, 40) == found
    assert read_calibration(summary, 50) == {}, "another step's networks are other networks"
    assert read_calibration({"best_step": 40}, 40) == {}
