"""Networks of a run -> label maps: which forwards are needed, in batches of slices, at any size.

An answer is a branch (unet, medsam, or fused: both, weighted image by image by Eq. 4-6, whatever
`method.fusion` was) and a role (student or teacher). Networks answer at their own sides;
probabilities are resized, then the most probable class is taken. How far two answers agree tells
how far an image can be trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from synfoc.answers import ANSWERS, ROLES, Answer, Role
from synfoc.batches.resize import (
    resize_images,
    resize_labels,
    to_channels,
    working_images,
    working_side,
)
from synfoc.engine.evidence import tally
from synfoc.engine.machine import Precision, autocast
from synfoc.errors import UserError
from synfoc.methods.confidence import dice_agreement, mutual_confidence, self_confidence
from synfoc.methods.maps import argmax_classes
from synfoc.methods.synfoc import fuse

if TYPE_CHECKING:
    from synfoc.engine.checkpoint import LoadedRun
    from synfoc.images.files import Stack
    from synfoc.models.build import Networks

T = TypeVar("T")

# Probabilities at the original size are made for so many numbers at once, then let go.
NUMBERS_AT_ONCE = 2**25


@dataclass(frozen=True)
class Segmentation:
    """Answers for one stack of n slices."""

    labels: dict[Answer, NDArray[np.uint8]]
    """(n, h, w), class indices 0..C."""
    probabilities: dict[Answer, NDArray[np.float32]] = field(default_factory=dict)
    """(K, n, h, w), where asked for."""
    certainty: dict[Answer, NDArray[np.float32]] = field(default_factory=dict)
    """(n,), mean over pixels of the largest probability, at the network's side."""
    tallies: dict[Answer, NDArray[np.float64]] = field(default_factory=dict)
    """(n, C, 5), what is known without a label, where asked for: see `evidence.tally`."""
    agreement: NDArray[np.float32] | None = None
    """(n,), mean Dice over parts of the two branches' maps (of student and teacher where there is
    one branch); None where it was not asked for or there is one network."""
    agreement_whole: float | None = None
    """The same Dice of the whole stack taken as one image."""


@dataclass(frozen=True)
class _Draft:
    """What is known so far of one stack, in the order of its slices."""

    size: tuple[int, int]
    wanted: tuple[Answer, ...]
    labels: dict[Answer, list[NDArray[np.uint8]]] = field(default_factory=dict)
    soft: dict[Answer, list[NDArray[np.float32]]] = field(default_factory=dict)
    certainty: dict[Answer, list[NDArray[np.float32]]] = field(default_factory=dict)
    tallies: dict[Answer, list[NDArray[np.float64]]] = field(default_factory=dict)
    compared: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def add(
        self,
        P: dict[Answer, Tensor],
        pair: tuple[Answer, Answer] | None,
        tallies: dict[Answer, Tensor],
        *,
        keep_probabilities: bool,
    ) -> None:
        """Take the probabilities of the next slices, at the networks' sides."""
        for answer in self.wanted:
            certainty = P[answer].amax(1).mean((1, 2)).cpu().numpy()
            self.certainty.setdefault(answer, []).append(certainty)
            for at_size in _resized(P[answer], self.size):
                labels = argmax_classes(at_size).to(torch.uint8).cpu().numpy()
                self.labels.setdefault(answer, []).append(labels)
                if keep_probabilities:
                    soft = at_size.movedim(1, 0).cpu().numpy()
                    self.soft.setdefault(answer, []).append(soft)
        for answer, sums in tallies.items():
            self.tallies.setdefault(answer, []).append(sums.cpu().numpy())
        if pair:
            Q_a, Q_b = argmax_classes(P[pair[0]]), argmax_classes(P[pair[1]])
            self.compared.append((resize_labels(Q_a, Q_b.shape[-1]).cpu(), Q_b.cpu()))


@dataclass(frozen=True)
class Segmenter:
    """Networks and what it takes to ask them.

    Args:
        networks: students and teachers; a teacher or a branch may be missing.
        classes: C, the number of foreground classes.
        nested: see `methods.confidence.parts`.
        channels: 1 or 3, of the images that the networks take.
        device: where the networks are.
        precision: fp32, bf16 or fp16 (autocast).
        batch: slices per forward.
    """

    networks: Networks
    classes: int
    nested: bool = False
    channels: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009  (immutable)
    precision: Precision = "fp32"
    batch: int = 8

    @classmethod
    def of_run(cls, run: LoadedRun) -> Segmenter:
        """Return the networks of a run that was opened with `load_run`, folded."""
        return cls(
            networks=run.networks.folded(),
            classes=len(run.classes),
            nested=run.config.data.nested,
            channels=run.channels,
            device=run.device,
            precision=run.precision,
        )

    def answers(self) -> tuple[Answer, ...]:
        """All that this run can answer, in the order unet, medsam, fused; student, teacher."""
        return tuple(filter(self._can, ANSWERS))

    def segment(
        self,
        images: NDArray[np.float32],
        wanted: Sequence[Answer],
        *,
        size: tuple[int, int] | None = None,
        agreement: Role | None = None,
        probabilities: bool = False,
    ) -> Segmentation:
        """Segment every slice of a stack. Only the forwards that are needed are run.

        Args:
            images: (n, h, w, c) in [0, 1], c = 1 or 3.
            wanted: the answers to give.
            size: (rows, columns) of the answers; None: those of the images.
            agreement: also compare the branches in this role (costs their forwards).
            probabilities: also keep the probabilities, 4 K bytes per pixel.

        Raises:
            UserError: the run has no such branch or role.
            ValueError: images of another shape or type.
        """
        found = self.segment_all(
            [images], wanted, size=size, agreement=agreement, probabilities=probabilities
        )
        return found[0]

    def segment_all(
        self,
        stacks: Sequence[NDArray[np.float32]],
        wanted: Sequence[Answer],
        *,
        size: tuple[int, int] | None = None,
        agreement: Role | None = None,
        probabilities: bool = False,
        evidence: bool = False,
    ) -> list[Segmentation]:
        """Segment several stacks, whose slices share forwards whatever their sizes.

        Arguments and errors as in `segment`; each stack is answered at its own size unless `size`
        says another. With `evidence`, tallies are made, for which the other network is asked, too.
        """
        self.check(wanted, agreement)
        for images in stacks:
            _check_images(images)
        pair = self._pair(agreement) if agreement else None
        needed = [*wanted, *(pair or ())]
        if evidence:
            needed += [a for answer in wanted for a in self._pair(answer[1]) or ()]
        drafts = [_Draft(size or (x.shape[1], x.shape[2]), tuple(wanted)) for x in stacks]
        squares = torch.cat([self._squares(x) for x in stacks])
        owners = np.repeat(np.arange(len(stacks)), [len(x) for x in stacks])
        for rows in np.array_split(np.arange(len(owners)), max(1, -(-len(owners) // self.batch))):
            P = self._probabilities(squares[rows[0] : rows[-1] + 1], needed)
            for number in np.unique(owners[rows]):
                own = np.flatnonzero(owners[rows] == number)
                part = {a: x[own[0] : own[-1] + 1] for a, x in P.items()}
                tallies = {a: self.tally(part, a) for a in wanted} if evidence else {}
                drafts[number].add(part, pair, tallies, keep_probabilities=probabilities)
        return [self._finish(draft) for draft in drafts]

    def grouped(self, items: Iterable[tuple[Stack, T]]) -> Iterator[list[tuple[Stack, T]]]:
        """Stacks with what belongs to them, as many at a time as fill a forward."""
        group: list[tuple[Stack, T]] = []
        for item in items:
            group.append(item)
            if sum(len(stack.pixels) for stack, _ in group) >= self.batch:
                yield group
                group = []
        if group:
            yield group

    def probabilities(
        self, images: NDArray[np.float32], wanted: Sequence[Answer]
    ) -> dict[Answer, Tensor]:
        """Probabilities of a few slices at the networks' sides, on the device.

        Args:
            images: (n, h, w, c) in [0, 1]; all n go through a network at once.
            wanted: the answers to give.

        Returns:
            (n, K, P, P) for unet and fused, (n, K, L, L) for medsam, float32; also of the
            networks that an answer was made of.

        Raises:
            UserError: the run has no such branch or role.
            ValueError: images of another shape or type.
        """
        self.check(wanted)
        _check_images(images)
        return self._probabilities(self._squares(images), wanted)

    def tally(self, P: dict[Answer, Tensor], answer: Answer) -> Tensor:
        """Return what is known of an answer without a label, (n, C, 5): see `evidence.tally`.

        It is compared in its own role: the two branches, or student and teacher of the only one.

        Args:
            P: from `probabilities`, of the answer and of those that are compared.
            answer: of which the evidence is.
        """
        pair = self._pair(answer[1])
        maps = (argmax_classes(P[pair[0]]), argmax_classes(P[pair[1]])) if pair else None
        return tally(P[answer], maps, nested=self.nested)

    def _squares(self, images: NDArray[np.float32]) -> Tensor:
        """Slices at the working side R, (n, C, R, R)."""
        side = working_side(self.networks.sides)
        return to_channels(working_images(images, side, self.channels), self.channels)

    def _probabilities(self, squares: Tensor, wanted: Sequence[Answer]) -> dict[Answer, Tensor]:
        needed = {part for answer in wanted for part in _needs(answer)}
        sides = {branch.name: branch.student.side for branch in self.networks.branches}
        # Not inference_mode: what a module caches in it could not be trained on later.
        with torch.no_grad(), _evaluation_mode([self._network(a) for a in needed]):
            squares = squares.to(self.device)
            views = {b: resize_images(squares, sides[b]) for b in {b for b, _ in needed}}
            P = {answer: self._softmax(answer, views[answer[0]]) for answer in needed}
            fused = {answer for answer in wanted if answer[0] == "fused"}
            if fused:
                alpha = self._alpha(P)
            for _, role in fused:
                P["fused", role] = fuse(P["medsam", role], P["unet", role], alpha)
            return P

    def _softmax(self, answer: Answer, view: Tensor) -> Tensor:
        with autocast(self.device, self.precision):
            logits = self._network(answer)(view)
        return logits.float().softmax(1)  # type: ignore[no-any-return]

    def _alpha(self, P: dict[Answer, Tensor]) -> Tensor:
        """Return the U-Net's share per image by Eq. 4-6, whatever `method.fusion` was."""
        Q_UT, Q_UT_hat = argmax_classes(P["unet", "student"]), argmax_classes(P["unet", "teacher"])
        Q_MS_hat = argmax_classes(P["medsam", "teacher"])
        phi_self = self_confidence(Q_UT, Q_UT_hat, self.classes, nested=self.nested)
        phi_mut = mutual_confidence(Q_UT_hat, Q_MS_hat, self.classes, nested=self.nested)
        return phi_self * phi_mut

    def _finish(self, draft: _Draft) -> Segmentation:
        each: NDArray[np.float32] | None = None
        whole: float | None = None
        if draft.compared:
            Q_a, Q_b = (torch.cat(maps) for maps in zip(*draft.compared, strict=True))
            each = dice_agreement(Q_a, Q_b, self.classes, nested=self.nested).numpy()
            tall_a, tall_b = (Q.reshape(1, -1, Q.shape[-1]) for Q in (Q_a, Q_b))
            whole = float(dice_agreement(tall_a, tall_b, self.classes, nested=self.nested))
        return Segmentation(
            labels={a: np.concatenate(v) for a, v in draft.labels.items()},
            probabilities={a: np.concatenate(v, axis=1) for a, v in draft.soft.items()},
            certainty={a: np.concatenate(v) for a, v in draft.certainty.items()},
            tallies={a: np.concatenate(v) for a, v in draft.tallies.items()},
            agreement=each,
            agreement_whole=whole,
        )

    def _pair(self, role: Role) -> tuple[Answer, Answer] | None:
        """Which two answers are compared: the branches, or the roles of the only branch."""
        branches = self.networks.branches
        if len(branches) > 1:
            pair: tuple[Answer, Answer] = (branches[0].name, role), (branches[1].name, role)
            return pair if all(map(self._can, pair)) else self._two_roles()
        return self._two_roles()

    def _two_roles(self) -> tuple[Answer, Answer] | None:
        """Student and teacher of the first branch that has both."""
        for branch in self.networks.branches:
            if branch.teacher is not None:
                return (branch.name, "student"), (branch.name, "teacher")
        return None

    def _can(self, answer: Answer) -> bool:
        return all(self.networks.find(*part) is not None for part in _needs(answer))

    def _network(self, answer: Answer) -> nn.Module:
        network = self.networks.find(*answer)
        assert network is not None
        return network

    def check(self, wanted: Sequence[Answer], agreement: Role | None = None) -> None:
        """Tell whether the run can answer so, and whether there is such a role to compare in.

        Raises:
            UserError: the run has no such branch or role.
        """
        here = self.answers()
        for answer in wanted:
            if answer not in here:
                named = answer if isinstance(answer, str) else " ".join(map(str, answer))
                raise UserError(
                    f"this run cannot answer as {named}",
                    found="trained here: " + ", ".join(" ".join(a) for a in here),
                    expected="a branch of which all networks were trained, student or teacher",
                    fix="choose one of those, or `recommended`",
                )
        if agreement not in (None, *ROLES):
            raise UserError(
                "branches cannot be compared so",
                found=f"agreement {agreement}",
                expected=" or ".join(ROLES),
                fix="name one of them",
            )


def _check_images(images: NDArray[np.float32]) -> None:
    """Also channels first would be cut into something and answered."""
    if (
        images.dtype == np.float32
        and images.ndim == 4
        and images.size
        and images.shape[3] in (1, 3)
    ):
        return
    raise ValueError(
        "images are float32 (n, h, w, c) in [0, 1] with c = 1 or 3, "
        f"not {images.dtype} {tuple(images.shape)}"
    )


def _needs(answer: Answer) -> tuple[Answer, ...]:
    """Return the networks behind an answer.

    The weight of `fused` takes three, whatever its role.
    """
    branch, role = answer
    if branch != "fused":
        return (answer,)
    weight: tuple[Answer, ...] = ("unet", "student"), ("unet", "teacher"), ("medsam", "teacher")
    return (*weight, ("medsam", role))


def _resized(P: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
    """Probabilities (n, K, s, s) at another size, few slices at a time."""
    if P.shape[-2:] == size:
        yield P
        return
    few = max(1, NUMBERS_AT_ONCE // (P.shape[1] * size[0] * size[1]))
    for some in torch.split(P, few):
        yield F.interpolate(some, size=size, mode="bilinear", align_corners=False)


@contextmanager
def _evaluation_mode(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Use running statistics inside; networks in training go back to it afterwards."""
    training = [network for network in networks if network.training]
    for network in training:
        network.eval()
    try:
        yield
    finally:
        for network in training:
            network.train()
