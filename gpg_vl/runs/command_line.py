"""The command that a configuration is: what it sets otherwise than the defaults, as options."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

from gpg_vl.config import AlgorithmConfig, SftConfig, TrainConfig
from gpg_vl.prompting.card import PIXELS, read_card


def command_line(config: TrainConfig | SftConfig) -> str:
    """`gpg-vl train …` in several lines, which is read back to an equal configuration.

    But for folders by absolute paths: of these the names stand there, since they are of one machine.
    """
    command = "train" if isinstance(config, TrainConfig) else "sft"
    words = [f"--{key} {shlex.quote(_as_word(portable(value)))}" for key, value in _set(config)]
    return " \\\n  ".join([f"gpg-vl {command}", *words])


def portable(value: Any) -> Any:
    """A value without the absolute paths in it: their last parts remain."""
    if isinstance(value, str):
        return Path(value).name if value.startswith("/") else value
    if isinstance(value, dict):
        return {portable(key): portable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [portable(entry) for entry in value]
    return value


def _set(config: TrainConfig | SftConfig) -> Iterator[tuple[str, Any]]:
    """Dotted names and values of what is no default; a checkpoint of ours has defaults of its own."""
    own = read_card(config.model.path) is not None
    spelled_out = ("prompt.", *(f"model.{name}" for name in PIXELS)) if own else ()
    for item in fields(config):
        value, default = getattr(config, item.name), _default(item)
        if isinstance(value, AlgorithmConfig):
            default = AlgorithmConfig.of(value.preset)
            if value.preset != AlgorithmConfig().preset:
                yield "algorithm.preset", value.preset
        for key, one, usual in _leaves(item.name, value, default):
            if one != usual or key.startswith(spelled_out):
                yield key, one


def _default(item: "Field[Any]") -> Any:
    return item.default_factory() if item.default_factory is not MISSING else item.default


def _leaves(key: str, value: Any, default: Any) -> Iterator[tuple[str, Any, Any]]:
    if not is_dataclass(value):
        yield key, value, default
        return
    for item in fields(value):
        yield from _leaves(f"{key}.{item.name}", getattr(value, item.name), getattr(default, item.name))


def _as_word(value: Any) -> str:
    """As the command line takes it: texts as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
