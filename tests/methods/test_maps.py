"""Copy-paste and changes of side, by hand and by property."""

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import TypeCheckError

from synfoc.methods.maps import bilinear, nearest, paste


def test_paste_takes_x_inside_the_region_and_u_outside() -> None:
    X, U = torch.tensor([[[1, 2], [3, 4]]]), torch.tensor([[[5, 6], [7, 8]]])
    M = torch.tensor([[[True, False], [False, True]]])
    assert paste(X, U, M).tolist() == [[[1, 6], [7, 4]]]


def test_paste_is_the_sum_of_the_paper() -> None:
    """Eq. 1: X * M + U * (1 - M), for every channel."""
    X, U, M = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4), torch.rand(2, 4, 4) > 0.5
    m = M[:, None].float()
    torch.testing.assert_close(paste(X, U, M), X * m + U * (1 - m))


def test_paste_with_an_empty_or_a_full_region() -> None:
    X, U = torch.ones(1, 2, 2), torch.zeros(1, 2, 2)
    assert paste(X, U, torch.zeros(1, 2, 2, dtype=torch.bool)).sum() == 0
    assert paste(X, U, torch.ones(1, 2, 2, dtype=torch.bool)).sum() == 4


def test_paste_does_not_accept_a_region_of_another_size() -> None:
    """It would broadcast in silence: a region of one row for all rows."""
    with pytest.raises(TypeCheckError):
        paste(torch.ones(1, 4, 4), torch.zeros(1, 4, 4), torch.ones(1, 1, 4, dtype=torch.bool))


def test_nearest_by_hand() -> None:
    """Pixel i comes from floor(i * old / new): 2 -> 3 is 0, 0, 1; 4 -> 2 is 0, 2."""
    two = torch.tensor([[[1, 2], [3, 4]]])
    assert nearest(two, 3).tolist() == [[[1, 1, 2], [1, 1, 2], [3, 3, 4]]]
    four = torch.arange(16).view(1, 4, 4)
    assert nearest(four, 2).tolist() == [[[0, 2], [8, 10]]]


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
@pytest.mark.parametrize("shape", [(2, 6, 6), (2, 3, 6, 6)])
def test_nearest_keeps_kind_and_leading_shape(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    maps = torch.randint(2, shape).to(dtype)
    small = nearest(maps, 4)
    assert small.dtype == dtype
    assert small.shape == (*shape[:-2], 4, 4)
    torch.testing.assert_close(nearest(maps, 12)[..., ::2, ::2], maps)


@pytest.mark.parametrize(("old", "new"), [(48, 304), (304, 48), (384, 128), (96, 32), (256, 384)])
def test_labels_regions_and_probabilities_move_alike(old: int, new: int) -> None:
    """Also where old / new is no binary fraction: 48 -> 304 differs from floor(i * 48 / 304)."""
    columns = torch.arange(old).expand(1, old, old).contiguous()
    expected = F.interpolate(columns[:, None].float(), size=(new, new), mode="nearest")[:, 0]
    assert torch.equal(nearest(columns, new), expected.long())
    assert torch.equal(nearest(columns.float(), new), expected)
    assert torch.equal(nearest(columns % 2 == 1, new), expected.long() % 2 == 1)


def test_nearest_and_bilinear_return_the_same_map_at_its_own_side() -> None:
    P = torch.rand(1, 2, 5, 5)
    assert nearest(P, 5) is P
    assert bilinear(P, 5) is P


def test_gradient_passes_nearest() -> None:
    """Doubling the side: each pixel is used four times."""
    P = torch.rand(1, 2, 3, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(nearest(P, 6).sum(), P)
    torch.testing.assert_close(slope, torch.full_like(P, 4))


def test_bilinear_by_hand() -> None:
    """Centers of 2 -> 4 pixels lie at -.25, .25, .75, 1.25; outside, the edge is repeated."""
    P = torch.tensor([0.0, 1.0]).expand(1, 1, 2, 2)
    assert bilinear(P, 4)[0, 0, 0].tolist() == pytest.approx([0, 0.25, 0.75, 1])


def test_bilinear_down_reads_the_two_nearest_pixels_only() -> None:
    """4 -> 2: centers at .5 and 2.5, the mean of pixels 0, 1 and of 2, 3; no antialiasing."""
    P = torch.tensor([0.0, 1.0, 4.0, 9.0]).expand(1, 1, 4, 4)
    assert bilinear(P, 2)[0, 0, 0].tolist() == pytest.approx([0.5, 6.5])


def test_bilinear_probabilities_sum_to_one() -> None:
    P = torch.rand(2, 3, 5, 5).softmax(1)
    torch.testing.assert_close(bilinear(P, 8).sum(1), torch.ones(2, 8, 8))
