"""What a launcher may ask of DeepSpeed: how the state is spread, not what is computed.

Dictionaries, files and environment variables; nothing heavy is imported.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gpg_vl.errors import ConfigurationError, nearest

FILE = "ACCELERATE_DEEPSPEED_CONFIG_FILE"
_STAGE = "ACCELERATE_DEEPSPEED_ZERO_STAGE"
_STAGES = range(1, 4)
"""ZeRO: 3 spreads everything; with 0, DeepSpeed tells nobody the gradient's norm."""
_OURS = {
    "train_batch_size": "algorithm.questions_per_step",
    "train_micro_batch_size_per_gpu": "run.micro_batch_tokens",
    "gradient_accumulation_steps": "run.micro_batch_tokens",
    "gradient_clipping": "optim.max_grad_norm",
}
"""Settings that most files have, and which option of ours decides instead."""
_OF_THE_FILE = (
    *("gradient_accumulation_steps", "gradient_clipping", "zero_stage", "mixed_precision"),
    *("offload_optimizer_device", "offload_optimizer_nvme_path", "zero3_save_16bit_model"),
    *("offload_param_device", "offload_param_nvme_path"),
)
"""What accelerate refuses in its own configuration where that names a DeepSpeed file."""
_FORBIDDEN = {
    **dict.fromkeys(("optimizer", "scheduler"), "optim.* decides"),
    **dict.fromkeys(("fp16", "bf16", "bfloat16", "amp", "torch_autocast"), "model.precision decides"),
}
_SPREAD = (
    *("zero_optimization", "zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer", "checkpoint"),
    *("communication_data_type", "disable_allgather", "aio", "activation_checkpointing"),
    *("steps_per_print", "wall_clock_breakdown", "memory_breakdown", "dump_state", "flops_profiler"),
    *("comms_logger", "tensorboard", "wandb", "csv_monitor", "comet", "log_level", "disable_python_gc"),
)
"""Settings that change no number, except by rounding."""
_INEXACT = (
    *("zero_quantized_weights", "zero_quantized_nontrainable_weights", "zero_quantized_gradients"),
    *("loco_param", "zenflow"),
)
"""Those of `zero_optimization` that change numbers by more than that."""


def asked_for() -> bool:
    """Whether the launcher asks for DeepSpeed."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"


def check_asked() -> None:
    """Raise ConfigurationError for what a launcher asks of DeepSpeed and cannot have."""
    if file := os.environ.get(FILE):
        check_said_once(os.environ.get("ACCELERATE_CONFIG_DS_FIELDS", "").split(","), file)
        usable(read_file(file), file)
    check_stage(os.environ.get(_STAGE, "2"), _STAGE)


def asked_numbers() -> dict[str, Any]:
    """What the launcher says of the numbers that our options decide."""
    asked: dict[str, Any] = {
        name: _number(os.environ[f"ACCELERATE_{name.upper()}"])
        for name in _OURS
        if f"ACCELERATE_{name.upper()}" in os.environ
    }
    file = os.environ.get(FILE)
    return asked | (read_file(file) if file and asked_for() else {})


def _number(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def check_said_once(fields: Iterable[str], source: str) -> None:
    """Raise ConfigurationError for an accelerate configuration's fields that belong into DeepSpeed's file."""
    for name in fields:
        if name in _OF_THE_FILE:
            raise ConfigurationError(
                f"{source}: {name} cannot stand beside deepspeed_config_file: only DeepSpeed's file is read"
            )


def check_stage(stage: Any, source: str) -> None:
    """Raise ConfigurationError unless it is a ZeRO stage, as a number or, in a variable, as text."""
    if isinstance(stage, bool) or stage not in (*_STAGES, *map(str, _STAGES)):
        raise ConfigurationError(f"{source}: the ZeRO stage is 1 to 3 here, got {stage!r}; for 0 use ddp")


def read_file(file: str) -> dict[str, Any]:
    """A DeepSpeed configuration; raises ConfigurationError for what is none."""
    try:
        settings = json.loads(Path(file).read_text(), object_pairs_hook=_each_once)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"deepspeed_config_file {file!r} cannot be read: {error}") from error
    if not isinstance(settings, dict):
        raise ConfigurationError(f"deepspeed_config_file {file!r} holds no JSON object")
    return settings


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = {name for name, _ in pairs if [other for other, _ in pairs].count(name) > 1}
    if twice:
        raise ValueError(f"{min(twice)!r} stands there twice")
    return dict(pairs)


def usable(settings: Mapping[str, Any], source: str) -> dict[str, Any]:
    """What DeepSpeed is to read of settings that come from `source`.

    Left out is what our options decide, what is off, and null or "auto", which is DeepSpeed's default. Raises
    ConfigurationError for what would train otherwise than the run's config.yaml says.
    """
    zero = settings.get("zero_optimization")
    if not isinstance(zero, Mapping):
        raise ConfigurationError(f"{source}: 'zero_optimization' must be a table with a stage, got {zero!r}")
    check_stage(zero.get("stage", 0), source)
    for name in ("offload_optimizer", "offload_param"):
        if not isinstance(zero.get(name), Mapping | None):
            raise ConfigurationError(f"{source}: {name!r} must be a table with a device, got {zero[name]!r}")
    _refuse(source, [name for name in _INEXACT if zero.get(name) not in (None, False, "auto")])
    kept = {name: value for name, value in settings.items() if name not in _OURS and not _is_off(value)}
    _refuse(source, [name for name in kept if name not in _SPREAD])
    return _without_blanks(kept | {"zero_optimization": zero})


def _refuse(source: str, names: list[str]) -> None:
    for name in names:
        reason = _FORBIDDEN.get(name, "training would not be what config.yaml says")
        near = nearest(name, (*_SPREAD, *_OURS)) if name not in (*_FORBIDDEN, *_INEXACT) else None
        hint = f". Did you mean {near!r}?" if near else ""
        raise ConfigurationError(f"{source}: remove {name!r} for gpg-vl: {reason}{hint}")


def _is_off(value: Any) -> bool:
    if isinstance(value, Mapping):
        return not value or ("enabled" in value and _is_off(value["enabled"]))
    return value is None or value is False or value == "auto"


def _without_blanks(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_blanks(value) if isinstance(value, Mapping) else value
        for name, value in settings.items()
        if value not in (None, "auto")
    }


def not_followed(settings: Mapping[str, Any], max_grad_norm: float) -> list[str]:
    """Settings that say otherwise than we do, each with the option that decides it."""
    ours = {"gradient_accumulation_steps": 1, "train_micro_batch_size_per_gpu": 1}
    followed: dict[str, Any] = ours | {"gradient_clipping": max_grad_norm}
    return [
        f"{name} {settings[name]} ({option} decides)"
        for name, option in _OURS.items()
        if settings.get(name, "auto") not in (None, "auto", followed.get(name))
    ]
