"""Evidence without test labels: what it is made of, and that it cannot be fooled by emptiness."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.fakes import KEYS, Fake, networks_of
from synfoc.batches.batch import Sides
from synfoc.batches.resize import resize_labels
from synfoc.config import Augment, Data
from synfoc.engine.inference import Segmenter
from synfoc.engine.select import Judge, Probe, _dice, assess, load_probe, recommend
from synfoc.images.cases import Case, CaseTable, load_cases

SIDE = 16


class Threshold(Fake):
    """Class 1 where the image is brighter than a level."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = level

    def forward(self, x: Tensor) -> Tensor:
        z = 50 * (x[:, :1] - self.level)
        return torch.cat([-z, z], 1)


def segmenter(**fakes: Fake) -> Segmenter:
    return Segmenter(networks_of(Sides(SIDE, SIDE, SIDE), **fakes), classes=1)


@pytest.fixture
def probe() -> Probe:
    """A bright square of 8 x 8 pixels in the labeled image; unlabeled ones are as bright."""
    image = np.full((1, SIDE, SIDE, 1), 0.2, np.float32)
    image[:, 4:12, 4:12] = 0.8
    label = (image[..., 0] > 0.5).astype(np.uint8)
    return Probe(labeled=image, labels=label, unlabeled=image[:, ::-1].copy(), monitor=label)


def all_four(level: float) -> dict[str, Fake]:
    return {name: Threshold(level) for name in KEYS}


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


def test_a_teacher_that_differs_changes_no_score(probe: Probe) -> None:
    """Teachers see nothing of the image: stability is 1 / 65.001, and is logged alone."""
    behind = all_four(0.5) | {"unet_teacher": Threshold(2.0), "medsam_teacher": Threshold(2.0)}
    found = assess(segmenter(**behind), probe)
    assert found["stability"] == pytest.approx(1 / 65.001)
    assert found["score"] == pytest.approx((129 / 129.001) ** 2)


def test_one_network_is_scored_by_its_labels(probe: Probe) -> None:
    found = assess(segmenter(unet=Threshold(0.5), unet_teacher=Threshold(2.0)), probe)
    assert found["score"] == found["labeled_dice"] == pytest.approx(129 / 129.001)


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


def test_who_sees_nothing_is_steady_and_still_not_recommended(probe: Probe) -> None:
    """The U-Net calls all background, strong views or not: 1 x 1 / 65.001 against 1 x 1."""
    networks = all_four(2.0) | {"medsam": Threshold(0.4), "medsam_teacher": Threshold(0.4)}
    augment = Augment(brightness=(0.7, 0.7), contrast=(1, 1), blur=(0.1, 0.1))
    assert recommend(segmenter(**networks), probe, augment, seed=0)[0] == ("medsam", "student")


@pytest.fixture
def table(tmp_path: Path) -> CaseTable:
    """Five volumes of five slices; the middle slice of number k is k + 1 all over."""
    for k in range(5):
        volume = np.zeros((5, 8, 8), np.uint8)
        volume[2] = k + 1
        for kind in ("image", "mask"):
            (tmp_path / kind).mkdir(exist_ok=True)
            np.save(tmp_path / kind / f"{k}.npy", volume)
    return load_cases(Data(path=tmp_path, classes=tuple("abcde")))


def load(table: CaseTable, monitor: Sequence[Case] = ()) -> Probe:
    """Three of five images, without their labels but for those of `monitor`."""
    bare = [replace(case, labels=()) for case in table.cases]
    return load_probe(table, table.cases, bare, monitor, count=3, side=4, channels=1, slice_axis=0)


def test_a_probe_is_spread_over_the_cases_and_holds_their_middle_slices(table: CaseTable) -> None:
    """Of five the first, the middle and the last."""
    probe = load(table)
    assert probe.labeled.shape == probe.unlabeled.shape == (3, 4, 4, 1)
    assert probe.labels.shape == (3, 4, 4)
    assert [np.unique(x).tolist() for x in probe.labels] == [[1], [3], [5]]
    for images in (probe.labeled, probe.unlabeled):
        assert images[:, 0, 0, 0] * 255 == pytest.approx([1, 3, 5])
    assert probe.monitor is None


def test_only_a_probe_whose_images_all_have_a_label_is_monitored(table: CaseTable) -> None:
    whole = load(table, table.cases)
    assert whole.monitor is not None
    assert whole.monitor[:, 0, 0].tolist() == [1, 3, 5]
    assert load(table, table.cases[:4]).monitor is None, "that of the last is not known"


def judge_of(
    rule: str, probe: Probe, monkeypatch: pytest.MonkeyPatch, *, watch: bool = False
) -> tuple[Judge, list[int]]:
    """A judge of four equal networks whose test Dice is .25, and how many images it asked for."""
    asked: list[int] = []
    monkeypatch.setattr(Judge, "_load_probe", lambda judge, count: asked.append(count) or probe)
    monkeypatch.setattr(Judge, "_test_dice", lambda judge: {"medsam": {"student": 0.25}})
    config = SimpleNamespace(
        train=SimpleNamespace(rule=rule, watch_test=watch, evaluate_images=4, seed=0),
        method=SimpleNamespace(has_teacher=True),
        augment=Augment(),
    )
    return Judge(SimpleNamespace(config=config), segmenter(**all_four(0.5))), asked  # type: ignore[arg-type]


def test_each_rule_compares_checkpoints_by_its_own_number(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evidence 1, test Dice .25; the test set is looked at where the rule says so, or the user."""
    for rule, watch, expected, seen in (
        ("honest", False, 1, None),
        ("honest", True, 1, 0.25),
        ("paper", False, 0.25, 0.25),
        ("last", False, math.inf, None),
    ):
        judge, _ = judge_of(rule, probe, monkeypatch, watch=watch)
        found, score = judge.evaluate()
        assert score == pytest.approx(expected, abs=1e-3)
        assert found.get("test_dice") == seen


def test_a_recommendation_is_made_of_twice_the_images(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, asked = judge_of("honest", probe, monkeypatch)
    told: list[tuple[int, int]] = []
    verdict = judge.recommend(lambda done, total: told.append((done, total)))
    assert verdict.answer == ("unet", "student")
    assert asked == [4, 8]
    # The labeled image, the unlabeled one and two strong views of it, three views of the first.
    assert told == [(done, 7) for done in range(1, 8)]
