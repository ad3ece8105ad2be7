"""Make step.npz: one step of the authors' code, small enough to be kept here.

    python tests/golden/make_step.py FOLDER     FOLDER holds step_prostate_B2_P96_L32_it15000.pt

For two classes every loss depends on the difference of the two logits alone, so that is stored, in
16 bits; so is the gradient of the whole loss. Losses and confidences are the authors' own numbers.
"""

import sys
from pathlib import Path

import numpy as np
import torch

FILE = "step_prostate_B2_P96_L32_it15000.pt"


def main(folder: Path) -> None:
    """Read the authors' tensors and write those that the tests need."""
    stored = torch.load(folder / FILE, weights_only=False)
    out, logits = stored["out"], stored["inputs"]["logits"]
    arrays = {
        f"difference/{name}": (z[:, 1] - z[:, 0]).numpy().astype(np.float16)
        for name, z in logits.items()
    }
    for name, gradient in stored["grads"]["loss"].items():
        if gradient is not None:
            arrays[f"gradient/{name}"] = (gradient[:, 1] * SCALE).numpy().astype(np.float16)
    for name in ("lb_low_res_mask", "lb_unet_size_mask", "unet_size_label_box"):
        arrays[name] = np.packbits(out[name].numpy().astype(bool), axis=-1)
    for name in NUMBERS:
        arrays[name] = np.float64(out[name])
    for name in ("self_conf", "mutual_conf"):
        arrays[name] = np.asarray(out[name], np.float64)
    arrays["lam"] = np.float64(out["consistency_weight"])
    np.savez_compressed(Path(__file__).with_name("step.npz"), **arrays)


SCALE = 2.0**12
"""Gradients are small: so scaled they keep their digits in 16 bits."""
NUMBERS = (
    "loss", "sam_sup_loss", "unet_sup_loss", "sam_unsup_loss", "unet_unsup_loss", "cons_loss",
    "discons_loss",
)  # fmt: skip

if __name__ == "__main__":
    main(Path(sys.argv[1]))
