"""LoRA from outside: values by hand, and two networks over one encoder that do not disturb."""

import copy
import threading

import pytest
import torch
from torch import nn

from synfoc.errors import UserError
from synfoc.models.lora import LoRA, low_rank_update


@pytest.fixture
def layer() -> nn.Linear:
    return nn.Linear(4, 12).requires_grad_(False)


def random_lora(layer: nn.Linear, heads: int, seed: int, rank: int = 2) -> LoRA:
    """A LoRA whose B is not zero, so that its update can be seen."""
    generator = torch.Generator().manual_seed(seed)
    lora = LoRA([(layer, heads)], rank, generator)
    with torch.no_grad():
        lora.B[0].normal_(generator=generator)
    return lora


def test_the_update_by_hand() -> None:
    """x = (1, 2), rank 1: A_q x = 1 + 2 = 3, B_q = (1, 0), so q gains (3, 0).

    A_v x = 2 * 2 = 4, B_v = (0, 5), so v gains (0, 20); k stays 7.
    """
    A = torch.tensor([[[1.0, 1.0]], [[0.0, 2.0]]])
    B = torch.tensor([[[1.0], [0.0]], [[0.0], [5.0]]])
    qkv = low_rank_update(torch.tensor([[1.0, 2.0]]), A, B, 1, torch.full((1, 6), 7.0))
    assert qkv.tolist() == [[10, 7, 7, 7, 7, 27]]


def test_two_heads_are_updated_head_by_head() -> None:
    """The same numbers in two heads of one channel: rows q1 k1 v1 q2 k2 v2."""
    A = torch.tensor([[[1.0, 1.0]], [[0.0, 2.0]]])
    B = torch.tensor([[[1.0], [0.0]], [[0.0], [5.0]]])
    qkv = low_rank_update(torch.tensor([[1.0, 2.0]]), A, B, 2, torch.full((1, 6), 7.0))
    assert qkv.tolist() == [[10, 7, 7, 7, 7, 27]]
    B = torch.tensor([[[1.0], [2.0]], [[3.0], [5.0]]])  # q gains 3, 6; v gains 12, 20
    qkv = low_rank_update(torch.tensor([[1.0, 2.0]]), A, B, 2, torch.zeros(1, 6))
    assert qkv.tolist() == [[3, 0, 12, 6, 0, 20]]


def test_vit_b_at_rank_4_has_147456_parameters() -> None:
    """12 blocks x 2 (q, v) x 2 (A, B) x 4 x 768 = 147,456."""
    with torch.device("meta"):
        layers = [(nn.Linear(768, 3 * 768), 1) for _ in range(12)]
    lora = LoRA(layers, 4, torch.Generator().manual_seed(0))
    assert sum(p.numel() for p in lora.parameters()) == 147_456


def test_it_starts_at_nothing_with_A_in_its_bounds(layer: nn.Linear) -> None:
    """Kaiming-uniform with a = sqrt 5 draws A from U(-1/sqrt 4, 1/sqrt 4); B is zero."""
    lora = LoRA([(layer, 1)], 2, torch.Generator().manual_seed(0))
    x = torch.randn(5, 4)
    plain = layer(x)
    with lora.attached([(layer, 1)]):
        assert torch.equal(layer(x), plain)
    assert lora.A[0].abs().max() <= 0.5
    assert lora.A[0].std() > 0.15
    again = LoRA([(layer, 1)], 2, torch.Generator().manual_seed(0))
    assert torch.equal(again.A[0], lora.A[0])


@pytest.mark.parametrize("heads", [1, 2])
def test_it_equals_a_layer_with_merged_weights(layer: nn.Linear, heads: int) -> None:
    lora = random_lora(layer, heads, seed=1)
    delta = (lora.B[0] @ lora.A[0]).detach().view(2, heads, 4 // heads, 4)
    merged = copy.deepcopy(layer)
    rows = merged.weight.view(heads, 3, 4 // heads, 4)
    rows[:, 0] += delta[0]
    rows[:, 2] += delta[1]
    x = torch.randn(2, 3, 4)
    with lora.attached([(layer, heads)]):
        torch.testing.assert_close(layer(x), merged(x))


def test_a_teacher_in_between_does_not_disturb_the_graph_of_the_student(layer: nn.Linear) -> None:
    x = torch.randn(3, 4)
    gradients = []
    for between in (False, True):
        student, teacher = random_lora(layer, 1, seed=1), random_lora(layer, 1, seed=2)
        with student.attached([(layer, 1)]):
            y = layer(x)
        if between:
            with torch.no_grad(), teacher.attached([(layer, 1)]):
                assert not torch.equal(layer(x), y)
        y.square().sum().backward()
        gradients.append([p.grad for p in student.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert all(g is not None and g.abs().sum() > 0 for g in gradients[0])


def test_an_error_inside_leaves_the_layer_as_it_was(layer: nn.Linear) -> None:
    x = torch.randn(3, 4)
    plain = layer(x)
    with pytest.raises(ZeroDivisionError), random_lora(layer, 1, seed=1).attached([(layer, 1)]):
        1 / 0  # noqa: B018
    assert torch.equal(layer(x), plain)


def test_another_thread_sees_only_its_own_update(layer: nn.Linear) -> None:
    x = torch.randn(3, 4)
    plain = layer(x)
    seen = []
    with random_lora(layer, 1, seed=1).attached([(layer, 1)]):
        thread = threading.Thread(target=lambda: seen.append(layer(x)))
        thread.start()
        thread.join()
        assert not torch.equal(layer(x), plain)
    assert torch.equal(seen[0], plain)


def test_under_autocast_it_stays_in_low_precision_and_close(layer: nn.Linear) -> None:
    """bf16 has 8 bits: the answers differ by less than 1 part in 50."""
    lora = random_lora(layer, 1, seed=1)
    x = torch.randn(3, 4)
    with lora.attached([(layer, 1)]):
        exact = layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            rough = layer(x)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, rtol=0.02, atol=0.05)
    rough.float().sum().backward()
    assert lora.A[0].grad is not None
    assert lora.A[0].grad.dtype == torch.float32


def test_a_rank_above_the_width_is_told(layer: nn.Linear) -> None:
    with pytest.raises(UserError, match="rank 5 for layers of width 4"):
        LoRA([(layer, 1)], 5, torch.Generator())
