"""A run's metrics and evaluations as lines of small panels; nothing of the page."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpg_vl.errors import DataError
from gpg_vl.evaluation.figures import EVALUATED, evaluation_metrics
from gpg_vl.evaluation.own_rewards import SUM
from gpg_vl.report.plots import Panel, Rows, panels_with_values, series
from gpg_vl.runs.files import read_evaluation, read_metrics

METRICS = "metrics.jsonl"
_EVALUATIONS = 1000
"""Whose figures are kept: an evaluation holds every answer, and is read again only when it has changed."""
Stamp = tuple[tuple[str, int, int], ...]
"""Name, nanosecond of change and bytes of each file: equal while nothing was written."""
_HOMES = {"accuracy": "accuracy", SUM: "reward/mean"}
"""The panels of training in which these figures of evaluations are drawn too."""


@dataclass(frozen=True)
class Line:
    """One metric of one run: steps and values, both (n,)."""

    run: str
    steps: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """One panel with the lines of all runs."""

    panel: Panel
    trained: list[Line]
    """A value each step."""
    evaluated: list[Line]
    """A value each evaluation."""


@dataclass(frozen=True)
class Curves:
    """What is there of the runs."""

    curves: list[Curve]
    steps: Mapping[str, int]
    """Each run's last step, 0 before the first, in the order of the runs' colours."""
    problems: list[str]
    """Files that could not be read, in words."""


def other_runs(run: Path) -> list[str]:
    """Names of the run folders beside this one that have metrics, in alphabetical order."""
    beside = run.resolve().parent.glob(f"*/{METRICS}")
    return sorted(path.parent.name for path in beside if path.parent != run.resolve())


def stamp(folders: Mapping[str, Path]) -> Stamp:
    """What changes whenever a run writes a step or an evaluation, or one is deleted."""
    found = []
    for name, folder in folders.items():
        for path in (folder / METRICS, *sorted((folder / "eval").glob("*.json"))):
            if path.is_file():
                stat = path.stat()
                found.append((f"{name}/{path.name}", stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def read_curves(folders: Mapping[str, Path]) -> Curves:
    """The panels that have values; runs by the name to show. A file that cannot be read is a problem."""
    problems: list[str] = []
    trained = {name: _metrics(folder, problems) for name, folder in folders.items()}
    evaluated = {name: _evaluations(folder, problems) for name, folder in folders.items()}
    panels = panels_with_values({name: [*trained[name], *evaluated[name]] for name in folders})
    keys = {panel.key for panel in panels}
    curves = [
        Curve(panel, _lines(trained, panel.key), _lines(evaluated, _evaluated_key(panel.key)))
        for panel in panels
        if _home(panel.key) not in keys
    ]
    steps = {name: rows[-1]["step"] if rows else 0 for name, rows in trained.items()}
    return Curves(curves, steps, problems)


def _metrics(folder: Path, problems: list[str]) -> Rows:
    try:
        return read_metrics(folder)
    except DataError as error:
        problems.append(str(error))
        return []


def _evaluations(folder: Path, problems: list[str]) -> Rows:
    """The figures of each evaluation by step."""
    rows = []
    for path in sorted((folder / "eval").glob("*.json")):
        try:
            stat = path.stat()
            rows.append(_figures(path, stat.st_mtime_ns, stat.st_size))
        except FileNotFoundError:  # deleted since it was listed
            continue
        except DataError as error:
            problems.append(str(error))
    return sorted(rows, key=lambda row: row["step"])


@lru_cache(maxsize=_EVALUATIONS)
def _figures(path: Path, changed: int, size: int) -> Mapping[str, float]:
    """changed, size: of the file, so that what is kept is what lies there."""
    evaluation = read_evaluation(path)
    return {"step": evaluation["step"], **evaluation_metrics(evaluation)}


def _home(key: str) -> str | None:
    """The panel of training that a panel of evaluations is drawn in, if there is one."""
    figure = key.removeprefix(EVALUATED)
    if figure == key:
        return None
    return _HOMES.get(figure, figure if figure.startswith(f"{SUM}/") else None)


def _evaluated_key(key: str) -> str:
    """The figure of evaluations that belongs into a panel."""
    if key.startswith(EVALUATED):
        return key
    return EVALUATED + next((figure for figure, home in _HOMES.items() if home == key), key)


def _lines(runs: Mapping[str, Rows], key: str) -> list[Line]:
    return list(_found(runs, key))


def _found(runs: Mapping[str, Rows], key: str) -> Iterator[Line]:
    for name, rows in runs.items():
        if pairs := series(rows, key):
            steps, values = zip(*pairs, strict=True)
            yield Line(name, np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64))
