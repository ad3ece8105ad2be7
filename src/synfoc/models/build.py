"""Config -> students and the teachers that the method asks; what is frozen -> file and back.

student U-Net     teacher U-Net: a copy
student SAM       teacher SAM: its own LoRA, prompt encoder, mask decoder over the SAME encoder
                  guide: a SAM that is asked with boxes in training, and does not learn
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from synfoc.answers import BranchName, Role
from synfoc.batches.batch import Sides
from synfoc.config import Config, FoundationModel
from synfoc.config import UNet as UNetSettings
from synfoc.errors import UserError
from synfoc.models.branch import Branch
from synfoc.models.checkpoints import (
    Decoder,
    Source,
    Tiny,
    Vit,
    described,
    read_source,
    read_tensors,
    to_original,
    to_transformers,
)
from synfoc.models.fitting import AROUND_ENCODER, EVERYTHING, sam_from_source
from synfoc.models.network import SegmentationNetwork
from synfoc.models.prompted import BoxSam
from synfoc.models.residual_unet import ResidualUNet
from synfoc.models.sam import PromptFreeSam
from synfoc.models.tokens import TOKENS
from synfoc.models.unet import UNet
from synfoc.models.weights import locate
from synfoc.storage import AnyPath, replacing

SHAPES: Mapping[str, tuple[Vit | Tiny, Decoder]] = {
    "vit-b": (Vit(768, 12, 12, 3072, 14, (2, 5, 8, 11), 256), Decoder(8, 2048, 256)),
    "vit-l": (Vit(1024, 24, 16, 4096, 14, (5, 11, 17, 23), 256), Decoder(8, 2048, 256)),
    "vit-h": (Vit(1280, 32, 16, 5120, 14, (7, 15, 23, 31), 256), Decoder(8, 2048, 256)),
    "litemedsam": (
        Tiny((64, 128, 160, 320), (2, 2, 6, 2), (2, 4, 5, 10), (7, 7, 14, 7), 256),
        Decoder(8, 2048, 256),
    ),
    "vit-tiny": (Vit(32, 2, 2, 64, 3, (1,), 32), Decoder(2, 64, 32)),
}
"""Networks that `random:NAME` makes, for timing and tests; vit-tiny is nobody's model."""
CONVENTIONAL = {"unet": UNet, "residual": ResidualUNet}
"""Networks that `unet.model` names."""
MASK_TOKENS = 4
"""Of every published SAM: one for a single answer, which MedSAM's training used, and three."""


@dataclass(frozen=True)
class Networks:
    """All networks of a run."""

    branches: tuple[Branch, ...]
    """Those that are trained, the conventional one first."""
    sides: Sides
    guide: BoxSam | None = None
    """Only where the method asks one; it is the same in every checkpoint, so in none."""

    @property
    def names(self) -> list[BranchName]:
        """Names of the branches."""
        return [branch.name for branch in self.branches]

    def branch(self, name: str) -> Branch | None:
        """Return the branch of a name; None where it is not trained."""
        return next((branch for branch in self.branches if branch.name == name), None)

    def __getitem__(self, name: str) -> Branch:
        """Return the branch of a name.

        Raises:
            KeyError: it is not trained.
        """
        branch = self.branch(name)
        if branch is None:
            raise KeyError(name)
        return branch

    def find(self, name: str, role: Role) -> SegmentationNetwork | None:
        """Return the network of a branch in a role; None where there is none."""
        branch = self.branch(name)
        return branch.find(role) if branch else None

    def by_name(self) -> dict[str, SegmentationNetwork]:
        """Return the networks by name: unet.student, unet.teacher, medsam.student, ..."""
        return {
            f"{branch.name}.{role}": network
            for branch in self.branches
            for role, network in branch.networks()
        }

    def folded(self) -> Networks:
        """Return the networks for inference: the same answers with less arithmetic."""
        return replace(self, branches=tuple(branch.folded() for branch in self.branches))

    def to(self, device: torch.device) -> Networks:
        """Move the networks in place, and return them."""
        for branch in self.branches:
            branch.to(device)
        if self.guide is not None:
            self.guide.to(device)
        return self


def build_networks(
    config: Config,
    *,
    classes: int,
    channels: int,
    generator: torch.Generator,
    base: Path | None = None,
    guide: bool = True,
) -> Networks:
    """Build the networks that a config asks for, on the CPU.

    Args:
        config: reads `method`, `unet` and `medsam`.
        classes: C, foreground classes; each network answers with K = C + 1.
        channels: of the U-Net's images; the foundation model takes 1 or 3.
        generator: on the CPU; draws all that no checkpoint gives.
        base: what is frozen, kept in a run folder (`save_base`). Then `medsam.weights` is not
            looked at, and a student's mask decoder is fresh until a checkpoint is loaded.
        guide: build the guide, too, where the method has one; only training asks it.

    Raises:
        UserError: no weights, or weights that do not fit.
    """
    trained, taught = config.method.branches, config.method.has_teacher
    P = config.unet.side
    sides, branches = Sides(P, P, P), list[Branch]()
    if trained != "unet":
        medsam = _foundation_model(config.medsam, classes + 1, generator, base)
        # Without a foundation model its sides are the U-Net's: nothing is resampled for it.
        sides = Sides(medsam.side, medsam.logits_side, P)
        branches.append(_branch("medsam", medsam, taught=taught))
    if trained != "medsam":
        unet = _conventional(config.unet, classes + 1, channels, generator)
        branches.insert(0, _branch("unet", unet, taught=taught))
    guided = config.method.has_guide
    if guided:
        sides = Sides(config.medsam.side, P, P)
    return Networks(
        tuple(branches),
        sides,
        guide=_guide(config.medsam, generator, base) if guided and guide else None,
    )


def _branch(name: BranchName, student: SegmentationNetwork, *, taught: bool) -> Branch:
    return Branch(name, student, student.make_teacher() if taught else None)


def _conventional(
    settings: UNetSettings, out_channels: int, channels: int, generator: torch.Generator
) -> SegmentationNetwork:
    family = CONVENTIONAL[settings.model]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        network = family(channels, out_channels, settings.width, side=settings.side)
    # Convolutions are faster with channels last, on CPUs and on GPUs with tensor cores.
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def save_base(networks: Networks, path: Path) -> None:
    """Write what is frozen and the shape of its network, so that a run folder is complete.

    That is the encoder of a student, a guide as a whole, or nothing where there is no foundation
    model. The file appears whole or not at all.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    student = networks.find("medsam", "student")
    network = networks.guide.sam if networks.guide else student
    if network is None:
        return
    frozen = network.frozen()
    tensors = dict(frozen.tensors)
    if networks.guide:
        tensors |= {to_original(name): tensor for name, tensor in network.trained_state().items()}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as part:
        save_file(plain, part, dict(frozen.metadata))


def load_published(path: AnyPath, networks: Networks) -> tuple[str, ...]:
    """Load a checkpoint of the authors' code into students and teachers.

    Args:
        path: a file with LoRA (`w_a_000` ...), prompt encoder and mask decoder, a file with a
            U-Net's state dict, or a folder with one of each.
        networks: of the same rank, number of classes and U-Net width.

    Returns:
        The branches that were loaded: "medsam", "unet" or both.

    Raises:
        UserError: no such file, or tensors of another shape.
    """
    path = Path(path)
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    loaded = []
    for file in files:
        tensors = read_tensors(file)
        if "w_a_000" in tensors and (branch := networks.branch("medsam")):
            state = _published_state(tensors)
            for _, network in branch.networks():
                network.load_trained_state(state)
            loaded.append("medsam")
        elif "inc.double_conv.0.weight" in tensors and (branch := networks.branch("unet")):
            for _, network in branch.networks():
                _load_unet(network, tensors, file)
            loaded.append("unet")
    if not loaded:
        raise UserError(
            f"no published SynFoC checkpoint in {path}",
            found=", ".join(f.name for f in files[:5]) or "an empty folder",
            expected="w_a_000 ... of the foundation model, or a U-Net's state dict",
            fix="check the path, and method.branches of the config",
        )
    return tuple(loaded)


def _foundation_model(
    settings: FoundationModel, out_channels: int, generator: torch.Generator, base: Path | None
) -> PromptFreeSam:
    source, fresh = _source(settings, base)
    return sam_from_source(
        source,
        out_channels=out_channels,
        side=settings.side,
        rank=settings.rank,
        generator=generator,
        where=str(base or settings.weights),
        fresh=AROUND_ENCODER if base else fresh,
        tokens="checkpoint" if base else settings.tokens,
    )


def _guide(settings: FoundationModel, generator: torch.Generator, base: Path | None) -> BoxSam:
    """Build the network of a checkpoint (or of a run's base) with all its mask tokens."""
    source, fresh = _source(settings, base)
    sam = sam_from_source(
        source,
        out_channels=len(source.tensors[TOKENS]) if TOKENS in source.tensors else MASK_TOKENS,
        side=settings.side,
        rank=1,
        generator=generator,
        where=str(base or settings.weights),
        fresh=fresh,
        tokens="checkpoint",
    )
    return BoxSam(sam)


def _source(settings: FoundationModel, base: Path | None) -> tuple[Source, str | None]:
    """Tensors, and which of them may be drawn (see `sam_from_source`)."""
    if base:
        return _read_base(base, settings.side), None
    if settings.weights.startswith("random:"):
        return _random_source(settings.weights), EVERYTHING
    return read_source(locate(settings.weights)), None


def _random_source(weights: str) -> Source:
    name = weights.removeprefix("random:")
    if name not in SHAPES:
        raise UserError(
            f"no random network {weights}",
            found=name or "no name",
            expected=", ".join(f"random:{k}" for k in SHAPES),
            fix="correct medsam.weights",
        )
    return Source({}, *SHAPES[name])


def _read_base(path: Path, side: int) -> Source:
    tensors = read_tensors(path)
    with safe_open(path, "pt") as file:
        about = file.metadata() or {}
    if about.get("side") != str(side):
        raise UserError(
            f"the encoder in {path} was kept for another side",
            found=f"medsam.side = {side}",
            expected=f"medsam.side = {about.get('side', '(not written by synfoc)')}",
            fix="use the config of the run",
        )
    try:
        shape = described(about["shape"])
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        raise UserError(
            f"{path} does not say of which network it is",
            found=f"shape {about.get('shape')}",
            expected="the description that `synfoc train` writes beside the encoder",
            fix="restore base.safetensors of this run, or train again",
        ) from None
    return Source(tensors, *shape)


def _published_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the trained tensors by the names of `trained_state`.

    w_a and w_b count q, v of block 0, q, v of block 1, ...
    """
    state = {to_transformers(k): v for k, v in tensors.items() if not k.startswith("w_")}
    for letter in "ab":
        layers = [v for k, v in sorted(tensors.items()) if k.startswith(f"w_{letter}_")]
        for i in range(len(layers) // 2):
            state[f"lora.{letter.upper()}.{i}"] = torch.stack(layers[2 * i : 2 * i + 2])
    return state


def _load_unet(unet: SegmentationNetwork, tensors: Mapping[str, Tensor], file: Path) -> None:
    try:
        unet.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise UserError(
            f"the U-Net in {file} is another one",
            found=str(error).splitlines()[1].strip(),
            expected="the channels, classes and width of this config",
            fix="set data.channels, data.classes and unet.width as the checkpoint has them",
        ) from None
