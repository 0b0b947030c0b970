"""The file behind `--accelerate`: accelerate's configuration of a launch, checked beforehand."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from gpg_vl.errors import ConfigurationError, unknown
from gpg_vl.runtime import deepspeed_settings
from gpg_vl.training.surroundings import check_deepspeed_package
from gpg_vl.yaml_file import read_yaml

_TYPES = ("MULTI_GPU", "DEEPSPEED")
_NUMBERS = {"num_processes": -1, "num_machines": 1, "machine_rank": 0}
"""Whole numbers of a configuration, with their least value."""
_STAGE = 2
"""Of ZeRO, where a configuration names none: accelerate's own default."""


def shipped() -> dict[str, Path]:
    """Configurations that come with this package, by the names that `--accelerate` takes."""
    folder = files("gpg_vl.configs") / "accelerate"
    return {Path(str(file)).stem: Path(str(file)) for file in folder.iterdir()}


def config_file(name: str) -> Path:
    """The file of a shipped configuration, or of the user's own."""
    known = shipped()
    if name in known:
        return known[name]
    file = Path(name).expanduser()
    if not file.is_file():
        raise ConfigurationError(f"{unknown('--accelerate', name, known)} No file has that name either.")
    return file


def read_config(file: Path) -> Any:
    """accelerate's own object of a configuration that this package can launch.

    Raises ConfigurationError for any other; where words suffice, before accelerate is imported.
    """
    _check(_words(file), file)
    from accelerate.commands.config.config_args import load_config_from_file

    try:
        return load_config_from_file(str(file))
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{str(file)!r} is no accelerate config: {error}") from error


def _words(file: Path) -> Mapping[str, Any]:
    try:
        return read_yaml(file)  # JSON is YAML too
    except ConfigurationError as error:
        raise ConfigurationError(f"{str(file)!r} is no accelerate config: {error}") from error


def _check(words: Mapping[str, Any], file: Path) -> None:
    kind = words.get("distributed_type")
    if kind not in _TYPES:
        raise ConfigurationError(
            f"{str(file)!r} has distributed_type {kind}; supported: {', '.join(_TYPES)}. "
            "For one process, leave --accelerate out"
        )
    for name, least in _NUMBERS.items():
        number = words.get(name, least)
        if type(number) is not int or number < least:
            raise ConfigurationError(f"{str(file)!r}: {name} is a whole number from {least}, got {number!r}")
    if words.get("num_machines", 1) > 1:
        for name in ("main_process_ip", "main_process_port"):
            if words.get(name) is None:
                raise ConfigurationError(f"{str(file)!r} has several machines, but no {name} where they meet")
    if kind == "DEEPSPEED":
        check_deepspeed_package()
        zero_plan(words.get("deepspeed_config"), str(file), mixed="mixed_precision" in words)


def zero_plan(plugin: Any, source: str, *, mixed: bool = False) -> tuple[int, bool]:
    """ZeRO's stage, and whether the optimizer is offloaded, of a configuration's `deepspeed_config`.

    `mixed`: `mixed_precision` stands beside it. Raises ConfigurationError for what DeepSpeed cannot do here.
    """
    if not isinstance(plugin, Mapping | None):
        raise ConfigurationError(f"{source}: deepspeed_config is a table of settings, got {plugin!r}")
    plugin = plugin or {}
    file = plugin.get("deepspeed_config_file")
    if file is None:
        stage, device = plugin.get("zero_stage", _STAGE), plugin.get("offload_optimizer_device")
        deepspeed_settings.check_stage(stage, source)
    else:
        deepspeed_settings.check_said_once([*plugin, *(["mixed_precision"] if mixed else [])], source)
        settings = deepspeed_settings.usable(deepspeed_settings.read_file(str(file)), str(file))
        zero = settings["zero_optimization"]
        stage, device = zero["stage"], zero.get("offload_optimizer", {}).get("device")
    return int(stage), device not in (None, "none")
