"""Checkpoints: written whole or not at all, rotated, resumed exactly."""

import os
import pickle
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from gpg_vl.errors import CheckpointError

_PREFIX = "step_"
_TEMPORARY = ".saving-"


@dataclass(frozen=True)
class TrainState:
    """Everything beside the weights that the next step depends on."""

    step: int
    consumed: int
    """Questions drawn from the sampler."""
    optimizer: dict[str, Any]
    random: dict[str, Any]


def random_states() -> dict[str, Any]:
    """States of every random number generator a run may use."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Set the generators back to what `random_states` gave."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])


def save_checkpoint(
    folder: Path, state: TrainState, save_model: Callable[[Path], None], *, keep_last: int
) -> Path:
    """Write `folder/step_NNNNNN/{model,state}` and drop all but the newest `keep_last`.

    Everything goes to a temporary folder that is renamed at the end: a killed save leaves the older
    checkpoints as they were. Raises CheckpointError if it cannot be written (such as a full disk).
    """
    target = folder / f"{_PREFIX}{state.step:06d}"
    temporary = folder / f"{_TEMPORARY}{target.name}"
    for stale in folder.glob(f"{_TEMPORARY}*"):  # of killed saves
        shutil.rmtree(stale)
    try:
        (temporary / "state").mkdir(parents=True)
        save_model(temporary / "model")
        torch.save(vars(state), temporary / "state" / "train_state.pt")
        shutil.rmtree(target, ignore_errors=True)
        os.rename(temporary, target)
    except (OSError, RuntimeError, SafetensorError) as error:  # a full disk: each library has its own
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(
            f"cannot save {str(target)!r}: {error}; older checkpoints are intact"
        ) from error
    for old in list_checkpoints(folder)[:-keep_last]:
        shutil.rmtree(old)
    return target


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(path for path in folder.glob(f"{_PREFIX}*") if (path / "state").is_dir())


def find_checkpoint(folder: Path, resume: str | None) -> Path | None:
    """What `--resume` names: the newest in `folder` for `auto` (None if there is none), or a path.

    Raises CheckpointError if the path is no checkpoint, or if the run in `folder` is past it: going on from
    there would mix two histories.
    """
    if resume is None:
        return None
    if resume == "auto":
        return next(iter(reversed(list_checkpoints(folder))), None)
    path = Path(resume)
    if not (path / "state" / "train_state.pt").is_file():
        raise CheckpointError(f"{resume!r} is not a checkpoint: it has no state/train_state.pt")
    later = [other.name for other in list_checkpoints(folder) if other.name > path.name]
    if later:
        raise CheckpointError(
            f"{str(folder)!r} has later checkpoints than {path.name}: {', '.join(later)}; "
            "remove them, or choose another --out for the new branch"
        )
    return path


def load_state(checkpoint: Path) -> TrainState:
    """The state beside a checkpoint's weights. Raises CheckpointError if it cannot be read."""
    try:
        # Our own file; random states are plain Python and numpy objects, which weights_only refuses.
        values = torch.load(checkpoint / "state" / "train_state.pt", map_location="cpu", weights_only=False)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"cannot read {str(checkpoint)!r}: {error}") from error
    return TrainState(**values)
