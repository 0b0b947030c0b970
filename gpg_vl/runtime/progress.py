"""Progress bars: for steps, and for work of unknown length."""

import contextlib
from collections.abc import Iterator, Sequence

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


class ProgressBar:
    """Steps done, chosen figures and time left; plain lines where there is no terminal."""

    def __init__(
        self, title: str, total: int, done: int = 0, console: Console | None = None, *, quiet: bool = False
    ) -> None:
        self._console = console or Console(stderr=True, quiet=quiet)
        self._title, self._total = title, total
        self._tenths = done // max(1, total // 10)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=total, completed=done, figures="")

    def advance(self, done: int, figures: Sequence[str] = ()) -> None:
        """Show that `done` of the total are done."""
        self._bar.update(self._task, completed=done, figures=" ".join(figures))
        tenths = done // max(1, self._total // 10)
        if not self._console.is_terminal and (done == self._total or tenths > self._tenths):
            self.say(" ".join([self._title, f"{done}/{self._total}", *figures]))
        self._tenths = tenths

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Give the terminal's line to another bar."""
        self._bar.stop()
        yield
        self._bar.start()

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


class _Rate(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:,.0f} rows/s")


class RowBar:
    """Rows written and skipped, rows per second and time; nothing where there is no terminal."""

    def __init__(self, title: str, total: int | None = None, console: Console | None = None) -> None:
        """`total` is None where nobody knows it."""
        console = console or Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:,} rows{task.fields[skipped]}"),
            _Rate(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=total, skipped="")

    def advance(self, written: int, skipped: int) -> None:
        """Show how many rows were written and skipped so far."""
        text = f", {skipped:,} skipped" if skipped else ""
        self._bar.update(self._task, completed=written, skipped=text)

    def __enter__(self) -> "RowBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
