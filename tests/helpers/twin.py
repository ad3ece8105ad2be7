"""A second implementation of one training step, to catch what a shared misreading would hide.

Written from the description of the method, not from `src/synfoc/methods`; plain loops over pixels
in float64, no torch, nothing shared. Slow and obvious on purpose: only for images of 16 pixels.

Images are arrays (c, h, w); networks take one image and return logits (K, h', w').
"""

from collections.abc import Callable, Mapping, Sequence
from math import exp, floor, log
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Map: TypeAlias = NDArray[Any]
Maps: TypeAlias = Sequence[Map]


def softmax(z: list[float]) -> list[float]:
    """Probabilities of one pixel's logits."""
    top = max(z)
    powers = [exp(v - top) for v in z]
    return [p / sum(powers) for p in powers]


def probabilities(z: Map) -> Map:
    out = np.zeros(z.shape)
    for i in range(z.shape[1]):
        for j in range(z.shape[2]):
            out[:, i, j] = softmax(list(z[:, i, j]))
    return out


def best_class(p: Map) -> Map:
    """The first class with the largest value, pixel by pixel."""
    out = np.zeros(p.shape[1:], dtype=int)
    for i in range(p.shape[1]):
        for j in range(p.shape[2]):
            column = list(p[:, i, j])
            out[i, j] = column.index(max(column))
    return out


def by_nearest(m: Map, side: int) -> Map:
    """One map (h, w) at another side: pixel i comes from floor(i * old / new)."""
    out = np.zeros((side, side), dtype=m.dtype)
    for i in range(side):
        for j in range(side):
            out[i, j] = m[i * m.shape[0] // side, j * m.shape[1] // side]
    return out


def by_bilinear(m: Map, side: int) -> Map:
    """One map (h, w) at another side, pixel centers aligned, edges repeated."""
    old = m.shape[0]
    out = np.zeros((side, side))
    for i in range(side):
        for j in range(side):
            y = max((i + 0.5) * old / side - 0.5, 0)
            x = max((j + 0.5) * old / side - 0.5, 0)
            top, left = floor(y), floor(x)
            bottom, right = min(top + 1, old - 1), min(left + 1, old - 1)
            down, over = y - top, x - left
            upper = (1 - over) * m[top, left] + over * m[top, right]
            lower = (1 - over) * m[bottom, left] + over * m[bottom, right]
            out[i, j] = (1 - down) * upper + down * lower
    return out


def in_part(label: int, c: int, nested: bool) -> int:
    """1 where a pixel with this label belongs to part c. Nested: cup = 1, disc = 1 or 2."""
    return int(1 <= label <= c if nested else label == c)


def agreement(a: Map, b: Map, classes: int, nested: bool) -> float:
    """Mean over the foreground parts of the Dice of two label maps."""
    scores = []
    for c in range(1, classes + 1):
        both = size = 0
        for one, other in zip(a.ravel(), b.ravel(), strict=True):
            in_a, in_b = in_part(one, c, nested), in_part(other, c, nested)
            both += in_a * in_b
            size += in_a + in_b
        scores.append(1.0 if size == 0 else (2 * both + 1) / (size + 1.001))
    return sum(scores) / len(scores)


def unet_weight(
    fusion: str, selves: float, mutual: float, constant: float, progress: float
) -> float:
    return {
        "smc": selves * mutual,
        "self": selves,
        "mutual": mutual,
        "constant": constant,
        "linear": constant * progress,
    }[fusion]


def put_inside(inside: Map, outside: Map, region: Map) -> Map:
    out = outside.copy()
    for i in range(region.shape[0]):
        for j in range(region.shape[1]):
            if region[i, j]:
                out[..., i, j] = inside[..., i, j]
    return out


def trusted(p: Map, tau: float, region: Map) -> Map:
    """1 where the largest probability is strictly above tau, or a labeled pixel was pasted."""
    out = np.zeros(p.shape[1:])
    for i in range(p.shape[1]):
        for j in range(p.shape[2]):
            out[i, j] = 1.0 if region[i, j] or max(p[:, i, j]) > tau else 0.0
    return out


def ce_and_dice(logits: Maps, labels: Maps, trusts: Maps | None = None) -> float:
    """Both losses of Eq. 7 over a list of images; no trust given is trust everywhere."""
    K = logits[0].shape[0]
    ce, pixels = 0.0, 0
    overlap, size = [0.0] * K, [0.0] * K
    for n, (z, q) in enumerate(zip(logits, labels, strict=True)):
        for i in range(q.shape[0]):
            for j in range(q.shape[1]):
                w = 1.0 if trusts is None else trusts[n][i, j]
                p = softmax(list(z[:, i, j]))
                ce -= w * log(p[q[i, j]])
                pixels += 1
                for k in range(K):
                    t = 1.0 if q[i, j] == k else 0.0
                    w_k = w if k > 0 else 1.0  # the background counts everywhere
                    overlap[k] += w_k * p[k] * t
                    size[k] += w_k * (p[k] ** 2 + t**2)
    dice = [1 - (2 * o + 1e-10) / (s + 1e-10) for o, s in zip(overlap, size, strict=True)]
    return float(ce / pixels + sum(dice) / K)


def consensus_and_divergence(z_s: Maps, z_u: Maps, kind: str) -> tuple[float, float]:
    """Eq. 8-10 for lists of logits: z_s at the foundation model's side, z_u at the U-Net's."""
    if kind == "none":
        return 0.0, 0.0
    entropy_s = entropy_u = difference = 0.0
    count_s = count_u = 0
    for one, other in zip(z_s, z_u, strict=True):
        q_s, q_u = probabilities(one), probabilities(other)
        K, P, L = q_u.shape[0], q_u.shape[1], q_s.shape[1]
        q_s_P = np.stack([by_nearest(q_s[k], P) for k in range(K)])
        agree_P = (best_class(q_s_P) == best_class(q_u)).astype(float)
        agree_L = by_nearest(agree_P, L)
        for k in range(K):
            for i in range(P):
                for j in range(P):
                    q = min(max(q_u[k, i, j], 1e-10), 1)
                    entropy_u -= q * log(q) * agree_P[i, j]
                    gap = (q_s_P[k, i, j] - q_u[k, i, j]) ** 2
                    difference += gap if kind == "mse" else gap * (1 - agree_P[i, j])
                    count_u += 1
            for i in range(L):
                for j in range(L):
                    q = min(max(q_s[k, i, j], 1e-10), 1)
                    entropy_s -= q * log(q) * agree_L[i, j]
                    count_s += 1
    consensus = 0.0 if kind == "mse" else (entropy_s / count_s + entropy_u / count_u) / 2
    return consensus, difference / count_u


def twin_step(
    nets: Mapping[str, Callable[[Map], Map]],
    batch: Mapping[str, Map],
    *,
    lam: float,
    tau: float = 0.95,
    nested: bool = False,
    fusion: str = "smc",
    constant: float = 0.5,
    progress: float = 1.0,
    consistency: str = "cdcr",
) -> dict[str, float]:
    """One step's numbers. `nets` has UT, MS, UT_hat, MS_hat; `batch` the fields of Batch."""
    L, P = batch["Y_w_MS"].shape[-1], batch["Y_w_UT"].shape[-1]
    S = batch["X_w_MS"].shape[-1]
    views: dict[str, list[Map]] = {
        name: [] for name in ("q_L", "w_L", "q_P", "w_P", "z_MS", "z_UT")
    }
    selves: list[float] = []
    mutuals: list[float] = []
    weights: list[float] = []
    shares: list[float] = []
    for n in range(len(batch["U_w_UT"])):
        p_s = probabilities(nets["MS_hat"](batch["U_w_MS"][n]))
        p_u = probabilities(nets["UT_hat"](batch["U_w_UT"][n]))
        K = p_u.shape[0]
        y_s, y_u = best_class(p_s), best_class(p_u)
        y_student = best_class(nets["UT"](batch["U_w_UT"][n]))
        selves.append(agreement(y_student, y_u, K - 1, nested))
        mutuals.append(agreement(by_nearest(y_u, L), y_s, K - 1, nested))

        p_s_P = np.stack([by_bilinear(p_s[k], P) for k in range(K)])
        if fusion == "own":
            p_P, p_L = p_u, p_s
        elif fusion == "cps":
            p_P = p_s_P
            p_L = np.stack([by_bilinear(p_u[k], L) for k in range(K)])
        else:
            a = unet_weight(fusion, selves[n], mutuals[n], constant, progress)
            weights.append(a)
            p_P = (1 - a) * p_s_P + a * p_u
            p_L = np.stack([by_bilinear(p_P[k], L) for k in range(K)])
        shares.append(float(trusted(p_P, tau, np.zeros((P, P))).mean()))

        M_P = batch["M"][n]
        M_L, M_S = by_nearest(M_P, L), by_nearest(M_P, S)
        views["q_P"].append(put_inside(batch["Y_w_UT"][n], best_class(p_P), M_P))
        views["q_L"].append(put_inside(batch["Y_w_MS"][n], best_class(p_L), M_L))
        views["w_P"].append(trusted(p_P, tau, M_P))
        views["w_L"].append(trusted(p_L, tau, M_L))
        mixed_P = put_inside(batch["X_w_UT"][n], batch["U_s_UT"][n], M_P)
        mixed_S = put_inside(batch["X_w_MS"][n], batch["U_s_MS"][n], M_S)
        views["z_UT"].append(nets["UT"](mixed_P))
        views["z_MS"].append(nets["MS"](mixed_S))

    step = {
        "L_x_UT": ce_and_dice([nets["UT"](x) for x in batch["X_w_UT"]], list(batch["Y_w_UT"])),
        "L_x_MS": ce_and_dice([nets["MS"](x) for x in batch["X_w_MS"]], list(batch["Y_w_MS"])),
        "L_u_UT": ce_and_dice(views["z_UT"], views["q_P"], views["w_P"]),
        "L_u_MS": ce_and_dice(views["z_MS"], views["q_L"], views["w_L"]),
        "phi_self": float(np.mean(selves)),
        "phi_mut": float(np.mean(mutuals)),
        "alpha": float(np.mean(weights)) if weights else float("nan"),
        "trusted": float(np.mean(shares)),
    }
    step["L_c"], step["L_d"] = consensus_and_divergence(views["z_MS"], views["z_UT"], consistency)
    unlabeled = step["L_u_UT"] + step["L_u_MS"] + step["L_c"] + step["L_d"]
    step["loss"] = step["L_x_UT"] + step["L_x_MS"] + lam * unlabeled
    return step
