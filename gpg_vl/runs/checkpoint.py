"""Checkpoints: written whole or not at all, rotated, resumed exactly (on a GPU: to rounding)."""

import os
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from gpg_vl.errors import CheckpointError
from gpg_vl.runs.best import read_best
from gpg_vl.runs.resume import (
    AUTO,
    checkpoint_name,
    list_checkpoints,
    newest_checkpoint,
    resumed_folder,
    step_of,
)
from gpg_vl.runs.states import read_state, write_state
from gpg_vl.runtime.files import DIGESTS, write_digests
from gpg_vl.runtime.parallel import World

_TEMPORARY = ".saving-"
_STATE = "train_state.pt"


@dataclass(frozen=True)
class TrainState:
    """What the next step depends on beside the weights and each process's own files."""

    step: int
    consumed: int
    """Questions drawn from the sampler."""
    optimizer: dict[str, Any] | None
    """None under DeepSpeed, which writes its own shards."""
    layout: str = "whole"
    """How the optimizer's state is spread; only the same layout can go on with it."""


def random_states() -> dict[str, Any]:
    """States of every random number generator a run may use, as plain numbers and tensors."""
    kind, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, np.asarray(keys).tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Set the generators back to what `random_states` gave. Raises CheckpointError for anything else."""
    try:
        random.setstate(states["python"])
        np.random.set_state(states["numpy"])
        torch.set_rng_state(states["torch"])
        if states["cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(states["cuda"])
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"the checkpoint's random states cannot be used: {error}") from error


def save_checkpoint(
    folder: Path,
    state: TrainState,
    save_model: Callable[[Path], None],
    save_shards: Callable[[Path], None],
    world: World,
    *,
    keep_last: int,
) -> Path:
    """Write `folder/step_NNNNNN/{model,state}` and drop all but the newest `keep_last` and the best.

    All processes call it: each writes its own shards, the first one the rest. Everything goes to a temporary
    folder that is renamed at the end: a killed save leaves the older checkpoints as they were. Raises
    CheckpointError on all processes if one cannot write (such as on a full disk).
    """
    target = folder / checkpoint_name(state.step)
    temporary = folder / f"{_TEMPORARY}{target.name}"

    def prepare() -> None:
        for stale in folder.glob(f"{_TEMPORARY}*"):  # of killed saves
            shutil.rmtree(stale)
        (temporary / "state").mkdir(parents=True)

    def finish() -> None:
        write_state(temporary / "state" / _STATE, vars(state))
        write_digests(temporary / "model")
        shutil.copyfile(temporary / "model" / DIGESTS, temporary / "state" / DIGESTS)
        shutil.rmtree(target, ignore_errors=True)
        os.rename(temporary, target)
        best = read_best(folder)
        for old in list_checkpoints(folder)[:-keep_last]:
            if best is None or step_of(old) != best.step:
                shutil.rmtree(old)

    try:
        _together(prepare if world.main else None, target, world)
        _together(lambda: save_model(temporary / "model"), target, world)
        _together(lambda: save_shards(temporary / "state"), target, world)
        _together(finish if world.main else None, target, world)
    except CheckpointError:
        if world.main:
            shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def _together(work: Callable[[], None] | None, target: Path, world: World) -> None:
    """Do this process's part, then wait for the others. Raises CheckpointError if one of them failed."""

    def told() -> None:
        try:
            if work is not None:
                work()
        except (OSError, RuntimeError, SafetensorError) as error:  # a full disk: each library has its own
            reason = _reason(error, target.parent)
            raise CheckpointError(
                f"cannot save {str(target)!r}: {reason}; older checkpoints are intact"
            ) from error

    world.together(told)


def _reason(error: Exception, folder: Path) -> str:
    """What went wrong; of libraries whose errors do not speak of the disk, what the disk says to a write."""
    text = str(error)
    if isinstance(error, OSError) or "os error" in text.lower():
        return text
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(1 << 20))
    except OSError as refused:
        return f"{refused.strerror} ({text})"
    return text


def find_checkpoint(folder: Path, resume: str | None) -> Path | None:
    """What `--resume` names: the newest in `folder` for `auto` (None if there is none), or a path.

    Raises CheckpointError if the path is no checkpoint, or if the run in `folder` is past it: going on from
    there would mix two histories.
    """
    if resume is None:
        return None
    if resume == AUTO:
        return newest_checkpoint(folder)
    path = resumed_folder(resume, folder)
    if not (path / "state" / _STATE).is_file():
        raise CheckpointError(f"{resume!r} is not a checkpoint: it has no state/{_STATE}")
    later = [other.name for other in list_checkpoints(folder) if other.name > path.name]
    if later:
        raise CheckpointError(
            f"{str(folder)!r} has later checkpoints than {path.name}: {', '.join(later)}; "
            "remove them, or choose another --out for the new branch"
        )
    return path


def load_state(checkpoint: Path, layout: str) -> TrainState:
    """The state beside a checkpoint's weights.

    Raises CheckpointError if it cannot be read, is another step's or another model's, or if its optimizer's
    state is spread otherwise than now.
    """
    state = _as_state(read_state(checkpoint / "state" / _STATE), checkpoint)
    if step_of(checkpoint) not in (None, state.step):
        raise CheckpointError(f"{str(checkpoint)!r} holds the state of step {state.step}")
    files = [checkpoint / part / DIGESTS for part in ("state", "model")]
    if files[0].is_file() and not (files[1].is_file() and files[0].read_bytes() == files[1].read_bytes()):
        raise CheckpointError(
            f"{str(checkpoint)!r} has another model than it was saved with; to train that, start another run "
            f"with --model.path {checkpoint / 'model'}"
        )
    if state.layout != layout:
        raise CheckpointError(
            f"{str(checkpoint)!r} holds the optimizer's state as {state.layout!r}, this launch needs "
            f"{layout!r}: launch it as before, or start another run with --model.path {checkpoint / 'model'}"
        )
    return state


def load_random_states(checkpoint: Path, rank: int) -> dict[str, Any]:
    """A process's random states; with more processes than before, those are used again in turn."""
    files = sorted((checkpoint / "state").glob("random_*.pt"))
    if not files:
        raise CheckpointError(f"{str(checkpoint)!r} has no state/random_*.pt")
    return read_state(files[rank % len(files)])


def _as_state(values: dict[str, Any], checkpoint: Path) -> TrainState:
    kinds: dict[str, Any] = {"step": int, "consumed": int, "optimizer": (dict, type(None)), "layout": str}
    wrong = [name for name, value in values.items() if not isinstance(value, kinds.get(name, ()))]
    wrong += [name for name in ("step", "consumed") if name not in wrong and values.get(name, 0) < 0]
    missing = [name for name in ("step", "consumed", "optimizer") if name not in values]
    if wrong or missing:
        raise CheckpointError(
            f"{str(checkpoint / 'state' / _STATE)!r} is no state of a run: {', '.join([*wrong, *missing])}"
        )
    return TrainState(**values)
