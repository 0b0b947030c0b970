"""A configuration file, brought into the form that the parser takes.

A file may say whatever the command line may, in sections or in dotted keys, and hold the sections of both
`train` and `sft`: each takes its own.
"""

import dataclasses
import json
import re
import types
import typing
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from gpg_vl.config import SftConfig, TrainConfig
from gpg_vl.errors import ConfigurationError, nearest
from gpg_vl.yaml_file import Path, YamlTable, read_table

COMMANDS: Mapping[str, type] = {"train": TrainConfig, "sft": SftConfig}
TRL_SAME: Mapping[str, str] = {
    "output_dir": "out",
    "num_generations": "rollout.group_size",
    "max_completion_length": "rollout.max_new_tokens",
    "temperature": "rollout.temperature",
    "learning_rate": "optim.learning_rate",
    "beta": "algorithm.kl_beta",
    "num_iterations": "algorithm.updates_per_rollout",
    "epsilon": "algorithm.clip",
    "epsilon_high": "algorithm.clip_high",
    "importance_sampling_level": "algorithm.ratio",
    "mask_truncated_completions": "algorithm.mask_truncated",
    "seed": "run.seed",
    "save_steps": "run.save_every",
    "save_total_limit": "run.keep_last",
    "eval_steps": "eval.every",
    "report_to": "run.trackers",
}
"""Options of TRL's trainers, where one of ours means the same."""
_TRL_NAMES: Mapping[str, str] = {
    **TRL_SAME,
    "max_steps": "run.steps",
    "loss_type": "algorithm.normalize",
    "scale_rewards": "algorithm.std_normalize",
    "multi_objective_aggregation": "algorithm.per_reward",
    "use_vllm": "rollout.engine",
    "reward_funcs": "rewards",
    "generation_batch_size": "algorithm.questions_per_step",
    "steps_per_generation": "algorithm.mini_batches",
    "per_device_train_batch_size": "run.micro_batch_tokens",
    "gradient_accumulation_steps": "run.micro_batch_tokens",
    "num_train_epochs": "run.steps",
}
"""Also those where ours takes other values (docs/migrating.md)."""
_NOT_IN_YAML = re.compile("[\x7f-\x9f\ufffe\uffff]")


@dataclass(frozen=True)
class Settings:
    """What a file sets."""

    file: str
    lines: Mapping[str, int]
    """Of each option that it names, by its dotted name."""
    text: str
    """The settings as JSON, for the parser."""
    ignored: tuple[str, ...]
    """Top-level keys that are another command's."""

    def at(self, option: str) -> str:
        """The place of an option, or of its section, in words; "" if the file does not name it."""
        line = next((self.lines[name] for name in (option, *_above(option)) if name in self.lines), None)
        return "" if line is None else f"{self.file!r}, line {line}"


def fields_of(kind: type, prefix: str = "") -> dict[str, Any]:
    """The type of each option of a configuration by its dotted name; sections are options too."""
    found: dict[str, Any] = {}
    for name, hint in get_type_hints(kind).items():
        found[f"{prefix}{name}"] = hint
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            found |= fields_of(hint, f"{prefix}{name}.")
    return found


def read_settings(file: str, kind: type, extras: Collection[str]) -> Settings:
    """Read the settings of a `kind` from a file; `extras` are options that the parser has beside.

    Raises ConfigurationError, naming the line, for what is no YAML, a key that no command knows, one that
    is there in two spellings, and a section that is none.
    """
    table = read_table(file)
    hints: dict[str, Any] = dict.fromkeys(extras, Any)
    hints |= {name: hint for other in COMMANDS.values() for name, hint in fields_of(other).items()}
    own = {*fields_of(kind), *extras}
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    ignored: dict[str, None] = {}
    for option, path, value in _leaves(table, table.values, hints, ()):
        top = option.partition(".")[0]
        if top not in own:
            ignored[top] = None
            continue
        shaped = _shaped(value, hints[option], path, table)
        if option in values:
            if not isinstance(shaped, dict) or not isinstance(values[option], dict):
                raise ConfigurationError(
                    f"{table.at(path)}: {option!r} stands in line {lines[option]} already"
                )
            shaped = values[option] | shaped
        values[option] = shaped
        lines[option] = table.lines[path]
    return Settings(file, lines, _as_json(values), tuple(ignored))


def _above(option: str) -> Iterator[str]:
    while "." in option:
        option = option.rpartition(".")[0]
        yield option


def _leaves(
    table: YamlTable, values: Mapping[str, Any], hints: Mapping[str, Any], above: Path
) -> Iterator[tuple[str, Path, Any]]:
    """Each option that is set: its dotted name, its place in the file, its value."""
    for key, value in values.items():
        path = (*above, key)
        name = ".".join(map(str, path))
        hint = hints.get(name)
        tables = [one for one in _above(name) if hints.get(one) == dict[str, Any]]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, dict):
                raise ConfigurationError(f"{table.at(path)}: {name} is a section of options, got {value!r}")
            yield from _leaves(table, value, hints, path)
        elif hint is not None:
            yield name, path, value
        elif tables:  # rewards.choice: 1.0
            yield tables[-1], path, {name.removeprefix(f"{tables[-1]}."): value}
        else:
            raise ConfigurationError(f"{table.at(path)}: {unknown_key(name, list(hints))}")


def unknown_key(name: str, keys: Collection[str]) -> str:
    """The message for an option that does not exist: ours for TRL's, the nearest, or its section's keys."""
    section, _, last = name.rpartition(".")
    theirs = _TRL_NAMES.get(last, "")
    # In another section it is a slip: optim.epsilon is optim.eps, not algorithm.clip.
    ours = theirs.rpartition(".")[0]
    meant = theirs in keys and ("" in (section, ours) or section == ours)
    near = theirs if meant else nearest(name, keys)
    if near is not None:
        return f"unknown option {name!r}. Did you mean {near!r}?"
    return f"unknown option {name!r}; known: {of_section(section, keys)}"


def of_section(section: str, keys: Collection[str]) -> str:
    """The keys of a section, in words; all of them if it has none."""
    return ", ".join([key for key in keys if key.rpartition(".")[0] == section] or keys)


def takes_list(hint: Any) -> bool:
    """Whether an option is a list, and nothing else, that one value may stand for."""
    return all(get_origin(kind) is list for kind in _kinds(hint))


def takes_several(hint: Any) -> bool:
    """Whether an option may be a list."""
    return any(get_origin(kind) is list for kind in _kinds(hint))


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _shaped(value: Any, hint: Any, path: Path, table: YamlTable) -> Any:
    """A value as the command line would give it: one text for a list of one, texts as they are written."""
    kinds = _kinds(hint)
    lists = [kind for kind in kinds if get_origin(kind) is list]
    if isinstance(value, list):
        inner = get_args(lists[0])[0] if lists else Any
        return [_shaped(one, inner, (*path, place), table) for place, one in enumerate(value)]
    if value is None or isinstance(value, str | dict):
        return [value] if isinstance(value, str) and takes_list(hint) else value
    if takes_list(hint):
        return [_shaped(value, get_args(lists[0])[0], path, table)]
    text = table.texts.get(path, "")
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    wants_text = text in words or (str in kinds and not _fits(value, kinds))
    return text if wants_text and value not in words else value


def _fits(value: Any, kinds: Collection[Any]) -> bool:
    return type(value) in kinds or (isinstance(value, int) and float in kinds)


def _as_json(values: Mapping[str, Any]) -> str:
    """Nested by sections; dates, which JSON lacks, are texts."""
    nested: dict[str, Any] = {}
    for option, value in values.items():
        *sections, name = option.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    text = json.dumps(nested, ensure_ascii=False, default=str)
    return _NOT_IN_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
