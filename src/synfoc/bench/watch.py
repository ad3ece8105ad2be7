"""What a person sees of a suite that runs: a table and a bar with the time left, or plain lines."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from synfoc.bench.folder import CellFolder, SuiteFolder
from synfoc.engine.progress import clock
from synfoc.errors import UserError

MARKS = {"done": "[green]done[/]", "failed": "[red]failed[/]", "begun": "begun", "open": "·"}


class Forecast:
    """How long cells take, learned from those that ended."""

    def __init__(self, cells: Sequence[CellFolder]) -> None:
        self._seconds: dict[str, list[float]] = {}
        for cell in cells:
            if cell.done.is_file():
                with suppress(UserError):  # the tables will tell it
                    self.learn(cell, cell.read_done()[1])

    def learn(self, cell: CellFolder, seconds: float) -> None:
        """Note that a cell took so long."""
        self._seconds.setdefault(cell.method, []).append(seconds)

    def left(self, cells: Sequence[CellFolder], workers: int) -> float | None:
        """Seconds that these cells will take; None while nothing is known.

        A method of which no cell has ended is taken for an average one.
        """
        known = [s for times in self._seconds.values() for s in times]
        if not known:
            return None
        total = 0.0
        for cell in cells:
            times = self._seconds.get(cell.method, known)
            share = 1 - cell.step() / cell.config.train.steps
            total += sum(times) / len(times) * max(share, 0.05)
        return total / max(1, workers)


class Watch:
    """Progress of a suite, used as a context; silent where `console` is None."""

    def __init__(self, folder: SuiteFolder, workers: int, console: Console | None) -> None:
        self.folder, self.workers, self.console = folder, workers, console
        self._forecast = Forecast(folder.cells)
        self._states = {cell.name: cell.state for cell in folder.cells}
        self._began: dict[str, float] = {}
        self._live: Live | None = None
        if console is not None and console.is_terminal:
            self._live = Live(console=console, refresh_per_second=2, transient=True)

    def __enter__(self) -> Watch:
        if self._live is not None:
            self._live.start()
        done = sum(state == "done" for state in self._states.values())
        self.say(f"{len(self._states)} cells, {done} of them done")
        return self

    def __exit__(self, *error: object) -> None:
        """Take the table away."""
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print one line."""
        if self.console is not None:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def ended(self, cell: CellFolder) -> None:
        """Count a cell that is done, failed, or was stopped."""
        name = cell.name
        self._states[name] = state = cell.state
        seconds = time.monotonic() - self._began.pop(name, time.monotonic())
        if state == "done":
            # Its own number has earlier parts, too; the clock here has the start of its process.
            whole = seconds
            with suppress(UserError):
                whole = max(seconds, cell.read_done()[1])
            self._forecast.learn(cell, whole)
        why = ""
        if state == "failed":
            why = ": " + cell.why_failed().partition("\n")[0]
        count = Counter(self._states.values())
        ended = f"{count['done'] + count['failed']}/{len(self._states)}"
        what = "stopped" if state in ("begun", "open") else state
        self.say(f"{ended}  {self._left()}  {name} {what} after {clock(seconds)}{why}")

    def update(self, running: Sequence[CellFolder]) -> None:
        """Draw what runs now."""
        for cell in running:
            self._began.setdefault(cell.name, time.monotonic())
        if self._live is not None:
            self._live.update(Group(self._table(running), self._bar()))

    def _table(self, running: Sequence[CellFolder]) -> Table:
        """Rows methods, columns data set and labeled images; seeds side by side in a place."""
        steps = {c.name: f"{c.step()}/{c.config.train.steps}" for c in running}
        columns = list(dict.fromkeys((c.data, c.labeled) for c in self.folder.cells))
        table = Table(box=None, padding=(0, 1))
        table.add_column("")
        for data, labeled in columns:
            table.add_column(f"{data}\n{labeled}")
        places: dict[tuple[str, str, str], list[str]] = {}
        for cell in self.folder.cells:
            mark = steps.get(cell.name) or MARKS[self._states[cell.name]]
            places.setdefault((cell.method, cell.data, cell.labeled), []).append(mark)
        for key, method in self.folder.suite.methods.items():
            row = (" ".join(places[key, data, labeled]) for data, labeled in columns)
            table.add_row(Text(method.title), *row)  # [x] in a title is no markup
        return table

    def _bar(self) -> Group:
        count = Counter(self._states.values())
        ended, total = count["done"] + count["failed"], len(self._states)
        text = Text(f"{ended}/{total} cells, {count['failed']} failed  {self._left()}")
        return Group(ProgressBar(total=total, completed=ended, width=40), text)

    def _left(self) -> str:
        open_cells = [
            c for c in self.folder.cells if self._states[c.name] not in ("done", "failed")
        ]
        seconds = self._forecast.left(open_cells, self.workers)
        return f"ETA {'--:--' if seconds is None else clock(seconds)}"
