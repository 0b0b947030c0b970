"""Reading a user's YAML: one table with text as keys, each key once; all else is refused in one line."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from gpg_vl.errors import ConfigurationError

_MOST = 10_000
"""Values in a file; a few aliases of aliases would make billions."""
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_OTHER_BASE = re.compile(r".*:|[-+]?0[0-9_]+$")
_TEXT, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The table that a file holds.

    Raises ConfigurationError if it cannot be read, is empty, is no table, or has a key twice or one that is
    no text.
    """
    name, text = repr(str(path)), _read(Path(path))
    try:
        node = yaml.compose(text, yaml.SafeLoader)
        if node is None:
            raise ConfigurationError(f"{name} is empty: it holds no setting")
        if next(islice(_nodes(node, ()), _MOST, None), None):
            raise ConfigurationError(f"{name} has more than {_MOST:,} values, aliases spelled out")
        for mistake in _mistakes(node, "", ()):
            raise ConfigurationError(f"{name}, {mistake}")
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{name} is not YAML: {' '.join(str(error).split())}") from error
    except ConfigurationError:
        raise
    except (ValueError, RecursionError) as error:  # such as a date of month 13
        raise ConfigurationError(f"{name} cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigurationError(
            f"{name} holds no table of settings such as `run: {{steps: 100}}`, but {type(values).__name__}"
        )
    return values


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigurationError(f"there is no file {str(path)!r}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{str(path)!r} is not text in UTF-8: {error.reason}") from error
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{str(path)!r} cannot be read: {error}") from error


def _nodes(node: yaml.Node, above: tuple[int, ...]) -> Iterator[yaml.Node]:
    """The node and all below it, one behind several aliases as often."""
    yield node
    if id(node) in above or isinstance(node, yaml.ScalarNode):
        return
    for inner in node.value:
        for one in inner if isinstance(inner, tuple) else (inner,):
            yield from _nodes(one, (*above, id(node)))


def _mistakes(node: yaml.Node, place: str, above: tuple[int, ...]) -> Iterator[str]:
    """What is wrong with the keys below `node`, each with its line, and aliases that hold themselves."""
    if id(node) in above:
        yield f"line {node.start_mark.line + 1}: {place[:-1]!r} contains itself"
        return
    if node.tag in _NUMBERS and _OTHER_BASE.match(node.value):
        yield f"line {node.start_mark.line + 1}: YAML reads {node.value} in base 60 or 8; write it out"
    above = (*above, id(node))
    if isinstance(node, yaml.SequenceNode):
        for inner in node.value:
            yield from _mistakes(inner, place, above)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, inner in node.value:
        line = key.start_mark.line + 1
        if key.tag == _MERGE:
            yield from _mistakes(inner, place, above)
            continue
        if key.tag != _TEXT:
            yield f"line {line}: a key must be text, got {getattr(key, 'value', key.tag)!r}; quote it"
        elif key.value in lines:
            yield f"line {line}: {place + key.value!r} stands in line {lines[key.value]} already"
        else:
            lines[key.value] = line
            yield from _mistakes(inner, f"{place}{key.value}.", above)
