"""The folder of a suite: names of its files, and how far each cell is; no torch.

    suite.yaml, suite.json           what is compared, with which data
    cells/SET/LABELED/METHOD/seedN/  a run folder, and in it
        bench/PROTOCOL.csv           scores: columns of evaluation/cases.csv (runs.py)
        bench/PROTOCOL.json          what metrics.json held under this protocol
        bench/training.json          {seconds} of all parts of the training, evaluations included
        bench/cell.json              {settings, seconds}; written last: the cell is done, if
                                     it was scored under each protocol of the suite
    cells/SET/LABELED/METHOD/seedN.log, .lock,
        .failed.json {cell, error, traceback?, log?}

Nothing else remembers what was done, so any number of processes can be killed and begun again.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from synfoc.bench.suite import Cell, Protocol, Suite, cells_of, load_suite
from synfoc.config import Config, differences, parse_config
from synfoc.errors import UserError
from synfoc.records import Metrics, Record, read_record
from synfoc.runs import RunFolder, one_line
from synfoc.storage import last_line, write_json, write_text

State: TypeAlias = Literal["done", "failed", "begun", "open"]

LAST_LINES = 20
"""Of its log, kept beside the error of a cell that failed."""
DAMAGED = (UserError, OSError, LookupError, TypeError, ValueError)
"""What reading raises where a file of a cell is cut, or holds something else."""


class CellFolder:
    """One cell on the disk, and the protocols under which it is to be scored."""

    def __init__(self, cell: Cell, out: Path, protocols: Sequence[Protocol]) -> None:
        self.name, self.config, self.protocols = cell.name, cell.config, protocols
        self.data, self.labeled = cell.data, cell.labeled
        self.method, self.seed = cell.method, cell.seed
        self.run = RunFolder(out / "cells" / cell.name)
        place = self.run.path
        self.log = place.with_name(place.name + ".log")
        self.failure = place.with_name(place.name + ".failed.json")
        self.lock = place.with_name(place.name + ".lock")
        self.training = place / "bench" / "training.json"
        self.done = place / "bench" / "cell.json"

    def scores(self, protocol: Protocol) -> Path:
        """Scores of every case, class and answer."""
        return self.run.path / "bench" / f"{protocol}.csv"

    def metrics(self, protocol: Protocol) -> Path:
        """Return the same as means, as in metrics.json."""
        return self.run.path / "bench" / f"{protocol}.json"

    @property
    def state(self) -> State:
        """What the files say. A cell that lacks a protocol, which was added since, is not done."""
        files = [file(p) for p in self.protocols for file in (self.scores, self.metrics)]
        if all(path.is_file() for path in (self.done, *files)):
            return "done"
        if self.failure.is_file():
            return "failed"
        return "begun" if self.run.config.is_file() else "open"

    def step(self) -> int:
        """Return steps that are known to be done; 0 where its log cannot be read."""
        with suppress(UserError):
            step = (last_line(self.run.log) or {}).get("step")
            return step if isinstance(step, int) else 0
        return 0

    def trained(self) -> float:
        """Seconds that the training has taken so far, as far as they are known."""
        with suppress(UserError):
            return float(
                read_record(self.training, Training, "time of a training", fix="")["seconds"]
            )
        return 0.0

    def ended(self) -> bool:
        """Whether its training has come to its end, and what it found can be read."""
        with suppress(UserError):
            return bool(self.run.read_summary())
        return False

    def why_failed(self) -> str:
        """Return the error that is noted of a cell that failed."""
        try:
            return str(read_record(self.failure, Failure, "error of a cell", fix="")["error"])
        except UserError as error:
            return f"it failed, and why cannot be read: {one_line(error)}"

    def read_done(self) -> tuple[Config, float]:
        """Return the settings that a cell was run with, and the seconds that it took.

        A cell of an earlier version is taken to have had the defaults of settings that are newer.

        Raises:
            UserError: its file is damaged.
        """
        fix = f"delete {self.done} and run the suite again: the cell is scored anew"
        record = read_record(self.done, Done, "what a cell was run with", fix=fix)
        stored, new = record["settings"], self.config.model_dump()
        both = {s: {k: v for k, v in stored[s].items() if k in new[s]} for s in new if s in stored}
        return parse_config(both, source=str(self.done)), float(record["seconds"])

    def read_metrics(self, protocol: Protocol) -> dict[str, Any]:
        """Return the means of a cell under a protocol.

        Raises:
            UserError: the file is damaged.
        """
        fix = f"delete {self.done} and run the suite again: the cell is scored anew"
        return read_record(self.metrics(protocol), Metrics, "scores of a cell", fix=fix)

    def check_same(self) -> None:
        """Make sure that what is done was done with the settings that the suite has now.

        Where its file cannot be read the tables say so, and leave the cell out.

        Raises:
            UserError: names the first setting that differs.
        """
        try:
            stored, _ = self.read_done()
        except UserError:
            return
        if changed := differences(stored, self.config):
            key, before, now = changed[0]
            raise UserError(
                f"cell {self.name} was run with other settings",
                found=f"{key} = {now} in the suite",
                expected=f"{key} = {before}, as it was run",
                fix=f"choose another --out, or delete {self.run.path}",
            )


class Training(Record):
    """bench/training.json."""

    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Done(Record):
    """bench/cell.json."""

    settings: dict[str, dict[str, Any]]
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Place(Record):
    """suite.json."""

    root: str


class Failure(Record):
    """NAME.failed.json, as far as it is read."""

    error: str


class SuiteFolder:
    """A suite on the disk."""

    def __init__(self, path: Path, suite: Suite, root: Path) -> None:
        self.path, self.suite, self.root = path, suite, root
        self.cells = [CellFolder(cell, path, suite.protocols) for cell in cells_of(suite, root)]
        self.tables = path / "tables"
        self.results = path / "results.json"
        self.report = path / "report.html"

    @classmethod
    def begin(cls, path: Path, suite: Suite, root: Path) -> SuiteFolder:
        """Make the folder of a suite, or go on with one: `matching`, and stored."""
        folder = cls.matching(path, suite, root)
        folder.store()
        return folder

    @classmethod
    def matching(cls, path: Path, suite: Suite, root: Path) -> SuiteFolder:
        """Return a suite in a folder, new or begun; only looks.

        Data sets, methods and seeds may be added, and protocol honest to paper.

        Raises:
            UserError: the folder is something else, or a cell was run with other settings.
        """
        ours = (path / "suite.yaml").is_file() or (path / "cells").is_dir()
        if path.exists() and not ours and (path.is_file() or _visible(path)):
            raise UserError(
                f"{path} is not the folder of a suite",
                found="a file" if path.is_file() else "files, but no suite.yaml",
                expected="a new or an empty folder, or one that `synfoc bench` made",
                fix="choose another --out",
            )
        folder = cls(path, suite, root)
        for cell in folder.cells:
            cell.check_same()
        return folder

    def store(self) -> None:
        """Write down what is compared, for the processes of its cells."""
        write_text(self.path / "suite.yaml", self.suite.to_yaml())
        write_json(self.path / "suite.json", {"root": str(self.root.resolve())})

    def check_begun(self) -> None:
        """Make sure that there is something to make tables of.

        Raises:
            UserError: no cell of the suite was run in this folder.
        """
        if all(cell.state == "open" for cell in self.cells):
            raise UserError(
                f"{self.path} holds no cell of this suite",
                found="the folder of another suite" if self.path.exists() else "no such folder",
                expected="a folder in which `synfoc bench` has run cells of it",
                fix="drop --tables, or choose another --out",
            )

    @classmethod
    def open(cls, path: Path) -> SuiteFolder:
        """Return a suite that was begun.

        Raises:
            UserError: the folder is not that of a suite.
        """
        suite = load_suite(path / "suite.yaml")
        fix = "begin with: synfoc bench SUITE.yaml --out DIR, which writes it anew"
        place = read_record(path / "suite.json", Place, "place of the data", fix=fix)
        return cls(path, suite, Path(place["root"]))

    def find(self, name: str) -> CellFolder:
        """Return the cell of this name.

        Raises:
            UserError: the suite has none.
        """
        for cell in self.cells:
            if cell.name == name:
                return cell
        raise UserError(
            f"the suite has no cell {name}",
            found=name,
            expected=", ".join(c.name for c in self.cells[:3]) + ", ...",
            fix="take a name from cells/ in the folder of the suite",
        )

    def without(self, names: Container[str]) -> SuiteFolder:
        """Return the same suite without the cells of these names."""
        other = copy(self)
        other.cells = [cell for cell in self.cells if cell.name not in names]
        return other

    def failures(self) -> dict[str, str]:
        """Name -> error of the cells that failed."""
        return {cell.name: cell.why_failed() for cell in self.cells if cell.state == "failed"}


def _visible(path: Path) -> bool:
    """Whether the folder holds more than a lock."""
    return any(not entry.name.startswith(".") for entry in path.iterdir())


def write_failure(
    cell: CellFolder, error: str, *, log: Path | None = None, traceback: str | None = None
) -> None:
    """Note why a cell failed, with the end of its log; the next `synfoc bench` tries it again."""
    more: dict[str, Any] = {} if traceback is None else {"traceback": traceback}
    if log is not None:
        text = log.read_text(encoding="utf-8", errors="replace")
        more["log"] = text.splitlines()[-LAST_LINES:]
    write_json(cell.failure, {"cell": cell.name, "error": error, **more})


def damage(cell: CellFolder, error: Exception) -> str:
    """Return what is told of a cell that is done, but whose scores cannot be read.

    Args:
        cell: named in the fix.
        error: one of DAMAGED.
    """
    found = one_line(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    told = UserError(
        "its results cannot be read, so that the tables leave it out",
        found=found,
        expected="the files as they were written when the cell was done",
        fix=f"delete {cell.done} and run the suite again: the cell is scored anew",
    )
    return str(told)


def doubt(cell: CellFolder, error: Exception) -> str:
    """Return what is told of a cell whose scores stand, while another file of its run is damaged.

    Args:
        cell: named in the fix, where nothing but training brings the file back.
        error: one of DAMAGED.
    """
    again = f"delete {cell.run.path} and run the suite again: the cell is run anew"
    found, fix = f"{type(error).__name__}: {error}", f"restore it from a copy, or {again}"
    if isinstance(error, UserError):
        found = one_line(error)
        fix = error.fix or fix
    told = UserError(
        "a file of its run cannot be read; its scores stand in the tables, what needs that file "
        "is left out",
        found=found,
        expected="the file as it was written when the cell was done",
        fix=fix,
    )
    return str(told)


def unfinished(cells: Sequence[CellFolder]) -> list[CellFolder]:
    """Return what is left to do; cells that failed are tried again, last."""
    left = [cell for cell in cells if cell.state != "done"]
    return sorted(left, key=lambda cell: cell.state == "failed")
