"""Scores of a case and their means: slices, volumes, nested parts, domains, intervals."""

from typing import Any

import numpy as np
import pytest

from synfoc.engine.metrics import Scores
from synfoc.engine.scores import (
    CaseEstimate,
    CaseScore,
    score_case,
    summarize,
    summarize_estimates,
)

UNET = ("unet", "student")


def row(case: str, dice: float, *, domain: str = "a", patient: str | None = None, **kwargs):
    return CaseScore(
        file=case,
        slice=None,
        domain=domain,
        patient=patient or case,
        class_name=kwargs.pop("class_name", "lesion"),
        answer=kwargs.pop("answer", UNET),
        unit=kwargs.pop("unit", "mm"),
        scores=Scores(dice, dice / (2 - dice), 10 * (1 - dice), 5 * (1 - dice)),
    )


def test_a_volume_is_one_case_and_its_slices_are_three() -> None:
    """Slices with 1, 2 and 0 of 2 pixels found: as a volume Dice 2 * 3 / (3 + 6) = 2/3."""
    label = np.zeros((3, 4, 4), np.uint8)
    label[:, 0, :2] = 1
    prediction = label.copy()
    prediction[0, 0, 0] = prediction[2, 0, :2] = 0
    one = score_case({UNET: prediction}, label, classes=1, volume=True, spacing=(5, 1, 1))
    many = score_case({UNET: prediction}, label, classes=1)
    assert [(i, s.dice) for i, _, _, s in one] == [(None, pytest.approx(2 / 3))]
    assert [(i, s.dice) for i, _, _, s in many] == [(0, pytest.approx(2 / 3)), (1, 1), (2, 0)]
    assert many[2][3].empty == "prediction"


def test_a_picture_uses_the_spacing_of_rows_and_columns() -> None:
    """Two points 3 columns of 0.5 mm apart."""
    label, prediction = np.zeros((2, 1, 8, 8), np.uint8)
    label[0, 2, 2] = prediction[0, 2, 5] = 1
    ((index, _, _, scores),) = score_case(
        {UNET: prediction}, label, classes=1, spacing=(0.0, 4.0, 0.5)
    )
    assert index is None
    assert scores.hd95 == scores.asd == 1.5


def test_nested_classes_are_scored_inside_their_outlines() -> None:
    """Cup 1 pixel, rim 3: a prediction of rim alone misses the cup but finds the whole disc."""
    label = np.array([[[1, 2, 2, 2]]], np.uint8)
    prediction = np.full_like(label, 2)
    cup, disc = score_case({UNET: prediction}, label, classes=2, nested=True)
    assert (cup[1], cup[3].dice) == (0, 0)
    assert (disc[1], disc[3].dice) == (1, 1)


def test_mean_over_domains_counts_every_domain_once() -> None:
    """Domain a: .8 and .6; domain b: one case of .3: (.7 + .3) / 2 = .5, not 1.7 / 3."""
    rows = [row("1", 0.8), row("2", 0.6), row("3", 0.3, domain="b")]
    found = summarize(rows, ["lesion"], seed=0)
    scores = found["branches"]["unet"]["student"]
    assert scores["mean_over_domains"]["dice"] == pytest.approx(0.5)
    assert scores["domains"]["a"]["dice"] == pytest.approx(0.7)
    assert scores["domains"]["a"]["cases"] == 2 and found["cases"] == 3


def test_means_per_class_make_the_mean_of_a_domain() -> None:
    rows = [row("1", 0.9, class_name="cup"), row("1", 0.5, class_name="disc")]
    domain = summarize(rows, ["cup", "disc"], seed=0)["branches"]["unet"]["student"]["domains"]["a"]
    assert domain["classes"]["cup"]["dice"] == 0.9
    assert domain["classes"]["disc"]["hd95"] == pytest.approx(5)
    assert domain["dice"] == pytest.approx(0.7)
    assert domain["asd"] == pytest.approx(1.5)


def test_mixed_units_are_named() -> None:
    rows = [row("1", 0.9), row("2", 0.9, unit="px", domain="b")]
    found = summarize(rows, ["lesion"], seed=0)
    domains = found["branches"]["unet"]["student"]["domains"]
    assert (found["unit"], domains["a"]["unit"], domains["b"]["unit"]) == ("mixed", "mm", "px")
    mean = found["branches"]["unet"]["student"]["mean_over_domains"]
    assert (mean["dice"], mean["hd95"], mean["asd"]) == (pytest.approx(0.9), None, None)
    assert domains["b"]["hd95"] is not None


def test_an_interval_needs_three_patients() -> None:
    """30 slices of one patient would have an interval of no width: nothing is known of others."""
    three = [row(str(i), 0.6 + 0.1 * i) for i in range(3)]
    one = [row(f"s{i}", 0.5 + 0.01 * i, domain="b", patient="p") for i in range(30)]

    def scores(rows: list[CaseScore]) -> dict[str, Any]:
        found: dict[str, Any] = summarize(rows, ["lesion"], seed=0)["branches"]["unet"]["student"]
        return found

    alone, both = scores(three), scores([*three, *one])
    low, high = alone["domains"]["a"]["dice_ci95"]
    assert (low, high) == (pytest.approx(0.6), pytest.approx(0.8))
    assert alone["mean_over_domains"]["dice_ci95"] == (low, high)
    assert both["domains"]["b"]["dice_ci95"] is None
    assert (both["domains"]["b"]["cases"], both["domains"]["b"]["patients"]) == (30, 1)
    assert both["mean_over_domains"]["dice_ci95"] is None


def test_answers_share_the_resampled_cases() -> None:
    """So a branch that is better by .1 on every case is better by .1 at both ends."""
    fused = ("fused", "teacher")
    values = np.random.default_rng(0).uniform(0.2, 0.8, 12)
    rows = [row(str(i), v) for i, v in enumerate(values)]
    rows += [row(str(i), v + 0.1, answer=fused) for i, v in enumerate(values)]
    branches = summarize(rows, ["lesion"], seed=0)["branches"]
    low = branches["unet"]["student"]["mean_over_domains"]["dice_ci95"]
    high = branches["fused"]["teacher"]["mean_over_domains"]["dice_ci95"]
    assert np.subtract(high, low) == pytest.approx([0.1, 0.1])


def test_another_seed_draws_other_cases() -> None:
    rows = [row(str(i), v) for i, v in enumerate(np.linspace(0.2, 0.8, 7))]
    one, other = (summarize(rows, ["lesion"], seed=seed)["branches"] for seed in (1, 2))
    name = "mean_over_domains"
    assert one["unet"]["student"][name]["dice"] == other["unet"]["student"][name]["dice"]
    assert one["unet"]["student"][name]["dice_ci95"] != other["unet"]["student"][name]["dice_ci95"]


def test_the_mean_of_estimates_counts_every_domain_once() -> None:
    """Domain a: .8 and .6 (classes 1 and .2), domain b: .3: (.7 + .3) / 2, not 1.7 / 3."""
    parts = {"1": (0.8, 0.8), "2": (1.0, 0.2), "3": (0.3, 0.3)}
    rows = [CaseEstimate(k, None, "b" if k == "3" else "a", UNET, v) for k, v in parts.items()]
    found = summarize_estimates(rows)
    scores = found["branches"]["unet"]["student"]
    assert scores["mean_over_domains"]["dice"] == pytest.approx(0.5)
    assert scores["domains"]["a"] == {"cases": 2, "dice": pytest.approx(0.7)}
    assert found["cases"] == 3
