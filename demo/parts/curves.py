"""A run's metrics as tables that plots draw; nothing of the page."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from gpg_vl.report.plots import Panel, Rows, panels_with_values, series, smooth
from gpg_vl.runs.files import read_metrics

METRICS = "metrics.jsonl"
Stamp = tuple[tuple[str, int, int], ...]
"""Name, nanosecond of change and bytes of each file: equal while nothing was written."""


@dataclass(frozen=True)
class Curve:
    """One panel with the points of all runs."""

    panel: Panel
    points: pd.DataFrame
    """Columns step, value and run."""


def other_runs(run: Path) -> list[str]:
    """Names of the run folders beside this one that have metrics, in alphabetical order."""
    beside = run.resolve().parent.glob(f"*/{METRICS}")
    return sorted(path.parent.name for path in beside if path.parent != run.resolve())


def stamp(folders: Mapping[str, Path]) -> Stamp:
    """What changes whenever a run writes a step."""
    files = [(name, folder / METRICS) for name, folder in folders.items()]
    found = [(name, path.stat()) for name, path in files if path.is_file()]
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in found)


def read_curves(folders: Mapping[str, Path], *, smoothed: bool) -> tuple[list[Curve], dict[str, int]]:
    """The panels that have values, and each run's last step; runs by the name to show.

    smoothed: moving averages over a tenth of the steps instead of each step. A run without metrics is left
    out. Raises DataError for a file that holds something else.
    """
    read = {name: read_metrics(folder) for name, folder in folders.items()}
    runs = {name: rows for name, rows in read.items() if rows}
    curves = [Curve(panel, _points(runs, panel, smoothed)) for panel in panels_with_values(runs)]
    return curves, {name: rows[-1]["step"] for name, rows in runs.items()}


def _points(runs: Mapping[str, Rows], panel: Panel, smoothed: bool) -> pd.DataFrame:
    parts = []
    for name, rows in runs.items():
        found = series(rows, panel.key)
        if found:
            steps, values = zip(*found, strict=True)
            shown = smooth(np.asarray(values, dtype=np.float64)) if smoothed else values
            parts.append(pd.DataFrame({"step": steps, "value": shown, "run": name}))
    return pd.concat(parts, ignore_index=True)
