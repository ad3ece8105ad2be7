"""Evidence without test labels: what it is made of, and that it cannot be fooled by emptiness."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from synfoc.batches.batch import Sides
from synfoc.batches.resize import resize_labels
from synfoc.config import Augment
from synfoc.engine.inference import Segmenter
from synfoc.engine.select import Probe, _dice, assess, recommend

SIDE = 16


@dataclass
class Four:
    """Networks by name, as `models.build.Networks` has them."""

    unet: nn.Module | None = None
    unet_teacher: nn.Module | None = None
    medsam: nn.Module | None = None
    medsam_teacher: nn.Module | None = None
    sides: Sides = field(default_factory=lambda: Sides(SIDE, SIDE, SIDE))


class Threshold(nn.Module):
    """Class 1 where the image is brighter than a level."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = level

    def forward(self, x: Tensor) -> Tensor:
        z = 50 * (x[:, :1] - self.level)
        return torch.cat([-z, z], 1)


def segmenter(**networks: nn.Module) -> Segmenter:
    found: Any = Four(**networks)
    return Segmenter(found, classes=1)


@pytest.fixture
def probe() -> Probe:
    """A bright square of 8 x 8 pixels in the labeled image; unlabeled ones are as bright."""
    image = np.full((1, SIDE, SIDE, 1), 0.2, np.float32)
    image[:, 4:12, 4:12] = 0.8
    label = (image[..., 0] > 0.5).astype(np.uint8)
    return Probe(labeled=image, labels=label, unlabeled=image[:, ::-1].copy(), monitor=label)


def all_four(level: float) -> dict[str, nn.Module]:
    names = ("unet", "unet_teacher", "medsam", "medsam_teacher")
    return {name: Threshold(level) for name in names}


def test_networks_that_are_right_and_agree_score_one(probe: Probe) -> None:
    """Dice of 64 against 64 pixels by the authors' rule: 129 / 129.001."""
    found = assess(segmenter(**all_four(0.5)), probe)
    assert found["labeled_dice"] == pytest.approx(129 / 129.001)
    assert found["agreement"] == pytest.approx(129 / 129.001)
    assert found["score"] == pytest.approx(1, abs=1e-3)
    assert found["pseudo_dice"]["fused"] == pytest.approx(1, abs=1e-3)


def test_networks_that_call_everything_background_score_nothing(probe: Probe) -> None:
    """They agree perfectly (1), but their labeled Dice is 1 / 65.001."""
    found = assess(segmenter(**all_four(2.0)), probe)
    assert found["agreement"] == 1
    assert found["score"] == pytest.approx(1 / 65.001, abs=1e-5)


def test_images_that_both_leave_empty_are_no_agreement(probe: Probe) -> None:
    """One branch finds 64 pixels in the first image, the other none; the second image is dark.

    Over both images as one: 2 x 0 + 1 over 64 + 1.001. A mean over images would say 0.51.
    """
    dark = np.concatenate([probe.unlabeled, np.zeros_like(probe.unlabeled)])
    half_empty = Probe(probe.labeled, probe.labels, dark)
    mixed = all_four(0.5) | {"medsam": Threshold(2.0), "medsam_teacher": Threshold(2.0)}
    found = assess(segmenter(**mixed), half_empty)
    assert found["agreement"] == pytest.approx(1 / 65.001)


def test_branches_that_differ_score_less(probe: Probe) -> None:
    mixed = all_four(0.5) | {"medsam": Threshold(0.1), "medsam_teacher": Threshold(0.1)}
    same, other = assess(segmenter(**all_four(0.5)), probe), assess(segmenter(**mixed), probe)
    assert other["score"] < same["score"]


def test_the_steadier_branch_is_recommended(probe: Probe) -> None:
    """Brightness 0.7 and blur move what is above 0.78, and not what is above 0.4."""
    networks = all_four(0.4) | {"medsam": Threshold(0.78), "medsam_teacher": Threshold(0.78)}
    augment = Augment(brightness=(0.7, 0.7), contrast=(1, 1), blur=(0.1, 0.1))
    answer, why = recommend(segmenter(**networks), probe, augment, seed=0)
    assert answer == ("unet", "student"), "its teacher is as steady; among equals the student"
    assert "medsam" in why


def test_a_steadier_teacher_is_recommended(probe: Probe) -> None:
    augment = Augment(brightness=(0.7, 0.7), contrast=(1, 1), blur=(0.1, 0.1))
    both = segmenter(unet=Threshold(0.78), unet_teacher=Threshold(0.4))
    answer, why = recommend(both, probe, augment, seed=0)
    assert answer == ("unet", "teacher")
    assert "unet teacher" in why


def test_a_network_of_a_coarser_grid_can_be_right() -> None:
    """A disc of radius 6 in 112 pixels, seen by a network that answers at 28 as it was taught."""
    y, x = np.mgrid[:112, :112]
    truth = ((y - 50) ** 2 + (x - 61) ** 2 <= 36).astype(np.uint8)[None]
    taught = resize_labels(torch.from_numpy(truth).long(), 28)
    assert _dice(segmenter(), taught, truth) > 0.999


def test_one_network_needs_no_choice(probe: Probe) -> None:
    only = segmenter(unet=Threshold(0.5))
    assert recommend(only, probe, Augment(), seed=0)[0] == ("unet", "student")
    assert assess(only, probe)["agreement"] is None


def test_without_a_teacher_the_students_label_what_is_monitored(probe: Probe) -> None:
    """Dice of 64 pixels that are all found; nothing says how steady they are."""
    found = assess(segmenter(unet=Threshold(0.5)), probe)
    assert found["stability"] is None
    assert found["score"] == found["labeled_dice"] == pytest.approx(129 / 129.001)
    assert found["pseudo_dice"] == {"unet": pytest.approx(129 / 129.001)}


def test_without_unlabeled_images_labels_alone_decide(probe: Probe) -> None:
    bare = Probe(probe.labeled, probe.labels, probe.unlabeled[:0])
    networks = all_four(0.5) | {"medsam": Threshold(2.0), "medsam_teacher": Threshold(2.0)}
    assert recommend(segmenter(**networks), bare, Augment(), seed=0)[0] == ("unet", "student")
    assert assess(segmenter(**networks), bare)["agreement"] is None
