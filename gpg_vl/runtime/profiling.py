"""Where the time of a few steps goes: a table by phase and a Chrome trace."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from gpg_vl.runtime.files import write_whole
from gpg_vl.tables import markdown_table

TABLE = "phases.md"
TRACE = "trace.json.gz"
_PREFIX = "gpg_vl."
_STEP = ("step",)
"""Tells our ranges from torch's own."""


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """A range of the trace and a line of the table, where a run is profiled; as `with` or as decorator."""
    with record_function(_PREFIX + name):
        yield


class Profiler:
    """Watches the steps behind the first, which warms up, and writes what they took into a folder.

    Wall-clock time of the calling thread: on a GPU, whose work goes on behind it, the kernels' own times are
    in the trace.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        """`steps` is how many are watched; 0 switches it off."""
        self._folder = folder
        self._torch: Any = None
        if steps:
            activities = [ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(ProfilerActivity.CUDA)
            plan = schedule(wait=0, warmup=1, active=steps, repeat=1)
            # acc_events: torch 2.11 warns without it, though one cycle is all there is
            self._torch = profile(
                activities=activities, schedule=plan, on_trace_ready=self._write, acc_events=True
            )

    def __enter__(self) -> "Profiler":
        if self._torch is not None:
            self._torch.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._torch is not None:
            self._torch.stop()

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Around every step of the run."""
        with phase("step"):
            yield
        if self._torch is not None:
            self._torch.step()

    def _write(self, watched: Any) -> None:
        # A GPU's ranges carry the same names: their kernels' times would be added to the phases' own
        events = [event for event in watched.events() if event.device_type == DeviceType.CPU]
        if not any(event.name == _PREFIX + _STEP[0] for event in events):
            return  # the run ended before a step that is watched
        self._folder.mkdir(exist_ok=True)
        write_whole(self._folder / TABLE, f"{phase_table(events)}\n\n{_legend(events)}\n")
        watched.export_chrome_trace(str(self._folder / TRACE))
        print(f"profile: {self._folder / TABLE}, {self._folder / TRACE}")


@dataclass
class _Spent:
    calls: int = 0
    seconds: float = 0.0


def phase_table(events: Iterable[Any]) -> str:
    """Markdown: calls and seconds a step and share of the step, a line for each phase within its outer ones,
    in the order of their first calls.

    `events` are those of torch's profiler; at least one step is among them.
    """
    spent: dict[tuple[str, ...], _Spent] = {}
    for event in sorted(events, key=lambda event: event.time_range.start):
        path = _path(event) if event.name.startswith(_PREFIX) else ()
        if path[:1] == _STEP:  # saving and evaluating stand outside
            own = spent.setdefault(path, _Spent())
            own.calls += 1
            own.seconds += event.time_range.elapsed_us() / 1e6
    whole = spent[_STEP]
    order = {path: place for place, path in enumerate(spent)}
    in_order = sorted(spent, key=lambda path: [order[path[: end + 1]] for end in range(len(path))])
    rows = [
        [
            "· " * (len(path) - 1) + path[-1],
            f"{spent[path].calls / whole.calls:g}",
            f"{spent[path].seconds / whole.calls:.4f}",
            f"{spent[path].seconds / whole.seconds:.1%}",
        ]
        for path in in_order
    ]
    return markdown_table(["phase", "calls a step", "seconds a step", "share"], rows)


def _legend(events: Iterable[Any]) -> str:
    names = [event.name.removeprefix(_PREFIX) for event in events if event.name.startswith(_PREFIX)]
    steps, optimized = names.count("step"), names.count("optimizer")
    return (
        f"Means of {steps} steps behind the first, with {optimized} optimizer steps; seconds of the main "
        "thread, watching included. `questions` and `rewards` are what was waited for; what no line names is "
        "bookkeeping."
    )


def _path(event: Any) -> tuple[str, ...]:
    """Names of the phases around an event, outermost first, and its own."""
    names: list[str] = []
    while event is not None:
        if event.name.startswith(_PREFIX):
            names.insert(0, event.name.removeprefix(_PREFIX))
        event = event.cpu_parent
    return tuple(names)
