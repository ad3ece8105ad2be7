"""The stream: batch k depends on the seed and k alone, and reads only what it may."""

import threading
from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from synfoc.batches import stream as module
from synfoc.batches.batch import Batch, Sides
from synfoc.batches.split import Split
from synfoc.batches.stream import Order, Stream
from synfoc.config import Augment, Data
from synfoc.errors import UserError
from synfoc.images.cases import Case, CaseTable, load_cases

SIDES = Sides(medsam=48, logits=12, unet=32)


@pytest.fixture
def table(tmp_path: Path) -> CaseTable:
    """Domain `a`: three labeled images equal to their labels; domain `b`: five without label."""
    rng = np.random.default_rng(0)
    images, masks = tmp_path / "a/train/image", tmp_path / "a/train/mask"
    others = tmp_path / "b/train/image"
    for folder in (images, masks, others):
        folder.mkdir(parents=True)
    rows = np.arange(60)
    for i in range(3):
        disc = (rows[:, None] - 25) ** 2 + (rows - 20 - 5 * i) ** 2 < (10 + 2 * i) ** 2
        Image.fromarray(disc.astype(np.uint8) * 255).save(images / f"{i}.png")
        Image.fromarray(disc.astype(np.uint8)).save(masks / f"{i}.png")
    for i in range(5):
        Image.fromarray(rng.integers(0, 256, (40, 60), np.uint8)).save(others / f"{i}.png")
    return load_cases(Data(path=tmp_path))


def make(table: CaseTable, **changes: object) -> Stream:
    labeled = tuple(c for c in table.cases if c.domain == "a")
    split = Split(labeled, tuple(c for c in table.cases if c.domain == "b"), ())
    settings = {
        "sides": SIDES,
        "channels": 1,
        "batch": 2,
        "augment": Augment(),
        "paste_area": (0.02, 0.4),
        "seed": 5,
        "device": torch.device("cpu"),
        "slice_axis": None,
        "cache_gib": 0.1,
        "supervised": False,
    }
    return Stream(table, changes.pop("split", split), **{**settings, **changes})  # type: ignore[arg-type]


def equal(a: Batch, b: Batch) -> bool:
    return all(torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Batch))


def test_shapes_and_ranges(table: CaseTable) -> None:
    """S = 48, L = 12, P = 32, B = 2; images in [0, 1], labels 0 and 1, one region per image."""
    batch = make(table).batch(0)
    assert batch.X_w_MS.shape == batch.U_w_MS.shape == batch.U_s_MS.shape == (2, 1, 48, 48)
    assert batch.X_w_UT.shape == batch.U_w_UT.shape == batch.U_s_UT.shape == (2, 1, 32, 32)
    assert batch.Y_w_MS.shape == (2, 12, 12)
    assert batch.Y_w_UT.shape == (2, 32, 32)
    assert batch.M.shape == (2, 32, 32)
    assert batch.M.any(2).any(1).all()
    assert batch.Y_w_UT.unique().tolist() == [0, 1]
    for image in (batch.X_w_MS, batch.U_w_UT, batch.U_s_MS):
        assert image.min() >= 0
        assert image.max() <= 1


def test_a_batch_depends_on_seed_and_number_alone(table: CaseTable) -> None:
    """Asked for in another order, by another stream, without a cache: bit by bit the same."""
    first, second = make(table), make(table, cache_gib=0.0)
    backwards = {k: second.batch(k) for k in (7, 3, 0)}
    assert all(equal(first.batch(k), backwards[k]) for k in (0, 3, 7))
    assert not equal(first.batch(0), first.batch(1))
    assert not equal(first.batch(0), make(table, seed=6).batch(0))


def test_iterating_gives_the_same_batches(table: CaseTable) -> None:
    """From step 2 to 5, as a resumed run does."""
    stream = make(table)
    resumed = list(stream.iterate(2, 6))
    assert len(resumed) == 4
    assert all(equal(batch, stream.batch(k)) for k, batch in enumerate(resumed, 2))
    assert list(stream.iterate(4, 4)) == []


def test_label_and_image_stay_aligned(table: CaseTable) -> None:
    """The images are their labels: above 1/2 where the label is 1, but for pixels on the edge."""
    stream = make(table)
    for k in range(8):
        batch = stream.batch(k)
        at_p = (batch.X_w_UT[:, 0] > 0.5) == batch.Y_w_UT.bool()
        assert at_p.float().mean() > 0.97
        at_s = batch.X_w_MS[:, 0, 2::4, 2::4] > 0.5
        assert (at_s == batch.Y_w_MS.bool()).float().mean() > 0.95


def test_equal_sides_share_their_tensors(table: CaseTable) -> None:
    """S = L = P: one tensor under two names."""
    batch = make(table, sides=Sides(32, 32, 32)).batch(0)
    assert batch.X_w_MS is batch.X_w_UT
    assert batch.Y_w_MS is batch.Y_w_UT
    assert batch.U_s_MS is batch.U_s_UT


def test_fewer_labeled_images_than_a_batch(table: CaseTable) -> None:
    """One labeled image, B = 4: it comes four times, each time in another view."""
    split = Split(table.cases[:1], table.cases[3:], ())
    batch = make(table, batch=4, split=split).batch(0)
    assert batch.X_w_UT.shape[0] == batch.U_w_UT.shape[0] == 4
    assert len({one.sum().item() for one in batch.X_w_UT}) > 1


def test_no_label_of_an_unlabeled_image_is_read(
    table: CaseTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of `a` lies in the labeled half; nothing of `b` ever reaches the label reader."""
    stream, read = make(table), []
    label = stream.cache.label
    monkeypatch.setattr(stream.cache, "label", lambda c, i: read.append(c.domain) or label(c, i))
    for k in range(6):
        stream.batch(k)
    assert set(read) == {"a"}


def test_supervised_batches_have_no_unlabeled_half(table: CaseTable) -> None:
    """And their labeled half is that of the semi-supervised run with the same seed."""
    both, alone = make(table), make(table, supervised=True)
    batch = alone.batch(3)
    assert batch.U_w_MS.shape == batch.U_s_MS.shape == (0, 1, 48, 48)
    assert batch.U_w_UT.shape == batch.U_s_UT.shape == (0, 1, 32, 32)
    assert batch.M.shape == (0, 32, 32)
    assert torch.equal(batch.X_w_MS, both.batch(3).X_w_MS)


def test_an_order_is_one_permutation_after_another() -> None:
    """Seven things: positions 0-6 and 7-13 are two permutations, and not the same one."""
    order = Order(7, seed=1, purpose=1)
    row = order.take(0, 14)
    assert sorted(row[:7]) == sorted(row[7:]) == list(range(7))
    assert row[:7] != row[7:]
    assert order.take(5, 4) == row[5:9]
    assert Order(7, seed=1, purpose=2).take(0, 14) != row


def test_every_slice_of_a_volume_is_seen_once_per_round(tmp_path: Path) -> None:
    """A volume of 4 slices (read from its header) and 2 pictures are 6 items."""
    folder = tmp_path / "a/train/image"
    folder.mkdir(parents=True)
    np.save(folder / "volume.npy", np.zeros((4, 9, 9), np.uint8))
    for i in range(2):
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / f"p{i}.png")
    items = module.Items([Case(f.stem, f) for f in sorted(folder.iterdir())], 0)
    seen = Counter(items[i][0].id for i in range(len(items)))
    assert seen == {"p0": 1, "p1": 1, "volume": 4}
    assert [items[i][1] for i in range(len(items))] == [0, 0, 0, 1, 2, 3]


def test_an_error_in_the_thread_is_raised_at_its_batch(table: CaseTable) -> None:
    """An unlabeled image vanishes: the batches before it come, then the error, then no thread."""
    stream = make(table)
    for case in table.cases[3:]:
        case.image.unlink()
    with pytest.raises(UserError, match=r"\.png"):
        next(stream.iterate(0, 3))
    assert not [t for t in threading.enumerate() if t.name.startswith("batches")]


def test_leaving_early_ends_the_thread(table: CaseTable) -> None:
    """As Ctrl-C does: the iterator is closed while the next batch is being made."""
    batches = make(table).iterate(0, 100)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("batches")]


def test_nothing_to_train_on_is_told(table: CaseTable) -> None:
    """No labeled image; no unlabeled one though the method needs them."""
    with pytest.raises(UserError, match="no labeled image"):
        make(table, split=Split((), table.cases, ()))
    with pytest.raises(UserError, match="no unlabeled image"):
        make(table, split=Split(table.cases[:3], (), ()))


def test_labeled_and_unlabeled_images_are_shuffled_apart(table: CaseTable) -> None:
    """Three of each; ten rounds of the same order would be no chance, but one of 6^9."""
    three = table.cases[:3]
    stream = make(table, split=Split(three, three, ()))
    assert stream._labeled_order.take(0, 30) != stream._unlabeled_order.take(0, 30)


def test_what_a_method_draws_are_not_the_numbers_of_the_views() -> None:
    """Noise that knows how the image was turned would be none."""
    numbers = [torch.rand(8, generator=module.draws_of_step(5, k)) for k in (0, 0, 1)]
    assert torch.equal(numbers[0], numbers[1])
    assert not torch.equal(numbers[0], numbers[2])
    for purpose in (module._VIEWS, module._LABELED, module._UNLABELED):
        other = torch.rand(8, generator=module._generator(5, purpose, 0))
        assert not torch.equal(numbers[0], other)


def test_the_strong_view_is_of_the_weak_one(table: CaseTable) -> None:
    """With nothing to change, brightness and contrast 1 and no blur, both are one picture."""
    still = Augment(brightness=(1, 1), contrast=(1, 1), blur=(0, 0))
    batch = make(table, augment=still).batch(0)
    torch.testing.assert_close(batch.U_s_UT, batch.U_w_UT, atol=1e-5, rtol=0)
    torch.testing.assert_close(batch.U_s_MS, batch.U_w_MS, atol=1e-5, rtol=0)
