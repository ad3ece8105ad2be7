"""The step against tensors that the authors' code made from the same logits."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from synfoc.batches.batch import Batch
from synfoc.methods.models import Models
from synfoc.methods.schedules import ramp_up
from synfoc.methods.synfoc import synfoc_step

FILES = ("step_prostate_B2_P96_L32_it15000.pt", "step_prostate_B4_P96_L32_it45000.pt")
LOSSES = {
    "loss": "loss",
    "L_x_MS": "sam_sup_loss",
    "L_x_UT": "unet_sup_loss",
    "L_u_MS": "sam_unsup_loss",
    "L_u_UT": "unet_unsup_loss",
    "L_c": "cons_loss",
    "L_d": "discons_loss",
}


def replay(answers: list[Tensor], seen: list[Tensor]) -> Callable[[Tensor], Tensor]:
    """A network that gives the stored logits in call order and keeps what it was asked."""
    queue: Iterator[Tensor] = iter(answers)

    def network(images: Tensor) -> Tensor:
        seen.append(images)
        return next(queue)

    return network


@pytest.fixture(params=FILES)
def stored(request: pytest.FixtureRequest, golden: Path) -> dict[str, Any]:
    return torch.load(golden / request.param, weights_only=False)


def run_step(stored: dict[str, Any]) -> tuple[Any, dict[str, Tensor], dict[str, list[Tensor]]]:
    labeled, unlabeled, out = (
        stored["inputs"]["lb_sample"],
        stored["inputs"]["ulb_sample"],
        stored["out"],
    )
    z = {k: v.clone().requires_grad_("student" in k) for k, v in stored["inputs"]["logits"].items()}
    seen: dict[str, list[Tensor]] = {"UT": [], "MS": []}
    f = Models(
        UT=replay([z["unet_student_ulb"], z["unet_student_lb"], z["unet_student_mix"]], seen["UT"]),
        MS=replay([torch.cat([z["sam_student_lb"], z["sam_student_mix"]])], seen["MS"]),
        UT_hat=replay([z["unet_teacher_ulb"]], []),
        MS_hat=replay([z["sam_teacher_ulb"]], []),
    )
    b = Batch(
        X_w_MS=labeled["image"],
        X_w_UT=labeled["unet_size_img"],
        Y_w_MS=out["lb_low_res_mask"],
        Y_w_UT=out["lb_unet_size_mask"],
        U_w_MS=unlabeled["image"],
        U_w_UT=unlabeled["unet_size_img"],
        U_s_MS=unlabeled["strong_aug"],
        U_s_UT=unlabeled["unet_size_strong_aug"],
        M=out["unet_size_label_box"].bool(),
    )
    meta = stored["meta"]
    lam = ramp_up(meta["iter_num"], meta["max_iterations"])
    step = synfoc_step(f, b, lam=lam, nested=meta["dataset"] == "fundus")
    return step, z, seen


def test_every_loss_equals_the_authors(stored: dict[str, Any]) -> None:
    step, _, _ = run_step(stored)
    for ours, theirs in LOSSES.items():
        expected = float(stored["out"][theirs])
        assert getattr(step, ours).item() == pytest.approx(expected, abs=1e-5), theirs


def test_confidences_equal_the_authors(stored: dict[str, Any]) -> None:
    step, _, _ = run_step(stored)
    out = stored["out"]
    assert float(step.phi_self) == pytest.approx(np.mean(out["self_conf"].numpy()), abs=1e-5)
    assert float(step.phi_mut) == pytest.approx(np.mean(out["mutual_conf"].numpy()), abs=1e-5)
    assert float(step.alpha) == pytest.approx(float(out["ratio"].mean()), abs=1e-5)


def test_students_see_the_views_that_the_authors_made(stored: dict[str, Any]) -> None:
    _, _, seen = run_step(stored)
    for ours, theirs in zip(seen["UT"], stored["unet_student_inputs"], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    both = torch.cat(stored["sam_student_inputs"])
    torch.testing.assert_close(seen["MS"][0], both, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_every_gradient_equals_the_authors(stored: dict[str, Any], name: str) -> None:
    step, z, _ = run_step(stored)
    students = [k for k in z if k != "unet_student_ulb" and "student" in k]
    grads = torch.autograd.grad(getattr(step, name), [z[k] for k in students], allow_unused=True)
    for key, ours in zip(students, grads, strict=True):
        theirs = stored["grads"][LOSSES[name]][key]
        none = torch.zeros_like(z[key])
        pair = [none if g is None else g for g in (ours, theirs)]
        torch.testing.assert_close(*pair, atol=1e-5, rtol=1e-5)
