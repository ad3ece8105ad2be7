"""Second implementations of the baselines, as in `twin.py`: from the papers, loops, no torch."""

import runpy
from collections.abc import Callable, Mapping
from math import log
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


def twin_uamt(
    nets: Nets, batch: Mapping[str, Map], name: str, *, lam: float, normal: list[Map]
) -> dict[str, float]:
    """`normal` holds T + 1 draws of N(0, 1) in the shape of U: the target's, then T others'."""
    f, f_hat, v = nets[name], nets[f"{name}_hat"], views(batch, name)
    T = len(normal) - 1
    squares = certain = count = 0.0
    for i, image in enumerate(v["U_w"]):
        looks = [probabilities(f_hat(image + np.clip(0.1 * draw[i], -0.2, 0.2))) for draw in normal]
        P, P_hat = probabilities(f(image)), looks[0]
        K = len(P)
        for y in range(P.shape[1]):
            for x in range(P.shape[2]):
                mean = [sum(look[k, y, x] for look in looks[1:]) / T for k in range(K)]
                entropy = -sum(m * log(m + 1e-6) for m in mean)
                count += 1
                if entropy < (3 + lam) / 4 * log(K):
                    certain += 1
                    squares += sum((P[k, y, x] - P_hat[k, y, x]) ** 2 for k in range(K))
    L_x = ce_and_dice([f(x) for x in v["X_w"]], v["Y_w"])
    L_u = squares / (K * certain) if certain else 0.0
    return {
        "loss": L_x + 2 * 0.1 * lam * L_u,
        f"L_x_{name}": L_x,
        f"L_u_{name}": L_u,
        "trusted": certain / count,
    }
