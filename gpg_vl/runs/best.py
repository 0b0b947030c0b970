"""Which model of a run is the best so far, by a figure of its evaluations; the one before training counts."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpg_vl.errors import CheckpointError
from gpg_vl.runs.files import Evaluation, read_evaluation, read_metrics, score
from gpg_vl.runs.resume import checkpoint_name, step_of
from gpg_vl.runtime.files import write_whole
from gpg_vl.tables import short_number

_BEST = "best.json"
_SHARES = ("accuracy", "format")
"""Figures that are shown as per cent."""


@dataclass(frozen=True)
class Best:
    """The best of some evaluations; the earlier one of two that are equal."""

    step: int
    by: str
    """The figure of the evaluation's totals that it is best by."""
    value: float


def read_best(checkpoints: Path) -> Best | None:
    """What best.json says; None if nothing was chosen. Earlier versions wrote the accuracy alone.

    Raises CheckpointError for a file that does not say so.
    """
    file = checkpoints / _BEST
    if not file.is_file():
        return None
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        by, step = str(values.get("by", "accuracy")), step_of(Path(values["checkpoint"]))
        if step is None:
            raise ValueError(f"{values['checkpoint']!r} is no checkpoint's name")
        return Best(step, by, float(values["value" if "value" in values else by]))
    except (OSError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"{str(file)!r} is damaged: {error}; remove it to choose anew") from error


def note_best(checkpoints: Path, evaluation: Evaluation, by: str) -> None:
    """Remember the evaluated model if it is better by the figure `by` than the best so far, which loses its
    protection. One that nothing could be graded of is not."""
    before, now = read_best(checkpoints), _figure(evaluation, by)
    if now is not None and (before is None or now.value > before.value):
        _write(checkpoints, now)


def choose_best(run: Path, checkpoints: Path, by: str, step: int) -> None:
    """Choose anew as a run begins or goes on at `step`: the figure may be another than before, the last
    evaluation not noted yet, or the best checkpoint gone."""
    best = find_best(run, checkpoints, by, step)
    if best is not None:
        _write(checkpoints, best)
    else:
        (checkpoints / _BEST).unlink(missing_ok=True)


def find_best(run: Path, checkpoints: Path, by: str, step: int | None = None) -> Best | None:
    """The best of a run's evaluations, up to `step` if it is given, whose models are still there; None
    without any.

    The model before training is one of them. Raises DataError for a file that is no evaluation.
    """
    return _best_and_start(run, checkpoints, by, step)[0]


def _best_and_start(run: Path, checkpoints: Path, by: str, step: int | None) -> tuple[Best | None, int]:
    """`find_best`, and the step that the run started from."""
    figures = [one for one in _figures(run, by) if step is None or one.step <= step]
    start = first_step(run, max((one.step for one in figures), default=0) if step is None else step)
    there = [
        one for one in figures if one.step == start or (checkpoints / checkpoint_name(one.step)).is_dir()
    ]
    return max(there, key=lambda one: (one.value, -one.step), default=None), start


def first_step(run: Path, step: int) -> int:
    """The step that a run now at `step` started from: 0, or that of another run's checkpoint."""
    metrics = read_metrics(run)
    return int(metrics[0]["step"]) - 1 if metrics else step


def best_words(run: Path, checkpoints: Path, by: str, base: str) -> str:
    """The best model with its figure and path, in a line; empty if nothing was evaluated.

    base: the model before training, a folder or hub id.
    """
    best, start = _best_and_start(run, checkpoints, by, None)
    if best is None:
        return ""
    value = f"{best.value:.1%}" if by in _SHARES else short_number(best.value)
    which, path = "", f": {checkpoints / checkpoint_name(best.step) / 'model'}"
    if best.step == start:
        which = ", the model before training" if best.step == 0 else ", the checkpoint that it went on from"
        path = f": {base}" if best.step == 0 else ""
    return f"best: step {best.step}{which} ({by} {value}){path}"


def _figures(run: Path, by: str) -> Iterator[Best]:
    """The figure of each evaluation that has it; one file in memory at a time."""
    for path in sorted((run / "eval").glob("*.json")):
        figure = _figure(read_evaluation(path), by)
        if figure is not None:
            yield figure


def _figure(evaluation: Evaluation, by: str) -> Best | None:
    interval = score(evaluation["totals"], by)
    return None if interval is None else Best(evaluation["step"], by, interval.mean)


def _write(checkpoints: Path, best: Best) -> None:
    values = {"checkpoint": checkpoint_name(best.step), "by": best.by, "value": best.value}
    checkpoints.mkdir(parents=True, exist_ok=True)
    write_whole(checkpoints / _BEST, json.dumps(values))
