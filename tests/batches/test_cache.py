"""The cache: every file once while there is room, the same pixels with and without it."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from synfoc.batches import cache as module
from synfoc.batches.cache import ImageCache, Kept
from synfoc.config import Data
from synfoc.errors import UserError
from synfoc.images.cases import load_cases
from synfoc.images.files import read_image

SIDE = 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One domain `a` with a gray 8-bit image, a color one, a 16-bit one and a volume."""
    rng = np.random.default_rng(0)
    images, masks = tmp_path / "a/train/image", tmp_path / "a/train/mask"
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    Image.fromarray(rng.integers(0, 256, (SIDE, SIDE), np.uint8)).save(images / "gray.png")
    Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(images / "color.png")
    Image.fromarray(rng.integers(0, 4096, (SIDE, SIDE)).astype(np.uint16)).save(images / "deep.png")
    np.save(images / "volume.npy", rng.integers(0, 4096, (3, 50, 40)).astype(np.int16))
    for name, shape in (("gray", (SIDE, SIDE)), ("color", (40, 50)), ("deep", (SIDE, SIDE))):
        Image.fromarray(rng.integers(0, 3, shape, np.uint8)).save(masks / f"{name}.png")
    np.save(masks / "volume.npy", rng.integers(0, 3, (3, 50, 40)).astype(np.uint8))
    return tmp_path


def make(folder: Path, *, channels: int = 1, gib: float = 1.0) -> ImageCache:
    table = load_cases(Data(path=folder))
    return ImageCache(table, side=SIDE, channels=channels, slice_axis=0, gib=gib)


def case(cache: ImageCache, name: str) -> module.Case:
    return next(c for c in cache.table.cases if c.image.name.startswith(name))


def test_an_8_bit_image_of_the_working_side_is_exact(folder: Path) -> None:
    """Bytes in the file, bytes in the cache, 1/255 of them in the batch."""
    cache = make(folder)
    gray = case(cache, "gray")
    expected = torch.from_numpy(np.array(Image.open(gray.image))) / 255
    assert torch.equal(cache.image(gray, 0)[0], expected)
    assert cache.size == SIDE * SIDE


def test_a_16_bit_image_keeps_eleven_bits(folder: Path) -> None:
    """float16 in [0, 1] is exact to 1/4096."""
    cache = make(folder)
    deep = case(cache, "deep")
    pixels = module.to_unit(read_image(deep.image))[0, ..., 0]
    assert np.abs(cache.image(deep, 0)[0].numpy() - pixels).max() <= 1 / 4096


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["gray", "color", "volume"])
def test_every_image_has_the_channels_and_the_side_of_the_run(
    folder: Path, name: str, channels: int
) -> None:
    """Gray to color, color to gray, 40 x 50 to 32 x 32."""
    cache = make(folder, channels=channels)
    image = cache.image(case(cache, name), 0)
    assert image.shape == (channels, SIDE, SIDE)
    assert image.dtype == torch.float32
    label = cache.label(case(cache, name), 0)
    assert label.shape == (SIDE, SIDE)
    assert set(label.unique().tolist()) <= {0, 1, 2}


def test_a_file_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slices of a volume asked for twice: one read."""
    reads = []
    monkeypatch.setattr(
        module, "read_image", lambda path, **kw: reads.append(path) or read_image(path, **kw)
    )
    cache = make(folder)
    volume = case(cache, "volume")
    slices = [cache.image(volume, i) for i in (0, 1, 2, 0, 1, 2)]
    assert len(reads) == 1
    assert torch.equal(slices[1], slices[4])
    assert not torch.equal(slices[0], slices[1])


def test_without_memory_the_pixels_are_the_same(folder: Path) -> None:
    """cache_gib = 0 keeps nothing."""
    kept, none = make(folder), make(folder, gib=0.0)
    for one in kept.table.cases:
        assert torch.equal(kept.image(one, 0), none.image(one, 0))
    assert none.size == 0


def test_a_missing_file_is_told(folder: Path) -> None:
    """The file is removed after the cases were listed."""
    cache = make(folder)
    gray = case(cache, "gray")
    gray.image.unlink()
    with pytest.raises(UserError, match=r"gray\.png"):
        cache.image(gray, 0)


def test_the_least_recently_used_goes_first() -> None:
    """Room for two of 4 bytes. a, b, a again, c: b goes."""
    made: list[str] = []
    kept: Kept[str] = Kept(limit=8)

    def ask(key: str) -> None:
        kept.get_or_make(key, lambda: made.append(key) or torch.zeros(4, dtype=torch.uint8))

    for key in "abacabc":
        ask(key)
    assert "".join(made) == "abcbc", "a never left; b made room for c and c for b"
    assert kept.size == 8


def test_what_is_larger_than_all_room_is_not_kept() -> None:
    """It would empty the cache for nothing."""
    kept: Kept[str] = Kept(limit=8)
    kept.get_or_make("small", lambda: torch.zeros(4, dtype=torch.uint8))
    kept.get_or_make("large", lambda: torch.zeros(9, dtype=torch.uint8))
    assert kept.size == 4


def test_threads_may_ask_at_once() -> None:
    """Eight threads, 40 keys, room for ten: sizes still add up and every value is right."""
    kept: Kept[int] = Kept(limit=10)
    wrong: list[int] = []

    def ask(seed: int) -> None:
        for key in np.random.default_rng(seed).integers(0, 40, 300).tolist():
            value = kept.get_or_make(key, lambda key=key: torch.full((1,), key, dtype=torch.uint8))
            wrong.extend([key] * (int(value) != key))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert kept.size == 10


def test_bytes_are_rounded_to_the_nearest(folder: Path) -> None:
    """40 x 50 pixels at side 32 lie between gray levels: half of one at most is lost."""
    cache = make(folder, channels=3)
    color = case(cache, "color")
    exact = module.working_images(module.to_unit(read_image(color.image)), SIDE, 3)[0]
    lost = cache.image(color, 0) - exact
    assert float(lost.abs().max()) <= 0.5 / 255 + 1e-6
    assert float(lost.abs().max()) > 0.4 / 255, "nothing was rounded"
