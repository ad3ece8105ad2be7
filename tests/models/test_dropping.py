"""Dropped channels: half of them, by the image's own seed, in the U-Net and in the SAM."""

import pytest
import torch

from synfoc.models.checkpoints import Decoder, Source, Vit
from synfoc.models.dropping import drop_channels
from synfoc.models.fitting import EVERYTHING, sam_from_source
from synfoc.models.unet import UNet

SEEDS = torch.tensor([3, 2**61, 5, 8])


def test_half_of_the_channels_are_zero_and_the_others_doubled() -> None:
    """Of 4 x 1000 channels 2000 +- 32 (one standard deviation); a channel goes as a whole."""
    x = torch.ones(4, 1000, 2, 3)
    [dropped] = drop_channels([x], SEEDS)
    assert torch.equal(dropped.amin((2, 3)), dropped.amax((2, 3)))
    assert set(dropped.unique().tolist()) == {0, 2}
    assert float(dropped.mean()) == pytest.approx(1, abs=0.08)
    assert not torch.equal(dropped[0], dropped[1])


def test_an_image_keeps_its_channels_however_the_batch_is_divided() -> None:
    features = [torch.rand(4, d, 2, 2) for d in (8, 16)]
    whole = drop_channels(features, SEEDS)
    for rows in (slice(0, 2), slice(2, 4), slice(3, 4)):
        part = drop_channels([x[rows] for x in features], SEEDS[rows])
        assert all(torch.equal(p, w[rows]) for p, w in zip(part, whole, strict=True))


def test_a_unet_drops_all_its_levels_on_their_way_up() -> None:
    """What the decoder is given, skips and the deepest level: channels doubled or at zero."""
    unet = UNet(1, 2, width=4).eval()
    x, seen = torch.rand(4, 1, 32, 32), []
    for up in (unet.up1, unet.up2, unet.up3, unet.up4):
        up.register_forward_pre_hook(lambda _, given: seen.append(given))
    with torch.no_grad():
        plain = unet(x)
        dropped = unet(x, SEEDS)
    assert not torch.allclose(plain, dropped, atol=1e-3)
    assert torch.equal(unet(x, SEEDS), dropped)
    before, after = seen[:4], seen[4:8]
    skips = [(b[1], a[1]) for b, a in zip(before, after, strict=True)]
    for clean, left in (*skips, (before[0][0], after[0][0])):
        kept = left.flatten(2).abs().sum(2) > 0
        assert torch.equal(left, 2 * clean * kept[..., None, None])
        assert 0 < kept.float().mean() < 1


def test_a_sam_drops_its_embedding() -> None:
    shape = Vit(32, 2, 2, 64, 3, (1,), 32), Decoder(2, 64, 32)
    generator = torch.Generator().manual_seed(1)
    sam = sam_from_source(
        Source({}, *shape),
        out_channels=2,
        side=32,
        rank=2,
        generator=generator,
        where="",
        fresh=EVERYTHING,
    )
    x = torch.rand(4, 1, 32, 32)
    with torch.no_grad():
        [dropped] = drop_channels([sam.embed(x)], SEEDS)
        assert torch.equal(sam(x, SEEDS), sam.decode(dropped))
        assert not torch.allclose(sam(x, SEEDS), sam(x))
