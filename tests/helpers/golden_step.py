"""One step from logits that the authors' code stored."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from synfoc.batches.batch import Batch
from synfoc.methods.interface import Models
from synfoc.methods.schedules import ramp_up
from synfoc.methods.synfoc import synfoc_step

FILES = ("step_prostate_B2_P96_L32_it15000.pt", "step_prostate_B4_P96_L32_it45000.pt")


def replay(answers: list[Tensor], seen: list[Tensor]) -> Callable[[Tensor], Tensor]:
    """A network that gives the stored logits in call order and keeps what it was asked."""
    queue: Iterator[Tensor] = iter(answers)

    def network(images: Tensor) -> Tensor:
        seen.append(images)
        return next(queue)

    return network


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
