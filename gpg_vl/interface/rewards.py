"""Rewards as Python has them: functions beside names, weighed in lists and tables."""

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from gpg_vl.errors import ConfigurationError, DataError
from gpg_vl.evaluation.model import Answers
from gpg_vl.registry import SESSION, rewards
from gpg_vl.scoring.gold import GRADERS
from gpg_vl.scoring.scorer import GroupScores, Scorer

RewardFunction = Callable[..., Any]
RewardName = str | RewardFunction
"""A reward's name, `file.py:name`, `module:name`, or the function itself."""
Rewards = RewardName | Sequence[RewardName] | Mapping[Any, Any]
"""One, several of weight 1, or a table of weights or `{"weight": …, option: …}`; `by_task` as in a file."""


def reward_table(given: Rewards) -> dict[str, Any]:
    """The table that a configuration has, with functions by names under which they are found again.

    Raises ConfigurationError for what is no reward, or two functions of one name.
    """
    if isinstance(given, str) or callable(given) or not isinstance(given, Iterable):
        given = [given]
    pairs = list(given.items()) if isinstance(given, Mapping) else [(one, 1.0) for one in given]
    table: dict[str, Any] = {}
    for key, entry in pairs:
        name = _name(key)
        if name in table:
            raise ConfigurationError(
                f"two rewards are called {name!r}: give one of the functions another name"
            )
        table[name] = entry
    if isinstance(routes := table.get("by_task"), Mapping):
        table["by_task"] = {task: reward_table(part) for task, part in routes.items()}
    return table


def _name(key: object) -> str:
    if isinstance(key, str):
        return key
    if not callable(key):
        raise ConfigurationError(f"a reward is a function or a name, got {key!r}")
    name = reference(key)
    rewards.add(name, key)
    return name


def reference(function: RewardFunction) -> str:
    """How a configuration names a function, so that other processes and later commands find it too.

    `file.py:name` for what stands at the top of a file, its announced name for an installed reward; else, as
    in a notebook, a name of this Python session alone.
    """
    plugin = getattr(function, "plugin", None)
    bare = function.func if isinstance(function, functools.partial) else function
    name = getattr(plugin, "name", None) or getattr(bare, "__name__", type(bare).__name__)
    place = f"{getattr(bare, '__module__', '')}:{getattr(bare, '__qualname__', '')}"
    for announced, points in rewards.announced().items():
        if place in [point.value for point in points]:
            return announced
    file = _file_of(function)
    return f"{SESSION}:{name}" if file is None else f"{file}:{name}"


def _file_of(function: RewardFunction) -> Path | None:
    """The file at whose top a function stands; None where nobody else could take it from there."""
    if not inspect.isfunction(function) or "<" in function.__qualname__:  # <locals>, <lambda>
        return None
    file = Path(inspect.getsourcefile(function) or "")
    if file.suffix != ".py" or not file.is_file():
        return None
    here = Path.cwd()
    return Path(os.path.relpath(file, here)) if file.resolve().is_relative_to(here) else file.resolve()


@overload
def score(answers: Answers, rewards: Rewards | None = None) -> GroupScores: ...
@overload
def score(answers: Sequence[Answers], rewards: Rewards | None = None) -> list[GroupScores]: ...
def score(
    answers: Answers | Sequence[Answers], rewards: Rewards | None = None
) -> GroupScores | list[GroupScores]:
    """Score the answers to a question as one group, or those to several.

    rewards: as in training; None is the built-in reward of the answers' type. Returns the unweighted scores
    `by_reward`, their weighted sum `total`, and the rewards that could not grade, `dropped`. Raises DataError
    where there is no gold answer, RewardError if a reward raises.
    """
    groups = [answers] if isinstance(answers, Answers) else _listed(answers)
    for group in groups:
        if not group.sample.answer:
            raise DataError(
                f"no gold answer to {group.sample.question!r} to score by: model.ask(…, answer=…), or "
                "Answers.read(…, answer=…)"
            )
    if rewards is not None:
        scorers = [Scorer(reward_table(rewards))] * len(groups)
    else:
        scorers = [Scorer({GRADERS[group.sample.answer_type]: 1.0}) for group in groups]
    scores = [one.score(group.sample, group) for one, group in zip(scorers, groups, strict=True)]
    return scores[0] if isinstance(answers, Answers) else scores


def _listed(answers: object) -> list[Answers]:
    groups: list[Any] = list(answers) if isinstance(answers, Iterable) else [answers]
    for group in groups:
        if not isinstance(group, Answers):
            raise ConfigurationError(
                "score takes the Answers of model.ask, or of gpg_vl.Answers.read(texts, question=…, "
                f"answer=…), got {group!r:.80}"
            )
    return groups
