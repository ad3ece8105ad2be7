"""Whether the first rows of predictions.csv are the masks to check: each order against true Dice.

    python benchmarks/order.py RUN...       # runs that were trained and evaluated

Every column by which masks could be sorted is tried on the test cases of a run:

    spearman    rank correlation with Dice, and the mean of it within domains of 8 cases or more
    worst       share of the worst tenth that stands in the first fifth of the rows
    mended      Dice that is gained where a person puts the first fifth right (Dice 1), as a share
                of what the true order would gain; rows in random order gain `random`
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from measure import parser, write
from synfoc.answers import Answer, recommended_answer
from synfoc.batches.split import load_split
from synfoc.engine.predict import Prediction, predict
from synfoc.runs import RunFolder

ORDERS = ("confidence", "certainty", "estimated_dice")
FEW = 8
"""Cases of a domain below which a correlation within it says nothing."""


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("runs", type=Path, nargs="+")
    given = arguments.parse_args()
    found: dict[str, Any] = {"rows": []}
    print(
        f"{'run':24}{'order':16}{'spearman':>9}{'within':>8}{'worst':>7}{'mended':>8}{'random':>8}"
    )
    for path in given.runs:
        folder = RunFolder.open(path)
        answer = recommended_answer(folder.read_summary())
        assert answer, "a run that has ended"
        dice, domains = true_dice(folder, answer)
        rows = predictions(folder, given.device)
        cases = [case for case in dice if case in rows]
        truth = np.array([dice[case] for case in cases])
        where = np.array([domains[case] for case in cases])
        for order in ORDERS:
            guess = [getattr(rows[case], order) for case in cases]
            if None in guess:
                continue
            row = {"run": path.name, "order": order, "cases": len(cases)}
            row |= quality(truth, np.array(guess), where)
            found["rows"].append(row)
            print(
                f"{path.name:24}{order:16}{row['spearman']:>9.2f}{row['within']:>8.2f}"
                f"{row['worst']:>7.2f}{row['mended']:>8.2f}{row['random']:>8.2f}"
            )
    write(found, given.out, "order", torch.device("cpu"))


def true_dice(folder: RunFolder, answer: Answer) -> tuple[dict[str, float], dict[str, str]]:
    """Case -> mean Dice over classes of the recommended answer, and case -> domain."""
    found, domains = defaultdict(list), {}
    for row in folder.read_cases():
        if (row["branch"], row["role"]) == answer:
            found[row["case"]].append(float(row["dice"]))
            domains[row["case"]] = row["domain"]
    return {case: float(np.mean(values)) for case, values in found.items()}, domains


def predictions(folder: RunFolder, device: str) -> dict[str, Prediction]:
    """Case -> its row, as `synfoc predict` gives it for the test images."""
    images = {case.image: case.id for case in load_split(folder.split).test}
    rows: list[Prediction] = []
    # Images of two folders may have one name.
    for parent in sorted({image.parent for image in images}):
        some = [image for image in images if image.parent == parent]
        with TemporaryDirectory() as masks:
            rows += predict(folder.path, some, out=masks, device=device)
    return {images[Path(row.image)]: row for row in rows}


def quality(
    truth: NDArray[np.float64], guess: NDArray[np.float64], where: NDArray[np.str_]
) -> dict[str, float]:
    """How well sorting by `guess` brings the lowest of `truth` to the top."""
    by_guess, by_truth = np.argsort(guess, kind="stable"), np.argsort(truth, kind="stable")
    fifth, tenth = max(1, len(truth) // 5), max(1, len(truth) // 10)
    within = [
        float(spearmanr(truth[where == domain], guess[where == domain])[0])
        for domain in np.unique(where)
        if (where == domain).sum() >= FEW
    ]
    best = float((1 - truth[by_truth[:fifth]]).sum())
    return {
        "spearman": float(spearmanr(truth, guess)[0]),
        "within": float(np.mean(within)),
        "worst": len(set(by_truth[:tenth]) & set(by_guess[:fifth])) / tenth,
        "mended": float((1 - truth[by_guess[:fifth]]).sum()) / best,
        "random": fifth * float((1 - truth).mean()) / best,
    }


if __name__ == "__main__":
    main()
