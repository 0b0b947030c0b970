"""Reading configurations from YAML and dotted command-line options, and writing them back."""

import dataclasses
import json
import re
import sys
from collections.abc import Mapping, Sequence
from itertools import takewhile
from types import MappingProxyType
from typing import Any, TypeVar

import yaml
from jsonargparse import (
    ArgumentError,
    ArgumentParser,
    Namespace,
    get_loader,
    set_loader,
    set_parsing_settings,
)

from gpg_vl.checks import expand, is_undecoded
from gpg_vl.config import PRESETS, AlgorithmConfig, SftConfig, TrainConfig
from gpg_vl.config_file import (
    COMMANDS,
    Settings,
    fields_of,
    of_section,
    read_settings,
    takes_list,
    takes_several,
    unknown_key,
)
from gpg_vl.errors import ConfigurationError, nearest
from gpg_vl.prompting.card import CARD, PIXELS, read_card
from gpg_vl.runtime.launched import launched
from gpg_vl.yaml_file import dump_yaml

Config = TypeVar("Config", TrainConfig, SftConfig)
_DEFAULT = AlgorithmConfig().preset
_NONE: Mapping[str, str] = MappingProxyType({})
_COMMAND_LINE = ("config", "overwrite")
"""What stands in no file."""
PROFILED_STEPS = 2
"""What `--profile` stands for: a trace of more is slow to open."""


def _load_value(text: str) -> Any:
    """YAML, in which a text that begins with # would be a comment, and so nothing."""
    value = _load_yaml(text)
    return text if value is None and text.lstrip().startswith("#") else value


_load_yaml = get_loader("yaml")
set_loader("yaml", _load_value, (yaml.YAMLError,))


class _PathType:
    """`expand`, which `--help` calls a path."""

    def __call__(self, text: str) -> str:
        return expand(text)

    def __repr__(self) -> str:
        return "path"


class _Parser(ArgumentParser):
    """A parser that knows what an option it does not have may have been meant for."""

    def add_argument(self, *names: Any, **options: Any) -> Any:
        if options.get("type") is expand:
            options["type"] = _PathType()
        return super().add_argument(*names, **options)

    def error(self, message: str, ex: Exception | None = None) -> None:
        known = [name for name in self._option_string_actions if name.startswith("--")]
        match = _UNRECOGNIZED.fullmatch(message.strip())  # it comes by again with the hint
        near = nearest(f"--{match[1]}", known) if match else None
        super().error(f"{message} (did you mean {near}?)" if near else message, ex)


def base_parser(prog: str, description: str) -> ArgumentParser:
    """A parser that raises instead of exiting and takes no abbreviations; fields' doc lines are its help."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    options = {"description": description, "exit_on_error": False, "allow_abbrev": False}
    return _Parser(prog=prog, **options)


def config_parser(kind: type[Config], prog: str) -> ArgumentParser:
    """A parser for `--config FILE`, `--section.field VALUE` and `--resume`; raises instead of exiting."""
    parser = base_parser(prog, kind.__doc__ or "")
    parser.add_argument("--config", action="config", help="YAML file; the options below override it")
    parser.add_argument(
        "--resume", type=str, help="auto: go on where the run folder stopped; or a checkpoint folder"
    )
    parser.add_class_arguments(kind, None)
    return parser


def parse_command(
    kind: type[Config], arguments: Sequence[str], prog: str = "gpg-vl", *, taken: Mapping[str, str] = _NONE
) -> tuple[Config, str | None]:
    """Parse options and the YAML file they name into a checked configuration and `--resume`.

    `taken`: options, with their help, that the caller takes off the command line before; no file has them.

    Raises ConfigurationError for unknown keys (naming the nearest known one), wrong types, values out
    of range and settings at odds with each other.
    """
    parser = config_parser(kind, prog)
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="delete an earlier run in --out, after a question on a terminal; nothing that no run wrote",
    )
    parser.add_argument("--profile", action="store_true", help=f"short for --run.profile {PROFILED_STEPS}")
    for name, text in taken.items():
        parser.add_argument(f"--{name}", help=text)
    config, values = parse_options(kind, parser, arguments)
    if any(values[name] is not None for name in taken):
        raise ConfigurationError(f"{' and '.join(taken)} belong on the command line, not in a file")
    if values.profile:
        config = dataclasses.replace(
            config, run=dataclasses.replace(config.run, profile=config.run.profile or PROFILED_STEPS)
        )
    return config, values.resume


def parse_options(
    kind: type[Config], parser: ArgumentParser, arguments: Sequence[str]
) -> tuple[Config, Namespace]:
    """Parse with a `config_parser` that may have further options: the configuration, and all values.

    Raises as `parse_command` does.
    """
    typed = _one_word_each(arguments, parser)
    files = [_read_file(file, kind, parser) for file in _values(typed, "--config")]
    texts = iter(files)
    words = [f"--config={next(texts).text}" if word.startswith("--config=") else word for word in typed]
    words = _preset_first(words)
    try:
        parsed = parser.parse_args(words)
        # A preset named in a file, and the checkpoint's own card, are lower layers than what is spelled out.
        if lower := _preset_knobs(parsed) | _asked_before(parsed, parser, words):
            parser.set_defaults(lower)
            parsed = parser.parse_args(words)
        _check_sections(parsed, kind)
        values = parser.instantiate(parsed)
        return kind(**{f.name: values[f.name] for f in dataclasses.fields(kind)}), values
    except ArgumentError as error:
        raise ConfigurationError(_explain(str(error), kind, parser)) from error
    except ConfigurationError as error:
        raise ConfigurationError(_placed(str(error), files, words)) from error


def _read_file(file: str, kind: type, parser: ArgumentParser) -> Settings:
    """A file's settings, each of a type that its option takes. Raises ConfigurationError with the line."""
    settings = read_settings(file, kind, _extras(parser, kind))
    for option in _COMMAND_LINE:
        if place := settings.at(option):
            raise ConfigurationError(f"{place}: {option} belongs on the command line, not in a file")
    try:
        parser.parse_args([f"--config={settings.text}"], defaults=False)
    except ArgumentError as error:
        message = _explain(str(error), kind, parser)
        named = _OPTION.search(message)
        place = settings.at(named[1]) if named else ""
        raise ConfigurationError(f"{place or repr(file)}: {message}") from error
    here = launched()
    if settings.ignored and (here is None or here.rank == 0):
        command = next(name for name, other in COMMANDS.items() if other is kind)
        print(f"note: {command} has no use for {', '.join(settings.ignored)} of {file!r}", file=sys.stderr)
    return settings


def _extras(parser: ArgumentParser, kind: type) -> list[str]:
    """The parser's options that are none of the configuration's."""
    names = [name.removeprefix("--") for name in parser._option_string_actions if name.startswith("--")]
    return [name for name in names if name.partition(".")[0] not in fields_of(kind)]


def _placed(message: str, files: Sequence[Settings], words: Sequence[str]) -> str:
    """The message with its line, where it speaks of an option first that a file has set."""
    option = message.partition(" ")[0]
    place = next((place for file in reversed(files) if (place := file.at(option))), "")
    typed = any(word.startswith(f"--{option}=") for word in words)
    return f"{place}: {message}" if place and not typed else message


def _preset_knobs(parsed: Namespace) -> dict[str, Any]:
    """Nothing for the default, whose knobs are the defaults."""
    preset = parsed.get("algorithm.preset")
    knobs = {} if preset in (None, _DEFAULT) else PRESETS[preset]
    return {f"algorithm.{knob}": value for knob, value in knobs.items()}


def _asked_before(parsed: Namespace, parser: ArgumentParser, words: list[str]) -> dict[str, Any]:
    """Prompt and image sizes that model.path was trained with, where it is a checkpoint of ours.

    Another template than the checkpoint's leaves no use for the rest of its prompt but the boxes' space.
    """
    path = parsed.get("model.path")
    card = read_card(expand(path)) if path else None
    if card is None:
        return {}
    prompt, given = dict(card.get("prompt", {})), parser.parse_args(words, defaults=False)
    if given.get("prompt.template", prompt.get("template")) != prompt.get("template"):
        prompt = {name: value for name, value in prompt.items() if name == "box_space"}
    pixels = {f"model.{name}": card[name] for name in PIXELS if name in card}
    low, high = (given.get(f"model.{name}", card.get(name)) for name in PIXELS)
    if low is not None and high is not None and low > high:
        raise ConfigurationError(
            f"model.min_pixels {low} is more than model.max_pixels {high}: one of them is {path!r}'s own "
            f"({CARD}); set both"
        )
    return {f"prompt.{name}": value for name, value in prompt.items()} | pixels


_LISTS = {
    f"--{name}": takes_list(hint)
    for kind in COMMANDS.values()
    for name, hint in fields_of(kind).items()
    if takes_several(hint)
}
"""Options that take several words, and whether one alone is a list too."""


def _one_word_each(arguments: Sequence[str], parser: ArgumentParser) -> list[str]:
    """Every option with its value as `--name=value`, however it was typed.

    The value may begin with a dash (`-1e-5`), be several folders or addresses, or a file under `~`.
    """
    words: list[str] = []
    rest = list(arguments)
    for word in filter(is_undecoded, rest):
        raise ConfigurationError(f"{word!r} is not text in UTF-8")
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        values = [value] if equals else []
        if takes_value(parser, name):
            most = len(rest) if name in _LISTS else 1 - len(values)
            following = takewhile(lambda word: not word.startswith("--"), rest[:most])
            values += following
            rest = rest[len(values) - bool(equals) :]
        words.append(f"{name}={_one_value(name, values)}" if values else name)
    return words


def takes_value(parser: ArgumentParser, name: str) -> bool:
    """Whether an option is one of the parser's that stand with a value of their own."""
    action = parser._option_string_actions.get(name)
    return action is not None and action.nargs is None


def _plain(values: Sequence[str]) -> bool:
    """Whether these are single values, and no list in brackets, which replaces what stands before it."""
    return bool(values) and not values[0].startswith("[")


def _one_value(name: str, values: Sequence[str]) -> str:
    if name in _LISTS and _plain(values) and (len(values) > 1 or _LISTS[name]):
        return json.dumps(list(values), ensure_ascii=False)
    return expand(values[0]) if name == "--config" else " ".join(values)


def _values(words: Sequence[str], name: str) -> list[str]:
    return [word.partition("=")[2] for word in words if word.startswith(f"{name}=")]


def _preset_first(words: list[str]) -> list[str]:
    """A preset on the command line wins over the file's knobs, and options over both.

    Otherwise `--config OLD/config.yaml --algorithm.preset grpo` would run GPG under another name: a run's
    own file spells out every knob.
    """
    preset = next(reversed(_values(words, "--algorithm.preset")), None)
    knobs = next((values for known, values in PRESETS.items() if known == preset), {})
    front = [
        f"--algorithm.{knob}={value if isinstance(value, str) else json.dumps(value)}"
        for knob, value in knobs.items()
    ]
    end = 1 + max((i for i, word in enumerate(words) if word.startswith("--config=")), default=-1)
    return [*words[:end], *front, *words[end:]]


def _check_sections(values: Mapping[str, Any] | Namespace, kind: type, prefix: str = "") -> None:
    for item in dataclasses.fields(kind):
        if item.name in values and isinstance(item.type, type) and dataclasses.is_dataclass(item.type):
            name, value = f"{prefix}{item.name}", values[item.name]
            if not isinstance(value, dict | Namespace):
                raise ConfigurationError(f"{name} is a section of options, got {value!r}")
            _check_sections(value, item.type, f"{name}.")


def load_config(kind: type[Config], arguments: Sequence[str]) -> Config:
    """The configuration alone; see `parse_command`."""
    return parse_command(kind, arguments)[0]


_UNRECOGNIZED = re.compile(r"unrecognized arguments: --([\w.-]+)[^?]*", re.IGNORECASE)
_UNKNOWN = (
    _UNRECOGNIZED,
    re.compile(r"Group '([\w.]+)' does not accept (?:nested key|option) '([\w.]+)'"),
    re.compile(r"(?:Option|Key) '([\w.]+)' is not (?:accepted|expected)"),
)


_FILE = re.compile(r"unrecognized arguments: ([^\s-]\S*\.(?:ya?ml|json))(?:\s|$)", re.IGNORECASE)
_OPTION = re.compile(r"option \"([\w.]+)\"")
_SECTION = re.compile(r"option \"([\w.]+)\": Unable to load config ('.*?') - ")
_PLAIN = {
    'Parser key "': 'option "',
    "Expected a <class 'int'>.": "expected a whole number.",
    "Expected a <class 'float'>.": "expected a number.",
    "Expected a <class 'bool'>.": "expected true or false.",
    "Expected a <class 'str'>.": "expected text (a number in quotes: '\"3\"').",
    "Expected a <class 'tuple'>.": "expected a list, such as '[0.9, 0.999]'.",
    "Expected a <class 'list'>.": "expected a list, such as '[\"a\"]'.",
    "Expected a <class 'dict'>.": "expected a table, such as '{\"choice\": 1.0}'.",
    "Expected a typing.Literal": "expected one of ",
}


_UNION = re.compile(
    r"Does not validate against any of the Union subtypes Subtypes: .*? Errors: - (Expected a \S.*?)"
    r" - Expected .* Given value: (.*)"
)


_HINT = re.compile(r" \(did you mean \S+\?\)$")
"""What `_Parser` adds; here sections and other commands are looked through too."""


def plain_words(message: str) -> str:
    """The parser's message in one line, without the names of Python's types."""
    line = " ".join(message.split())
    if match := _UNION.search(line):  # of a value or null: what the value should be
        line = f"{line[: match.start()]}{match[1].rstrip('.')}. Got value: {match[2]}"
    for jargon, words in _PLAIN.items():
        line = line.replace(jargon, words)
    return line


def _explain(message: str, kind: type, parser: ArgumentParser) -> str:
    """`plain_words`, with the nearest known key for an unknown one."""
    line = _HINT.sub("", plain_words(message))
    keys = list(fields_of(kind))
    if match := _SECTION.search(line):
        return f"{match[1]} is a section of options, got {match[2]}; known: {of_section(match[1], keys)}"
    if match := _FILE.search(line):
        return f"a configuration file is named by its option: --config {match[1]}"
    for pattern in _UNKNOWN:
        if match := pattern.search(line):
            name = ".".join(match.groups())
            other = next(command for command, known in COMMANDS.items() if known is not kind)
            if name in fields_of(COMMANDS[other]) and name not in keys:
                return f"{name!r} is an option of `gpg-vl {other}`, not of this command"
            return _unknown(name, keys, parser, kind, line)
    return line


def _unknown(name: str, keys: Sequence[str], parser: ArgumentParser, kind: type, line: str) -> str:
    extras = _extras(parser, kind)
    near = nearest(name, [*keys, *extras])
    if near not in extras:
        return unknown_key(name, keys)
    value = re.search(rf"--{re.escape(name)}[= ](?!--)(\S+)", line)
    return f"unknown option {name!r}. Did you mean --{near}{f' {value[1]}' if value else ''}?"


def to_yaml(config: TrainConfig | SftConfig) -> str:
    """The configuration as YAML that `load_config` reads back to an equal object."""
    plain = json.loads(json.dumps(dataclasses.asdict(config)))  # tuples become lists
    return dump_yaml(plain)
