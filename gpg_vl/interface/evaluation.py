"""Evaluations and comparisons in Python: figures with their intervals, and tables that print."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from gpg_vl.checks import known_options
from gpg_vl.evaluation import compare as comparing
from gpg_vl.evaluation.evaluate import write_evaluation
from gpg_vl.evaluation.evaluate_model import evaluate_model
from gpg_vl.evaluation.figures import evaluation_table
from gpg_vl.evaluation.model import Model
from gpg_vl.evaluation.own_rewards import OFF, ON
from gpg_vl.evaluation.settings import EvalSettings
from gpg_vl.interface.data import RUNS, STORE, Rows, folders
from gpg_vl.interface.rewards import reward_table
from gpg_vl.runs.files import read_evaluation
from gpg_vl.runs.files import score as score_of
from gpg_vl.runtime.parallel import joined
from gpg_vl.stats import Interval

_OPTIONS = [field.name for field in fields(EvalSettings) if field.name not in ("model", "benchmark")]


class Evaluation:
    """A model's answers to a benchmark, graded; prints as the benchmark's table."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        """As in the JSON file: docs/evaluation.md."""

    @property
    def accuracy(self) -> Interval:
        """Share of right answers with its 95 % interval."""
        return self["accuracy"]

    def __getitem__(self, name: str) -> Interval:
        """One of the totals, such as "format", "pass@4", "reward" (the weighted sum) or "reward/NAME".

        Raises KeyError with the known ones.
        """
        found = score_of(self.values["totals"], name) if name != "chance" else None
        if found is None:
            raise KeyError(f"{name!r} is none of the totals: {', '.join(self.values['totals'])}")
        return found

    @property
    def tasks(self) -> dict[str, Interval]:
        """Accuracy by task."""
        return {task: Interval(**figures["accuracy"]) for task, figures in self.values["tasks"].items()}

    @property
    def items(self) -> pd.DataFrame:
        """One row a question: gold answer, output, scores."""
        return pd.DataFrame(self.values["items"])

    def save(self, file: str | Path) -> Path:
        """Write what `gpg-vl compare`, the report and the app read."""
        write_evaluation(Path(file), self.values)
        return Path(file)

    def __str__(self) -> str:
        return evaluation_table(dict(self.values))

    def __repr__(self) -> str:
        mean, step = self.accuracy, self.values["step"]  # in a run the model is the one it began with
        return f"Evaluation({self.values['model']!r}, step {step}: {mean.mean:.1%} of {mean.count})"


class Comparison:
    """Two evaluations of the same questions; prints as the table of `gpg-vl compare`."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    @property
    def difference(self) -> Interval:
        """Paired change in accuracy, with its 95 % interval."""
        return Interval(**self.values["total"]["difference"])

    @property
    def p(self) -> float | None:
        """McNemar's test of no change; None where answers are not right or wrong."""
        return self.values["total"]["mcnemar_p"]

    @property
    def fixed(self) -> list[str]:
        """Ids of the questions that became right."""
        return list(self.values["total"]["fixed"])

    @property
    def broken(self) -> list[str]:
        """Ids of the questions that became wrong."""
        return list(self.values["total"]["broken"])

    def __str__(self) -> str:
        return comparing.comparison_table(self.values)

    def __repr__(self) -> str:
        change = self.difference
        return f"Comparison({100 * change.mean:+.1f} points of {change.count})"


def evaluate(model: Model | str | Path, benchmark: str | Path | Rows, **options: Any) -> Evaluation:
    """Evaluate a model on a benchmark by name, a prepared folder, or rows.

    options: those of `gpg-vl eval`, such as samples=4, limit=100 or out="eval.json"; `rewards` may be
    functions too. Each process of a launch gets the result. Raises a UserError for what the user can mend.
    """
    known_options(options, _OPTIONS, "option of evaluate")
    given = str(benchmark) if isinstance(benchmark, str | Path) else folders(benchmark, Path(RUNS, STORE))[0]
    path = model.path if isinstance(model, Model) else str(model)
    loaded = model if isinstance(model, Model) else None
    if not _switches(options.get("rewards", "")):
        options["rewards"] = reward_table(options["rewards"])
    values = joined().gather([evaluate_model(EvalSettings(path, given, **options), loaded)])[0]
    return Evaluation(json.loads(json.dumps(values)))  # as from a file: lists, no tuples


def _switches(given: Any) -> bool:
    """Whether `rewards` is a word or file of the command line, and no reward."""
    return isinstance(given, str) and (given in ("", ON, OFF) or given.endswith((".yaml", ".yml")))


def compare(before: Evaluation | str | Path, after: Evaluation | str | Path) -> Comparison:
    """The paired difference of two evaluations, or of files that `gpg-vl eval --out` wrote.

    Raises DataError unless both are over the same questions.
    """
    first, second = (
        one.values if isinstance(one, Evaluation) else read_evaluation(Path(one)) for one in (before, after)
    )
    return Comparison(comparing.compare(dict(first), dict(second)))
