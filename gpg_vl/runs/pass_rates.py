"""Pass rates by whose they are: what a model's record is called, and what a run's own rollouts saw."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gpg_vl.data.difficulty import PassRate
from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.errors import ConfigurationError, DataError, UnknownNameError
from gpg_vl.registry import rewards
from gpg_vl.runs.files import RIGHT
from gpg_vl.runs.resume import step_of

_COLUMNS = ["prompt_id", "task", "gold", "rewards"]
_Question = tuple[str, str, str]
"""Id, task and gold answer: several sets may use the same ids."""


def model_step(model: str) -> int:
    """The step of a run's checkpoint, of which `model` is the folder of weights; 0 for any other model."""
    return step_of(Path(model).absolute().parent) or 0


def record_name(model: str) -> str:
    """What a model's record is called unless it is said: RUN_step_NNNNNN of a checkpoint, else its folder."""
    path = Path(model).absolute()
    if model_step(model):
        return f"{path.parents[2].name}_{path.parent.name}"
    return path.name


def rollout_rates(run: Path, folder: str, reward: str | None = None) -> dict[str, PassRate]:
    """How a run answered the questions of a prepared set, by id: in the last step that asked each.

    reward: the one that says what is right, from a score of 0.5 on; None is the run's only one of kind
    correctness. Raises DataError for a folder without rollouts, a damaged file, or a run that asked none of
    the set's questions; ConfigurationError where nothing says which reward it is.
    """
    files = sorted((run / "rollouts").glob("step_*.parquet"))
    if not files:
        raise DataError(f"{str(run)!r} has no rollouts/step_*.parquet: name a run folder of `gpg-vl train`")
    last: dict[_Question, PassRate] = {}
    for file in files:
        last |= _step_rates(file, reward)
    if not last:
        raise DataError(f"no answer in {str(run / 'rollouts')!r} was graded by the reward {reward!r}")
    data = PreparedDataset.open([folder])
    columns = [data.column(name) for name in ("id", "task", "answer")]
    found = {one[0]: last[one] for one in zip(*columns, strict=True) if one in last}
    if not found:
        raise DataError(
            f"none of the {len(last):,} questions that {str(run)!r} asked is in {folder!r}: name the folder "
            "that it was trained on, its data.train"
        )
    return found


def _step_rates(file: Path, reward: str | None) -> dict[_Question, PassRate]:
    """Of the questions of one step; a question that came twice has the answers of both groups."""
    right: Counter[_Question] = Counter()
    asked: Counter[_Question] = Counter()
    for row in _rows(file):
        score = _score(row["rewards"], reward)
        if score is not None:
            question = (row["prompt_id"], row["task"], row["gold"])
            asked[question] += 1
            right[question] += score >= RIGHT
    step = step_of(file.with_suffix("")) or 0
    return {one: PassRate(right[one], count, step) for one, count in asked.items()}


def _rows(file: Path) -> Iterable[dict[str, Any]]:
    try:
        rows = pq.read_table(file, columns=_COLUMNS, partitioning=None).to_pylist()
        return [{**row, "rewards": dict(json.loads(row["rewards"]))} for row in rows]
    except (OSError, pa.ArrowException, LookupError, TypeError, ValueError) as error:
        raise DataError(f"{str(file)!r} holds no rollouts, or is damaged: {error}") from error


def _score(scores: Mapping[str, float | None], reward: str | None) -> float | None:
    """What an answer has by the reward that says what is right; None where that did not grade it."""
    if reward is None:
        return scores[_correctness(tuple(scores))] if scores else None
    return scores.get(reward)


@cache
def _correctness(names: tuple[str, ...]) -> str:
    """The only one of these rewards that says what is right."""
    try:
        judging = [name for name in names if rewards.get(name).kind == "correctness"]
    except (ConfigurationError, UnknownNameError) as error:
        raise ConfigurationError(f"{error}; --reward says which reward tells what is right") from error
    if len(judging) != 1:
        raise ConfigurationError(
            f"{len(judging)} of the run's rewards ({', '.join(names)}) say what is right: name the one to go "
            "by with --reward"
        )
    return judging[0]
