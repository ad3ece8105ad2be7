"""What the tests of the baselines share: settings, batches by hand, networks, checks."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.small import OTHER, SAME, UNEVEN
from synfoc.batches.batch import Batch
from synfoc.methods.interface import Models, Step

LN2 = 0.693147

at_all_sides = pytest.mark.parametrize(
    "sides", [SAME, OTHER, UNEVEN], ids=["P=S=L", "S>P>L", "uneven"]
)
on_either_network = pytest.mark.parametrize("name", ["UT", "MS"])


def half_white_batch() -> Batch:
    """A gray labeled image of class 0; an unlabeled one, weak half white, strong all gray."""
    gray = torch.full((1, 1, 4, 4), 0.5)
    white = gray.clone()
    white[..., :2] = 1
    Y, M = torch.zeros(1, 4, 4, dtype=torch.long), torch.ones(1, 4, 4, dtype=torch.bool)
    return Batch(gray, gray, Y, Y, white, white, gray, gray, M)


def undecided(images: Tensor) -> Tensor:
    """Even odds of two classes."""
    return images.new_zeros(images.shape[0], 2, *images.shape[2:])


def sure(images: Tensor) -> Tensor:
    """Class 1 where it is bright, with probability 1/(1 + e^-6) = .9975."""
    return torch.cat([3 - 6 * images.round(), 6 * images.round() - 3], 1)


def draws(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def black_and_white() -> Batch:
    """A black labeled image of class 0, a white unlabeled one, a region of a quarter."""
    black, white = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    Y, M = torch.zeros(1, 4, 4, dtype=torch.long), torch.zeros(1, 4, 4, dtype=torch.bool)
    M[:, :2, :2] = True
    return Batch(black, black, Y, Y, white, white, white, white, M)


def networks_of(nets: dict[str, Any], name: str) -> Models:
    """One student and its teacher."""
    return Models(**{key: nets[key] for key in (name, f"{name}_hat")})


def assert_only_the_student_learns(step: Callable[[Models], Step]) -> None:
    """Both networks get a shift of their logits; slopes of the loss reach the student's alone."""
    student, teacher = torch.zeros(2, 1, 2, 1, 1).requires_grad_()
    f = Models(UT=lambda x: undecided(x) + student, UT_hat=lambda x: sure(x) + teacher)
    slopes = torch.autograd.grad(step(f).loss, (student, teacher), allow_unused=True)
    assert slopes[0] is not None
    assert slopes[0].abs().max() > 0.01
    assert slopes[1] is None


def assert_the_labeled_loss_goes_backward_first(step: Callable[[Models], Step], f: Models) -> None:
    """And what comes back takes its place in the sum."""
    seen = []

    def early_backward(loss: Tensor) -> Tensor:
        seen.append(loss)
        return loss.detach() + 10

    plain = step(replace(f, memory={}))
    released = step(replace(f, memory={}, early_backward=early_backward))
    assert [float(loss) for loss in seen] == [float(plain.L_x_UT)]
    assert float(released.loss) == pytest.approx(float(plain.loss) + 10)
