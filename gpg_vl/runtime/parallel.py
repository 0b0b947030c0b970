"""Several processes: who takes which of the items that all of them hold, and how they agree.

Every rank holds the same list of items and, after `World.gather`, the same results, so whatever follows
from them (the threshold, alpha, divisors, metrics) is worked out alike everywhere and needs no collective.
One process is the same code with nothing to gather.
"""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from accelerate.utils import gather_object, wait_for_everyone
from torch import Tensor
from torch.distributed import (
    DistError,
    all_reduce,
    broadcast,
    get_rank,
    get_world_size,
    is_initialized,
)

from gpg_vl.errors import ConfigurationError, UserError
from gpg_vl.runtime.launched import CURE, place

T = TypeVar("T")
_SILENCE = 10.0
"""Seconds after which a process says what it waits for."""
BUCKET = 32 * 2**20
"""Numbers that are added up at a time: enough for a network, little beside the weights."""


@dataclass(frozen=True)
class World:
    """The processes of a launch."""

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this rank writes the files."""
        return self.rank == 0

    def own(self, items: Sequence[T]) -> list[T]:
        """This rank's share of a list that all ranks hold: every `size`-th."""
        return list(items[self.rank :: self.size])

    def gather(self, own: Sequence[T]) -> list[T]:
        """Every rank's share, interleaved as `own` dealt them out; called by all ranks alike."""
        if self.size == 1:
            return list(own)
        shares: list[list[T]] = gather_object([list(own)])
        longest = max(len(share) for share in shares)
        return [share[k] for k in range(longest) for share in shares if k < len(share)]

    def any(self, flag: bool) -> bool:
        """Whether it is so on any rank."""
        return any(self.gather([flag]))

    def together(self, work: Callable[[], T]) -> T:
        """What this process's part gives; a mistake that one of them finds is raised on all."""
        done: list[T] = []
        failed: UserError | None = None
        try:
            done.append(work())
        except UserError as error:
            failed = error
        failures = [error for error in self.gather([failed]) if error is not None]
        if failures:
            raise failures[0]
        return done[0]

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors by those of the first rank; all ranks hold as many, of the same shapes."""
        if self.size > 1:
            for tensor in tensors:
                whole = tensor.contiguous()
                broadcast(whole, src=0)
                if not tensor.is_contiguous():
                    tensor.copy_(whole)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks, which hold as many, of the same shapes."""
        if self.size > 1:
            for bucket in buckets(tensors, BUCKET):
                _add_up_together(bucket)

    def wait(self) -> None:
        """Return once all ranks are here."""
        if self.size > 1:
            wait_for_everyone()


def joined() -> World:
    """The processes that have met already; before that, this one alone."""
    return World(get_rank(), get_world_size()) if is_initialized() else World()


def buckets(tensors: Sequence[Tensor], size: int) -> list[list[Tensor]]:
    """Neighbours of one type, at most `size` numbers together; a larger tensor stands alone."""
    parts: list[list[Tensor]] = []
    room = 0
    for tensor in tensors:
        if parts and tensor.numel() <= room and tensor.dtype == parts[-1][0].dtype:
            parts[-1].append(tensor)
            room -= tensor.numel()
        else:
            parts.append([tensor])
            room = size - tensor.numel()
    return parts


def _add_up_together(bucket: Sequence[Tensor]) -> None:
    if len(bucket) == 1 and bucket[0].is_contiguous():
        all_reduce(bucket[0])
        return
    flat = torch.cat([tensor.flatten() for tensor in bucket])
    all_reduce(flat)
    for tensor, part in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
        tensor.copy_(part.view_as(tensor))


@contextlib.contextmanager
def joining() -> Iterator[None]:
    """Around what waits for all processes of the launch: says on stderr so if it takes long.

    Raises ConfigurationError where they cannot meet.
    """
    here = place()
    if here is None:
        yield
        return
    note = (
        f"gpg-vl: rank {here.rank} of {here.size} (RANK, WORLD_SIZE) still waits for the others at "
        f"{here.meeting} (MASTER_ADDR, MASTER_PORT). If there are none: {CURE}"
    )
    timer = threading.Timer(_SILENCE, print, [note], {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    except DistError as error:
        raise ConfigurationError(
            f"rank {here.rank} of {here.size} cannot meet the others at {here.meeting}: {error}"
        ) from error
    finally:
        timer.cancel()
