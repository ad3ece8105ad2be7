"""Make misc.npz: the small reference values, so that these tests run in every checkout.

python tests/golden/make.py FOLDER      FOLDER holds misc.pt (about its origin: README.md)
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).parent


def collect(misc: dict[str, Any]) -> dict[str, Any]:
    """Flatten what the tests read into named arrays."""
    three, nested = (misc["dice_multi"][f"dice_coeff_{n}label"] for n in (3, 2))
    arrays = {
        "ramp_up": np.array(misc["rampup"], dtype=np.float64),  # steps, step, t, lambda
        "region": np.array(
            [[b[k] for k in ("size", "y0", "y1", "x0", "x1", "area")] for b in misc["cutmix_boxes"]]
        ),
        "dice/a": np.stack([d["pred"].numpy() for d in misc["dice_numpy"]]),
        "dice/b": np.stack([d["target"].numpy() for d in misc["dice_numpy"]]),
        "dice/dice": np.array([d["dice"] for d in misc["dice_numpy"]]),
    }
    for name, stored in (("three", three), ("nested", nested)):
        arrays[f"{name}/a"] = stored["pred"].numpy().astype(np.uint8)
        arrays[f"{name}/b"] = stored["target"].numpy().astype(np.uint8)
        arrays[f"{name}/dice"] = np.stack([part.numpy() for part in stored["ret_arr"]])
    for stored in misc["losses"]:
        name = f"losses/{stored['K']}"
        arrays[f"{name}/z"] = stored["logits"].numpy()
        arrays[f"{name}/Q"] = stored["target"].numpy().astype(np.uint8)
        arrays[f"{name}/W"] = stored["mask"][:, 0].numpy().astype(np.uint8)
        keys = ("ce_mean", "ce_masked_mean", "dice", "dice_masked")
        arrays[f"{name}/values"] = np.array([stored[key] for key in keys])
    for name, key in (("student", "student"), ("before", "teacher_before")):
        arrays[f"ema/{name}"] = np.stack([e[key].numpy() for e in misc["ema_unet"]])
    arrays["ema/after"] = np.stack([e["teacher_after"].numpy() for e in misc["ema_unet"]])
    arrays["ema/step"] = np.array([e["iter"] for e in misc["ema_unet"]])
    arrays["ema/decay"] = np.array([e["alpha"] for e in misc["ema_unet"]])
    return arrays


if __name__ == "__main__":
    stored = torch.load(Path(sys.argv[1]) / "misc.pt", weights_only=False)
    np.savez_compressed(HERE / "misc.npz", **collect(stored))
