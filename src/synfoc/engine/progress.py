"""What a person sees of long work: a bar with the time left, or plain lines in a log file."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from synfoc.errors import visible

PLAIN_SECONDS = 15.0
"""Time between two plain lines where nobody watches a terminal."""


class Display:
    """Progress of one long task on a console, used as a context; silent where `console` is None.

    The time left is counted from the first update, so that steps done before resuming do not make
    it too short.
    """

    def __init__(self, console: Console | None, total: int, what: str = "step") -> None:
        self.console, self.total, self.what = console, total, what
        self._first: tuple[float, int] | None = None
        self._last = 0.0
        self._bar: Progress | None = None
        if console is not None and console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[left]}"),
                TextColumn("{task.fields[figures]}", markup=False),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task(what, total=total, figures="", left="ETA --:--")
            self._bar.start()

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *error: object) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    @property
    def shown(self) -> bool:
        """Whether anybody sees it."""
        return self.console is not None

    def update(self, done: int, figures: str | None = None) -> None:
        """Show that `done` of the whole is done; figures is a short text beside the bar."""
        now = time.monotonic()
        self._first = self._first or (now, done)
        figures = None if figures is None else visible(figures)
        if self._bar is not None:
            fields: dict[str, Any] = {} if figures is None else {"figures": figures}
            self._bar.update(self._task, completed=done, left=self._left(now, done), **fields)
        elif figures is not None and (now - self._last >= PLAIN_SECONDS or done >= self.total):
            self._last = now
            self.say(f"{self.what} {done}/{self.total}  {self._left(now, done)}  {figures}")

    def say(self, text: str) -> None:
        """Print one line above the bar."""
        if self.console is not None:
            self.console.print(
                visible(text, keep="\n"), highlight=False, markup=False, soft_wrap=True
            )

    def _left(self, now: float, done: int) -> str:
        assert self._first is not None
        start, first = self._first
        if done <= first:
            return "ETA --:--"
        return f"ETA {clock((now - start) / (done - first) * (self.total - done))}"


def clock(seconds: float) -> str:
    """Return a time span for a person: 4:05 or 1:04:05."""
    hours, minutes = divmod(int(seconds) // 60, 60)
    rest = f"{int(seconds) % 60:02d}"
    return f"{hours}:{minutes:02d}:{rest}" if hours else f"{minutes}:{rest}"


@contextmanager
def progress_callback(console: Console | None, what: str) -> Iterator[Callable[..., None]]:
    """Yield a function `(done, total, name)` that shows how far a task is; tidy up after it."""
    with ExitStack() as stack:
        displays: list[Display] = []

        def show(done: int, total: int, name: str = "") -> None:
            if not displays:  # how much there is to do is known with the first call
                displays.append(stack.enter_context(Display(console, total, what)))
            displays[0].update(done, name)

        yield show


def figures_of(line: Mapping[str, Any]) -> str:
    """Return the losses, alpha and trusted share of one log line, short enough for one row."""
    parts = {k: line[k] for k in ("loss", "L_x_UT", "L_x_MS", "L_u_UT", "L_u_MS") if k in line}
    shown = [f"{k} {v:.3f}" for k, v in parts.items() if v is not None]
    for key, name in (("alpha", "alpha"), ("trusted", "trusted")):
        value = line.get(key)
        if value is not None and not math.isnan(value):  # NaN: this fusion has no weight
            shown.append(f"{name} {value:.2f}")
    return "  ".join(shown)


class Interruption:
    """Set by Ctrl-C or SIGTERM; the loop looks at it between two steps."""

    def __init__(self) -> None:
        self.signal: str | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Let the first Ctrl-C or SIGTERM finish the step; a second Ctrl-C stops at once."""
    seen = Interruption()

    def note(number: int, frame: FrameType | None) -> None:
        if seen and number == signal.SIGINT:
            raise KeyboardInterrupt
        seen.signal = signal.Signals(number).name

    try:
        before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: whoever runs us handles signals
        yield seen
        return
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
