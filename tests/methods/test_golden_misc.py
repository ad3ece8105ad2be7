"""Pure functions against values that the authors' code printed (tests/golden/misc.npz)."""

import runpy
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from synfoc.batches.augment import draw_regions
from synfoc.methods.confidence import dice_agreement
from synfoc.methods.ema import ema_update
from synfoc.methods.losses import cross_entropy, dice_loss
from synfoc.methods.schedules import ema_decay, ramp_up

GOLDEN = Path(__file__).resolve().parents[1] / "golden"

Arrays: TypeAlias = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def misc() -> Arrays:
    with np.load(GOLDEN / "misc.npz") as stored:
        return dict(stored)


def labels(values: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.int64))


def test_stored_values_are_the_authors(misc: Arrays, golden: Path) -> None:
    """misc.npz is what make.py reads out of the larger file."""
    collect = runpy.run_path(str(GOLDEN / "make.py"))["collect"]
    fresh = collect(torch.load(golden / "misc.pt", weights_only=False))
    assert fresh.keys() == misc.keys()
    for name, values in fresh.items():
        np.testing.assert_array_equal(values, misc[name], err_msg=name)


def test_ramp_up(misc: Arrays) -> None:
    """30 pairs of length and step, at and around the plateaus' edges."""
    for steps, step, _, lam in misc["ramp_up"]:
        assert ramp_up(int(step), int(steps)) == pytest.approx(lam, rel=1e-12)


def test_dice_of_two_maps(misc: Arrays) -> None:
    """Overlapping, equal, disjoint, one empty, both empty."""
    A, B = labels(misc["dice/a"]), labels(misc["dice/b"])
    expected = misc["dice/dice"]
    np.testing.assert_allclose(dice_agreement(A, B, 1).numpy(), expected, atol=1e-6)


def test_dice_of_three_classes(misc: Arrays) -> None:
    """The mean over classes, per image."""
    phi = dice_agreement(labels(misc["three/a"]), labels(misc["three/b"]), 3)
    np.testing.assert_allclose(phi.numpy(), misc["three/dice"].mean(0), atol=1e-6)


def test_dice_of_two_nested_parts(misc: Arrays) -> None:
    """Cup and disc, per image."""
    phi = dice_agreement(labels(misc["nested/a"]), labels(misc["nested/b"]), 2, nested=True)
    np.testing.assert_allclose(phi.numpy(), misc["nested/dice"].mean(0), atol=1e-6)


@pytest.mark.parametrize("K", [2, 3, 4])
def test_losses_with_and_without_trust(misc: Arrays, K: int) -> None:
    z = torch.from_numpy(misc[f"losses/{K}/z"])
    Q = labels(misc[f"losses/{K}/Q"])
    W = torch.from_numpy(misc[f"losses/{K}/W"]).float()
    P = z.softmax(1)
    ours = [cross_entropy(z, Q), cross_entropy(z, Q, W), dice_loss(P, Q), dice_loss(P, Q, W)]
    assert [float(v) for v in ours] == pytest.approx(misc[f"losses/{K}/values"].tolist(), abs=1e-6)


def test_teacher_follows_student(misc: Arrays) -> None:
    """A weight before and after eight updates, from the first step to the 5,001st."""
    for i, step in enumerate(misc["ema/step"]):
        decay = ema_decay(int(step))
        assert decay == pytest.approx(misc["ema/decay"][i])
        teacher = torch.from_numpy(misc["ema/before"][i].copy())
        ema_update([teacher], [torch.from_numpy(misc["ema/student"][i])], decay)
        np.testing.assert_allclose(teacher.numpy(), misc["ema/after"][i], atol=1e-6)


def corners(region: NDArray[Any]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def assert_allowed(side: float, y0: float, y1: float, x0: float, x1: float) -> None:
    """Inside the image; area .02 to .4 of it and height/width .3 to 1/.3, sides rounded down."""
    h, w = y1 - y0, x1 - x0
    assert 0 <= y0 < y1 <= side
    assert 0 <= x0 < x1 <= side
    assert h * w <= 0.4 * side**2
    assert (h + 1) * (w + 1) >= 0.02 * side**2
    assert (h + 1) / w >= 0.3
    assert h / (w + 1) <= 1 / 0.3


def test_regions_obey_the_same_limits(misc: Arrays, generator: torch.Generator) -> None:
    """The draws themselves differ: two libraries' generators there, one seeded generator here."""
    for side, y0, y1, x0, x1, area in misc["region"]:
        assert area == (y1 - y0) * (x1 - x0)
        assert_allowed(side, y0, y1, x0, x1)
        for region in draw_regions(8, int(side), (0.02, 0.4), generator).numpy():
            top, bottom, left, right = corners(region)
            assert region[top:bottom, left:right].all()
            assert_allowed(side, top, bottom, left, right)
