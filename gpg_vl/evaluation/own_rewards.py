"""A run's own rewards beside the benchmark's grading: which they are, and what answers score by them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpg_vl.config import expanded_rewards
from gpg_vl.errors import ConfigurationError, UnknownNameError
from gpg_vl.prompting.card import CARD
from gpg_vl.scoring.scorer import GroupScores, Scorer
from gpg_vl.scoring.weighted import WEIGHTED_SUM
from gpg_vl.yaml_file import read_yaml

if TYPE_CHECKING:
    from gpg_vl.rollout.answering import Answered  # imports torch

ON, OFF = "on", "off"
SUM = "reward"
"""The weighted sum, among figures and in items."""
PREFIX = f"{SUM}/"
"""Before a reward's name among figures."""
_EXAMPLE = '{"choice": 1.0}'


def given_rewards(given: Mapping[str, Any] | str) -> Mapping[str, Any] | None:
    """The table of rewards that `--rewards` gives; None for `on` and `off`.

    A file holds the table, or a configuration with it as `rewards`. Raises ConfigurationError for anything
    else.
    """
    if not isinstance(given, str):
        return expanded_rewards(given)
    if given in (ON, OFF):
        return None
    if not given.endswith((".yaml", ".yml")):
        raise ConfigurationError(
            f"--rewards is {ON}, {OFF}, a table such as {_EXAMPLE!r} or a YAML file that holds one, "
            f"got {given!r}"
        )
    values = read_yaml(given)
    return expanded_rewards(_as_table(values.get("rewards", values), given))


def _as_table(value: Any, file: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not value:
        raise ConfigurationError(f"{file!r}: rewards must be a table such as {_EXAMPLE}, got {value!r}")
    return value


def own_rewards(given: Mapping[str, Any] | str, card: Mapping[str, Any], model: str) -> tuple[Any, str]:
    """The table to evaluate by, and why there is none though the checkpoint at `model` has one.

    The table is the one given, or else the checkpoint's own; None where rewards are off, the model has none,
    or its own cannot be had: they may live in a file that is gone. Raises UnknownNameError or
    ConfigurationError for a given one that cannot.
    """
    table = given_rewards(given)
    if table is not None:
        Scorer(table)
        return table, ""
    if given != ON or card.get("rewards") is None:
        return None, ""
    file = str(Path(model) / CARD)
    try:
        table = _as_table(card["rewards"], file)
        Scorer(table)
    except (ConfigurationError, UnknownNameError) as error:
        return None, (
            f"warning: rewards of {file!r} cannot be had: {error}. Going on with the benchmark's grading; "
            "--rewards FILE.yaml names others, --rewards off none"
        )
    return table, ""


def reward_names(totals: Mapping[str, Any]) -> list[str]:
    """The figures of a run's own rewards among an evaluation's totals: the weighted sum, then by name."""
    return [name for name in totals if name == SUM or name.startswith(PREFIX)]


def reward_title(figure: str) -> str:
    """What a figure of `reward_names` is called in tables."""
    return WEIGHTED_SUM if figure == SUM else figure.removeprefix(PREFIX)


def own_score(answer: Mapping[str, Any], figure: str) -> float | None:
    """What an item or one of its answers has for a figure of `reward_names`; None if it was not graded."""
    if figure == SUM:
        return answer.get(SUM)
    return answer.get("rewards", {}).get(figure.removeprefix(PREFIX))


def reward_scores(answered: "Sequence[Answered]", scorer: Scorer | None) -> list[dict[str, Any]]:
    """`rewards` by name and their weighted sum `reward` of each answer, question by question.

    Each answer is a group of its own, so that one hole costs no other answer's score: a reward that cannot
    grade it is None, and left out of the sum, as in training; without any the sum is None. Tasks that the
    configuration has no rewards for have no scores. Raises RewardError if a reward raises.
    """
    if scorer is None:
        return [{} for one in answered for _ in one.completions]
    pairs = [(one.sample, [completion]) for one in answered for completion in one.completions]
    groups = iter(scorer.score_groups([pair for pair in pairs if scorer.covers(pair[0].task)]))
    return [
        _scores([weighted.name for weighted in scorer.route(sample.task)], next(groups))
        if scorer.covers(sample.task)
        else {"rewards": {}, SUM: None}
        for sample, _ in pairs
    ]


def _scores(names: Sequence[str], group: GroupScores) -> dict[str, Any]:
    by_name = {name: group.by_reward[name][0] if name in group.by_reward else None for name in names}
    return {"rewards": by_name, SUM: group.total[0] if group.by_reward else None}
