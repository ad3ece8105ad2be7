"""UST-RUN by hand and against its twin in loops; what it remembers, step by step."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import baselines as base
from helpers import twin_baselines as twins
from helpers.baselines import LN2, draws, sure, undecided
from helpers.small import make_case, numbers, tensors
from synfoc.batches.batch import Batch
from synfoc.methods.interface import Models, Step
from synfoc.methods.symgd import symgd_step
from synfoc.methods.ustrun import (
    Labeled,
    covered,
    disagreement,
    partners,
    rectangle,
    remember,
    ustrun_step,
)


def step_of(f: Models, b: Batch, *, progress: float = 0.5, **rest: Any) -> Step:
    return ustrun_step(f, b, lam=0.5, progress=progress, draws=draws(), **rest)


def images(*values: float, label: int = 1, trust: bool = True) -> Labeled:
    """Flat images of 2 x 2 pixels, of one class and one trust."""
    X = torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    Y = torch.full((len(values), 2, 2), label)
    return Labeled(X, Y, torch.full_like(Y, trust, dtype=torch.bool))


def kept(memory: dict[str, Tensor]) -> list[float]:
    """The remembered images, told by their color."""
    return [round(float(x), 4) for x in memory["X"].flatten(1)[:, 0]]


@pytest.fixture
def batch() -> Batch:
    batch: Batch = base.black_and_white()
    return batch


def test_the_first_step_is_symgds() -> None:
    """Nothing is remembered yet: the same draws, the same losses."""
    nets, arrays = make_case(1, 3, (16, 16, 16))
    f, b = base.networks_of(nets, "UT"), tensors(arrays)
    ours = numbers(ustrun_step(f, b, lam=0.4, progress=0.8, draws=draws(), tau=0.8))
    assert ours == numbers(symgd_step(f, b, lam=0.4, progress=0.8, draws=draws(), tau=0.8))


def test_the_unreliable_image_is_one_more_of_its_mixtures(batch: Batch) -> None:
    """Labels alone; the student is undecided, the teacher sees white as class 1.

    First step, as in SymGD: 2 (ln 2 + 3/8) + (ln 2 + 3/5)/2. The white image is remembered as all
    of class 1; in the second step a black one of class 0 covers it whole, so that L_ul has 32
    pixels, 4 + 16 of class 0 and 12 of class 1:

        class 0: 2(.5)(20)/(8 + 20)    class 1: 2(.5)(12)/(8 + 12)    ln 2 + 1 - (5/7 + 3/5)/2
    """
    f = Models(UT=undecided, UT_hat=sure)
    first, second = step_of(f, batch), step_of(f, batch)
    assert first.L_u_UT is not None
    assert second.L_u_UT is not None
    assert float(first.L_u_UT) == pytest.approx(2 * (LN2 + 3 / 8) + (LN2 + 3 / 5) / 2, abs=1e-5)
    more = (LN2 + 1 - (5 / 7 + 3 / 5) / 2) - (LN2 + 3 / 8)
    assert float(second.L_u_UT - first.L_u_UT) == pytest.approx(more, abs=1e-5)


def test_disagreement_by_hand() -> None:
    """Three classes over 4 pixels: (2 + 1)/(3 + 1.001) for class 1, class 2 is with neither: 0.

    Nested, part 2 holds part 1 and is the same here: both parts count.
    """
    Q_a, Q_b = torch.tensor([[[1, 1], [0, 0]]]), torch.tensor([[[1, 0], [0, 0]]])
    dice = 3 / 4.001
    assert disagreement(Q_a, Q_b, 2, nested=False).tolist() == pytest.approx([1 - dice / 2])
    assert disagreement(Q_a, Q_b, 2, nested=True).tolist() == pytest.approx([1 - dice])


def test_empty_label_maps_do_not_agree() -> None:
    """An image on which nobody sees an organ is never reliable [authors' code]."""
    nothing = torch.zeros(1, 2, 2, dtype=torch.long)
    assert disagreement(nothing, nothing, 1, nested=False).tolist() == [1]


def test_memory_by_hand() -> None:
    """Below .1 is reliable; the newest come first; the threshold falls to the worst remembered."""
    memory: dict[str, Tensor] = {}
    remember(memory, images(0.1, 0.2), [1.0, 1.0])  # the start: the first of equals
    assert kept({"X": memory["X_r"]}) == [0.1]
    assert "X" not in memory
    assert float(memory["threshold"]) == 0.1  # nothing to relax yet
    remember(memory, images(0.3, 0.4, 0.5), [0.05, 0.3, 0.02])
    assert kept(memory) == [0.3, 0.5]
    assert kept({"X": memory["X_r"]}) == [0.4]
    assert float(memory["threshold"]) == 0.05
    remember(memory, images(0.6), [0.05])  # not below it
    assert kept(memory) == [0.3, 0.5]
    assert float(memory["threshold"]) == pytest.approx(0.05 * 1.0005)
    remember(memory, images(0.7), [0.05])
    assert kept(memory) == [0.7, 0.3, 0.5]
    assert memory["differ"].tolist() == [0.05, 0.05, 0.02]
    assert float(memory["threshold"]) == 0.05


def test_the_newest_ten_are_remembered_and_the_threshold_stays_below_its_start() -> None:
    memory: dict[str, Tensor] = {}
    remember(memory, images(*(i / 100 for i in range(8))), [0.09] * 8)
    remember(memory, images(*(i / 10 for i in range(3, 9))), [0.01] * 6)
    assert kept(memory) == [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.0, 0.01, 0.02, 0.03]
    assert {len(memory[name]) for name in ("X", "Y", "W", "differ")} == {10}
    for _ in range(300):
        remember(memory, images(1.0), [1.0])
    assert float(memory["threshold"]) == 0.1


@pytest.mark.parametrize(("remembered", "count"), [(1, 1), (2, 2), (10, 2)])
def test_half_of_the_partners_are_reliable_images(remembered: int, count: int) -> None:
    """With their pseudo-label and trust; the others stay in their places."""
    memory: dict[str, Tensor] = {}
    colors = [0.5 + i / 100 for i in range(remembered)]
    remember(memory, images(*colors, trust=False), [0.05] * remembered)
    given = images(0.0, 0.1, 0.2, 0.3, label=0)
    X, Y, W = partners(given, memory, draws())
    new = X[:, 0, 0, 0] >= 0.5
    assert int(new.sum()) == count
    assert torch.equal(X[~new], given.X[~new])
    assert torch.equal(Y[:, 0, 0], new.long())
    assert torch.equal(W[:, 0, 0], ~new)


def test_a_batch_of_one_has_no_reliable_partner() -> None:
    memory: dict[str, Tensor] = {}
    remember(memory, images(0.5), [0.05])
    given = images(0.0, label=0)
    assert torch.equal(partners(given, memory, draws()).X, given.X)


def test_rectangle_by_hand() -> None:
    F = torch.tensor([[0, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]).bool()
    R = torch.tensor([[0, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]).bool()
    assert torch.equal(rectangle(torch.stack([F, ~F, F & ~F])), torch.stack([R, F | ~F, F & ~F]))


def square(image: float, row: int, column: int, *, trust: bool) -> Labeled:
    """A flat image of 4 x 4 pixels with one pixel of class 1."""
    Y = torch.zeros(1, 4, 4, dtype=torch.long)
    Y[0, row, column] = 1
    return Labeled(torch.full((1, 1, 8, 8), image), Y, torch.full_like(Y, trust, dtype=torch.bool))


def test_labeled_pixels_cover_the_foreground_of_both() -> None:
    """From (0, 1) to (2, 2): no pixel of the old pseudo-label's class 1 is left. Images have twice
    the side of labels."""
    x, r = square(1.0, 0, 2, trust=True), square(0.0, 2, 1, trust=False)
    memory = dict(zip(("X_r", "Y_r", "W_r"), r, strict=True))
    R = torch.tensor([[0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]).bool()[None]
    V = covered(x, memory, torch.zeros_like(R), draws())
    assert V is not None
    assert torch.equal(V.X[:, 0], R.float().repeat_interleave(2, 1).repeat_interleave(2, 2))
    assert torch.equal(V.Y, x.Y)
    assert torch.equal(V.W, R)


def test_where_neither_has_foreground_the_region_covers() -> None:
    x, r = square(1.0, 0, 0, trust=True), square(0.0, 0, 0, trust=False)
    empty = torch.zeros_like(x.Y)
    memory = {"X_r": r.X, "Y_r": empty, "W_r": r.W}
    M = torch.rand(1, 4, 4, generator=draws()) < 0.5
    V = covered(x._replace(Y=empty), memory, M, draws())
    assert V is not None
    assert torch.equal(V.W, M)
    assert covered(x, {}, M, draws()) is None


def test_nothing_is_reliable_in_the_first_sixtieth(batch: Batch) -> None:
    """The student is the teacher, so that they agree: 1 - 33/33.001 on 16 pixels of class 1."""
    early, later = Models(UT=sure, UT_hat=sure), Models(UT=sure, UT_hat=sure)
    step_of(early, batch, progress=0.0166)
    step_of(later, batch, progress=0.0167)
    assert "X" not in early.memory
    assert later.memory["differ"].tolist() == pytest.approx([1 - 33 / 33.001], abs=1e-6)
    assert torch.equal(later.memory["X"], batch.U_w_UT)
    assert torch.equal(later.memory["Y"], torch.ones(1, 4, 4, dtype=torch.long))


def sparse(arrays: dict[str, Any]) -> dict[str, Any]:
    """Labels whose foreground lies in one corner: it does not fill the rectangle's image."""
    for name in ("UT", "MS"):
        Y = arrays[f"Y_w_{name}"]
        half = Y.shape[-1] // 2
        Y[:, half:], Y[:, :, half:] = 0, 0
    return arrays


def draws_as_the_page_takes_them(
    memory: twins.Remembered, B: int, progress: float
) -> dict[str, Any]:
    source, swaps = draws(), {}
    if n := len(memory.reliable):
        count = min(B // 2, n)
        places = torch.randperm(B, generator=source)[:count].tolist()
        which = torch.randint(n, (count,), generator=source).tolist()
        swaps = dict(zip(places, which, strict=True))
    shares = (progress * torch.rand(B, generator=source)).tolist()
    again = memory.unreliable is not None
    cover = int(torch.randint(B, (1,), generator=source)) if again else 0
    return {"swaps": swaps, "shares": shares, "cover": cover}


@pytest.mark.parametrize("nested", [False, True])
@base.at_all_sides
@base.on_either_network
def test_ustrun_equals_its_twin(name: str, sides: tuple[int, int, int], nested: bool) -> None:
    """Four steps, each with what the one before left; the memory is compared, too."""
    nets, _ = make_case(5, 3, sides)
    for key in (name, f"{name}_hat"):
        nets[key].place[0] += 2.5  # foreground is not everywhere
    f = base.networks_of(nets, name)
    f.memory["threshold"] = torch.tensor(0.45)
    memory = twins.Remembered(0.45)
    used = 0
    for k in range(4):
        batch = sparse(make_case(20 + k, 3, sides, images=4)[1])
        given = draws_as_the_page_takes_them(memory, 4, 0.8)
        used += len(given["swaps"])
        options = {"lam": 0.4, "tau": 0.8, "nested": nested}
        progress = 0.8 if k else 0.01
        if not k:
            given["shares"] = [share / 80 for share in given["shares"]]
        step = ustrun_step(f, tensors(batch), progress=progress, draws=draws(), **options)
        theirs = twins.twin_ustrun(nets, batch, name, memory, at_start=not k, **options, **given)
        assert numbers(step) == pytest.approx(theirs, abs=1e-5)
        assert_same_memory(f.memory, memory)
    assert used > 0
    assert 0 < float(f.memory["threshold"]) < 0.45


def assert_same_memory(ours: dict[str, Tensor], theirs: twins.Remembered) -> None:
    def same(names: list[str], images: list[Any]) -> None:
        for name, arrays in zip(names, zip(*images, strict=True), strict=True):
            assert np.array_equal(ours[name].numpy(), np.stack(arrays))

    assert float(ours["threshold"]) == pytest.approx(theirs.threshold, abs=1e-6)
    same(["X_r", "Y_r", "W_r"], [theirs.unreliable])
    if theirs.reliable:
        same(["X", "Y", "W"], [image for _, image in theirs.reliable])
        assert ours["differ"].tolist() == pytest.approx([d for d, _ in theirs.reliable], abs=1e-6)


def test_the_student_alone_learns(batch: Batch) -> None:
    def second(f: Models) -> Step:
        step_of(f, batch)
        return step_of(f, batch)

    base.assert_only_the_student_learns(second)


def test_what_is_remembered_has_no_graph(batch: Batch) -> None:
    shift = torch.zeros(1, 2, 1, 1).requires_grad_()
    f = Models(UT=lambda x: sure(x) + shift, UT_hat=lambda x: sure(x) + shift)
    step_of(f, batch)
    assert "X" in f.memory
    assert not any(tensor.requires_grad for tensor in f.memory.values())


@pytest.mark.parametrize(("tau", "trusted"), [(0.4999, 1), (0.5, 0)])
def test_a_probability_equal_to_tau_is_not_trusted(
    batch: Batch, tau: float, trusted: float
) -> None:
    """Even odds are exactly .5: above .4999, not above .5."""
    step = step_of(Models(UT=undecided, UT_hat=undecided), batch, tau=tau)
    assert step.trusted is not None
    assert float(step.trusted) == trusted


def test_the_labeled_loss_goes_backward_first(batch: Batch) -> None:
    base.assert_the_labeled_loss_goes_backward_first(
        lambda f: step_of(f, batch), Models(UT=undecided, UT_hat=sure)
    )


def test_the_unreliable_image_passes_by_itself(batch: Batch) -> None:
    """Two at a time: U_w, X_w, both mixtures, U_s; then one alone."""
    seen: list[int] = []

    def student(images: Tensor) -> Tensor:
        seen.append(len(images))
        return undecided(images)

    two = replace(
        batch, **{x.name: getattr(batch, x.name).repeat_interleave(2, 0) for x in fields(Batch)}
    )
    f = Models(UT=student, UT_hat=sure)
    step_of(f, two)
    step_of(f, two)
    assert seen == [2] * 5 + [2] * 5 + [1]
