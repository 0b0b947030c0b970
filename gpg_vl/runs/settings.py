"""What a run that goes on may change of its settings, so that config.yaml is what happens."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from gpg_vl.config import SftConfig, TrainConfig
from gpg_vl.errors import CheckpointError, ConfigurationError
from gpg_vl.options import to_yaml
from gpg_vl.yaml_file import read_yaml

# A resumed run may change these; anything else would make it another run.
_MAY_CHANGE = (
    "out",
    "eval",
    "data.workers",
    "run.save_every",
    "run.keep_last",
    "run.keep_best",
    "run.best_by",
    "run.max_nonfinite",
    "run.phase_limit",
    "run.trackers",
    "run.log_groups",
    "run.profile",
    "run.shutdown_grace",
    "run.threads",
    "run.micro_batch_tokens",
    "run.packing",
    "rollout.max_concurrent",
    "rollout.cuda_graphs",
    "rollout.fused_attention",
    "rollout.engine",
    "rollout.server",
    "rollout.vllm",
    "rollout.gap_warning",
    "model.gradient_checkpointing",
    "model.compile",
    "model.attention",
    "optim.offload",
)
_BRANCH = (*_MAY_CHANGE, "optim", "run.steps")
"""So may a run that goes on elsewhere: the optimizer keeps its moments, and follows the new settings."""
_KEPT = ("optim.kind",)
"""But not these of them: moments of one kind are none of another."""
_SHOWN = 5


def changed_settings(
    before: Mapping[str, Any], config: TrainConfig | SftConfig, *, branch: bool = False
) -> list[str]:
    """What a run has changed, in words, of settings that would make it another one.

    `branch`: it goes on in another folder than it began in.
    """
    may_change: tuple[str, ...] = _BRANCH if branch else _MAY_CHANGE
    if config.optim.schedule == "constant":  # the others end at run.steps
        may_change += ("run.steps",)
    now = yaml.safe_load(to_yaml(config))
    if _command(before) != _command(now):
        return [f"the command was {_command(before)}, now {_command(now)}"]
    old, new = _defaults(config) | _flat(before), _flat(now)
    return [
        f"{key} was {old.get(key)!r}, now {new.get(key)!r}"
        for key in sorted(_flat(before).keys() | new.keys())
        if (key in _KEPT or not key.startswith(may_change)) and not _same(key, old.get(key), new.get(key))
    ]


def _command(settings: Mapping[str, Any]) -> str:
    return "train" if "algorithm" in settings else "sft"


def check_branch(checkpoint: Path, config: TrainConfig | SftConfig) -> None:
    """Look whether a run can go on in `config.out` from the checkpoint of another one.

    Raises CheckpointError if nothing says how that was trained, ConfigurationError if it was otherwise.
    """
    places = (checkpoint / "state" / "config.yaml", checkpoint.resolve().parents[1] / "config.yaml")
    file = next((place for place in places if place.is_file()), None)
    cure = f"start a new run from its weights: --model.path {checkpoint / 'model'}"
    if file is None:
        raise CheckpointError(
            f"{str(checkpoint)!r} has no state/config.yaml, which says how it was trained; {cure}"
        )
    if changed := changed_settings(read_yaml(file), config, branch=True):
        raise ConfigurationError(
            f"{str(checkpoint)!r} was trained with other settings: {listed(changed)}. Resume with those, "
            f"or {cure}"
        )


def listed(changed: Sequence[str]) -> str:
    """The first few of what has changed."""
    more = f"; and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    return f"{'; '.join(changed[:_SHOWN])}{more}"


_PATHS = ("model.path", "data.train", "data.validation")


def _same(key: str, before: Any, now: Any) -> bool:
    """Whether two values of a setting mean the same: paths the same place, however they are written."""
    if key not in _PATHS or before is None or now is None:
        return bool(before == now)
    return [_place(path) for path in _listed(before)] == [_place(path) for path in _listed(now)]


def _listed(value: Any) -> list[str]:
    return list(value) if isinstance(value, list) else [value]


def _place(path: Any) -> str:
    """The folder that a path leads to; a hub id would only be another one if a folder hid it."""
    return os.path.realpath(os.path.expanduser(str(path)))


def _defaults(options: Any, prefix: str = "") -> dict[str, Any]:
    """What options are where a file, such as one of an earlier version, does not name them; dotted keys."""
    found: dict[str, Any] = {}
    for item in fields(options):
        key, value = f"{prefix}{item.name}", getattr(options, item.name)
        if is_dataclass(value):
            found |= _defaults(value, f"{key}.")
        elif item.default is not MISSING:
            found[key] = list(item.default) if isinstance(item.default, tuple) else item.default
        elif item.default_factory is not MISSING:
            found[key] = item.default_factory()
    return found


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys; the file of a reward by the place that it leads to."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if prefix.startswith("rewards.") and ".py:" in key:
            file, _, name = key.rpartition(":")
            key = f"{_place(file)}:{name}"
        if isinstance(value, dict) and value:
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
