"""Pass rates by whose they are: what a model's record is called, and what a run's own rollouts saw."""

import json
import os
from collections import Counter
from collections.abc import Container, Iterable, Mapping
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
from gpg_vl.runs.trained_on import prepared_anew
from gpg_vl.yaml_file import read_yaml

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
    correctness. Raises DataError for a folder without rollouts, a damaged file, a set that was prepared anew
    since, or a run that asked none of its questions; ConfigurationError where nothing says which reward it
    is.
    """
    files = sorted((run / "rollouts").glob("step_*.parquet"))
    if not files:
        raise DataError(f"{str(run)!r} has no rollouts/step_*.parquet: name a run folder of `gpg-vl train`")
    if prepared_anew(run, [folder]):  # ids may be the same, such as a file's lines, and so may answers
        raise DataError(
            f"{folder!r} was prepared anew since {str(run)!r} was trained on it: its answers are to other "
            "rows. Ask a model with --model instead"
        )
    wanted = _questions(folder) - _elsewhere(run, folder)
    last: dict[_Question, PassRate] = {}
    asked = False
    for file in files:
        rows = _rows(file, wanted)
        asked = asked or bool(rows)
        last |= _step_rates(step_of(file.with_suffix("")) or 0, rows, reward)
    if not asked:
        raise DataError(
            f"{str(run)!r} asked none of the questions in {folder!r}: name a folder that it was trained on, "
            "one of its data.train"
        )
    if not last:
        raise DataError(f"no answer in {str(run / 'rollouts')!r} was graded by the reward {reward!r}")
    return {id: rate for (id, _, _), rate in last.items()}


def _questions(folder: str) -> set[_Question]:
    data = PreparedDataset.open([folder])
    return set(zip(*(data.column(name) for name in ("id", "task", "answer")), strict=True))


def _elsewhere(run: Path, folder: str) -> set[_Question]:
    """Questions of the other sets that the run was trained on, where `folder` is one of several: rollouts do
    not say which set a question was from, so what looks alike in two is nobody's."""
    config = run / "config.yaml"
    sets = (read_yaml(config).get("data") or {}).get("train") or [] if config.is_file() else []
    others = [one for one in sets if os.path.realpath(one) != os.path.realpath(folder)]
    if len(others) == len(sets):
        return set()
    return set().union(*(_questions(one) for one in others if os.path.isdir(one)))


def _step_rates(
    step: int, rows: Iterable[Mapping[str, Any]], reward: str | None
) -> dict[_Question, PassRate]:
    """Of the questions of one step; a question that came twice has the answers of both groups."""
    right: Counter[_Question] = Counter()
    graded: Counter[_Question] = Counter()
    for row in rows:
        score = _score(row["rewards"], reward)
        if score is not None:
            graded[_question(row)] += 1
            right[_question(row)] += score >= RIGHT
    return {one: PassRate(right[one], count, step) for one, count in graded.items()}


def _question(row: Mapping[str, Any]) -> _Question:
    return row["prompt_id"], row["task"], row["gold"]


def _rows(file: Path, wanted: Container[_Question]) -> list[dict[str, Any]]:
    """The answers to wanted questions in a step's file, scores by reward."""
    try:
        rows = pq.read_table(file, columns=_COLUMNS, partitioning=None).to_pylist()
        return [
            {**row, "rewards": dict(json.loads(row["rewards"]))} for row in rows if _question(row) in wanted
        ]
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
