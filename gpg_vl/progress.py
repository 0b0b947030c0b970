"""A bar for work of unknown length."""

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Task as RichTask
from rich.text import Text


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
