"""What files and words tell, before seconds go into importing torch."""

import os
from collections.abc import Sequence
from pathlib import Path

from gpg_vl.config import SftConfig, TrainConfig
from gpg_vl.data.manifest import check_prepared
from gpg_vl.errors import ConfigurationError, DataError, ModelError
from gpg_vl.model.adapter_files import check_local, holds_model
from gpg_vl.runs.resume import AUTO, check_unused, newest_checkpoint, resumed_folder
from gpg_vl.scoring.scorer import Scorer

_INNER = ("model", "checkpoints")
"""Where checkpoints and runs have their models."""


def check_training(config: TrainConfig | SftConfig, resume: str | None) -> None:
    """Raise the UserError that `train` or `sft` would end with for want of a folder, file or reward."""
    checkpoints = Path(config.out) / "checkpoints"
    if resume is None:
        check_unused(config.out)
    elif resume != AUTO:
        resumed_folder(resume, checkpoints)
    if isinstance(config, TrainConfig):
        Scorer(config.rewards)
    for folder in [*config.data.train, *config.data.validation]:
        check_prepared(folder)
    if resume is None or (resume == AUTO and newest_checkpoint(checkpoints) is None):
        check_model(config.model.path)  # a checkpoint has weights of its own


def check_model(path: str) -> None:
    """Raise ModelError for what is plainly neither a model folder nor a hub id.

    A folder with others inside is left to what loads it, which knows where a run has its models.
    """
    check_local(path)
    inside = holds_model(Path(path)) or any((Path(path) / name).exists() for name in _INNER)
    if os.path.isdir(path) and not inside:
        raise ModelError(f"{path!r} is not a model: it has no config.json")


def check_files(paths: Sequence[str]) -> None:
    """Raise DataError for a file that is not there."""
    for path in paths:
        if not os.path.isfile(path):
            raise DataError(f"there is no file {path!r}")


def check_folder(path: str, kind: str) -> None:
    """Raise DataError for a folder that is not there."""
    if not os.path.isdir(path):
        raise DataError(f"there is no {kind} {path!r}")


def check_new(path: str | None, option: str) -> None:
    """Raise ConfigurationError if what an option is to write is there already, or cannot be."""
    if path is None:
        return
    if not path:
        raise ConfigurationError(f"{option} is empty")
    if os.path.lexists(path):
        raise ConfigurationError(f"{path!r} exists already; remove it or choose another {option}")
    above = next(folder for folder in Path(path).absolute().parents if os.path.lexists(folder))
    if not above.is_dir():
        raise ConfigurationError(f"{option} {path!r} cannot be written: {str(above)!r} is a file")


def at_least(least: int, value: int | None, option: str) -> None:
    """Raise ConfigurationError for a number that is below its least."""
    if value is not None and value < least:
        raise ConfigurationError(f"{option} must be at least {least}, got {value}")
