"""A LoRA checkpoint on disk: what its configuration says, and where its base model is."""

import json
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any

from safetensors import SafetensorError

from gpg_vl.errors import ConfigurationError, ModelError
from gpg_vl.runtime.files import DIGESTS
from gpg_vl.runtime.hub import fetched_models, hub_reached

ADAPTER_CONFIG = "adapter_config.json"
"""What makes a model folder a LoRA checkpoint."""
_INNER = ("model", "checkpoints")
"""Where checkpoints and runs have their models."""
UNREADABLE = (
    *(OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, EOFError),
    *(ArithmeticError, re.error, struct.error, SafetensorError, UnpicklingError),
)
"""What peft and torch raise for files that are damaged, or another model's."""


def require_peft() -> ModuleType:
    """The package peft. Raises ConfigurationError, naming the extra, where it is missing."""
    try:
        import peft  # an extra of the package
    except ModuleNotFoundError as error:
        if error.name != "peft":
            raise
        raise ConfigurationError("LoRA needs the package peft: pip install 'gpg-vl[lora]'") from error
    return peft


def is_adapter(path: str | Path) -> bool:
    """Whether a model's path is the folder of a LoRA checkpoint."""
    return (Path(path) / ADAPTER_CONFIG).is_file()


def read_adapter(folder: str | Path) -> Any:
    """peft's configuration of a LoRA checkpoint. Raises ModelError if peft cannot read it."""
    peft = require_peft()
    try:
        return peft.PeftConfig.from_pretrained(folder)
    except UNREADABLE as error:
        raise ModelError(f"{str(folder)!r} is no adapter of its base model: {error}") from error


def refuse_adapters(path: str, why: str) -> None:
    """Raise ConfigurationError for a LoRA checkpoint, with `why` it cannot be taken."""
    if (base := base_of(path)) != path:
        raise ConfigurationError(
            f"{path!r} is a LoRA checkpoint, and {why}: merge it first (`gpg-vl merge`). For training on it, "
            f"its base {base!r} is served: the trainer sends merged weights"
        )


def base_of(path: str) -> str:
    """The model that a LoRA checkpoint's adapters belong to; any other model itself.

    Raises ModelError if it is named nowhere, or is a folder that is not there or holds adapters itself;
    ConfigurationError without peft.
    """
    if not is_adapter(path):
        return path
    require_peft()
    name = _named_base(Path(path) / ADAPTER_CONFIG)
    found = next((str(place) for place in _places(name, path) if holds_model(place)), None)
    if found is None and is_local(name):
        raise ModelError(_gone(name, path))
    if found is not None and is_adapter(found):
        raise ModelError(
            f"the base model of {path!r} is a LoRA checkpoint too, {found!r}: merge that one first"
        )
    return found or name


def lasting_name(path: str) -> str:
    """A model's name for adapters to store: a folder's is absolute, so that it holds in any directory."""
    folder = Path(path).expanduser()
    return os.path.abspath(folder) if folder.is_dir() else path


def _named_base(file: Path) -> str:
    try:
        base = json.loads(file.read_text())["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{str(file)!r} does not say which model it belongs to ({error!r})") from error
    if not isinstance(base, str) or not base:
        raise ModelError(f"{str(file)!r} names no base_model_name_or_path, but {base!r}")
    return base


def _places(name: str, path: str) -> Iterator[Path]:
    """Where a base model may be: as named, else seen from the adapter's folder or from one above it."""
    named = Path(name).expanduser()
    yield named
    if not named.is_absolute():
        own = Path(os.path.abspath(path))
        yield from (folder / named for folder in (own, *own.parents))


def holds_model(folder: Path) -> bool:
    """Whether a folder is a model's, or a LoRA checkpoint's."""
    return any((folder / name).is_file() for name in ("config.json", ADAPTER_CONFIG))


def is_local(name: str) -> bool:
    """Whether a name cannot be a hub id, which is OWNER/NAME."""
    return name.startswith((".", "/", "~")) or name.count("/") != 1


def check_local(path: str) -> None:
    """Raise ModelError for what is plainly neither a folder that is there nor a hub id."""
    if not os.path.isdir(path) and is_local(path):
        raise ModelError(f"{path!r} is not a model: there is no such folder, and hub ids are OWNER/NAME")


def check_fetched(path: str) -> None:
    """Raise ModelError for a hub id that cannot be fetched now, and was not before; names what is here."""
    if os.path.isdir(path) or hub_reached():
        return
    fetched = fetched_models()
    if path in fetched:
        return
    name = path.rpartition("/")[2]
    beside = f"; there is a folder {name!r}" if holds_model(Path(name)) else ""
    raise ModelError(
        f"{path!r} is no folder here and was not fetched before, and the hub cannot be reached: there is no "
        f"network, or HF_HUB_OFFLINE is set. Fetch it where there is one (hf download {path}), or name a "
        f"model's folder{beside}. Fetched models: {', '.join(fetched) or 'none'}"
    )


def check_model(path: str) -> None:
    """Raise ModelError for what is plainly neither a model folder nor a hub id that can be had.

    A folder with others inside is left to what loads it, which knows where a run has its models.
    """
    check_local(path)
    inside = holds_model(Path(path)) or any((Path(path) / name).exists() for name in _INNER)
    if os.path.isdir(path) and not inside:
        raise ModelError(f"{path!r} is not a model: it has no config.json")
    check_fetched(path)


def _gone(name: str, path: str) -> str:
    sealed = f", and remove {DIGESTS} beside it" if (Path(path) / DIGESTS).is_file() else ""
    where = "" if Path(name).expanduser().is_absolute() else ", neither here nor beside the adapters or above"
    return (
        f"the base model of {path!r} is not there: its {ADAPTER_CONFIG} names {name!r}, and no model is in "
        f"that folder{where}; write where it is now into that file's base_model_name_or_path{sealed}"
        f"{_hint(name, path)}"
    )


def _hint(name: str, path: str) -> str:
    """A model of the same name that lies as it would if both had been moved together."""
    parts, own = Path(name).parts, Path(os.path.abspath(path))
    tails = (Path(*parts[start:]) for start in range(1, len(parts)))
    places = (folder / tail for tail in tails for folder in own.parents)
    found = next((place for place in places if place != own and holds_model(place)), None)
    return f" (is it {str(found)!r}?)" if found else ""
