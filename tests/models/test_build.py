"""Networks from a config: sides, twins, one seed, a base file, a published checkpoint."""

from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.original import original_names
from synfoc.config import Config, parse_config
from synfoc.errors import UserError
from synfoc.models.build import Networks, build_networks, load_published, save_base


def config(**medsam: Any) -> Config:
    return parse_config(
        {
            "data": {"path": "nowhere"},
            "unet": {"side": 32, "width": 2},
            "medsam": {"weights": "random:vit-tiny", "side": 64} | medsam,
        }
    )


def networks(
    settings: Config | None = None, *, seed: int = 0, base: Path | None = None
) -> Networks:
    generator = torch.Generator().manual_seed(seed)
    return build_networks(
        settings or config(), classes=2, channels=1, generator=generator, base=base
    )


def test_students_and_teachers_start_equal_over_one_encoder() -> None:
    n = networks()
    assert n["unet"].student and n["unet"].teacher and n["medsam"].student and n["medsam"].teacher
    x = torch.rand(2, 1, 64, 64)
    assert n["medsam"].student.encoder is n["medsam"].teacher.encoder
    torch.testing.assert_close(n["medsam"].student(x), n["medsam"].teacher(x))
    assert torch.equal(n["unet"].student(x[..., :32, :32]), n["unet"].teacher(x[..., :32, :32]))
    assert not any(p.requires_grad for p in n["unet"].teacher.parameters())
    assert all(p.requires_grad for p in n["unet"].student.parameters())


def test_the_sides_are_S_over_4_for_a_vit_and_S_for_litemedsam() -> None:
    """S = 64: the ViT has a 4 x 4 grid, L = 16; TinyViT's embedding is 16 x 16, L = 64."""
    vit, tiny = networks(), networks(config(weights="random:litemedsam"))
    assert (vit.sides.medsam, vit.sides.logits, vit.sides.unet) == (64, 16, 32)
    assert (tiny.sides.medsam, tiny.sides.logits, tiny.sides.unet) == (64, 64, 32)
    assert tiny["medsam"].student
    logits = tiny["medsam"].student(torch.rand(1, 1, 64, 64))
    assert logits.shape == (1, 3, 64, 64)
    logits.square().mean().backward()
    assert all(B.grad is not None and B.grad.abs().sum() > 0 for B in tiny["medsam"].student.lora.B)


def test_one_seed_makes_one_network_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = networks(seed=1), networks(seed=1), networks(seed=2)
    assert torch.equal(before, torch.get_rng_state())
    for a, b, c in (
        (first["medsam"].student, again["medsam"].student, other["medsam"].student),
        (first["unet"].student, again["unet"].student, other["unet"].student),
    ):
        assert a and b and c
        states = [torch.cat([p.flatten() for p in m.parameters()]) for m in (a, b, c)]
        assert torch.equal(states[0], states[1])
        assert not torch.equal(states[0], states[2])


def test_a_branch_alone_has_no_other_network() -> None:
    alone = parse_config(config().model_dump(), ("method.branches=unet",))
    n = networks(alone)
    assert n.find("medsam", "student") is n.find("medsam", "teacher") is None
    assert (n.sides.medsam, n.sides.logits, n.sides.unet) == (32, 32, 32)
    alone = parse_config(config().model_dump(), ("method.branches=medsam",))
    n = networks(alone)
    assert n.find("unet", "student") is n.find("unet", "teacher") is None
    assert n.sides.logits == 16


@pytest.mark.parametrize("branches", ["unet", "medsam"])
@pytest.mark.parametrize("name", ["supervised", "fixmatch", "unimatch"])
def test_a_method_that_asks_no_teacher_keeps_none(name: str, branches: str) -> None:
    changes = (f"method.name={name}", f"method.branches={branches}")
    n = networks(parse_config(config().model_dump(), changes))
    assert set(n.by_name()) == {f"{branches}.student"}


@pytest.mark.parametrize("weights", ["random:vit-tiny", "random:litemedsam"])
def test_a_run_folder_needs_no_weights_but_its_own(tmp_path: Path, weights: str) -> None:
    """From base.safetensors and the trained state alone: the same logits."""
    settings = config(weights=weights)
    trained = networks(settings, seed=1)
    save_base(trained, tmp_path / "base.safetensors")
    again = networks(config(weights="no longer there"), seed=2, base=tmp_path / "base.safetensors")
    assert trained["medsam"].student and again["medsam"].student
    assert all(k.startswith(("prompt", "mask")) for k in again["medsam"].student.loaded.fresh)
    again["medsam"].student.load_trained_state(trained["medsam"].student.trained_state())
    x = torch.rand(1, 1, 64, 64)
    assert torch.equal(again["medsam"].student(x), trained["medsam"].student(x))
    assert [p.name for p in tmp_path.iterdir()] == ["base.safetensors"]


def test_a_base_for_another_side_is_told(tmp_path: Path) -> None:
    save_base(networks(), tmp_path / "base.safetensors")
    with pytest.raises(UserError, match=r"medsam.side = 32"):
        networks(config(side=32), base=tmp_path / "base.safetensors")


def test_an_unknown_random_network_is_told() -> None:
    with pytest.raises(UserError, match="random:vit-l"):
        networks(config(weights="random:vit-g"))


def published(n: Networks) -> dict[str, torch.Tensor]:
    """The student as the authors' code saves it: q, v of block 0, then q, v of block 1."""
    named = original_names(n["medsam"].student)
    tensors = {}
    for i, (block, part) in enumerate([(0, "q"), (0, "v"), (1, "q"), (1, "v")]):
        layer = f"sam.image_encoder.blocks.{block}.attn.qkv.linear"
        tensors[f"w_a_00{i}"] = named[f"{layer}_a_{part}.weight"]
        tensors[f"w_b_00{i}"] = named[f"{layer}_b_{part}.weight"]
    return tensors | {
        k.removeprefix("sam."): v for k, v in named.items() if "image_encoder" not in k
    }


def test_a_published_checkpoint_loads_into_students_and_teachers(tmp_path: Path) -> None:
    source, target = networks(seed=1), networks(seed=2)
    save_base(source, tmp_path / "base.safetensors")
    target = networks(seed=2, base=tmp_path / "base.safetensors")
    assert (
        source["unet"].student
        and source["medsam"].student
        and target["unet"].teacher
        and target["medsam"].teacher
    )
    with torch.no_grad():
        for B in source["medsam"].student.lora.B:
            B.normal_()
    folder = tmp_path / "published"
    folder.mkdir()
    torch.save(published(source), folder / "SAM_best.pth")
    torch.save(source["unet"].student.state_dict(), folder / "unet_best.pth")
    assert load_published(str(folder), target) == ("medsam", "unet")
    x = torch.rand(1, 1, 64, 64)
    torch.testing.assert_close(target["medsam"].teacher(x), source["medsam"].student(x))
    assert torch.equal(target["unet"].teacher(x), source["unet"].student(x))


def test_the_authors_checkpoint_has_exactly_the_keys_that_load(golden: Path) -> None:
    """`saved_checkpoint_keys` of the authors' code, for K = 2."""
    keys = torch.load(golden / "sam_tiny_prostate.pt", weights_only=False)["saved_checkpoint_keys"]
    n = build_networks(config(), classes=1, channels=1, generator=torch.Generator())
    assert set(published(n)) == set(keys)


def test_a_published_checkpoint_of_another_width_or_of_nothing_is_told(tmp_path: Path) -> None:
    n = networks()
    wide = {
        k: torch.zeros(2 * len(v), *v.shape[1:])
        for k, v in n["unet"].student.state_dict().items()
        if v.ndim
    }
    torch.save(wide, tmp_path / "wide.pth")
    with pytest.raises(UserError, match="another one"):
        load_published(tmp_path / "wide.pth", n)
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="no published SynFoC checkpoint"):
        load_published(tmp_path / "other.pth", n)


@pytest.mark.weights
def test_litemedsam_loads_with_only_the_tensors_of_the_classes_fresh() -> None:
    """K = 3: mask tokens, IoU weight and bias are fresh; 9.8 M parameters in all."""
    n = networks(config(weights="litemedsam"))
    assert n["medsam"].student.loaded.fresh == (
        "mask_decoder.mask_tokens.weight",
        "mask_decoder.iou_prediction_head.layers.2.weight",
        "mask_decoder.iou_prediction_head.layers.2.bias",
    )
    assert n["medsam"].student.loaded.resized == ()
    assert len(n["medsam"].student.loaded.unused) == 6  # of the fourth mask MLP
    count = sum(p.numel() for p in n["medsam"].student.parameters())
    assert count == pytest.approx(9.8e6, rel=0.03)
