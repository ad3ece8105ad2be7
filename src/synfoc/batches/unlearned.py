"""Which cases of any data set a run may be scored on: not those it learned by their labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synfoc.images.case import CaseGroup, group_of
from synfoc.images.cases import Case
from synfoc.storage import sha256


@dataclass(frozen=True)
class Unlearned:
    """Cases of any data set, seen from a run."""

    cases: tuple[Case, ...]
    """Those whose label, and whose patient's labels, the run was not trained with."""
    labeled: int
    """How many cases are not among them."""
    seen: int
    """How many of them were in training without a label."""
    by_name: tuple[str, ...] = ()
    """Patients that are not among them only because a labeled one has the same name."""
    namesakes: tuple[str, ...] = ()
    """Patients among them who have the name of a labeled one, with nothing else in common."""


def without_labeled(cases: Iterable[Case], value: Mapping[str, Any]) -> Unlearned:
    """Tell cases that a run has not learned by their labels from the others.

    Images are known by their content, wherever they lie now, and so are all images of a patient
    one of whose images is known. By domain and name patients are known where the domain has a
    name. Without one `sub-01` is in every hospital: there names count only if they are those of
    the run, by an image that both call the same or that lies in a folder of the run's images.

    Args:
        cases: of any data set. Only files of the size of an image of the run are read.
        value: split.json of the run.
    """
    run = _Run.of(value)
    named = {(entry["domain"], entry["patient"]) for entry in value["labeled"] if entry["patient"]}
    known = [(case, run.known(case.image)) for case in cases]
    patients = {case.group for case, image in known if case.patient and image.shows_learned}
    same_names = any(
        case.patient in image.patients or case.image.parent.resolve() in run.folders
        for case, image in known
        if case.patient and case.domain is None
    )
    kept, dropped, seen = [], 0, 0
    by_name: dict[str, None] = {}
    namesakes: dict[str, None] = {}
    for case, image in known:
        alike = (case.domain, case.patient) in named
        same = "labeled" in image.roles or case.group in patients
        if same or (alike and (case.domain or same_names)):
            dropped += 1
            if not same:
                by_name[_told(case)] = None
            continue
        if alike:
            namesakes[_told(case)] = None
        kept.append(case)
        seen += "unlabeled" in image.roles
    return Unlearned(tuple(kept), dropped, seen, tuple(by_name), tuple(namesakes))


def _told(case: Case) -> str:
    return " ".join(part for part in (case.domain, case.patient) if part)


@dataclass
class _Image:
    """What an image was in a run, or several equal ones."""

    roles: set[str] = field(default_factory=set)
    groups: set[CaseGroup] = field(default_factory=set)
    patients: set[str] = field(default_factory=set)

    @property
    def shows_learned(self) -> bool:
        """Whether it tells a labeled patient; a blank slice, which several have, does not."""
        return "labeled" in self.roles and len(self.groups) == 1

    def add(self, role: str, entry: Mapping[str, Any]) -> None:
        self.roles.add(role)
        self.groups.add(group_of(entry["id"], entry["domain"], entry["patient"]))
        if entry["patient"]:
            self.patients.add(entry["patient"])


@dataclass
class _Run:
    """The images of a split, by place and by content."""

    by_path: dict[Path, _Image] = field(default_factory=dict)
    by_content: dict[str, _Image] = field(default_factory=dict)
    sizes: set[int] = field(default_factory=set)
    folders: set[Path] = field(default_factory=set)
    """Those that the images lie in."""

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> _Run:
        run = cls()
        for role in ("labeled", "unlabeled", "test"):
            for entry in value[role]:
                # As the run named it: how its CSV writes paths need not fit its folder.
                path = (Path(value["root"]) / entry["image"]).resolve()
                fingerprint = value["files"][entry["image"]]
                image = run.by_content.setdefault(fingerprint["sha256"], _Image())
                image.add(role, entry)
                run.by_path[path] = image
                run.sizes.add(fingerprint["size"])
                run.folders.add(path.parent)
        return run

    def known(self, image: Path) -> _Image:
        """Return what the image was; nothing where the run does not know it."""
        here = self.by_path.get(image.resolve())
        if here is None and image.stat().st_size in self.sizes:
            here = self.by_content.get(sha256(image))
        return here or _Image()
