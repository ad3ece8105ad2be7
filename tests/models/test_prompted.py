"""SAM asked with boxes equals that of `transformers`, and is not changed by anything."""

from pathlib import Path
from typing import Any

import pytest
import torch

from synfoc.config import Config, parse_config
from synfoc.models.build import Networks, build_networks, save_base
from synfoc.models.checkpoints import read_source
from synfoc.models.fitting import sam_from_source
from synfoc.models.prompted import BoxSam


def config(*changes: str) -> Config:
    tree = {
        "data": {"path": "nowhere"},
        "method": {"name": "semisam", "branches": "unet"},
        "unet": {"side": 32, "width": 2},
        "medsam": {"weights": "random:vit-tiny", "side": 64},
    }
    return parse_config(tree, changes)


def networks(*changes: str, seed: int = 0, **options: Any) -> Networks:
    generator = torch.Generator().manual_seed(seed)
    return build_networks(config(*changes), classes=2, channels=1, generator=generator, **options)


BOXES = torch.tensor([[[3.0, 5, 40, 33], [10, 10, 11, 60]], [[0, 0, 63, 63], [7, 2, 9, 4]]])


def test_masks_equal_those_of_transformers_sam_with_boxes(hub_sam: tuple[Any, Path]) -> None:
    """Two images with two boxes each; its single mask is that of mask token 0."""
    reference, folder = hub_sam
    guide = BoxSam(
        sam_from_source(
            read_source(folder),
            out_channels=4,
            side=64,
            rank=1,
            generator=torch.Generator(),
            where="",
        )
    )
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        theirs = reference(pixel_values=x, input_boxes=BOXES, multimask_output=False).pred_masks
    ours = guide(x, BOXES)
    torch.testing.assert_close(ours, theirs[:, :, 0], atol=1e-4, rtol=1e-4)
    assert ours.std() > 1e-3, "a constant answer proves nothing"
    torch.testing.assert_close(guide(x, BOXES.flip(1)), ours.flip(1), atol=1e-5, rtol=1e-5)


def test_a_guide_has_no_gradient_and_no_place_in_a_checkpoint() -> None:
    n = networks()
    assert n.guide is not None
    assert not any(p.requires_grad for p in n.guide.parameters())
    assert not n.guide(torch.rand(2, 1, 64, 64), BOXES).requires_grad
    assert set(n.by_name()) == {"unet.student", "unet.teacher"}
    # S is the guide's, so that the batch has images for it; nothing is learned at L.
    assert (n.sides.medsam, n.sides.logits, n.sides.unet) == (64, 32, 32)


def test_without_the_guide_all_else_is_the_same() -> None:
    """Evaluation does not build it; the U-Net is that of the other methods of this seed."""
    whole, without = networks(), networks(guide=False)
    other = networks("method.name=uamt")
    assert without.guide is other.guide is None
    assert without.sides == whole.sides
    assert whole["unet"].student and without["unet"].student and other["unet"].student
    for unet in (without["unet"].student, other["unet"].student):
        pairs = zip(whole["unet"].student.parameters(), unet.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("weights", ["random:vit-tiny", "random:litemedsam"])
def test_a_run_folder_keeps_the_whole_guide(tmp_path: Path, weights: str) -> None:
    """From base.safetensors alone: the same logits, bit for bit."""
    began = networks(f"medsam.weights={weights}", seed=1)
    save_base(began, tmp_path / "base.safetensors")
    again = networks("medsam.weights=gone", seed=2, base=tmp_path / "base.safetensors")
    assert began.guide and again.guide
    assert again.guide.sam.loaded.fresh == again.guide.sam.loaded.unused == ()
    x = torch.rand(2, 1, 64, 64)
    assert torch.equal(again.guide(x, BOXES), began.guide(x, BOXES))


@pytest.mark.weights
def test_litemedsam_draws_what_is_in_the_box() -> None:
    """A bright disc of radius 40 among three on a dark ground; the box says which."""
    n = networks("medsam.weights=litemedsam", "medsam.side=256")
    assert n.guide
    assert n.guide.sam.loaded.fresh == n.guide.sam.loaded.resized == ()
    y, x = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    discs = [(y - cy) ** 2 + (x - cx) ** 2 < r**2 for cy, cx, r in ((70, 70, 40), (180, 90, 30))]
    image = 0.2 + 0.5 * (discs[0] | discs[1]).float()
    image = image + 0.05 * torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[[31.0, 31, 109, 109], [61, 151, 119, 209]]])
    logits = n.guide(image.clamp(0, 1)[None, None], boxes)[0]
    for disc, z in zip(discs, logits, strict=True):
        mask = z > 0
        assert 2 * (mask & disc).sum() / (mask.sum() + disc.sum()) > 0.9
