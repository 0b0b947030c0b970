"""Progress of steps, and of work of unknown length: bars in a terminal, lines by time elsewhere."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as RichTask
from rich.text import Text

from gpg_vl.tables import time_words

EVERY = 30.0
"""Seconds between two lines of progress where there is no terminal."""
_PATIENCE = 1.0
"""Seconds before the first line about rows: what is done by then says so itself."""
Time = Callable[[], float]
"""Seconds on a clock that never goes back."""


def _draws(console: Console) -> bool:
    """Whether a bar can be drawn: variables such as FORCE_COLOR make no terminal of a file."""
    return console.is_terminal and not console.is_dumb_terminal and console.file.isatty()


def _say(console: Console, text: str) -> None:
    """One line, flushed, as it stands: brackets and colons in it mean nothing."""
    console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)


class _Lines:
    """What to say where nothing can be drawn: the first news at once, then by time, and the last."""

    def __init__(self, console: Console, line: Callable[[], str], now: Time, patience: float = 0.0) -> None:
        """`line` says how things stand; nothing is said of work that ends within `patience` seconds."""
        self._console, self._line, self._now = console, line, now
        self._off = _draws(console)
        self._first = self._next = now() + patience
        self._unsaid = False

    def news(self, *, last: bool = False) -> None:
        """Something changed."""
        if self._off:
            return
        self._unsaid = True
        if last or self._now() >= self._next:
            self.close()

    def close(self) -> None:
        """Say what has not been said."""
        now = self._now()
        if self._unsaid and now >= self._first:
            self._unsaid, self._next = False, now + EVERY
            _say(self._console, self._line())


class ProgressBar:
    """Steps done, chosen figures and time left."""

    def __init__(
        self,
        title: str,
        total: int,
        done: int = 0,
        console: Console | None = None,
        *,
        quiet: bool = False,
        now: Time = time.monotonic,
    ) -> None:
        self._console = console or Console(stderr=True, quiet=quiet)
        self._title, self._total, self._done, self._now = title, total, done, now
        self._figures: Sequence[str] = ()
        self._began, self._before = now(), done
        self._lines = _Lines(self._console, self._line, now)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            TimeRemainingColumn(),
            console=self._console,
            disable=not _draws(self._console),
        )
        self._task = self._bar.add_task(title, total=total, completed=done, figures="")

    def advance(self, done: int, figures: Sequence[str] = ()) -> None:
        """Show that `done` of the total are done."""
        self._done, self._figures = done, figures
        self._bar.update(self._task, completed=done, figures=" ".join(figures))
        self._lines.news(last=done == self._total)

    def _line(self) -> str:
        left = [f"{time_words(seconds)} left"] if (seconds := self._seconds_left()) else []
        return ", ".join([" ".join([self._title, f"{self._done}/{self._total}", *self._figures]), *left])

    def _seconds_left(self) -> float:
        """At the pace so far; 0 at the end, and while there is none."""
        done = self._done - self._before
        return (self._now() - self._began) / done * (self._total - self._done) if done > 0 else 0.0

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        _say(self._console, text)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Give the terminal's line to another bar; what happens meanwhile is not of this one's pace."""
        self._bar.stop()
        start = self._now()
        yield
        self._began += self._now() - start
        self._bar.start()

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        self._lines.close()


@contextlib.contextmanager
def waiting(text: str, *, every: float = EVERY, now: Time = time.monotonic) -> Iterator[None]:
    """Around work that says nothing of itself: `text` at once, then how long it takes, by time."""
    done, start, console = threading.Event(), now(), Console(stderr=True)

    def speak() -> None:
        while not done.wait(every):
            _say(console, f"gpg-vl: still at it, {time_words(now() - start)} so far")

    _say(console, f"gpg-vl: {text}")
    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    try:
        yield
    finally:
        done.set()
        speaker.join()


class _Rate(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:,.0f} rows/s")


class RowBar:
    """Rows written and skipped, rows per second and time."""

    def __init__(
        self,
        title: str,
        total: int | None = None,
        console: Console | None = None,
        *,
        now: Time = time.monotonic,
    ) -> None:
        """`total` is None where nobody knows it."""
        console = console or Console(stderr=True)
        self._title, self._total, self._now = title, total, now
        self._written, self._skipped, self._began = 0, 0, now()
        self._lines = _Lines(console, self._line, now, _PATIENCE)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:,} rows{task.fields[skipped]}"),
            _Rate(),
            TimeElapsedColumn(),
            console=console,
            disable=not _draws(console),
        )
        self._task = self._bar.add_task(title, total=total, skipped="")

    def advance(self, written: int, skipped: int) -> None:
        """Show how many rows were written and skipped so far."""
        self._written, self._skipped = written, skipped
        self._bar.update(self._task, completed=written, skipped=self._skipped_words())
        self._lines.news()

    def _skipped_words(self) -> str:
        return f", {self._skipped:,} skipped" if self._skipped else ""

    def _line(self) -> str:
        of = f"/{self._total:,}" if self._total is not None else ""
        seconds = self._now() - self._began
        pace = f", {self._written / seconds:,.0f} rows/s" if seconds > 0 else ""
        return f"{self._title} {self._written:,}{of} rows{self._skipped_words()}{pace}"

    def __enter__(self) -> "RowBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        self._lines.close()
