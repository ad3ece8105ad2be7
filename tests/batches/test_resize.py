"""Resizing: one code for training, evaluation and prediction."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from synfoc.batches.resize import center_indices, resize_images, resize_labels, to_gray


def test_a_fine_checkerboard_shrinks_to_gray() -> None:
    """Alternating 0 and 1 has mean 1/2; picking every fourth pixel would give all 0 or all 1."""
    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2
    small = resize_images(board[None, None].float(), 16)
    assert small[..., 1:-1, 1:-1].sub(0.5).abs().max() < 0.01


def test_an_image_of_the_right_size_is_not_copied() -> None:
    """Where R = S = P both networks read the same memory."""
    x = torch.rand(1, 1, 32, 32)
    assert resize_images(x, 32) is x
    y = torch.zeros(1, 32, 32)
    assert resize_labels(y, 32) is y


def test_nearest_by_hand() -> None:
    """4 of 8 pixels: centres at 1, 3, 5, 7 lie between two pixels; the later one is taken.

    2 of 3 pixels: centres at .75 and 2.25 lie in pixels 0 and 2. 4 of 2: each pixel twice.
    """
    assert center_indices(8, 4).tolist() == [1, 3, 5, 7]
    assert center_indices(3, 2).tolist() == [0, 2]
    assert center_indices(2, 4).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("length", [17, 96, 384, 512])
@pytest.mark.parametrize("side", [16, 128, 288])
def test_nearest_is_what_torch_calls_exact(length: int, side: int) -> None:
    """Reference: interpolate(mode="nearest-exact")."""
    row = torch.arange(length).float().view(1, 1, length)
    expected = functional.interpolate(row, size=side, mode="nearest-exact").flatten()
    assert center_indices(length, side).tolist() == expected.long().tolist()


def test_labels_keep_their_classes_and_squash_to_a_square() -> None:
    """A 2 x 4 label map at side 2: columns 1 and 3 remain."""
    y = torch.tensor([[[1, 0, 3, 2], [0, 1, 2, 3]]])
    assert resize_labels(y, 2).tolist() == [[[0, 2], [1, 3]]]


def test_gray_is_pillows_gray() -> None:
    """Reference: Image.convert("L"), which rounds to whole gray levels."""
    color = np.random.default_rng(3).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    ours = to_gray(torch.from_numpy(color).movedim(-1, 0)[None] / 255)[0, 0] * 255
    theirs = torch.from_numpy(np.array(Image.fromarray(color).convert("L"))).float()
    assert (ours - theirs).abs().max() < 0.51
