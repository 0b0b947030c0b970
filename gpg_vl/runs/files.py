"""Reading a run folder's metrics and evaluations; no torch, no plotting."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpg_vl.errors import DataError
from gpg_vl.runtime.files import unsealed
from gpg_vl.stats import Interval

Metrics = dict[str, Any]
"""One step of metrics.jsonl."""
Evaluation = dict[str, Any]
"""One file of eval/: step, model, data, chance, totals, tasks, items."""
Item = dict[str, Any]
"""One question of an evaluation with the model's answer."""

_EVALUATION_KEYS = ("step", "totals", "tasks", "items")
RIGHT = 0.5
"""The least score of an answer that counts as right: of boxes, the overlap."""


@dataclass(frozen=True)
class RunRecord:
    """What a run folder says about the run; at least one of the two lists is not empty."""

    name: str
    metrics: list[Metrics]
    """By step; a step that was trained again after a resume counts once, as it went last."""
    cut_lines: int
    """Half-written last lines of metrics.jsonl that were skipped: 0, or 1 for a killed run."""
    evaluations: list[Evaluation]
    """By step: the first is the base model's, the last the trained one's."""


def read_run(run: Path) -> RunRecord:
    """Read both; raises DataError if the folder has neither metrics nor evaluations."""
    metrics, cut_lines = _parse_metrics(run / "metrics.jsonl")
    evaluations = read_evaluations(run)
    if not metrics and not evaluations:
        raise DataError(
            f"{run} holds neither metrics (metrics.jsonl) nor evaluations (eval/*.json): "
            "name a run folder written by `gpg-vl train`"
        )
    return RunRecord(run.resolve().name, metrics, cut_lines, evaluations)


def read_metrics(run: Path) -> list[Metrics]:
    """The steps of `run/metrics.jsonl` by step; empty without the file.

    A half-written last line, which a killed run leaves, is skipped (`read_run` counts it). Raises
    DataError, with the line's number, for any other line that is no JSON object with a step.
    """
    return _parse_metrics(run / "metrics.jsonl")[0]


def read_evaluations(run: Path) -> list[Evaluation]:
    """The evaluations in `run/eval/*.json` by step; empty without any.

    Raises DataError for a file that is no evaluation.
    """
    evaluations = [read_evaluation(path) for path in sorted((run / "eval").glob("*.json"))]
    return sorted(evaluations, key=lambda evaluation: evaluation["step"])


def read_evaluation(path: Path) -> Evaluation:
    """One evaluation; raises DataError for a file that is missing, no JSON, none, or damaged."""
    try:
        evaluation = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}; remove it or evaluate again") from error
    if not isinstance(evaluation, dict):
        raise DataError(f"{path} is not an evaluation: it is no JSON object")
    missing = [key for key in _EVALUATION_KEYS if key not in evaluation]
    if missing:
        raise DataError(f"{path} is not an evaluation: it lacks {', '.join(missing)}")
    return unsealed(evaluation, path)


def paired_items(base: Evaluation, trained: Evaluation) -> list[tuple[Item, Item]]:
    """The questions that are in both evaluations, matched by id, in the order of `trained`."""
    known = {item["id"]: item for item in base["items"]}
    return [(known[item["id"]], item) for item in trained["items"] if item["id"] in known]


def answers_of(item: Item) -> list[Item]:
    """Each answer to a question, with `output`, `answer`, `correct` and what else was graded: those of
    `gpg-vl eval --samples`, whose item holds their means alone, else the item itself."""
    return item.get("samples") or [item]


def is_right(item: Item) -> bool:
    """Whether the answer counts as right; graded scores, such as the overlap of boxes, from a half on."""
    return bool(item["correct"] >= RIGHT)


def score(table: Mapping[str, Any], name: str) -> Interval | None:
    """The score `name` of an evaluation's totals or of one of its tasks; None if it is missing, or if
    nothing could be graded."""
    entry = table.get(name)
    if entry is None or entry["mean"] is None:
        return None
    return Interval(entry["mean"], entry["low"], entry["high"], entry["count"])


def _parse_metrics(path: Path) -> tuple[list[Metrics], int]:
    """The steps and the number of half-written last lines skipped."""
    if not path.exists():
        return [], 0
    # A killed run can cut within a character as well.
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    lines = text.rstrip("\n").split("\n")
    steps: dict[int, Metrics] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if number == len(lines) and _is_cut(line):
            return _by_step(steps), 1
        row = step_of(line, number, path)
        steps[row["step"]] = row
    return _by_step(steps), 0


def step_of(line: str, number: int, path: Path) -> Metrics:
    """One line of metrics.jsonl. Raises DataError, with the line's number, if it is no step."""
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}, line {number} is not JSON: {error}") from error
    if not isinstance(row, dict) or not isinstance(row.get("step"), int):
        raise DataError(f"{path}, line {number} is not a JSON object with a whole `step`")
    wrong = [key for key, value in row.items() if not isinstance(value, int | float)]
    if wrong:
        raise DataError(f"{path}, line {number}: {wrong[0]} is no number")
    return row


def _is_cut(line: str) -> bool:
    try:
        json.loads(line)
    except json.JSONDecodeError:
        return True
    return False


def _by_step(steps: Mapping[int, Metrics]) -> list[Metrics]:
    return [steps[step] for step in sorted(steps)]
