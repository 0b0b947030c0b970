"""Out of memory: the processes say what still fits, and all go on with the least of it."""

import gc
import sys
import traceback
from dataclasses import dataclass

import torch

from gpg_vl.runtime.parallel import World


@dataclass(frozen=True)
class Fit:
    """What one process says of its memory."""

    limit: int
    """Of what it computes at a time: the most that may fit."""
    tries: int = 0
    """How often it ran out since processes last agreed."""
    end: str = ""
    """Its error, where nothing smaller is left to try."""


def agree(world: World, own: Fit, option: str, error: torch.OutOfMemoryError | None) -> tuple[int, int]:
    """The least limit of all processes, and how often they ran out, which stderr says; all call it.

    Raises OutOfMemoryError on all of them if one is at its end, whose `error` it is there.
    """
    fits = world.gather([own])
    for rank, fit in enumerate(fits):
        if fit.end:
            raise error or torch.OutOfMemoryError(f"rank {rank} of {world.size}: {fit.end}")
    limit, tries = min(fit.limit for fit in fits), sum(fit.tries for fit in fits)
    if tries and world.main:
        ranks = ", ".join(str(rank) for rank, fit in enumerate(fits) if fit.tries)
        where = f" on rank {ranks}" if world.size > 1 else ""
        print(f"out of memory{where}: going on with {option} {limit}", file=sys.stderr)
    return limit, tries


def let_go(error: torch.OutOfMemoryError) -> None:
    """Free what the failed try holds: its traceback has the local variables of every function it left."""
    traceback.clear_frames(error.__traceback__)


def ended(error: torch.OutOfMemoryError | None) -> str:
    """An error with its notes, for processes that had none."""
    return (
        "\n".join([str(error) or repr(error), *getattr(error, "__notes__", ())]) if error is not None else ""
    )


def release_memory() -> None:
    """Give back what is free on the device; behind an `except`: its error holds the failed try's tensors."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
