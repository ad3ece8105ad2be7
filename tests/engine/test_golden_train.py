"""Three whole steps with real networks against the authors' code: losses, gradients, weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from torch import Tensor

from helpers.original import original_names, sam_from_original
from synfoc.batches.batch import Batch, Sides
from synfoc.config import parse_config
from synfoc.engine.optimize import forget_gradients, learn, make_optimizers
from synfoc.methods.interface import Models
from synfoc.methods.schedules import ramp_up
from synfoc.methods.synfoc import synfoc_step
from synfoc.models.branch import Branch
from synfoc.models.build import Networks
from synfoc.models.unet import UNet

# The authors' learning rates; everything else is the default.
SETTINGS = {"data": {"path": "."}, "medsam": {"lr": 0.03 / 250}, "train": {"steps": 60_000}}
LOSSES = {
    "loss": "loss",
    "L_x_MS": "sam_sup_loss",
    "L_x_UT": "unet_sup_loss",
    "L_u_MS": "sam_unsup_loss",
    "L_u_UT": "unet_unsup_loss",
    "L_c": "cons_loss",
    "L_d": "discons_loss",
}


@pytest.fixture(scope="module")
def stored(golden: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(golden / "train_prostate.pt", weights_only=False)
    return found


@pytest.fixture(scope="module")
def trained(stored: dict[str, Any]) -> tuple[Networks, list[dict[str, float]], list[Any]]:
    """Networks after our three steps, our losses and our gradient norms."""
    torch.set_num_threads(1)
    meta, init = stored["meta"], stored["init"]
    networks = networks_of(init, classes=meta["K"], side=meta["S"], unet_side=meta["P"])
    config = parse_config(SETTINGS)
    optimizers, fabric = (
        make_optimizers(networks, config),
        Fabric(accelerator="cpu", plugins=[LightningEnvironment()]),
    )
    f = Models(
        UT=networks["unet"].student, MS=networks["medsam"].student,
        UT_hat=networks["unet"].teacher, MS_hat=networks["medsam"].teacher,
        early_backward=lambda loss: (fabric.backward(loss), loss.detach())[1],
    )  # fmt: skip
    losses, norms = [], []
    for i, (data, step) in enumerate(zip(stored["data"], stored["steps"], strict=True)):
        k = meta["first_iter"] + i
        forget_gradients(optimizers)
        found = synfoc_step(
            f,
            batch_of(data, step),
            lam=ramp_up(k, meta["max_iterations"]),
        )
        learn(found.loss, k, networks=networks, optimizers=optimizers, config=config, fabric=fabric)
        losses.append({name: getattr(found, name).item() for name in LOSSES})
        gradients = original_names(networks["medsam"].student, gradients=True)
        norms.append(
            {
                "SAM_model": {name: g.norm().item() for name, g in gradients.items()},
                "unet_model": {
                    name: p.grad.norm().item()
                    for name, p in networks["unet"].student.named_parameters()
                },
            }
        )
    return networks, losses, norms


def networks_of(state: dict[str, Any], *, classes: int, side: int, unet_side: int) -> Networks:
    def sam(name: str) -> Any:
        return sam_from_original(state[name], classes=classes, side=side, decoder_heads=2)

    def unet(name: str) -> UNet:
        network = UNet(1, classes, 8)
        network.load_state_dict(state[name])
        return network.train()

    student = sam("SAM_model")
    teacher = student.make_teacher()
    teacher.load_trained_state(sam("ema_SAM_model").trained_state())
    sides = Sides(side, student.logits_side, unet_side)
    ema = unet("ema_unet_model").requires_grad_(False)
    branches = (
        Branch("unet", unet("unet_model"), ema),
        Branch("medsam", student.train(), teacher.train()),
    )
    return Networks(branches, sides)


def batch_of(data: dict[str, Any], step: dict[str, Any]) -> Batch:
    labeled, unlabeled = data["lb"], data["ulb"]

    def label(name: str) -> Tensor:
        return (labeled[name] == 0).long()  # prostate: 0 is the prostate, 255 the background

    return Batch(
        X_w_MS=labeled["image"],
        X_w_UT=labeled["unet_size_img"],
        Y_w_MS=label("low_res_label"),
        Y_w_UT=label("unet_size_label"),
        U_w_MS=unlabeled["image"],
        U_w_UT=unlabeled["unet_size_img"],
        U_s_MS=unlabeled["strong_aug"],
        U_s_UT=unlabeled["unet_size_strong_aug"],
        M=step["unet_size_label_box"].bool(),
    )


def test_losses_of_three_steps(stored: dict[str, Any], trained: Any) -> None:
    for ours, theirs in zip(trained[1], stored["steps"], strict=True):
        for name, key in LOSSES.items():
            assert ours[name] == pytest.approx(float(theirs[key]), abs=1e-4), key


def test_gradient_norms_of_three_steps(stored: dict[str, Any], trained: Any) -> None:
    for ours, theirs in zip(trained[2], stored["steps"], strict=True):
        for network, expected in theirs["grad_norms"].items():
            for name, norm in expected.items():
                if "k_proj.bias" not in name:  # zero but for rounding noise
                    found = ours[network].get(name, 0.0)
                    assert found == pytest.approx(float(norm), abs=1e-4, rel=1e-3), name


def test_students_and_teachers_after_three_steps(stored: dict[str, Any], trained: Any) -> None:
    networks, final = trained[0], stored["final"]
    for network, key in (
        (networks["unet"].student, "unet_model"),
        (networks["unet"].teacher, "ema_unet_model"),
    ):
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(tensor, final[key][name], atol=1e-4, rtol=1e-4)
    for network, key in (
        (networks["medsam"].student, "SAM_model"),
        (networks["medsam"].teacher, "ema_SAM_model"),
    ):
        for name, tensor in original_names(network).items():
            if "k_proj.bias" in name or name not in final[key]:
                continue
            torch.testing.assert_close(
                tensor, final[key][name], atol=1e-4, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
            )
