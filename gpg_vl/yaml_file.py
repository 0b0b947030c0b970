"""Reading a user's YAML: one table with text as keys, each key once; all else is refused in one line."""

import pathlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import yaml

from gpg_vl.errors import ConfigurationError

_MOST = 10_000
"""Values in a file; a few aliases of aliases would make billions."""
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_OTHER_BASE = re.compile(r".*:|[-+]?0[0-9_]+$")
_EXPONENT = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$")
"""Numbers such as 1e-6, which YAML 1.1 takes for texts."""
_TEXT, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Reads 1e-6 as a number."""


class _Dumper(yaml.SafeDumper):
    """Puts the text "1e-6" in quotes."""


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(_NUMBERS[1], _EXPONENT, list("-+.0123456789"))

Path = tuple[str | int, ...]
"""Keys, and places in lists, from the top."""


@dataclass(frozen=True)
class YamlTable:
    """The table that a file holds, and where in it things stand."""

    name: str
    values: dict[str, Any]
    lines: Mapping[Path, int]
    """Of each key, from 1."""
    texts: Mapping[Path, str]
    """Of each value that is no list and no table, as it is written."""

    def at(self, path: Path) -> str:
        """The file and the line of a key, in words."""
        return f"{self.name}, line {self.lines[path]}"


def read_yaml(path: str | pathlib.Path) -> dict[str, Any]:
    """The table that a file holds; see `read_table`."""
    return read_table(path).values


def read_table(path: str | pathlib.Path) -> YamlTable:
    """The table that a file holds, with its lines.

    Raises ConfigurationError if it cannot be read, is empty, is no table, or has a key twice or one that is
    no text.
    """
    name, text = repr(str(path)), _read(pathlib.Path(path))
    try:
        node = yaml.compose(text, _Loader)
        if node is None:
            raise ConfigurationError(f"{name} is empty: it holds no setting")
        if next(islice(_nodes(node, ()), _MOST, None), None):
            raise ConfigurationError(f"{name} has more than {_MOST:,} values, aliases spelled out")
        for mistake in _mistakes(node, "", ()):
            raise ConfigurationError(f"{name}, {mistake}")
        values = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigurationError(_syntax(name, error)) from error
    except ConfigurationError:
        raise
    except (ValueError, RecursionError) as error:  # such as a date of month 13
        raise ConfigurationError(f"{name} cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigurationError(
            f"{name} holds no table of settings such as `run: {{steps: 100}}`, but {type(values).__name__}"
        )
    places = list(_places(node, ()))
    lines = {path: line for path, line, _ in places}
    return YamlTable(name, values, lines, {path: text for path, _, text in places if text is not None})


def dump_yaml(values: Mapping[str, Any]) -> str:
    """YAML that `read_yaml` reads back to equal values."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _syntax(name: str, error: yaml.YAMLError) -> str:
    """The place first, then what is wrong there, without the parser's excerpt."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return f"{name} is not YAML: {' '.join(str(error).split())}"
    mark = error.problem_mark
    context = f"{error.context}: " if error.context else ""
    return f"{name}, line {mark.line + 1}, column {mark.column + 1} is not YAML: {context}{error.problem}"


def _read(path: pathlib.Path) -> str:
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


def _places(node: yaml.Node, above: Path) -> Iterator[tuple[Path, int, str | None]]:
    """Each key below `node`, its line, and its value as it is written, where that is no list and no table."""
    inner: list[tuple[str | int, int, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.tag == _MERGE:
                parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for part in parts:
                    yield from _places(part, above)
            else:
                inner.append((key.value, key.start_mark.line + 1, value))
    elif isinstance(node, yaml.SequenceNode):
        inner = [(place, value.start_mark.line + 1, value) for place, value in enumerate(node.value)]
    for name, line, value in inner:
        path = (*above, name)
        yield path, line, value.value if isinstance(value, yaml.ScalarNode) else None
        yield from _places(value, path)


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
