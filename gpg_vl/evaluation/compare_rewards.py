"""A run's own rewards in two evaluations of the same questions: paired differences."""

from collections.abc import Mapping, Sequence
from typing import Any

from gpg_vl.evaluation.own_rewards import PREFIX, SUM, own_score, reward_names, reward_title
from gpg_vl.runs.files import Evaluation, Item, score
from gpg_vl.scoring.weighted import SETTINGS
from gpg_vl.stats import paired_difference, sign_flip
from gpg_vl.tables import markdown_table, short_number

_MEANING_OF_P = (
    "p in the table of rewards: how often chance alone would make so large a difference (paired "
    "randomization test, in which questions that share a statement or an image change together)"
)
_DECIDING = ("conversational",)
"""Settings of an entry that change what an answer scores; the others are its weight and how it is called."""
REWARD_COLUMNS = ("reward", "questions", "A", "B", "difference", "95 % interval", "p")
"""Of `reward_rows`."""


def compare_rewards(
    before: Evaluation, after: Evaluation, pairs: Sequence[tuple[Item, Item]]
) -> tuple[dict[str, Any], list[str]]:
    """The rewards that both evaluations have, and the weighted sum, each over the questions graded in both;
    and the rewards of both that were configured otherwise, so that they do not compare."""
    known = reward_names(before["totals"])
    shared = [name for name in reward_names(after["totals"]) if name in known]
    other = [name for name in shared if _settings(before, name) != _settings(after, name)]
    compared = {name: _comparison(pairs, name) for name in shared if name not in other}
    return {name: one for name, one in compared.items() if one is not None}, other


def _settings(evaluation: Evaluation, name: str) -> Any:
    """What decides the scores of a figure, by task: a reward's options; of the sum, those of all rewards and
    their weights."""
    table = evaluation.get("rewards") or {}
    routes = table.get("by_task", {"": table})
    if name == SUM:
        return {
            task: {one: _weighed(entry) for one, entry in route.items()} for task, route in routes.items()
        }
    reward = name.removeprefix(PREFIX)
    return {task: _weighed(route[reward])[1] for task, route in routes.items() if reward in route}


def _weighed(entry: Any) -> tuple[Any, dict[str, Any]]:
    """The weight and the options of an entry."""
    options = dict(entry) if isinstance(entry, Mapping) else {"weight": entry}
    beside = set(SETTINGS).difference(_DECIDING)
    decisive = {name: value for name, value in options.items() if name not in beside}
    return options.get("weight", 1.0), decisive


def _comparison(pairs: Sequence[tuple[Item, Item]], name: str) -> dict[str, Any] | None:
    """None if no question was graded in both; sums are compared where they are of the same rewards."""
    alike = [pair for pair in pairs if name != SUM or _graded(pair[0]) == _graded(pair[1])]
    scores = [(own_score(first, name), own_score(last, name), last.get("cluster")) for first, last in alike]
    graded = [(first, last, cluster) for first, last, cluster in scores if first is not None is not last]
    if not graded:
        return None
    before, after, clusters = zip(*graded, strict=True)
    changes = [late - early for early, late in zip(before, after, strict=True)]
    return {
        "count": len(graded),
        "before": sum(before) / len(graded),
        "after": sum(after) / len(graded),
        "difference": vars(paired_difference(before, after, clusters)),
        "p": sign_flip(changes, clusters),
    }


def _graded(item: Item) -> set[str]:
    return {name for name, value in item.get("rewards", {}).items() if value is not None}


def rewards_table(comparison: Mapping[str, Any]) -> list[str]:
    """The rewards of `compare`'s result as a Markdown table, with an empty line before it; none without."""
    rows = reward_rows(comparison)
    return ["", markdown_table(REWARD_COLUMNS, rows)] if rows else []


def reward_rows(comparison: Mapping[str, Any]) -> list[list[str]]:
    """The cells under REWARD_COLUMNS: the weighted sum, then each reward."""
    return [_row(name, entry) for name, entry in comparison["rewards"].items()]


def _row(name: str, entry: Mapping[str, Any]) -> list[str]:
    difference = score(entry, "difference")
    assert difference is not None
    return [
        reward_title(name),
        str(entry["count"]),
        short_number(entry["before"]),
        short_number(entry["after"]),
        f"{difference.mean:+.4g}",
        f"{difference.low:+.4g} to {difference.high:+.4g}",
        f"{entry['p']:.2g}",
    ]


def rewards_notes(comparison: Mapping[str, Any]) -> list[str]:
    """What the table does not say."""
    notes = []
    if comparison["rewards"]:
        notes.append(_MEANING_OF_P)
    if other := comparison["other_rewards"]:
        names = ", ".join(map(reward_title, other))
        notes.append(f"A and B were rewarded by different settings, so these do not compare: {names}")
    return notes
