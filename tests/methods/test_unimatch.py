"""UniMatch by hand, against its twin in loops, and what is mixed and dropped."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from helpers import baselines as base
from helpers import twin_baselines as twins
from helpers.baselines import LN2, draws, undecided
from helpers.small import SAME, make_case, numbers, tensors
from synfoc.batches.batch import Batch
from synfoc.methods.interface import Models, Step
from synfoc.methods.unimatch import cutmix, unimatch_step


def bright(images: Tensor) -> Tensor:
    """Class 1 where it is white, class 0 where it is black, for certain; even on gray."""
    return torch.cat([9 - 18 * images, 18 * images - 9], 1)


def even(images: Tensor, seeds: Tensor) -> Tensor:
    """Whatever is dropped, even odds."""
    assert len(seeds) == len(images)
    return undecided(images)


@pytest.fixture
def batch() -> Batch:
    return base.half_white_batch()


def step_of(b: Batch, f: Models | None = None, seed: int = 3, **options: object) -> Step:
    """The second strong view and region are the first."""
    f = f or Models(UT=bright, UT_drop=even)
    return unimatch_step(f, b, U_2=b.U_s_UT, M_2=b.M, draws=draws(seed), **options)


def test_three_losses_by_hand(batch: Batch) -> None:
    """8 of 16 pixels are sure of class 1; everywhere else the odds are even, and count for nothing.

    D = 1 - (0 / (.25 (8)) + 2 (.5)(8) / (.25 (8) + 8)) / 2 = .6, three times: (.6 + .6) / 2 + .6
    """
    step = step_of(batch)
    assert float(step.L_x_UT) == pytest.approx(LN2 + 3 / 5, abs=1e-5)
    assert float(step.L_u_UT) == pytest.approx(1.2, abs=1e-5)
    assert float(step.loss) == pytest.approx(LN2 + 1.8, abs=1e-5)
    assert float(step.trusted) == 0.5


def test_each_view_has_its_weight(batch: Batch) -> None:
    """A view that is answered right costs nothing: .5 (.6), .5 (.6) and 1 (.6) go one by one."""
    white = batch.U_w_UT
    plain = step_of(batch).L_u_UT
    first = step_of(replace(batch, U_s_UT=white))  # which is the second here, too
    assert float(plain - first.L_u_UT) == pytest.approx(0.6, abs=2e-3)
    second = unimatch_step(
        Models(UT=bright, UT_drop=even), batch, U_2=white, M_2=batch.M, draws=draws()
    )
    assert float(plain - second.L_u_UT) == pytest.approx(0.3, abs=2e-3)
    dropped = step_of(batch, Models(UT=bright, UT_drop=lambda x, seeds: bright(x)))
    assert float(plain - dropped.L_u_UT) == pytest.approx(0.6, abs=2e-3)


def test_where_nothing_is_sure_there_is_nothing_to_learn(batch: Batch) -> None:
    step = step_of(replace(batch, U_w_UT=batch.U_s_UT))
    assert float(step.L_u_UT) == 0
    assert float(step.trusted) == 0


def test_cutmix_by_hand() -> None:
    """Images 0, 1, 2 with a pixel of the next one; after the last comes the first."""
    maps = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 2, 2)
    M = torch.zeros(3, 2, 2, dtype=torch.bool)
    M[:, 0, 1] = True
    assert cutmix(maps, M)[:, 0, 0].tolist() == [[0, 1], [1, 2], [2, 0]]
    assert cutmix(maps[:, 0], M)[:, 1].tolist() == [[0, 0], [1, 1], [2, 2]]


def test_each_strong_view_is_mixed_every_second_time() -> None:
    """Of 2 x 2 x 200 views 400 +- 14; where the image is mixed its label is, too."""
    _, raw = make_case(1, 2, SAME)
    b = replace(tensors(raw), M=torch.ones(2, 16, 16, dtype=torch.bool))
    mixed = 0
    for seed in range(200):
        seen = []

        def student(images: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(images)
            return undecided(images)

        step_of(b, Models(UT=student, UT_drop=even), seed)
        weak, labeled, *strong = seen
        assert torch.equal(weak, b.U_w_UT)
        assert torch.equal(labeled, b.X_w_UT)
        for view in strong:
            for i, own in enumerate(b.U_s_UT):
                assert torch.equal(view[i], own) or torch.equal(view[i], b.U_s_UT[1 - i])
                mixed += not torch.equal(view[i], own)
    assert mixed == pytest.approx(400, abs=60)


def test_the_seeds_of_what_is_dropped_change_with_image_and_step(batch: Batch) -> None:
    seen: list[int] = []

    def remember(images: Tensor, seeds: Tensor) -> Tensor:
        assert seeds.device.type == "cpu"
        seen.extend(seeds.tolist())
        return undecided(images)

    two = Batch(**{key: torch.cat([value, value]) for key, value in vars(batch).items()})
    for seed in (3, 4):
        step_of(two, Models(UT=bright, UT_drop=remember), seed)
    assert len(seen) == len(set(seen)) == 4


@base.at_all_sides
@base.on_either_network
def test_unimatch_equals_its_twin(name: str, sides: tuple[int, int, int]) -> None:
    for seed in range(3):
        nets, batch = make_case(seed, 3, sides)
        _, other = make_case(seed + 10, 3, sides)
        generator = draws()
        coins = torch.rand(2, 2, 1, 1, generator=generator).flatten(1) < 0.5
        scales = (torch.randint(2**62, (2,), generator=generator) % 7 / 7).tolist()

        def dropped(images: Tensor, seeds: Tensor, f: object = nets[name]) -> Tensor:
            return f(images * (seeds % 7 / 7).view(-1, 1, 1, 1))  # type: ignore[operator]

        b, second = tensors(batch), tensors(other)
        U_2 = getattr(second, f"U_s_{name}")
        f = Models(**{name: nets[name], f"{name}_drop": dropped})
        ours = numbers(unimatch_step(f, b, U_2=U_2, M_2=second.M, draws=draws(), tau=0.8))
        theirs = twins.twin_unimatch(
            nets, batch, name, U_2=U_2.numpy(), M_2=other["M"],
            coins=coins.numpy(), scales=scales, tau=0.8,
        )  # fmt: skip
        assert ours == pytest.approx(theirs, abs=1e-5)
        assert 0.05 < ours["trusted"] < 0.95


def test_labels_have_no_slope(batch: Batch) -> None:
    """The weak view is learned from, not through: only its dropped features get a slope."""
    weak = batch.U_w_UT.clone().requires_grad_()
    strong = batch.U_s_UT.clone().requires_grad_()
    loss = step_of(replace(batch, U_w_UT=weak, U_s_UT=strong)).loss
    slopes = torch.autograd.grad(loss, (weak, strong), allow_unused=True)
    assert slopes[0] is None or not slopes[0].any()
    assert slopes[1] is not None
    assert slopes[1].abs().max() > 0


def test_the_labeled_loss_goes_backward_first(batch: Batch) -> None:
    base.assert_the_labeled_loss_goes_backward_first(
        lambda f: step_of(batch, f), Models(UT=bright, UT_drop=even)
    )


@pytest.mark.parametrize(("tau", "trusted"), [(0.4999, 1), (0.5, 0)])
def test_a_probability_equal_to_tau_is_not_sure(batch: Batch, tau: float, trusted: float) -> None:
    """Even odds are exactly .5: above .4999, not above .5."""
    step = step_of(batch, Models(UT=undecided, UT_drop=even), tau=tau)
    assert step.trusted is not None
    assert float(step.trusted) == trusted


def test_each_strong_view_has_a_coin_of_its_own() -> None:
    """Of 40 steps both, the first alone, the second alone and neither are mixed."""
    _, raw = make_case(1, 2, SAME)
    b = replace(tensors(raw), M=torch.ones(2, 16, 16, dtype=torch.bool))
    pairs = set()
    for seed in range(40):
        seen = []

        def student(images: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(images)
            return undecided(images)

        step_of(b, Models(UT=student, UT_drop=even), seed)
        pairs.add(tuple(not torch.equal(view[0], b.U_s_UT[0]) for view in seen[2:]))
    assert len(pairs) == 4
