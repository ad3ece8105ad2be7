"""RunView: one run folder as a report sees it, with what is missing left out instead of failing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from synfoc.answers import BRANCHES, Answer, BranchName, Role, recommended_answer
from synfoc.config import PRACTICAL, Config
from synfoc.errors import UserError
from synfoc.example_files import Example
from synfoc.images.paper_sets import PAPER_SETS
from synfoc.runs import RunFolder

LABELED, UNLABELED, UNSEEN = "labeled", "no labels", "unseen"

# Where our default differs from the paper, or where the paper has several values. Everything
# else in the config is the paper's (or its authors') by default.
PAPER: dict[str, tuple[Any, ...]] = {
    "unet.side": tuple(sorted({known.side for known in PAPER_SETS})),
    "medsam.weights": ("medsam", "wanglab/medsam-vit-base"),
    "medsam.side": (512,),
    "medsam.lr": (1e-4, 1.2e-4),
    "medsam.tokens": ("checkpoint",),
    "train.steps": tuple(sorted({known.steps for known in PAPER_SETS})),
    "train.rule": ("paper",),
}
PAPER_BY_SET: dict[str, dict[str, tuple[Any, ...]]] = {
    known.name: {
        "unet.side": (known.side,),
        "train.steps": (known.steps,),
        "augment.brightness": (known.strong,),
        "augment.contrast": (known.strong,),
    }
    for known in PAPER_SETS
}
PAPER_BY_SET["mnms"]["method.batch"] = (4, 2)
_NOT_OF_THE_METHOD = {
    *(key for key in PRACTICAL if not key.startswith("data.")),
    "train.seed",
    "train.precision",
    "train.devices",
    "train.log_every",
    "train.evaluate_every",
    "train.evaluate_images",
    "train.checkpoint_every",
    "train.watch_test",
}
"""Keys that say how a run was carried out, not what it computed."""
_OF_GUIDE = {"medsam.weights", "medsam.side"}
_PAPER_WORDS = {"medsam.weights": "MedSAM ViT-B", "train.rule": "best on the test set"}
_UNLABELED_ONLY = {
    "method.name",
    "method.branches",
    "method.fusion",
    "method.alpha",
    "method.consistency",
    "method.tau",
    "method.ema_decay",
    "method.paste_area",
    "augment.brightness",
    "augment.contrast",
    "augment.blur",
}
"""Keys that supervised training does not read."""


@dataclass(frozen=True)
class Change:
    """One constant of this run that is not the paper's."""

    key: str
    value: str
    paper: str


@dataclass(frozen=True)
class RunView:
    """What a run folder holds. `metrics` is {} for a run that was not evaluated."""

    folder: RunFolder
    name: str
    config: Config
    scored: RunFolder
    """Where its scores lie: the run, or a folder of `evaluate --out`."""
    damaged: tuple[UserError, ...] = ()
    """What could not be read and is left out."""
    environment: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    cases: list[dict[str, str]] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """labeled, unlabeled, test -> domain ("" where unknown) -> images."""

    @property
    def branches(self) -> list[BranchName]:
        """Branches with scores, in the order unet, medsam, fused."""
        return [b for b in BRANCHES if b in self.metrics.get("branches", {})]

    @property
    def rule(self) -> str:
        """The rule that chose the scored checkpoint, or that checkpoint's name."""
        named = self.metrics.get("rule") or self.summary.get("rule")
        return str(named or self.config.train.rule)

    @property
    def recommended(self) -> Answer | None:
        """What to deploy, as evaluation or training named it."""
        return recommended_answer(self.metrics) or recommended_answer(self.summary)

    def scores(self, branch: BranchName, role: Role = "student") -> dict[str, Any]:
        """`{mean_over_domains, domains}` of one branch; {} where there are none."""
        found: dict[str, Any] = self.metrics.get("branches", {}).get(branch, {}).get(role, {})
        return found

    def estimates(self, branch: BranchName, role: Role = "student") -> dict[str, Any]:
        """As `scores`, of estimated Dice alone."""
        estimate = self.metrics.get("estimate") or {}
        found: dict[str, Any] = estimate.get("branches", {}).get(branch, {}).get(role, {})
        return found

    @property
    def estimate_errors(self) -> dict[str, float]:
        """Of the recommended answer: see the function of this name."""
        return estimate_errors(self.metrics, self.recommended) if self.recommended else {}

    @property
    def estimated(self) -> list[BranchName]:
        """Branches whose Dice was estimated, in the order unet, medsam, fused."""
        return [b for b in BRANCHES if self.estimates(b)]

    def standing(self, domain: str) -> str:
        """Return what training saw of a domain: `labeled`, `no labels` (images only) or `unseen`.

        "" where the data names no domains.
        """
        named = {d for domains in self.counts.values() for d in domains} - {""}
        if self.counts and not named:
            return ""
        if domain in self.counts.get("labeled", {}):
            return LABELED
        if self.config.data.labeled.domain == domain:
            return LABELED
        supervised = not self.config.method.about.unlabeled
        unlabeled = self.counts.get("unlabeled", {})
        if supervised or (unlabeled and domain not in unlabeled):
            return UNSEEN
        return UNLABELED

    def images(self, part: str) -> dict[str, int]:
        """Domain -> images of a part; for `test` what was scored, which may be other data."""
        if part == "test" and self.branches:
            domains = self.scores(self.branches[0]).get("domains", {})
            return {name: scores.get("cases", 0) for name, scores in domains.items()}
        return self.counts.get(part, {})


def estimate_errors(metrics: Mapping[str, Any], answer: Answer) -> dict[str, float]:
    """Estimated minus measured Dice of one answer in points, per domain.

    Domains of which a test case has no label are left out: there the two are of other cases.
    """
    branch, role = answer
    estimate = metrics.get("estimate") or {}
    guesses, scores = (
        found.get("branches", {}).get(branch, {}).get(role, {}).get("domains", {})
        for found in (estimate, metrics)
    )
    return {
        name: 100 * (guess["dice"] - scores[name]["dice"])
        for name, guess in guesses.items()
        if guess["cases"] == scores.get(name, {}).get("cases")
    }


def changes(config: Config) -> list[Change]:
    """Constants that differ from the paper's, for page 1 of the report."""
    accepted = PAPER | PAPER_BY_SET.get(config.data.set or "", {})
    ours, default = _flat(config), _flat(Config(data=config.data))
    skip = set(_NOT_OF_THE_METHOD)
    if not config.method.about.unlabeled:
        skip |= _UNLABELED_ONLY
    branches = config.method.branches
    trained = {"unet": branches != "medsam", "medsam": branches != "unet"}
    found = []
    for key, value in ours.items():
        section = key.partition(".")[0]
        asked = trained.get(section, True) or (config.method.has_guide and key in _OF_GUIDE)
        if section == "data" or key in skip or not asked:
            continue
        allowed = accepted.get(key, (default[key],))
        if value not in allowed:
            *some, last = (show(a) for a in allowed)
            paper = f"{', '.join(some)} or {last}" if some else last
            found.append(Change(key, show(value), _PAPER_WORDS.get(key, paper)))
    return found


def show(value: Any) -> str:
    """Return a config value for people: 60,000 and 0.1 to 2 instead of 60000 and (0.1, 2.0)."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple | list):
        return " to ".join(show(v) for v in value)
    return str(value)


def _flat(config: Config) -> dict[str, Any]:
    sections = config.model_dump(exclude={"data"})
    return {f"{s}.{key}": v for s, keys in sections.items() for key, v in keys.items()}
