"""What files and words tell, before seconds go into importing torch."""

import os
from collections.abc import Sequence
from pathlib import Path

from gpg_vl.errors import ConfigurationError, DataError


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
