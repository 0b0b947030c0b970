"""What every dataclass of options holds its values to, whether they come from a file, a command or Python."""

import os
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gpg_vl.errors import ConfigurationError, unknown

LARGEST = 2**63 - 1
"""Of whole numbers: what torch and Parquet hold."""
_LONGEST = 255
"""Bytes of a file's name."""
_WORDS = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "text",
    NoneType: "null",
    list: "a list",
    dict: "a table",
}


def require(condition: bool, message: str) -> None:
    """Raise ConfigurationError with `message` unless the condition holds."""
    if not condition:
        raise ConfigurationError(message)


def tidy(options: Any, prefix: str = "", *, paths: Iterable[str] = ()) -> None:
    """Hold a dataclass's values to their types and to what is finite, and expand its fields `paths`.

    Raises ConfigurationError that names the option, with `prefix` before it.
    """
    hints = get_type_hints(type(options))
    for item in fields(options):
        value, hint = getattr(options, item.name), hints[item.name]
        if not _fits(value, hint):
            raise ConfigurationError(f"{prefix}{item.name} must be {_words(hint)}, got {value!r}")
    for name in paths:
        object.__setattr__(options, name, _expanded(getattr(options, name), f"{prefix}{name}"))


def misfit(value: Any, hint: Any) -> str:
    """What a type hint asks for, in words, where `value` is no such thing; "" where it fits.

    Hints that no value of a file can be held to (paths, classes, protocols, …) let everything pass.
    """
    return "" if not _checkable(hint) or _fits(value, hint) else _words(hint)


def _checkable(hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return True
    if origin in (Union, UnionType, list, tuple):
        return all(_checkable(one) for one in inner if one is not Ellipsis)
    if origin is dict:
        return inner[0] is str
    return hint is Any or hint in _WORDS


def expand(path: str) -> str:
    """A user's path with `~` as the shell reads it; a hub id and a `~/file.py:name` are taken too.

    Raises ConfigurationError for a `~name` without a home folder, and for what no path can hold.
    """
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise ConfigurationError(f"{path!r}: there is no home folder {path.split('/')[0]!r}")
    if "\0" in path or max(map(len, os.fsencode(path).split(b"/"))) > _LONGEST:
        raise ConfigurationError(f"{path!r} is no path: too long a name, or a null character in it")
    return expanded


def seed_in_range(seed: int, name: str) -> None:
    """Raise ConfigurationError for a seed that a random number generator does not take."""
    if not 0 <= seed <= LARGEST:
        raise ConfigurationError(f"{name} must be from 0 to 2^63 - 1, got {seed}")


def share_in_range(share: float, name: str) -> None:
    """Raise ConfigurationError for what is no share of a whole, or none or all of it."""
    fits = isinstance(share, int | float) and 0 < share < 1
    require(fits, f"{name} is a share between 0 and 1, such as 0.2, got {share!r}")


def known_options(given: Iterable[str], known: Collection[str], kind: str) -> None:
    """Raise ConfigurationError for an option that is none of the known ones; `kind` says whose they are."""
    for name in given:
        require(name in known, unknown(kind, name, known))


def _expanded(value: Any, name: str) -> Any:
    try:
        if isinstance(value, str):
            return expand(value)
        if isinstance(value, Mapping):
            return {expand(key): inner for key, inner in value.items()}
        return None if value is None else type(value)(expand(path) for path in value)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from error


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in inner
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is tuple and Ellipsis not in inner:
        return _is_list(value) and len(value) == len(inner) and all(map(_fits, value, inner))
    if origin in (list, tuple):
        return _is_list(value) and all(_fits(one, inner[0]) for one in value)
    if origin is dict:
        return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
    return hint is Any or _is_plain(value, hint)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_plain(value: Any, kind: Any) -> bool:
    if kind in (int, float):
        number: Any
        limit, number = (LARGEST, Integral) if kind is int else (sys.float_info.max, Real)
        if not isinstance(value, number) or isinstance(value, bool):
            return False
        return bool(-limit <= value <= limit)  # NaN is in no range
    return isinstance(value, kind) and not (isinstance(value, str) and is_undecoded(value))


def is_undecoded(text: str) -> bool:
    """Whether it was no UTF-8, for which Python puts surrogates: no file can be written with them."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _words(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    if origin in (Union, UnionType):
        return " or ".join(map(_words, inner))
    if origin is tuple and Ellipsis not in inner:
        each = f", each {_words(inner[0])}" if len(set(inner)) == 1 else f": {', '.join(map(_words, inner))}"
        return f"{len(inner)} values{each}"
    if origin in (list, tuple):
        return f"a list, each of its values {_words(inner[0])}"
    if origin is dict:
        return "a table whose keys are text"
    return _WORDS.get(hint, f"a {hint.__name__}")
