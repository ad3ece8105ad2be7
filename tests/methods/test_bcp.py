"""BCP by hand, against its twin in loops; components, parts, boxes."""

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import baselines as base
from helpers import twin_baselines as twins
from helpers.baselines import LN2, draws, sure, undecided
from helpers.small import make_case, numbers, tensors
from synfoc.batches.batch import Batch
from synfoc.methods.bcp import bcp_step, largest_components, part_loss
from synfoc.methods.interface import Models


@pytest.fixture
def batch() -> Batch:
    """Labeled images of value 0 and .25, all of class 0; unlabeled ones of .75 and 1."""
    X = torch.tensor([0, 0.25]).view(2, 1, 1, 1).expand(2, 1, 6, 6)
    U = torch.tensor([0.75, 1]).view(2, 1, 1, 1).expand(2, 1, 6, 6)
    Y, M = torch.zeros(2, 6, 6, dtype=torch.long), torch.zeros(2, 6, 6, dtype=torch.bool)
    return Batch(X, X, Y, Y, U, U, U, U, M)


def test_part_loss_by_hand() -> None:
    """Even odds, of the part two pixels are of class 0 and one of class 1, one lies outside.

    ln 2 + 1 - (2(.5)(2) / (.25(3) + 2) + 2(.5)(1) / (.25(3) + 1)) / 2 = ln 2 + 1 - (8/11 + 4/7)/2
    """
    z, Q = torch.zeros(1, 2, 2, 2), torch.tensor([[[0, 0], [1, 1]]])
    part = torch.tensor([[[True, True], [True, False]]])
    assert float(part_loss(z, Q, part)) == pytest.approx(LN2 + 1 - (8 / 11 + 4 / 7) / 2, abs=1e-5)
    other = z.clone()
    other[0, 1, 1, 1] = 9
    assert part_loss(other, Q, part) == part_loss(z, Q, part)


def test_largest_components_by_hand() -> None:
    """Corners touch; class 1 keeps three pixels of five, class 2 the first of two pairs."""
    q = np.array([[1, 1, 0, 2], [1, 0, 0, 2], [0, 0, 1, 0], [2, 2, 0, 1]])
    kept = np.array([[1, 1, 0, 2], [1, 0, 0, 2], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert np.array_equal(largest_components(q, 3), kept)
    assert not largest_components(np.zeros((3, 3), int), 3).any()
    diagonal = np.eye(4, dtype=int)
    assert np.array_equal(largest_components(diagonal, 2), diagonal)


def test_four_parts_by_hand(batch: Batch) -> None:
    """An undecided student; every part is of one class, so each costs ln 2 + 1 - .8/2."""
    f = Models(UT=undecided, UT_hat=sure)
    step = bcp_step(f, batch, progress=0.25, draws=draws())
    assert float(step.L_x_UT) == pytest.approx(2 * (LN2 + 0.6), abs=1e-5)
    assert float(step.L_u_UT) == pytest.approx(2 * (LN2 + 0.6), abs=1e-5)
    assert float(step.loss) == pytest.approx(3 * (LN2 + 0.6), abs=1e-5)


def test_the_first_quarter_of_the_run_learns_from_labeled_pairs(batch: Batch) -> None:
    """No teacher is asked: it is absent."""
    step = bcp_step(Models(UT=undecided), batch, progress=0.2499, draws=draws())
    assert float(step.loss) == pytest.approx(2 * (LN2 + 0.6), abs=1e-5)
    assert float(step.L_u_UT) == 0
    assert float(step.trusted) == 0


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(0.0, [(0.25, 0.0)]), (0.5, [(0.0, 0.75), (1.0, 0.25)])],
    ids=["pre-training", "outward and inward"],
)
def test_what_lies_in_the_box_and_around_it(
    batch: Batch, progress: float, expected: list[tuple[float, float]]
) -> None:
    """A square of 4 of 6 pixels; one place for the whole batch."""
    seen = []

    def student(images: Tensor) -> Tensor:
        seen.append(images[0, 0])
        return undecided(images)

    bcp_step(Models(UT=student, UT_hat=sure), batch, progress=progress, draws=draws())
    assert len(seen) == len(expected)
    boxes = []
    for image, (inside, around) in zip(seen, expected, strict=True):
        rows, columns = torch.nonzero(image == inside, as_tuple=True)
        assert image.unique().tolist() == sorted((inside, around))
        assert len(rows) == 16
        assert rows.max() - rows.min() == columns.max() - columns.min() == 3
        boxes.append((int(rows.min()), int(columns.min())))
    assert len(set(boxes)) == 1


def test_the_box_moves_with_the_draws(batch: Batch) -> None:
    """Corners 0 and 1 are possible either way, and all four come."""
    corners = set()
    for seed in range(40):
        seen = []

        def student(images: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(images[0, 0])
            return undecided(images)

        bcp_step(Models(UT=student), batch, progress=0.0, draws=draws(seed))
        corners.add(tuple(torch.nonzero(seen[0] == 0.25)[0].tolist()))
    assert corners == {(0, 0), (0, 1), (1, 0), (1, 1)}


@base.at_all_sides
@base.on_either_network
@pytest.mark.parametrize("pretraining", [True, False])
def test_bcp_equals_its_twin(name: str, sides: tuple[int, int, int], pretraining: bool) -> None:
    nets, batch = make_case(7, 3, sides, images=4)
    f, b = base.networks_of(nets, name), tensors(batch)
    progress = 0.1 if pretraining else 0.9
    ours = numbers(bcp_step(f, b, progress=progress, draws=draws()))

    s = batch[f"X_w_{name}"].shape[-1]
    side = 2 * s // 3
    top, left = torch.randint(s - side, (2,), generator=draws()).tolist()
    box = np.zeros((s, s), dtype=bool)
    box[top : top + side, left : left + side] = True
    theirs = twins.twin_bcp(nets, batch, name, box=box, pretraining=pretraining)
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_components_equal_their_twin() -> None:
    """Random maps of four classes, many small components."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        q = rng.integers(0, 4, (12, 12))
        assert np.array_equal(largest_components(q, 4), twins.only_largest(q, 4))


def test_an_odd_batch_is_refused(batch: Batch) -> None:
    one = Batch(**{name: value[:1] for name, value in vars(batch).items()})
    with pytest.raises(ValueError, match="must be even, not 1"):
        bcp_step(Models(UT=undecided), one, progress=0.0, draws=draws())


def test_the_student_alone_learns(batch: Batch) -> None:
    base.assert_only_the_student_learns(lambda f: bcp_step(f, batch, progress=0.5, draws=draws()))
