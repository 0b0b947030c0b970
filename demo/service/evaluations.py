"""Two evaluations side by side: which there are, their comparison, and the questions that changed."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from gpg_vl.errors import DataError
from gpg_vl.evaluation.compare import Pair, compare
from gpg_vl.report.plots import task_bars
from gpg_vl.report.samples import outcome
from gpg_vl.runs.files import Evaluation, paired_items, read_evaluation, score
from gpg_vl.stats import Interval
from gpg_vl.theme import DARK, LIGHT

ALL = "All"
OUTCOMES = (ALL, "Fixed", "Broken", "Both right", "Still wrong")
COLUMNS = ("Outcome", "Task", "Question", "Gold", "Base", "Trained", "Id")
_SHOWN = 300
"""Characters of a cell."""
_WIDTH = 4.6
"""Inches of the figure: its text is then readable on a phone too."""


@dataclass(frozen=True)
class Comparison:
    """Two evaluations of the same questions."""

    base: Evaluation
    trained: Evaluation
    pairs: Sequence[Pair]
    result: Mapping[str, Any]
    """What `gpg_vl.evaluation.compare.compare` found."""

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks in alphabetical order."""
        return list(self.result["tasks"])


def offered(run: Path) -> dict[str, Path]:
    """The evaluations of a run folder by the name to show, in the order of their steps.

    Without any in `run/eval`, those that lie in the folder itself, as `gpg-vl eval --out` may have put them.
    """
    stored = sorted((run / "eval").glob("*.json"))
    return {path.stem: path for path in stored or sorted(filter(_is_evaluation, run.glob("*.json")))}


def _is_evaluation(path: Path) -> bool:
    try:
        read_evaluation(path)
    except DataError:
        return False
    return True


def load(base: Path, trained: Path) -> Comparison:
    """Read and compare two files.

    Raises DataError for a file that is no evaluation, and if they are not over the same questions.
    """
    return _load(base, trained, base.stat().st_mtime_ns, trained.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _load(base: Path, trained: Path, *_: int) -> Comparison:
    """Kept until a file changes: a filter or a click needs both again."""
    before, after = read_evaluation(base), read_evaluation(trained)
    result = compare(before, after)
    return Comparison(before, after, paired_items(before, after), result)


def select(pairs: Sequence[Pair], *, kind: str = ALL, task: str = ALL, text: str = "") -> list[Pair]:
    """The pairs of an outcome and a task whose question, choices, answers or id hold `text` in any case."""
    wanted = text.strip().casefold()
    return [
        pair
        for pair in pairs
        if kind in (ALL, outcome(*pair)) and task in (ALL, pair[1]["task"]) and wanted in _searched(pair)
    ]


def _searched(pair: Pair) -> str:
    base, trained = pair
    question = (trained["id"], trained["question"], *trained["choices"], trained["gold"])
    return "\n".join((*question, base["output"], trained["output"])).casefold()


def rows(pairs: Sequence[Pair]) -> list[list[str]]:
    """The cells under COLUMNS."""
    return [
        [
            outcome(base, trained),
            trained["task"],
            trained["question"][:_SHOWN],
            trained["gold"][:_SHOWN],
            _answer(base["answer"]),
            _answer(trained["answer"]),
            trained["id"],
        ]
        for base, trained in pairs
    ]


def _answer(answer: str | None) -> str:
    return "–" if answer is None else answer[:_SHOWN]


def headline(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The paired test over all questions in four figures, each with what it is."""
    total = result["total"]
    difference, p = total["difference"], total["mcnemar_p"]
    low, high = (f"{100 * difference[end]:+.1f}" for end in ("low", "high"))
    return [
        (f"{total['before']:.1%} → {total['after']:.1%}", f"accuracy on {total['count']:,} questions"),
        (f"{100 * difference['mean']:+.1f} points", f"paired difference, 95 % interval {low} to {high}"),
        (f"{len(total['fixed'])} / {len(total['broken'])}", "questions fixed / broken"),
        ("–" if p is None else f"{p:.2g}", "p of McNemar's test" + (", not for graded scores" * (p is None))),
    ]


def bars(base: Evaluation, trained: Evaluation) -> tuple[bytes, bytes]:
    """The accuracies per task as PNG, for light and for dark pages. Raises DataError if there are none."""
    models = {"Base": _accuracies(base), "Trained": _accuracies(trained)}
    chance = {task: table["chance"] for task, table in trained["tasks"].items() if table.get("chance")}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bars.png"
        light, dark = (
            task_bars(models, path, chance=chance, theme=theme, width=_WIDTH).read_bytes()
            for theme in (LIGHT, DARK)
        )
    return light, dark


def _accuracies(evaluation: Evaluation) -> dict[str, Interval]:
    found = {task: score(table, "accuracy") for task, table in evaluation["tasks"].items()}
    return {task: interval for task, interval in found.items() if interval is not None}
