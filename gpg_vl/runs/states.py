"""Files of torch in a checkpoint: written so that a full disk is named, read so that nothing in them runs."""

import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import _reconstruct  # what numpy itself names in its pickles
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from gpg_vl.errors import CheckpointError
from gpg_vl.runtime.parallel import World

_NUMPY: list[Any] = [_reconstruct, np.ndarray, np.dtype, type(np.dtype(np.uint32))]
"""In random states of earlier versions."""
_DEEPSPEED = {
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "deepspeed.runtime.fp16.loss_scaler.LossScaler",
    "deepspeed.runtime.zero.config.ZeroStageEnum",
    "deepspeed.utils.tensor_fragment.fragment_address",
}
"""What DeepSpeed's shards hold beside numbers, at ZeRO 1 to 3."""


def write_state(file: Path, values: dict[str, Any]) -> None:
    """Write tensors, numbers, texts and containers of these. Raises OSError if the disk is full."""
    with file.open("wb") as stream:  # a path would go past Python, and torch's error does not speak of disks
        torch.save(values, stream)


def read_state(file: Path) -> dict[str, Any]:
    """What `write_state` wrote. Raises CheckpointError for a file that is damaged, or holds anything else."""
    _check_whole(file)
    try:
        with safe_globals(_NUMPY):
            values = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's own words tell how to run it all the same
        raise CheckpointError(
            f"cannot read {str(file)!r}: it is damaged, or holds more than numbers and would run something: "
            "do not use it"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(f"cannot read {str(file)!r}: {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{str(file)!r} is no state of a run")
    return values


def check_shards(folder: Path, world: World) -> None:
    """Raise CheckpointError unless DeepSpeed, which unpickles its shards, would run nothing but its own.

    The processes share the files, and raise together: none of them unpickles before all are looked at.
    """
    world.together(lambda: _check_shards(world.own(sorted(folder.rglob("*.pt")))))


def _check_shards(files: Sequence[Path]) -> None:
    for file in files:
        _check_whole(file)
        try:
            foreign = set(get_unsafe_globals_in_checkpoint(file)) - _DEEPSPEED
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise CheckpointError(f"cannot read {str(file)!r}: {str(error).splitlines()[0]}") from error
        if foreign:
            raise CheckpointError(
                f"{str(file)!r} would run {', '.join(sorted(foreign))}, which no checkpoint needs: "
                "do not use it"
            )


def _check_whole(file: Path) -> None:
    """torch writes checksums and does not look at them; an older format, or TorchScript, is none of ours."""
    try:
        with zipfile.ZipFile(file) as archive:
            program = any(name.endswith("constants.pkl") for name in archive.namelist())
            damaged = None if program else archive.testzip()
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"cannot read {str(file)!r}: {error}") from error
    if program:
        raise CheckpointError(f"{str(file)!r} holds a program, not a state")
    if damaged is not None:
        raise CheckpointError(f"cannot read {str(file)!r}: {damaged} in it is damaged")
