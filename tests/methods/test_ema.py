"""The teacher follows its student."""

import pytest
import torch
from torch import nn

from synfoc.methods.ema import ema_update
from synfoc.methods.schedules import ema_decay


def test_follow_by_hand() -> None:
    """Three quarters of 4 and one quarter of 8 is 5."""
    teacher, student = [torch.tensor([4.0])], [torch.tensor([8.0])]
    ema_update(teacher, student, 0.75)
    assert teacher[0].tolist() == [5]
    assert student[0].tolist() == [8]


def test_decay_zero_copies_and_decay_one_keeps() -> None:
    teacher, student = [torch.rand(3)], [torch.rand(3)]
    before = teacher[0].clone()
    ema_update(teacher, student, 1.0)
    assert torch.equal(teacher[0], before)
    ema_update(teacher, student, 0.0)
    assert torch.equal(teacher[0], student[0])


def test_first_steps_are_the_mean_of_all_students() -> None:
    """Decay 1 - 1/(step + 1) is a running mean: students 1, 2, ..., 10 leave a teacher of 5.5."""
    teacher = [torch.zeros(1)]
    for step in range(10):
        ema_update(teacher, [torch.tensor([step + 1.0])], ema_decay(step))
    assert float(teacher[0]) == pytest.approx(5.5)


def test_batch_norm_statistics_are_the_teachers_own() -> None:
    """Parameters move, buffers do not, and the teacher collects no gradient."""
    teacher, student = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    student(torch.rand(4, 2, 3, 3) + 5)
    nn.init.constant_(student.weight, 3.0)
    ema_update(teacher.parameters(), student.parameters(), 0.5)
    assert teacher.weight.tolist() == [2, 2]
    assert teacher.weight.requires_grad
    assert teacher.weight.grad_fn is None
    assert teacher.running_mean is not None
    assert teacher.running_mean.tolist() == [0, 0]


def test_lists_that_do_not_match_are_an_error() -> None:
    """Another number of parameters, or another shape: never a silent partial average."""
    with pytest.raises(ValueError, match="differ"):
        ema_update([torch.zeros(2)], [torch.zeros(2), torch.zeros(2)], 0.5)
    with pytest.raises(ValueError, match="differ"):
        ema_update([torch.zeros(2)], [torch.zeros(1)], 0.5)
