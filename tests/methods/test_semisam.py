"""SemiSAM by hand, against its twin in loops; boxes, and what becomes of SAM's masks."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from helpers import baselines as base
from helpers import twin_baselines as twins
from helpers.baselines import draws, sure, undecided
from helpers.small import make_case, numbers, tensors
from synfoc.batches.batch import Batch
from synfoc.methods.interface import Models
from synfoc.methods.semisam import boxes_around, drawn_by_sam, semisam_step


@dataclass
class Drawer:
    """A SAM small enough for loops: inside a box it draws what is bright, outside nothing."""

    place: NDArray[Any]  # (n, L, L)

    def __call__(self, images: Any, boxes: Any) -> Any:
        """Logits of one image (c, S, S) with its boxes in NumPy, or of a batch in torch."""
        side = self.place.shape[-1]
        block = images.shape[-1] // side
        center = (np.arange(side) + 0.5) * block - 0.5
        if isinstance(images, np.ndarray):
            z = np.full(self.place.shape, -3.0)
            for n, (left, top, right, bottom) in enumerate(boxes):
                for i in range(side):
                    for j in range(side):
                        if top <= center[i] <= bottom and left <= center[j] <= right:
                            rows = slice(i * block, (i + 1) * block)
                            columns = slice(j * block, (j + 1) * block)
                            z[n, i, j] = 4 * images[:, rows, columns].mean() + self.place[n, i, j]
            return z
        bright = torch.nn.functional.avg_pool2d(images.mean(1, keepdim=True), block)
        left, top, right, bottom = (edge[..., None, None] for edge in boxes.unbind(-1))
        at = torch.from_numpy(center)
        rows, columns = at[:, None], at[None]
        inside = (rows >= top) & (rows <= bottom) & (columns >= left) & (columns <= right)
        return torch.where(inside, 4 * bright + torch.from_numpy(self.place).float(), -3.0)


def left_half(images: Tensor, boxes: Tensor) -> Tensor:
    """Whatever the boxes, the left half."""
    z = torch.full((len(images), boxes.shape[1], 4, 4), -1.0)
    z[..., :2] = 1
    return z


@pytest.fixture
def batch() -> Batch:
    batch: Batch = base.black_and_white()
    return batch


def test_boxes_by_hand() -> None:
    """The larger of two parts spans columns 2 to 4 and rows 1 to 2 of 8; at side 16 twice that.

    Columns 2..4 are pixels 4..9 there, rows 1..2 are 2..5. Class 2 is nowhere.
    """
    Q = torch.zeros(1, 8, 8, dtype=torch.long)
    Q[0, 1:3, 2:5] = 1
    Q[0, 6, 0] = 1
    boxes, found = boxes_around(Q, 2, 16, nested=False)
    assert boxes[0, 0].tolist() == [4, 2, 9, 5]
    assert found.tolist() == [[True, False]]


def test_nested_parts_have_nested_boxes() -> None:
    """A cup of one pixel in a disc of 3 x 3: the disc's box holds the cup."""
    Q = torch.zeros(1, 8, 8, dtype=torch.long)
    Q[0, 2:5, 2:5] = 2
    Q[0, 3, 3] = 1
    boxes, found = boxes_around(Q, 2, 8, nested=True)
    assert boxes[0].tolist() == [[3, 3, 3, 3], [2, 2, 4, 4]]
    assert found.all()


def test_a_filled_ring_becomes_a_ring() -> None:
    """Two masks of three pixels and of one inside it: the smaller wins, whatever the logits.

    Where both are of one size it is the first.
    """
    whole, inner, nothing = [5.0, 5, 5, -1], [-1.0, 1, -1, -1], [-1.0] * 4
    Q = torch.tensor([[[1, 2], [2, 2]]])
    for masks, expected in (
        ((whole, inner), [1, 2, 1, 0]),
        ((inner, whole), [2, 1, 2, 0]),
        ((whole, whole), [1, 1, 1, 0]),
        ((nothing, whole), [2, 2, 2, 0]),
    ):
        z = torch.tensor(masks).view(1, 2, 2, 2)
        found = drawn_by_sam(lambda U, boxes, z=z: z, torch.zeros(1, 1, 2, 2), Q, 2, nested=False)
        assert found.flatten().tolist() == expected


def test_what_the_student_does_not_see_is_not_asked_for() -> None:
    z = torch.ones(1, 2, 2, 2)
    Q = torch.tensor([[[0, 2], [0, 0]]])
    found = drawn_by_sam(lambda U, boxes: z, torch.zeros(1, 1, 2, 2), Q, 2, nested=False)
    assert found.flatten().tolist() == [2, 2, 2, 2]
    nothing = drawn_by_sam(lambda U, boxes: z, torch.zeros(1, 1, 2, 2), 0 * Q, 2, nested=False)
    assert not nothing.any()


def test_both_consistencies_by_hand(batch: Batch) -> None:
    """The student is sure of class 1 on white, its teacher undecided, SAM draws the left half.

    (.9975 - .5)^2 = .2475 for both classes; on the left .0025^2, on the right .9975^2: mean .4975.
    """
    f = Models(UT=sure, UT_hat=undecided, SAM=left_half)
    step = semisam_step(f, batch, lam=0.4, mu=0.8, draws=draws())
    L_x, L_u = float(step.L_x_UT), float(step.L_u_UT)  # type: ignore[arg-type]
    assert L_u == pytest.approx(0.4 * 0.2475 + 0.8 * 0.4975, abs=1e-4)
    assert float(step.loss) == pytest.approx(L_x + 0.05 * L_u)
    assert float(step.trusted) == 1  # type: ignore[arg-type]


def test_the_teacher_alone_sees_noise(batch: Batch) -> None:
    seen: dict[str, Tensor] = {}

    def remember(name: str, images: Tensor, *_: Tensor) -> Tensor:
        seen[name] = images
        return left_half(images, _[0]) if _ else sure(images)

    f = Models(**{name: partial(remember, name) for name in ("UT", "UT_hat", "SAM")})
    semisam_step(f, batch, lam=0.5, mu=0.5, draws=draws())
    assert torch.equal(seen["UT"], batch.U_w_UT)
    assert torch.equal(seen["SAM"], batch.U_w_MS)
    assert 0 < float((seen["UT_hat"] - batch.U_w_UT).abs().max()) <= 0.2 + 1e-6


@base.at_all_sides
@pytest.mark.parametrize("nested", [True, False])
def test_semisam_equals_its_twin(sides: tuple[int, int, int], nested: bool) -> None:
    drawn = set()
    for seed in range(3):
        nets, batch = make_case(seed, 4, sides)
        rng = np.random.default_rng(seed)
        sam = Drawer(rng.normal(size=(3, sides[1], sides[1])) - 1)
        f = replace(base.networks_of(nets, "UT"), SAM=sam)
        b, options = tensors(batch), {"lam": 0.4, "mu": 0.7, "nested": nested}
        ours = numbers(semisam_step(f, b, draws=draws(), **options))
        normal = torch.randn(batch["U_w_UT"].shape, generator=draws()).double().numpy()
        theirs = twins.twin_semisam(nets, batch, sam=sam, normal=normal, **options)
        drawn |= theirs.pop("drawn")
        assert ours == pytest.approx(theirs, abs=1e-5)
    assert drawn == {0, 1, 2, 3}, "one class alone proves nothing"


def test_the_student_alone_learns(batch: Batch) -> None:
    """Not the teacher, and not SAM: its answer is a label, whatever it is made of."""
    base.assert_only_the_student_learns(
        lambda f: semisam_step(replace(f, SAM=left_half), batch, lam=0.5, mu=0.5, draws=draws())
    )
    student, shift = torch.zeros(2, 1, 1, 1, 1).requires_grad_()
    f = Models(
        UT=lambda x: sure(x) + student,
        UT_hat=undecided,
        SAM=lambda x, boxes: left_half(x, boxes) + shift,
    )
    loss = semisam_step(f, batch, lam=0.5, mu=0.5, draws=draws()).loss
    assert torch.autograd.grad(loss, shift, allow_unused=True) == (None,)


def test_the_labeled_loss_goes_backward_first(batch: Batch) -> None:
    base.assert_the_labeled_loss_goes_backward_first(
        lambda f: semisam_step(f, batch, lam=0.5, mu=0.5, draws=draws()),
        Models(UT=sure, UT_hat=undecided, SAM=left_half),
    )
