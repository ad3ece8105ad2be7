"""Second implementations of the baselines, as in `twin.py`: from the papers, loops, no torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import log
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from helpers.twin import (
    best_class,
    by_bilinear,
    by_nearest,
    ce_and_dice,
    in_part,
    probabilities,
    put_inside,
    trusted,
)

Map: TypeAlias = NDArray[Any]
Nets: TypeAlias = Mapping[str, Callable[[Map], Map]]


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


def dice_where(logits: list[Map], labels: list[Map], where: list[Map]) -> float:
    """Dice loss of the pixels that count, all classes alike."""
    K = len(logits[0])
    overlap, size = [0.0] * K, [0.0] * K
    for z, q, w in zip(logits, labels, where, strict=True):
        P = probabilities(z)
        for y, x in np.argwhere(w):
            for k in range(K):
                t = 1.0 if q[y, x] == k else 0.0
                overlap[k] += P[k, y, x] * t
                size[k] += P[k, y, x] ** 2 + t
    return sum(1 - (2 * o + 1e-5) / (s + 1e-5) for o, s in zip(overlap, size, strict=True)) / K


def twin_unimatch(
    nets: Nets,
    batch: Mapping[str, Map],
    name: str,
    *,
    U_2: Map,
    M_2: Map,
    coins: Map,
    scales: list[float],
    tau: float,
) -> dict[str, float]:
    """Dropping features is here to see the image darker, by one scale per image."""
    f, v = nets[name], views(batch, name)
    P = [probabilities(f(u)) for u in v["U_w"]]
    Q, nowhere = [best_class(p) for p in P], np.zeros(P[0].shape[1:])
    W = [trusted(p, tau, nowhere) for p in P]
    L_u = dice_where([f(u * s) for u, s in zip(v["U_w"], scales, strict=True)], Q, W)
    for images, regions, coin in ((v["U_s"], batch["M"], coins[0]), (list(U_2), M_2, coins[1])):
        seen, labels, where = [], [], []
        for i, image in enumerate(images):
            partner = (i + 1) % len(images)
            region = regions[i] & coin[i]
            M, m = by_nearest(region, image.shape[-1]), by_nearest(region, len(Q[i]))
            seen.append(f(put_inside(images[partner], image, M)))
            labels.append(put_inside(Q[partner], Q[i], m))
            where.append(put_inside(W[partner], W[i], m))
        L_u += dice_where(seen, labels, where) / 2
    L_x = ce_and_dice([f(x) for x in v["X_w"]], v["Y_w"])
    return {
        "loss": L_x + L_u,
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


def moved_amplitude(X: Map, U: Map, share: float) -> Map:
    """Images (c, s, s): inside a centered window the amplitude of X moves towards that of U."""
    s = X.shape[-1]
    half, center = int(0.01 * s), s // 2
    window = slice(center - half, center + half + 1)
    out = np.zeros(X.shape)
    for channel in range(len(X)):
        spectrum = np.fft.fftshift(np.fft.fft2(X[channel].astype(float)))
        other = np.fft.fftshift(np.fft.fft2(U[channel].astype(float)))
        size, phase = np.abs(spectrum), np.angle(spectrum)
        size[window, window] *= 1 - share
        size[window, window] += share * np.abs(other)[window, window]
        back = np.fft.ifft2(np.fft.ifftshift(size * np.exp(1j * phase)))
        out[channel] = np.clip(back.real, 0, 1)
    return out


def twin_symgd(
    nets: Nets, batch: Mapping[str, Map], name: str, *, lam: float, tau: float, shares: list[float]
) -> dict[str, float]:
    """Pixel by pixel: which mixture a pixel of U was seen in, and whether both answers agree."""
    f, f_hat, v = nets[name], nets[f"{name}_hat"], views(batch, name)
    images: dict[str, list[Map]] = {"ul": [], "lu": [], "s": v["U_s"]}
    labels: dict[str, list[Map]] = {"ul": [], "lu": [], "s": []}
    trusts: dict[str, list[Map]] = {"ul": [], "lu": [], "s": []}
    plain = []
    for i, share in enumerate(shares):
        X, Y, U = v["X_w"][i], v["Y_w"][i], v["U_w"][i]
        M, m = by_nearest(batch["M"][i], X.shape[-1]), by_nearest(batch["M"][i], Y.shape[-1])
        P = probabilities(f_hat(U))
        P_ul = probabilities(f_hat(put_inside(X, U, M)))
        P_lu = probabilities(f_hat(put_inside(U, X, M)))
        W, Q = trusted(P, tau, np.zeros_like(m)), best_class(P)
        Q_m, W_m = np.zeros_like(Q), np.zeros_like(W)
        for y in range(len(m)):
            for x in range(len(m)):
                seen = P_lu[:, y, x] if m[y, x] else P_ul[:, y, x]
                Q_m[y, x] = list(seen).index(max(seen))
                sure = max(seen) > tau and max(P[:, y, x]) > tau
                W_m[y, x] = 1.0 if sure and Q_m[y, x] == Q[y, x] else 0.0
        moved = moved_amplitude(X, U, share)
        images["ul"].append(put_inside(moved, v["U_s"][i].astype(float), M))
        images["lu"].append(put_inside(v["U_s"][i], moved, M))
        labels["ul"].append(put_inside(Y, Q, m))
        labels["lu"].append(put_inside(Q, Y, m))
        labels["s"].append(Q_m)
        trusts["ul"].append(np.maximum(W, m))
        trusts["lu"].append(np.maximum(W, ~m))
        trusts["s"].append(W_m)
        plain.append(W)
    L_x = ce_and_dice([f(x) for x in v["X_w"]], v["Y_w"])
    L = {k: ce_and_dice([f(x) for x in images[k]], labels[k], trusts[k]) for k in images}
    L_u = L["ul"] + L["lu"] + lam * L["s"]
    return {
        "loss": L_x + lam * L["ul"] + lam * L["lu"] + lam**2 * L["s"],
        f"L_x_{name}": L_x,
        f"L_u_{name}": L_u,
        "trusted": float(np.mean(plain)),
    }


def difference(a: Map, b: Map, classes: int, nested: bool) -> float:
    """1 - mean Dice of the foreground parts; what neither map has counts as Dice 0."""
    scores = []
    for c in range(1, classes + 1):
        in_a = [in_part(q, c, nested) for q in a.ravel()]
        in_b = [in_part(q, c, nested) for q in b.ravel()]
        both = sum(p * q for p, q in zip(in_a, in_b, strict=True))
        size = sum(in_a) + sum(in_b)
        scores.append((2 * both + 1) / (size + 1.001) if size else 0.0)
    return 1 - sum(scores) / classes


@dataclass
class Remembered:
    """An image is (image, label map, trust); `reliable` holds (disagreement, image), new first."""

    threshold: float
    reliable: list[tuple[float, tuple[Map, Map, Map]]] = field(default_factory=list)
    unreliable: tuple[Map, Map, Map] | None = None


def twin_ustrun(
    nets: Nets,
    batch: Mapping[str, Map],
    name: str,
    memory: Remembered,
    *,
    lam: float,
    tau: float,
    nested: bool,
    at_start: bool,
    swaps: Mapping[int, int],
    shares: list[float],
    cover: int,
) -> dict[str, float]:
    """`swaps`: place in the batch -> reliable image; `cover`: the labeled image over the unreliable
    one. The memory is changed."""
    f, f_hat, v = nets[name], nets[f"{name}_hat"], views(batch, name)
    images: dict[str, list[Map]] = {"ul": [], "lu": [], "s": v["U_s"]}
    labels: dict[str, list[Map]] = {"ul": [], "lu": [], "s": []}
    trusts: dict[str, list[Map]] = {"ul": [], "lu": [], "s": []}
    seen: list[tuple[float, tuple[Map, Map, Map]]] = []
    for i, share in enumerate(shares):
        X, Y, U = v["X_w"][i], v["Y_w"][i], v["U_w"][i]
        T = np.ones(Y.shape)
        if i in swaps:
            X, Y, T = memory.reliable[swaps[i]][1]
        M, m = by_nearest(batch["M"][i], X.shape[-1]), by_nearest(batch["M"][i], Y.shape[-1])
        P = probabilities(f_hat(U))
        P_ul = probabilities(f_hat(put_inside(X, U, M)))
        P_lu = probabilities(f_hat(put_inside(U, X, M)))
        W, Q = trusted(P, tau, np.zeros_like(m)), best_class(P)
        merged = np.array(put_inside(P_lu, P_ul, m))
        Q_m, sure_m = best_class(merged), trusted(merged, tau, np.zeros_like(m))
        moved = moved_amplitude(X, U, share)
        images["ul"].append(put_inside(moved, v["U_s"][i].astype(float), M))
        images["lu"].append(put_inside(v["U_s"][i], moved, M))
        labels["ul"].append(put_inside(Y, Q, m))
        labels["lu"].append(put_inside(Q, Y, m))
        labels["s"].append(Q_m)
        trusts["ul"].append(put_inside(T, W, m))
        trusts["lu"].append(put_inside(W, T, m))
        trusts["s"].append(sure_m * W * (Q_m == Q))
        apart = difference(best_class(probabilities(f(U))), Q, len(P) - 1, nested)
        seen.append((1.0 if at_start else apart, (U, Q, W)))
    if memory.unreliable is not None:
        X, Y = v["X_w"][cover], v["Y_w"][cover]
        U, Q, W = memory.unreliable
        places = [p for p in np.ndindex(*Y.shape) if Y[p] > 0 or Q[p] > 0]
        R = np.array(by_nearest(batch["M"][0], len(Y)))
        if places:
            rows, columns = [y for y, _ in places], [x for _, x in places]
            R[:] = False
            R[min(rows) : max(rows) + 1, min(columns) : max(columns) + 1] = True
        images["ul"].append(put_inside(X, U, by_nearest(R, X.shape[-1])))
        labels["ul"].append(put_inside(Y, Q, R))
        trusts["ul"].append(put_inside(np.ones(W.shape), W, R))
    L_x = ce_and_dice([f(x) for x in v["X_w"]], v["Y_w"])
    L = {k: ce_and_dice([f(x) for x in images[k]], labels[k], trusts[k]) for k in images}
    memory.unreliable = next(image for d, image in seen if d == max(d for d, _ in seen))
    if new := [x for x in seen if x[0] < memory.threshold]:
        memory.reliable = (new + memory.reliable)[:10]
        memory.threshold = min(memory.threshold, max(d for d, _ in memory.reliable))
    elif memory.reliable:
        memory.threshold = min(1.0005 * memory.threshold, 0.1)
    L_u = L["ul"] + L["lu"] + lam * L["s"]
    return {
        "loss": L_x + lam * L_u,
        f"L_x_{name}": L_x,
        f"L_u_{name}": L_u,
        "trusted": float(np.mean([image[2] for _, image in seen])),
    }


def only_largest(q: Map, classes: int) -> Map:
    """Flood fill over eight neighbors, from the top left; a tie is the first's."""
    kept = np.zeros_like(q)
    for k in range(1, classes):
        seen, best = np.zeros(q.shape, dtype=bool), []
        for y in range(q.shape[0]):
            for x in range(q.shape[1]):
                if q[y, x] != k or seen[y, x]:
                    continue
                seen[y, x], found, border = True, [], [(y, x)]
                while border:
                    i, j = border.pop()
                    found.append((i, j))
                    for a in range(max(i - 1, 0), min(i + 2, q.shape[0])):
                        for b in range(max(j - 1, 0), min(j + 2, q.shape[1])):
                            if q[a, b] == k and not seen[a, b]:
                                seen[a, b] = True
                                border.append((a, b))
                if len(found) > len(best):
                    best = found
        for i, j in best:
            kept[i, j] = k
    return kept


def over_part(logits: list[Map], labels: list[Map], part: Map) -> float:
    """Cross-entropy per pixel of the part, and Dice of its pixels alone."""
    K = len(logits[0])
    ce = pixels = 0.0
    overlap, size = [0.0] * K, [0.0] * K
    for z, q in zip(logits, labels, strict=True):
        P = probabilities(z)
        for y, x in np.argwhere(part):
            ce -= log(P[q[y, x], y, x])
            pixels += 1
            for k in range(K):
                t = 1.0 if q[y, x] == k else 0.0
                overlap[k] += P[k, y, x] * t
                size[k] += P[k, y, x] ** 2 + t
    dice = [(2 * o + 1e-10) / (s + 1e-10) for o, s in zip(overlap, size, strict=True)]
    return ce / pixels + 1 - sum(dice) / K


def twin_bcp(
    nets: Nets, batch: Mapping[str, Map], name: str, *, box: Map, pretraining: bool
) -> dict[str, float]:
    """`box` is True in the square, at the side of the images."""
    f, f_hat, v = nets[name], nets[f"{name}_hat"], views(batch, name)
    half = len(v["X_w"]) // 2
    X_a, X_b, Y_a, Y_b = v["X_w"][:half], v["X_w"][half:], v["Y_w"][:half], v["Y_w"][half:]
    U_a, U_b = v["U_w"][:half], v["U_w"][half:]
    inside = by_nearest(box, len(Y_a[0]))

    def mixed(inner: list[Map], outer: list[Map]) -> list[Map]:
        return [f(put_inside(i, o, box)) for i, o in zip(inner, outer, strict=True)]

    def labels(U: list[Map]) -> list[Map]:
        logits = [f_hat(u) for u in U]
        return [only_largest(best_class(z), len(z)) for z in logits]

    if pretraining:
        z = mixed(X_b, X_a)
        L_x, L_u = over_part(z, Y_b, inside) + over_part(z, Y_a, ~inside), 0.0
    else:
        outward, inward = mixed(X_a, U_a), mixed(U_b, X_b)
        L_x = over_part(outward, Y_a, inside) + over_part(inward, Y_b, ~inside)
        L_u = over_part(outward, labels(U_a), ~inside) + over_part(inward, labels(U_b), inside)
    return {
        "loss": L_x + 0.5 * L_u,
        f"L_x_{name}": L_x,
        f"L_u_{name}": L_u,
        "trusted": 0.0 if pretraining else 1.0,
    }


def twin_semisam(
    nets: Nets,
    batch: Mapping[str, Map],
    *,
    sam: Callable[[Map, list[list[float]]], Map],
    lam: float,
    mu: float,
    normal: Map,
    nested: bool,
) -> dict[str, Any]:
    """For the U-Net; `drawn` are the classes that SAM drew anywhere."""
    f, f_hat, v = nets["UT"], nets["UT_hat"], views(batch, "UT")
    to_teacher = to_sam = count = 0.0
    drawn = set()
    for i, image in enumerate(v["U_w"]):
        P = probabilities(f(image))
        P_hat = probabilities(f_hat(image + np.clip(0.1 * normal[i], -0.2, 0.2)))
        Q, K, side = best_class(P), len(P), P.shape[-1]
        times = batch["U_w_MS"].shape[-1] / side
        boxes, asked = [], []
        for c in range(1, K):
            part = np.array([[in_part(q, c, nested) for q in row] for row in Q])
            places = np.argwhere(only_largest(part, 2))
            asked.append(len(places) > 0)
            top, left = places.min(0) if asked[-1] else (0, 0)
            bottom, right = places.max(0) if asked[-1] else (0, 0)
            boxes.append(
                [left * times, top * times, (right + 1) * times - 1, (bottom + 1) * times - 1]
            )
        z = [by_bilinear(m, side) for m in sam(batch["U_w_MS"][i], boxes)]
        areas = [sum(value > 0 for value in m.ravel()) for m in z]
        for y in range(side):
            for x in range(side):
                here = [c for c in range(K - 1) if asked[c] and z[c][y, x] > 0]
                label = min((areas[c], c + 1) for c in here)[1] if here else 0
                drawn.add(label)
                for k in range(K):
                    count += 1
                    to_teacher += (P[k, y, x] - P_hat[k, y, x]) ** 2
                    to_sam += (P[k, y, x] - (k == label)) ** 2
    L_x = ce_and_dice([f(x) for x in v["X_w"]], v["Y_w"])
    L_u = lam * to_teacher / count + mu * to_sam / count
    return {
        "loss": L_x + 0.1 / 2 * L_u,
        "L_x_UT": L_x,
        "L_u_UT": L_u,
        "trusted": 1.0,
        "drawn": drawn,
    }
