"""One step of the authors' code that is kept in this repository: this test never skips.

Logits are stored in 16 bits, as differences of the two classes; the losses are the authors' own.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from golden.make_step import NUMBERS, SCALE
from helpers.golden_step import replay
from synfoc.batches.batch import Batch
from synfoc.methods.interface import Models, Step
from synfoc.methods.synfoc import synfoc_step

OURS = ("loss", "L_x_MS", "L_x_UT", "L_u_MS", "L_u_UT", "L_c", "L_d")
S, P, L = 128, 96, 32


@pytest.fixture(scope="module")
def stored() -> dict[str, np.ndarray]:
    path = Path(__file__).parents[1] / "golden/step.npz"
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def unpacked(stored: dict[str, np.ndarray], name: str, side: int) -> Tensor:
    """A map of ones and zeros."""
    return torch.from_numpy(np.unpackbits(stored[name], axis=-1, count=side))


def step_of(stored: dict[str, np.ndarray]) -> tuple[Step, dict[str, Tensor]]:
    """Our step from the stored logits, and the differences that it came from."""
    names = [name for name in stored if name.startswith("difference/")]
    differences = {
        name.removeprefix("difference/"): torch.from_numpy(stored[name].astype(np.float32))
        for name in names
    }
    z = {}
    for name, difference in differences.items():
        difference.requires_grad_("student" in name)
        z[name] = torch.stack([torch.zeros_like(difference), difference], dim=1)
    f = Models(
        UT=replay([z["unet_student_ulb"], z["unet_student_lb"], z["unet_student_mix"]], []),
        MS=replay([torch.cat([z["sam_student_lb"], z["sam_student_mix"]])], []),
        UT_hat=replay([z["unet_teacher_ulb"]], []),
        MS_hat=replay([z["sam_teacher_ulb"]], []),
    )
    images_S, images_P = torch.zeros(2, 1, S, S), torch.zeros(2, 1, P, P)  # no loss looks at them
    b = Batch(
        X_w_MS=images_S,
        X_w_UT=images_P,
        Y_w_MS=unpacked(stored, "lb_low_res_mask", L).long(),
        Y_w_UT=unpacked(stored, "lb_unet_size_mask", P).long(),
        U_w_MS=images_S,
        U_w_UT=images_P,
        U_s_MS=images_S,
        U_s_UT=images_P,
        M=unpacked(stored, "unet_size_label_box", P).bool(),
    )
    return synfoc_step(f, b, lam=float(stored["lam"])), differences


def test_every_loss_equals_the_authors(stored: dict[str, np.ndarray]) -> None:
    """To 2e-6 of losses between 0.0005 and 2: what rounding to 16 bits leaves."""
    step, _ = step_of(stored)
    for ours, theirs in zip(OURS, NUMBERS, strict=True):
        assert getattr(step, ours).item() == pytest.approx(float(stored[theirs]), abs=2e-6), ours


def test_confidences_equal_the_authors(stored: dict[str, np.ndarray]) -> None:
    step, _ = step_of(stored)
    assert float(step.phi_self) == pytest.approx(stored["self_conf"].mean(), abs=1e-6)
    assert float(step.phi_mut) == pytest.approx(stored["mutual_conf"].mean(), abs=1e-6)


def test_gradients_equal_the_authors(stored: dict[str, np.ndarray]) -> None:
    """Of the whole loss, to a thousandth of the largest."""
    step, differences = step_of(stored)
    names = [name.removeprefix("gradient/") for name in stored if name.startswith("gradient/")]
    assert len(names) == 4
    found = torch.autograd.grad(step.loss, [differences[name] for name in names])
    for name, ours in zip(names, found, strict=True):
        theirs = torch.from_numpy(stored[f"gradient/{name}"].astype(np.float32)) / SCALE
        assert (ours - theirs).abs().max() < 1e-3 * theirs.abs().max(), name
