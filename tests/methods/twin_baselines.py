"""Second implementations of the baselines, as in `twin.py`: from the papers, loops, no torch."""

import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Map: TypeAlias = NDArray[Any]
Nets: TypeAlias = Mapping[str, Callable[[Map], Map]]

twin = runpy.run_path(str(Path(__file__).with_name("twin.py")))
probabilities, best_class, trusted = twin["probabilities"], twin["best_class"], twin["trusted"]
ce_and_dice, put_inside, by_nearest = twin["ce_and_dice"], twin["put_inside"], twin["by_nearest"]


def views(batch: Mapping[str, Map], name: str) -> dict[str, list[Map]]:
    """The lists of images and labels of one network, by what they are: X_w, Y_w, U_w, U_s."""
    return {key: list(batch[f"{key}_{name}"]) for key in ("X_w", "Y_w", "U_w", "U_s")}


def twin_fixmatch(
    nets: Nets, batch: Mapping[str, Map], name: str, *, lam: float, tau: float
) -> dict[str, float]:
    """The student labels its weak view, keeps what is sure, learns it on the strong view."""
    f, v = nets[name], views(batch, name)
    P = [probabilities(f(u)) for u in v["U_w"]]
    nowhere = np.zeros(P[0].shape[1:])
    W = [trusted(p, tau, nowhere) for p in P]
    L_x = ce_and_dice([f(x) for x in v["X_w"]], v["Y_w"])
    L_u = ce_and_dice([f(u) for u in v["U_s"]], [best_class(p) for p in P], W)
    return {
        "loss": L_x + lam * L_u,
        f"L_x_{name}": L_x,
        f"L_u_{name}": L_u,
        "trusted": float(np.mean(W)),
    }
