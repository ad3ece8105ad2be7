"""One run's settings: YAML -> frozen pydantic models that cannot exist in a wrong state.

Every value has a default, a range and a source. An unknown key is an error that names the
nearest key. A run folder holds the resolved copy, which repeats the run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from synfoc.config_errors import brief, config_error
from synfoc.errors import UserError
from synfoc.label_colors import color_to_class
from synfoc.storage import AnyPath, obstacle, refuse_endless, unreadable
from synfoc.yaml_text import MOST_CHARACTERS, parse_yaml


def _within(low: float, high: float) -> AfterValidator:
    """Both ends of an interval lie in [low, high], in order."""

    def check(interval: tuple[float, float]) -> tuple[float, float]:
        if not low <= interval[0] <= interval[1] <= high:
            raise ValueError(f"two numbers from {low:g} to {high:g}, the smaller one first")
        return interval

    return AfterValidator(check)


def path_of_a_disk(path: Path) -> Path:
    """Return the path, if a disk may have it.

    Raises:
        ValueError: it has a character that no name of a file has.
    """
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError:
        name = b"\0"
    if b"\0" in name:
        raise ValueError("a path that a disk can have")
    return path


Interval: TypeAlias = tuple[float, float]
Share: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
MethodName: TypeAlias = Literal[
    "synfoc", "supervised", "fixmatch", "unimatch", "uamt", "symgd", "ustrun", "bcp", "semisam"
]


class Passes(NamedTuple):
    """How often a step asks its networks, in batches; the estimate before the first step counts."""

    learning: float
    """That pass each student with a graph."""
    looking: float
    """That pass any network without; a guide's look is counted by itself."""
    kept: float = 1
    """Whose graphs are there at the same time: what was released before takes no memory."""
    graphs: int = 1
    """Into which those are divided; each has its own copy of the weights in low precision."""


@dataclass(frozen=True)
class About:
    """What tells one method from another, wherever it is asked."""

    title: str
    """Its name for people."""
    networks: Literal["any", "one", "unet"]
    """What `method.branches` may be: anything; one network; the U-Net alone."""
    passes: Passes
    """What a step of it costs."""
    beside_unet: Passes | None = None
    """What a step costs MedSAM where a U-Net learns beside it, if that is something else."""
    unlabeled: bool = True
    """Whether it learns from images without a label."""
    teacher: bool = True
    """Whether a moving average of the student is asked in training; else none is kept."""
    guide: bool = False
    """Whether training asks a foundation model that does not learn (section medsam)."""
    ramp: bool = True
    """Whether lambda is ramped up; else it is 1 throughout."""
    halves: bool = False
    """Whether it mixes the halves of a batch, which must then be even on each process."""
    alone: bool = False
    """Whether it shows its networks one image alone: batch norms need more than one pixel of it."""


METHODS: Mapping[MethodName, About] = {
    "synfoc": About(
        "SynFoC",
        "any",
        # The U-Net's student labels too, MedSAM's does not.
        Passes(learning=2, looking=1.5),
        # Both of MedSAM's views share one forward (docs/departures.md, D13).
        beside_unet=Passes(learning=2, looking=1.5, kept=2),
    ),
    "supervised": About(
        "Supervised", "any", Passes(learning=1, looking=0), unlabeled=False, teacher=False
    ),
    "fixmatch": About("FixMatch", "one", Passes(learning=2, looking=1), teacher=False, ramp=False),
    "unimatch": About(
        "UniMatch",
        "one",
        Passes(learning=4, looking=1, kept=3, graphs=3),
        teacher=False,
        ramp=False,
    ),
    "uamt": About("UA-MT", "one", Passes(learning=2, looking=9)),
    "symgd": About("SymGD", "one", Passes(learning=4, looking=3, kept=3, graphs=3)),
    # The unreliable image is one more; counted for a batch of 4.
    "ustrun": About(
        "UST-RUN", "one", Passes(learning=4.25, looking=4, kept=3.25, graphs=4), alone=True
    ),
    # Both mixtures are half a batch.
    "bcp": About("BCP", "one", Passes(learning=1, looking=1, graphs=2), ramp=False, halves=True),
    "semisam": About("SemiSAM", "unet", Passes(learning=2, looking=1), guide=True),
}
"""All that is known of a method outside its page. How the page is called: `engine.method.PAGES`."""
Side = Annotated[int, Field(ge=16, le=4096, multiple_of=16)]
"""Pixels. The U-Net halves its images four times; foundation models cut them into patches."""
Count = Annotated[int, Field(ge=1)]
Code = Annotated[int, Field(ge=-(2**31), lt=2**31)]
"""What a pixel of a label can hold."""


class Section(BaseModel):
    """A part of the config: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _can_be_written(cls, value: Any) -> Any:
        """Half of a character, which YAML can name, could not be written to the run folder."""
        words = value if isinstance(value, tuple) else (value,)
        for word in words:
            if isinstance(word, str | Path) and re.search("[\ud800-\udfff]", str(word)):
                raise ValueError("text that UTF-8 can hold")
        return value


class Labeled(Section):
    """Which training images count as labeled. With nothing said: all that have a label."""

    domain: str | None = None
    """Only images of this domain. Its other labels are then never read."""
    count: Count | None = None
    """The first so many images of the sorted list (the paper's rule); a volume is one image."""
    patients: Count | None = None
    """All images of the first so many patients; instead of `count`."""
    list: Path | None = None
    """A text file with one image path per line; instead of the other three."""

    @model_validator(mode="after")
    def _one_rule(self) -> Labeled:
        if self.list and (self.domain or self.count or self.patients):
            raise ValueError("labeled.list stands alone: drop domain, count and patients")
        if self.count and self.patients:
            raise ValueError("give labeled.count or labeled.patients, not both")
        return self


class Data(Section):
    """Where the images are and what their labels mean."""

    path: Path
    """A folder `<domain>/{train,test}/{image,mask}/`, a published layout, or a CSV."""
    set: Literal["prostate", "fundus", "mnms", "busi"] | None = None
    """One of the paper's four data sets, in its published layout or as `synfoc data import` writes
    it; None: folders or CSV."""
    classes: tuple[str, ...] | None = None
    """Names of the foreground classes 1, 2, ...; None: read from the labeled images."""
    nested: bool = False
    """Part k is made of classes 1..k (fundus: class 1 the cup, classes 1 and 2 the disc)."""
    remap: dict[Code, Code] | None = None
    """Label codes in the files -> class index, e.g. {255: 1}. Codes not named stay as they are."""
    colors: Annotated[dict[str, int | str] | None, BeforeValidator(color_to_class)] = None
    """Colors in the label files -> class index or name, e.g. {'#ff0000': 1}, or the reverse, e.g.
    {cup: '#ff0000'}; in quotes. Black is background unless named. Gray files: as `remap` says."""
    labeled: Labeled = Labeled()
    test_fraction: float = Field(0.2, ge=0, lt=1)
    """Share of the labeled patients of each domain kept for testing, where no split is given."""

    split_seed: int = Field(1337, ge=0, lt=2**63)
    """Which patients those are. Another `train.seed` keeps the same ones, so that runs compare."""

    channels: Literal[1, 3] | None = None
    """Channels of the U-Net; None: 3 if any of a sample of images, at least one per folder, is in
    color, else 1 (a published set: what the paper has)."""
    slice_axis: Literal["axial", "coronal", "sagittal", 0, 1, 2] | None = None
    """How volumes are cut: a plane of the patient, or an axis of the file. None: across the
    acquired slices, known by their spacing, and axial where all spacings are equal."""
    monitor: bool = False
    """Read the labels of unlabeled images, only to draw the quality of their pseudo-labels."""
    cache_gib: float = Field(2.0, ge=0, le=2**20)
    """GiB for decoded images; past them the least recently used are decoded again."""

    @field_validator("path")
    @classmethod
    def _on_a_disk(cls, path: Path) -> Path:
        return path_of_a_disk(path)

    @field_validator("classes")
    @classmethod
    def _names_differ(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names is not None and len(set(names)) < len(names):
            raise ValueError("a name for each class, no two alike")
        return names


class Augment(Section):
    """Weak and strong views. [authors' code]"""

    probability: float = Field(0.5, ge=0, le=1)
    """Chance of each of the four weak transforms."""
    zoom: Annotated[Interval, _within(0.1, 10)] = (1.0, 1.5)
    """Width and height are scaled independently, then cropped back."""
    degrees: int = Field(20, ge=0, le=180)
    """Largest rotation either way."""
    elastic_sigma: float = Field(0.08, gt=0, le=1)
    """Smoothness of the elastic field as a share of the side."""
    elastic_alpha: float = Field(2.0, ge=0)
    """Strength of the elastic field as a multiple of the side."""
    brightness: Annotated[Interval, _within(0, 100)] = (0.1, 2.0)
    """Brightness factor of the strong view; U(0.5, 1.5) for fundus."""
    contrast: Annotated[Interval, _within(0, 100)] = (0.1, 2.0)
    """Contrast factor of the strong view; U(0.5, 1.5) for fundus."""
    blur: Annotated[Interval, _within(0, 100)] = (0.1, 2.0)
    """Gaussian blur of the strong view: sigma in pixels of the side at which views are made."""


class Method(Section):
    """The paper's constants. A run that changes one says so on page 1 of its report."""

    name: MethodName = "synfoc"
    """`supervised` trains on the labeled images alone. `fixmatch`, `unimatch`, `uamt`, `symgd`,
    `ustrun`, `bcp` and `semisam` are baselines of one network (docs/method.md)."""
    branches: Literal["both", "unet", "medsam"] = "both"
    """Networks that are trained. Under `synfoc` one alone labels the unlabeled images with its own
    teacher; baselines need `unet` or `medsam`, `semisam` needs `unet`."""
    fusion: Literal["smc", "constant", "linear", "self", "mutual", "cps", "own"] = "smc"
    """How the two teachers' pseudo-labels are joined. Under `cps` each labels for the other's
    student, under `own` for its own. [paper, Eq. 3-6, Tables 7 and 8]"""
    alpha: float = Field(0.5, ge=0, le=1)
    """The U-Net's share under `fusion: constant`, and the end of the ramp under `linear`."""
    consistency: Literal["cdcr", "mse", "none"] = "cdcr"
    """What ties the two students on the copy-paste view. [paper, Eq. 8-10 and Table 7]"""
    tau: float = Field(0.95, gt=0, lt=1)
    """A fused probability above this is trusted. [paper, Sec. 3.3]"""
    ema_decay: float = Field(0.99, ge=0, lt=1)
    """Share of a teacher that survives one step. [authors' code]"""
    paste_area: Annotated[Interval, _within(0.001, 0.9)] = (0.02, 0.4)
    """Area of the pasted region as a share of the image. [authors' code]"""
    batch: Annotated[int, Field(ge=1, le=4096)] = 4
    """Labeled images per step, and as many unlabeled ones. [paper, Sec. 4.2]"""

    @property
    def about(self) -> About:
        """What the method is: its title, networks, teacher, guide, ramp."""
        return METHODS[self.name]

    @property
    def has_teacher(self) -> bool:
        """See `About.teacher`."""
        return self.about.teacher

    @property
    def has_guide(self) -> bool:
        """See `About.guide`."""
        return self.about.guide

    @model_validator(mode="after")
    def _baselines_train_one_network(self) -> Method:
        if self.about.networks == "unet" and self.branches != "unet":
            raise ValueError(
                f"{self.name} trains one network: method.branches = unet "
                "(medsam guides it, unchanged)"
            )
        if self.about.networks == "one" and self.branches == "both":
            raise ValueError(
                f"{self.name} trains one network: method.branches = unet or medsam, not both"
            )
        return self


class UNet(Section):
    """The conventional model and its optimizer (SGD)."""

    model: Literal["unet", "residual"] = "unet"
    """`unet`: the paper's. `residual`: the residual-encoder U-Net of nnU-Net (preset ResEnc M with
    `width` 32), from the extra `networks`."""
    side: Side = 256
    """Side P of its images in pixels; a multiple of 16."""
    width: Annotated[int, Field(ge=1, le=512)] = 64
    """Channels of the first level; 64 in the paper, 16 for small runs, 32 in nnU-Net."""

    @property
    def title(self) -> str:
        """Name of the network, with what is chosen of it: U-Net of width 64 at 256 px."""
        names = {"unet": "U-Net", "residual": "residual-encoder U-Net"}
        return f"{names[self.model]} of width {self.width} at {self.side} px"

    lr: float = Field(0.03, gt=0)
    """Learning rate of SGD, before `train.schedule`."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of SGD."""
    weight_decay: float = Field(1e-4, ge=0)
    """Weight decay of SGD."""


class FoundationModel(Section):
    """The foundation model and its optimizer (AdamW)."""

    weights: str = "litemedsam"
    """`litemedsam`, `medsam`, `sam-vit-b`, `sam-vit-l`, `sam-vit-h`, a hub id, a folder in hub
    format, an original .pth file, or `random:vit-b` and so on for timing."""
    side: Side = 256
    """Side S of its images in pixels; a multiple of 16. The paper: 512 for ViT-B."""
    tokens: Literal["object", "checkpoint"] = "object"
    """How the K class tokens start: all from the one token that MedSAM's training used, or class k
    from token k [authors' code]. docs/departures.md says what it is worth."""
    recompute: bool | None = None
    """Compute the encoder's activations again in backward instead of keeping them. None: where the
    estimate before the first step says that memory would not do."""
    rank: Annotated[int, Field(ge=1, le=1024)] = 4
    """Rank of the low-rank update of q and v. [authors' code]"""
    lr: float = Field(1.2e-4, gt=0)
    """Learning rate of AdamW, before `train.schedule`: 1e-4 in the paper, 0.03/250 in the authors'
    code."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """How much of its two moving averages AdamW keeps in a step."""
    weight_decay: float = Field(0.1, ge=0)
    """Weight decay of AdamW."""


class Train(Section):
    """The loop: length, seed, device, what is kept."""

    steps: Count = 30_000
    """Optimizer steps t_max; lambda ramps up over all of them. [paper, Sec. 4.2]"""
    seed: int = Field(1337, ge=0, lt=2**63)
    """Of the first weights, the batches and their views. Who is held out for testing: see
    `data.split_seed`."""
    schedule: Literal["constant", "cosine", "late"] = "constant"
    """Learning rates: `constant` [authors' code]; `cosine` falls to 0 over the whole run; `late`
    does so over its last 30 %."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 where the hardware multiplies it natively, else fp32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where it is there, else the CPU."""
    devices: Annotated[int, Field(ge=1, le=1024)] = 1
    """Processes, one per GPU (or CPU processes); the batch is divided among them."""
    log_every: Count = 10
    """Steps between two lines of metrics.jsonl, and between two reads from the device."""
    evaluate_every: Count = 500
    """Steps between two label-free evaluations, from which `rule: honest` chooses."""
    evaluate_images: Count = 32
    """Unlabeled (and at most as many labeled) images that an evaluation reads."""
    checkpoint_every: Count = 500
    """Steps between two saves of the checkpoint `last`, at which `--resume` goes on. A run that is
    asked to stop saves it, too."""
    keep: Annotated[int, Field(ge=0)] = 0
    """Numbered checkpoints (`step_000500`, ...) kept beside `last` and `best`, the newest ones; one
    is made every `checkpoint_every` steps, none under 0."""
    rule: Literal["honest", "last", "paper"] = "honest"
    """What makes a checkpoint `best`: no test label is read; the last; best on test [authors]."""
    watch_test: bool = False
    """Score the test set at every evaluation, to measure what a choice without it loses. Beside
    `best`, on which it has no influence, the checkpoints `best_on_test_BRANCH` are kept."""
    tensorboard: bool = False
    """Write the curves for TensorBoard, too, into `tensorboard/` of the run. Needs the extra
    `tensorboard`."""


class Config(Section):
    """Everything that decides a run."""

    data: Data
    method: Method = Method()
    unet: UNet = UNet()
    medsam: FoundationModel = FoundationModel()
    augment: Augment = Augment()
    train: Train = Train()

    @model_validator(mode="after")
    def _halves_of_a_batch(self) -> Config:
        pairs = 2 * self.train.devices
        if self.method.about.halves and self.method.batch % pairs:
            raise ValueError(
                f"{self.method.name} mixes the halves of a batch: method.batch must be a multiple "
                f"of {pairs} with train.devices = {self.train.devices}, not {self.method.batch}"
            )
        return self

    @model_validator(mode="after")
    def _one_image_alone(self) -> Config:
        about, batch = self.method.about, self.method.batch
        images = batch // self.train.devices // (2 if about.halves else 1)
        alone = about.alone or images <= 1
        normed = self.method.branches != "medsam" and self.unet.model == "unet"
        if alone and normed and self.unet.side == 16:
            larger = "" if about.alone else ", or method.batch larger"
            raise ValueError(
                f"{self.method.name} shows the U-Net one image alone, which is one pixel at its "
                f"depth, too few for batch norm: unet.side must be at least 32, not 16{larger}"
            )
        return self

    def settings_of(self, branch: str) -> UNet | FoundationModel:
        """Return the section of a branch."""
        return self.unet if branch == "unet" else self.medsam

    def with_settings(self, **sections: dict[str, Any]) -> Config:
        """Copy the config with other values of some keys, which are not checked."""
        return self.model_copy(
            update={
                name: getattr(self, name).model_copy(update=keys) for name, keys in sections.items()
            }
        )

    def to_yaml(self) -> str:
        """Return the whole config as YAML that `load_config` reads back to an equal one.

        It ends in a line of three dots, YAML's own mark of an end: a file without it was cut.
        """
        tree = self.model_dump(mode="json")
        return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, explicit_end=True)


def load_config(path: AnyPath, changes: str | Sequence[str] = ()) -> Config:
    """Read a YAML config and apply `key.sub=value` changes, one or several; values are YAML too.

    A relative path inside the file is relative to the working directory, as on the command line.

    Raises:
        UserError: no such file, not YAML, an unknown key, a value of the wrong type or range.
    """
    path = Path(path)
    tree = read_tree(
        path,
        "config",
        example="configs/fundus.yaml",
        expected="sections data, method, unet, medsam, augment, train",
    )
    return parse_config(tree, changes, source=str(path))


def read_tree(path: Path, what: str, *, example: str, expected: str) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping.

    Args:
        path: the file.
        what: `config` or `suite`, for the errors.
        example: a file of this kind that comes with the package.
        expected: the keys at the top.

    Raises:
        UserError: no such file, not YAML, or something else than a mapping.
    """
    try:
        refuse_endless(path)
        with path.open(encoding="utf-8") as file:
            tree = parse_yaml(file.read(MOST_CHARACTERS + 1))
    except OSError as error:
        without = "; `synfoc train --data DIR` needs none" if what == "config" else ""
        if not isinstance(error, FileNotFoundError):
            raise unreadable(
                path,
                obstacle(path) or str(error),
                expected=f"a YAML file, e.g. {example}",
                fix=f"check the path{without}",
            ) from None
        raise UserError(
            f"no {what} at {path}",
            found=error.strerror or "cannot be read",
            expected=f"a YAML file, e.g. {example}",
            fix=f"check the path{without}",
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is not YAML",
            found=obstacle(path) or _yaml_fault(error),
            expected=f"key: value lines, as in {example}",
            fix="correct the place named above, or restore the file from a copy",
        ) from None
    if not isinstance(tree, dict):
        raise UserError(
            f"{path} is not a {what}",
            found=obstacle(path) or type(tree).__name__,
            expected=expected,
            fix=f"check the path, restore the file from a copy, or begin with one of {example}",
        )
    return tree


def _yaml_fault(error: Exception) -> str:
    """Return what is wrong with a text, in one line."""
    if isinstance(error, RecursionError):
        return "brackets nested too deeply"
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + " ..."


PRACTICAL = {
    "data.path",
    "data.cache_gib",
    "medsam.recompute",
    "train.device",
    "train.keep",
    "train.tensorboard",
}
"""Settings that say how a machine does the work, not what is learned: a run, or a cell of a suite,
may go on with others. `data.path` is one of them, since the stored hashes tell whether the data
are the same."""


class Difference(NamedTuple):
    """A setting by which two runs would learn something else."""

    key: str
    """`section.key`."""
    old: object
    new: object


def differences(old: Config, new: Config) -> list[Difference]:
    """All settings that differ, those in `PRACTICAL` left out."""
    before, now = old.model_dump(), new.model_dump()
    return [
        Difference(name, before[section][key], value)
        for section, keys in now.items()
        for key, value in keys.items()
        if value != before[section][key] and (name := f"{section}.{key}") not in PRACTICAL
    ]


def parse_config(
    tree: dict[str, Any], changes: str | Sequence[str] = (), *, source: str = "config"
) -> Config:
    """Build a Config from nested dicts and `key.sub=value` changes, one or several.

    Raises:
        UserError: an unknown key (names the nearest), or a value of the wrong type or range.
    """
    for change in listed(changes):
        tree = changed(tree, change)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise config_error(error.errors()[0], source, _known_keys(Config)) from None


def listed(changes: str | Sequence[str]) -> tuple[str, ...]:
    """One change or several as several."""
    return (changes,) if isinstance(changes, str) else tuple(changes)


def check_word(what: str, word: object, known: Sequence[str]) -> None:
    """Make sure that an argument is one of the words that it may be.

    Raises:
        UserError: it is not.
    """
    if word not in known:
        raise UserError(
            f"no such {what}",
            found=brief(word),
            expected=", ".join(known),
            fix="name one of these",
        )


def changed(tree: dict[str, Any], change: str) -> dict[str, Any]:
    """Return a copy of nested settings after one `key.sub=value`, whose value is YAML.

    Raises:
        UserError: there is no key or no sign in it.
    """
    key, sign, text = change.partition("=")
    if not sign or not key:
        raise UserError(
            f"cannot read --set {change}",
            found=change,
            expected="key=value, e.g. train.steps=500",
            fix="write the section, a dot, the key, =, the value",
        )
    *parents, last = key.strip().split(".")
    found = inner = dict(tree)
    for parent in parents:
        below = inner.get(parent)
        inner[parent] = dict(below) if isinstance(below, dict) else {}
        inner = inner[parent]
    try:
        # YAML 1.1 takes 255:1 for a number to the base 60. Outside of braces it may be a path.
        if text.lstrip().startswith("{"):
            text = re.sub(r"(?<=[{, ])(\d+):(?=\d)", r"\1: ", text)
        inner[last] = parse_yaml(text)
    except (ValueError, RecursionError):
        inner[last] = text
    return found


def _known_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += _known_keys(field.annotation, f"{prefix}{name}.")
    return keys
