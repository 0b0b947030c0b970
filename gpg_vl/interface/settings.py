"""A run's configuration from Python's arguments, with the checks and defaults of the command line."""

import itertools
import json
from collections.abc import Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import Any, TypedDict, TypeVar

from gpg_vl.checks import known_options
from gpg_vl.config import SftConfig, TrainConfig
from gpg_vl.errors import ConfigurationError
from gpg_vl.evaluation.model import Model
from gpg_vl.interface.data import RUNS, STORE, Data, folders, parts
from gpg_vl.interface.rewards import Rewards, reward_table
from gpg_vl.options import load_config
from gpg_vl.runtime.parallel import joined

Section = Mapping[str, Any]
"""Options of one section of the configuration, such as {"group_size": 16}; docs/python.md lists them."""
Config = TypeVar("Config", TrainConfig, SftConfig)


class Settings(TypedDict, total=False):
    """What a run is told beside a file; every option of `gpg-vl train` is in one of the sections."""

    model: "str | Path | Model | Section"
    """Folder or hub id; or a section, such as {"path": …, "lora_rank": 16}."""
    data: "Data | Section"
    """Rows, a file of rows, or prepared folders; or a section, such as {"train": […], "workers": 4}."""
    validation: Data | float
    """What the run is evaluated on: a part of the training source, never a benchmark. Or a share of the rows
    in `data`, from 0 to 1, that has no image in common with the rest, and no question where they differ."""
    rewards: Rewards
    """Names and functions; a list, or a table with weights."""
    steps: int
    """Rollouts (`train`) or optimizer steps (`sft`); short for run={"steps": …}."""
    out: str | Path
    """Run folder, which must not exist; left out, the next free runs/train_NNN."""
    prompt: Section
    rollout: Section
    algorithm: Section
    optim: Section
    run: Section
    eval: Section


def configure(kind: type[Config], config: Config | str | Path | None, settings: Settings) -> Config:
    """The configuration of `config`, a YAML file or none, with `settings` over it.

    Raises ConfigurationError for unknown options (naming the nearest known one), wrong types, values out of
    range, and settings at odds with each other.
    """
    if config is None or isinstance(config, str | Path):
        return load_config(kind, _command(kind, config, dict(settings)))
    if not isinstance(config, kind):
        raise ConfigurationError(
            f"config is a YAML file or a {kind.__name__}, got {config!r:.80}; options go by name, such as "
            "model=…, data=…"
        )
    if settings:
        raise ConfigurationError(
            f"a {type(config).__name__} is complete: give no {', '.join(settings)} beside it"
        )
    return config


def _command(kind: type, file: str | Path | None, settings: dict[str, Any]) -> list[str]:
    """What would be typed."""
    known_options(settings, Settings.__annotations__, "argument")
    if settings.get("out") is None:
        settings.pop("out", None)
        if file is None:
            # A first process that is ahead may have made the folder that others still look for.
            settings["out"] = joined().gather([_free(Path(RUNS), kind)])[0]
    if kind is SftConfig and "rewards" in settings:
        raise ConfigurationError("rewards: supervised fine-tuning has none, it learns the gold answers")
    store = Path(settings.get("out", f"{RUNS}/_")).parent / STORE
    words = [] if file is None else [f"--config={file}"]
    return [*words, *_words(_as_options(settings, store))]


def _free(folder: Path, kind: type) -> str:
    name = "train" if kind is TrainConfig else "sft"
    return next(str(path) for n in itertools.count(1) if not (path := folder / f"{name}_{n:03d}").exists())


def _as_options(values: dict[str, Any], store: Path) -> dict[str, Any]:
    """Python's arguments as sections of options."""
    options = dict(values)
    if "model" in options and not isinstance(options["model"], Mapping):
        model = options["model"]
        options["model"] = {"path": model.path if isinstance(model, Model) else str(model)}
    options["data"] = _data_section(options.pop("data", {}), options.pop("validation", None), store)
    if "rewards" in options:
        options["rewards"] = reward_table(options["rewards"])
    if (steps := options.pop("steps", None)) is not None:
        options["run"] = {**options.get("run", {}), "steps": steps}
    return options


def _data_section(data: Any, validation: Data | float | None, store: Path) -> dict[str, Any]:
    if isinstance(validation, Real):
        train, held_out = parts(data, float(validation), store)
        return {"train": train, "validation": held_out}
    section = dict(data) if isinstance(data, Mapping) else {"train": data}
    if validation is not None:
        section["validation"] = validation
    given = {part: folders(section[part], store) for part in ("train", "validation") if part in section}
    return section | given


def _words(options: Mapping[str, Any], prefix: str = "--") -> Iterator[str]:
    """As on the command line, which checks them."""
    for name, value in options.items():
        if isinstance(value, Mapping) and name != "rewards":
            yield from _words(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}={_text(value, f'{prefix[2:]}{name}')}"


def _text(value: Any, name: str) -> str:
    """As it would be typed; numbers of numpy and torch as Python's."""
    try:
        return str(value) if isinstance(value, str | Path) else json.dumps(value, default=_plain)
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{name}: no option holds this, got {value!r:.80}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return value.tolist()  # nothing else has it
