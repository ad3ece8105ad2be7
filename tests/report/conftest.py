"""A run folder with plausible content, made without training."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synfoc.case_tables import CASE_COLUMNS
from synfoc.config import parse_config
from synfoc.environment import environment
from synfoc.example_files import Example, save_example
from synfoc.runs import RunFolder
from synfoc.storage import append_line, read_json, write_json

DOMAINS = ("Vendor A", "Vendor B", "Klinik Süd", "site<4>")
# Dice of the three branches per domain; the first domain has the labels.
DICE = {
    "unet": (0.80, 0.50, 0.40, 0.30),
    "medsam": (0.90, 0.80, 0.70, 0.60),
    "fused": (0.88, 0.82, 0.66, 0.62),
}


def scores(dice: float) -> dict[str, Any]:
    """The four measures, made from one number so that a test can check them by hand."""
    half = (1 - dice) / 4
    return {
        "dice": dice,
        "jaccard": dice / (2 - dice),
        "hd95": 20 * (1 - dice),
        "asd": 5 * (1 - dice),
        "dice_ci95": [dice - half, min(1.0, dice + half)],
    }


def role_scores(branch: str, domains: tuple[str, ...], lower: float) -> dict[str, Any]:
    per_domain = {}
    for domain, dice in zip(domains, DICE[branch], strict=False):
        one = scores(dice - lower)
        classes = {"cavity": scores(dice - lower + 0.05), "wall": scores(dice - lower - 0.05)}
        per_domain[domain or "all"] = {"cases": 24, **one, "classes": classes}
    mean = float(np.mean([d["dice"] for d in per_domain.values()]))
    return {"mean_over_domains": scores(mean), "domains": per_domain}


def disc(side: int, x: float, y: float, r: float) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side]
    return (rows - y * side) ** 2 + (columns - x * side) ** 2 < (r * side) ** 2


def write_example(run: RunFolder, domain: str, kind: str, dice: dict[str, float]) -> None:
    rng = np.random.default_rng(len(domain) + len(kind))
    side = 96
    x, y = rng.uniform(0.4, 0.6, 2)
    label = (disc(side, x, y, 0.28) * 2).astype(np.uint8)
    label[disc(side, x, y, 0.18)] = 1
    image = 60 + 50 * (label == 2) + 120 * (label == 1) + rng.normal(0, 14, label.shape)
    masks = {}
    for branch, value in dice.items():
        shift = 0.25 * (1 - value)
        masks[branch] = (disc(side, x + shift, y, 0.28) * 2).astype(np.uint8)
        masks[branch][disc(side, x + shift, y + shift / 2, 0.18)] = 1
    case = f"{domain}/test/patient{int(rng.integers(99)):03d}_s07"
    picture = image.clip(0, 255).astype(np.uint8)
    example = Example(case, domain or None, kind, picture, label, masks, dice)
    save_example(run.example(domain, kind), example)


def write_log(run: RunFolder, branches: tuple[str, ...], *, monitor: bool) -> None:
    rng = np.random.default_rng(3)
    for step in range(10, 410, 10):
        t = step / 400
        line: dict[str, Any] = {"step": step, "seconds": 0.6 * step}
        line["loss"] = 2 * np.exp(-3 * t) + 0.2
        for name, branch in (("UT", "unet"), ("MS", "medsam")):
            if branch in branches:
                line[f"L_x_{name}"] = 1.2 * np.exp(-3 * t) + 0.1 + rng.normal(0, 0.02)
                if len(branches) == 3:
                    line[f"L_u_{name}"] = 0.9 * np.exp(-2 * t) + 0.2 + rng.normal(0, 0.03)
        if len(branches) == 3:
            line |= {"L_c": 0.1 * np.exp(-t), "L_d": 0.05 * np.exp(-t)}
            line |= {"lam": float(np.exp(-5 * (1 - t) ** 2)), "trusted": 0.5 + 0.4 * t}
            line |= {"phi_self": 0.3 + 0.6 * t, "phi_mut": 0.2 + 0.5 * t}
            line["alpha"] = line["phi_self"] * line["phi_mut"]
        append_line(run.log, line)
        if step % 50 == 0:
            found: dict[str, Any] = {"step": step, "kind": "evaluation", "score": 0.5 + 0.3 * t}
            found |= {"labeled_dice": 0.6 + 0.35 * t, "agreement": 0.4 + 0.5 * t}
            found["stability"] = 0.7 + 0.25 * t
            if monitor:
                found["pseudo_dice"] = {b: 0.3 + 0.4 * t + 0.02 * i for i, b in enumerate(DICE)}
            append_line(run.log, found)


def split_of(domains: tuple[str, ...]) -> dict[str, Any]:
    """10 labeled images of the first domain; 24 test images and 30 without label of each."""
    split: dict[str, Any] = {"root": "/data/phantom", "monitor": [], "files": {}}
    parts = [("labeled", domains[:1], 10), ("unlabeled", domains, 30), ("test", domains, 24)]
    for part, of, count in parts:
        split[part] = []
        for domain in of:
            for i in range(count):
                image = f"{domain}/{part}/{i}.png"
                case = {"id": image, "image": image, "label": [], "domain": domain or None}
                split[part].append(case | {"patient": None, "split": None, "spacing": None})
                split["files"][image] = {"size": 9, "time": 0, "sha256": "0" * 64}
    return split


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a run folder: `make_run(name, branches=..., lower=..., ...)` -> its path.

    `estimated`: Dice was estimated, too, by so much more than it is.
    """

    def make(
        name: str = "run",
        *,
        branches: tuple[str, ...] = ("unet", "medsam", "fused"),
        domains: tuple[str, ...] = DOMAINS,
        lower: float = 0.0,
        evaluated: bool = True,
        monitor: bool = True,
        pictures: bool = True,
        estimated: float | None = None,
        changes: tuple[str, ...] = (),
    ) -> Path:
        run = RunFolder.create(tmp_path / name)
        alone = len(branches) == 1
        tree = {
            "data": {"path": "/data/phantom", "labeled": {"domain": domains[0], "count": 10}},
            "method": {"name": "supervised", "branches": branches[0]} if alone else {},
            "unet": {"side": 128, "width": 16},
            "medsam": {"side": 128},
            "train": {"steps": 400},
        }
        run.config.write_text(parse_config(tree, changes).to_yaml())
        write_json(run.environment, environment())
        write_json(run.split, split_of(domains))
        write_log(run, branches, monitor=monitor)
        best = branches[-2] if len(branches) == 3 else branches[0]
        summary = {"steps": 400, "best_step": 350, "rule": "honest", "seconds": 250.0}
        summary |= {"seconds_per_step": 0.61, "peak_memory_gib": 2.4, "skipped_steps": 0}
        summary |= {"recommended": best, "why": "highest agreement with its teacher"}
        write_json(run.summary, summary | {"device": "cpu", "precision": "fp32"})
        if evaluated:
            write_scores(run, branches, domains, lower, best)
        if estimated is not None:
            write_estimates(run, branches, domains, lower - estimated)
        if evaluated and pictures:
            for domain in domains:
                for kind, drop in (("best", 0.0), ("median", 0.1), ("worst", 0.3)):
                    found = {b: DICE[b][0] - lower - drop for b in branches}
                    write_example(run, domain, kind, found)
        return run.path

    return make


def write_estimates(
    run: RunFolder, branches: tuple[str, ...], domains: tuple[str, ...], lower: float
) -> None:
    """What evaluation estimates, beside its scores or without any."""
    found: dict[str, Any] = {}
    for b in branches:
        dice = {d: DICE[b][i] - lower for i, d in enumerate(domains)}
        per_domain = {d: {"cases": 24, "dice": value} for d, value in dice.items()}
        mean = float(np.mean(list(dice.values())))
        found[b] = {"student": {"mean_over_domains": {"dice": mean}, "domains": per_domain}}
    metrics = read_json(run.metrics, "scores") if run.metrics.is_file() else {"branches": {}}
    write_json(run.metrics, metrics | {"estimate": {"cases": 96, "branches": found}})


def write_scores(
    run: RunFolder, branches: tuple[str, ...], domains: tuple[str, ...], lower: float, best: str
) -> None:
    metrics = {"protocol": "honest", "rule": "honest", "step": 350, "unit": "mm"}
    metrics |= {"empty_policy": "both empty: 100 %, one empty: 0 % and the image's diagonal"}
    metrics |= {"classes": ["cavity", "wall"], "cases": 96, "recommended": best}
    metrics["branches"] = {
        b: {
            "student": role_scores(b, domains, lower),
            "teacher": role_scores(b, domains, lower + 0.01),
        }
        for b in branches
    }
    write_json(run.metrics, metrics)
    with run.cases.open("w", newline="") as file:
        table = csv.DictWriter(file, CASE_COLUMNS, restval="0")
        table.writeheader()
        for i in range(8):
            row = {"case": f"c{i}", "domain": domains[0], "class": "wall", "branch": branches[0]}
            row |= {"role": "student", "dice": 0, "empty": "prediction" if i < 3 else ""}
            table.writerow(row)
