"""The step against tensors that the authors' code made from the same logits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.golden_step import FILES, run_step

LOSSES = {
    "loss": "loss",
    "L_x_MS": "sam_sup_loss",
    "L_x_UT": "unet_sup_loss",
    "L_u_MS": "sam_unsup_loss",
    "L_u_UT": "unet_unsup_loss",
    "L_c": "cons_loss",
    "L_d": "discons_loss",
}


@pytest.fixture(params=FILES)
def stored(request: pytest.FixtureRequest, golden: Path) -> dict[str, Any]:
    return torch.load(golden / request.param, weights_only=False)


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
