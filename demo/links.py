"""Addresses of what the page shows: `?tab=compare&set=held_out&q=3`. No Gradio here.

Anybody can send anybody a link, so nothing of it is believed: numbers are read as numbers, and names only
choose among what the page offers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import PurePath
from urllib.parse import urlencode

from gpg_vl.errors import ConfigurationError, unknown

TABS = ("overview", "compare", "math", "benchmark", "rollouts", "training")
_LONGEST = 200
"""Characters of a value; names and searches are shorter."""
_DIGITS = 10
_WRITTEN = {"other": "with", "text": "search"}
"""Names in the address that are others than the fields'."""
_NUMBERS = ("q", "step", "group")


@dataclass(frozen=True)
class Link:
    """What an address names; None for what it leaves out."""

    tab: str | None = None
    set: str | None = None
    """A prepared set by its name of `names_of`."""
    task: str | None = None
    q: int | None = None
    """The question's number in set and task, from 1 on."""
    base: str | None = None
    """Evaluations by the names that Benchmark offers."""
    trained: str | None = None
    outcome: str | None = None
    text: str | None = None
    """What is searched for; `search` in the address."""
    scope: str | None = None
    """`all` searches all steps of rollouts."""
    step: int | None = None
    group: int | None = None
    """The question of a step of rollouts."""
    reward: str | None = None
    """The one that scores again."""
    other: str | None = None
    """The run whose curves are laid over; `with` in the address."""

    @classmethod
    def read(cls, query: Mapping[str, str]) -> "Link":
        """From the query of an address; what is not ours in it is ignored.

        Raises ConfigurationError for a number that is none, a value that is too long, and an unknown tab.
        """
        found: dict[str, str | int] = {}
        for field in fields(cls):
            name = _WRITTEN.get(field.name, field.name)
            if value := query.get(name, ""):
                found[field.name] = _number(name, value) if name in _NUMBERS else _text(name, value)
        link = cls(**found)  # type: ignore[arg-type]
        link.choice("tab", TABS)
        return link

    def query(self) -> str:
        """As it stands in an address, behind the question mark."""
        values = {_WRITTEN.get(field.name, field.name): getattr(self, field.name) for field in fields(self)}
        return urlencode({name: value for name, value in values.items() if value is not None})

    def choice(self, name: str, offered: Iterable[str]) -> str | None:
        """The one of `offered` that field `name` names in any case; None if the link leaves it out.

        Raises ConfigurationError if it is not offered (any more).
        """
        value, choices = getattr(self, name), list(offered)
        if value is None:
            return None
        for one in choices:
            if one.casefold() == value.casefold():
                return one
        written = _WRITTEN.get(name, name)
        raise ConfigurationError(f"this link: {unknown(written, value, choices)}")


def names_of(folders: Sequence[str]) -> dict[str, str]:
    """Folders by short names: the last part of the path, and as many before it as tell them apart."""
    paths = {folder: PurePath(folder).parts for folder in folders}
    return {_shortest(parts, paths.values()) or folder: folder for folder, parts in paths.items()}


def _shortest(path: Sequence[str], paths: Iterable[Sequence[str]]) -> str:
    """The shortest end that no other path has; empty if another one ends like all of it."""
    ends = (path[-length:] for length in range(1, len(path) + 1))
    return "/".join(next((end for end in ends if [p[-len(end) :] for p in paths].count(end) == 1), ()))


def _number(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < _DIGITS):
        raise ConfigurationError(f"this link: {name} is a whole number, got {value[:_LONGEST]!r}")
    return int(value)


def _text(name: str, value: str) -> str:
    if len(value) > _LONGEST:
        raise ConfigurationError(f"this link: {name} has {len(value)} characters; the most is {_LONGEST}")
    return value
