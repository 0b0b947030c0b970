"""By what answers are scored: the rewards of the training run, and those of the command line."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from gpg_vl.errors import ConfigurationError, ModelError, UserError
from gpg_vl.prompting.card import CARD, read_card
from gpg_vl.registry import Reward
from gpg_vl.registry import rewards as registered
from gpg_vl.scoring.scorer import Scorer


@dataclass(frozen=True)
class Rewards:
    """What scores answers beside the benchmark's grading, of both models alike."""

    trained: Mapping[str, Any] | None = None
    """The table that the model was trained with; None if there is none, or it cannot be had."""
    problem: str = ""
    """Why it cannot be had."""
    own: Mapping[str, str] = field(default_factory=dict)
    """Rewards that the command line names, by title: what the registry resolves."""


def read_rewards(models: Sequence[str], given: Sequence[str] = ()) -> Rewards:
    """The rewards of the first of `models` that says what it was trained with, and those `given`.

    Of a checkpoint only installed ones: it could bring code of its own under the name of a reward.
    Raises as `operator_rewards` does.
    """
    own = operator_rewards(given)
    for model in models:
        try:
            table = (read_card(model) or {}).get("rewards")
            if table is not None and table != {}:
                return Rewards(_checked(table, model), own=own)
        except (ModelError, ConfigurationError) as error:
            return Rewards(problem=f"the rewards of the training run cannot be had: {error}", own=own)
    return Rewards(own=own)


def operator_rewards(given: Sequence[str]) -> dict[str, str]:
    """The rewards of `--reward` by the title to show: what the registry resolves, wherever the program is.

    Raises UnknownNameError or ConfigurationError for one that does not exist, needs an option, or whose code
    fails.
    """
    found: dict[str, str] = {}
    for name in given:
        loaded_scorer({name: 1.0})
        place, colon, function = name.rpartition(":")
        if place.endswith(".py"):
            name = f"{Path(place).resolve()}:{function}"
        title = f"{Path(place).name}{colon}{function}"
        if found.setdefault(title, name) != name:
            raise ConfigurationError(f"--reward names two rewards {title!r}: rename one of the files")
    return found


def loaded_scorer(table: Mapping[str, Any]) -> Scorer:
    """The rewards of a table with their code loaded.

    Raises UnknownNameError or ConfigurationError for what cannot be had, also where a reward's code fails.
    """
    for name in _names(table):
        _loaded(name)
    return Scorer(table)


def look_at_images(table: Mapping[str, Any]) -> bool:
    """Whether any reward of a table reads pixels; what cannot be had reads none, and scoring says why."""
    return any(map(_looks_at_images, _names(table)))


@cache
def _looks_at_images(name: str) -> bool:
    """Found out once: every look-up reads the installed packages."""
    try:
        return _loaded(name).images
    except UserError:
        return False


def _loaded(name: str) -> Reward:
    try:
        return registered.get(name)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # whatever somebody's code raises when it is imported
        words = f"{type(error).__name__}: {error}"
        raise ConfigurationError(f"reward {name!r} cannot be imported: {words}") from error


def _checked(table: Any, model: str) -> Mapping[str, Any]:
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"`rewards` in {model}/{CARD} must be a table, got {table!r}")
    installed = registered.announced()
    if foreign := sorted(set(_names(table)) - set(installed)):
        raise ConfigurationError(f"these rewards are not installed: {', '.join(foreign)}")
    return table


def _names(table: Mapping[str, Any]) -> Iterator[str]:
    """The rewards of all routes; tables that are none are left to `Scorer`, which says so."""
    routes = table.get("by_task")
    for part in routes.values() if isinstance(routes, Mapping) else [table]:
        if isinstance(part, Mapping):
            yield from (str(name) for name in part if name != "by_task")
