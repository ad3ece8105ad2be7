"""What happens inside the step, part by part: labels, trust, regions, agreement."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.golden_step import FILES, run_step
from synfoc.methods import synfoc
from synfoc.methods.maps import bilinear, nearest
from synfoc.methods.synfoc import fuse


@pytest.fixture(params=FILES)
def stored(request: pytest.FixtureRequest, golden: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(golden / request.param, weights_only=False)
    return loaded


@pytest.fixture
def calls(stored: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """Arguments of every call that the step makes of its losses and of fuse."""
    seen: dict[str, list[Any]] = {}

    def spy(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any) -> Any:
            seen.setdefault(name, []).append(arguments)
            return function(*arguments)

        return watched

    for name in ("ce_dice", "consensus_loss", "divergence_loss", "fuse"):
        monkeypatch.setattr(synfoc, name, spy(name, getattr(synfoc, name)))
    run_step(stored)
    return seen


def same(ours: Tensor, theirs: Tensor) -> bool:
    """Equal, pixel by pixel, whatever the kind."""
    return torch.equal(ours.double(), theirs.double().reshape(ours.shape))


def by_side(calls: dict[str, list[Any]], out: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    """The calls of ce_dice with trust: one at L, one at P."""
    sides = {out["low_res_mask"].shape[-1]: "L", out["unet_size_mask"].shape[-1]: "P"}
    return {sides[call[1].shape[-1]]: call for call in calls["ce_dice"] if len(call) == 3}


def test_pseudo_labels_with_pasted_labels(stored: dict[str, Any], calls: Any) -> None:
    """Q_c at both sides, every pixel."""
    out = stored["out"]
    Q = {side: call[1] for side, call in by_side(calls, out).items()}
    assert same(Q["L"], out["low_res_pseudo_label_ul"])
    assert same(Q["P"], out["unet_size_pseudo_label_ul"])


def test_trust_with_pasted_regions(stored: dict[str, Any], calls: Any) -> None:
    """W_c at both sides, every pixel, and neither all nor none is trusted."""
    out = stored["out"]
    W = {side: call[2] for side, call in by_side(calls, out).items()}
    assert same(W["L"], out["low_res_mask"])
    assert same(W["P"], out["unet_size_mask"])
    assert 0.2 < float(W["P"].mean()) < 1


def test_fused_probabilities_and_labels(stored: dict[str, Any], calls: Any) -> None:
    """Float32 here, float64 there: 1e-6 apart, and no label or trust differs."""
    out = stored["out"]
    (arguments,) = calls["fuse"]
    torch.testing.assert_close(arguments[0], out["sam_prob_ulb_x_w"], atol=1e-6, rtol=0)
    torch.testing.assert_close(arguments[1], out["unet_prob_ulb_x_w"], atol=1e-6, rtol=0)
    P_EN_P = fuse(*arguments)
    P_EN_L = bilinear(P_EN_P, out["low_res_mask"].shape[-1])
    for ours, side in ((P_EN_P, "unet_size"), (P_EN_L, "low_res")):
        theirs = out[f"{side}_prob_ulb_x_w"]
        torch.testing.assert_close(ours.double(), theirs, atol=1e-6, rtol=0)
        assert same(ours.argmax(1), out[f"{side}_pseudo_label"])
        assert torch.equal(ours.max(1).values > 0.95, theirs.max(1).values > 0.95)


def test_regions_at_every_side(stored: dict[str, Any]) -> None:
    """P to S and P to L, as booleans; the pasted part of trust."""
    out = stored["out"]
    M = out["unet_size_label_box"].bool()
    assert same(nearest(M, out["img_box"].shape[-1]), out["img_box"])
    assert same(nearest(M, out["low_res_label_box"].shape[-1]), out["low_res_label_box"])


def test_pseudo_label_of_the_u_net_at_l(stored: dict[str, Any]) -> None:
    """What the mutual confidence compares."""
    out = stored["out"]
    small = nearest(out["unet_pseudo_label"], out["low_res_mask"].shape[-1])
    assert same(small, out["low_res_unet_pseudo_label"])


def test_agreement_regions_of_both_students(stored: dict[str, Any], calls: Any) -> None:
    """Eq. 8 at P and at L; where they differ is the rest."""
    out = stored["out"]
    ((_, _, agree_L, agree_P),) = calls["consensus_loss"]
    assert same(agree_P, out["cons_mask"])
    assert same(agree_L, out["low_res_cons_mask"])
    ((P_MS_P, _, differ),) = calls["divergence_loss"]
    assert same(differ, 1 - out["cons_mask"])
    torch.testing.assert_close(P_MS_P, out["unet_size_sam_prob_ulb_x_s_ul"], atol=1e-6, rtol=0)
