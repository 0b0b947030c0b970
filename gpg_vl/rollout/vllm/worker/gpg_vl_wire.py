"""Weights on their way from a trainer to vLLM's workers: packed, and over a process group of their own.

Trainer and workers both use this file; it needs torch alone.
"""

import contextlib
import math
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

dist: Any = torch.distributed  # whose groups are hardly typed
_ALIGNED = 16
"""Bytes: every packed tensor begins at a multiple, which any type's elements may."""


@dataclass(frozen=True)
class Packed:
    """Tensors behind each other as bytes, and what they are."""

    data: Tensor
    """(bytes,) uint8."""
    names: list[str]
    dtypes: list[str]
    """Names of torch's types, such as bfloat16."""
    shapes: list[list[int]]

    def to(self, device: torch.device) -> "Packed":
        """The same on a device."""
        return Packed(self.data.to(device), self.names, self.dtypes, self.shapes)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Names and tensors, which are views."""
        return unpack(self.data, self.names, self.dtypes, self.shapes)

    @classmethod
    def join(cls, parts: "Sequence[Packed]") -> "Packed":
        """These behind each other."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            torch.cat([part.data for part in parts]),
            [name for part in parts for name in part.names],
            [dtype for part in parts for dtype in part.dtypes],
            [shape for part in parts for shape in part.shapes],
        )


def pack(named: Sequence[tuple[str, Tensor]]) -> Packed:
    """Copy tensors of one device into one piece of memory there."""
    pieces = []
    for _, tensor in named:
        raw = tensor.detach().contiguous().flatten().view(torch.uint8)
        pieces.append(torch.nn.functional.pad(raw, (0, -len(raw) % _ALIGNED)))
    return Packed(
        torch.cat(pieces),
        [name for name, _ in named],
        [str(tensor.dtype).removeprefix("torch.") for _, tensor in named],
        [list(tensor.shape) for _, tensor in named],
    )


def unpack(
    data: Tensor, names: Iterable[str], dtypes: Iterable[str], shapes: Iterable[Sequence[int]]
) -> Iterator[tuple[str, Tensor]]:
    """The tensors of packed `data`, as views of it."""
    start = 0
    for name, dtype, shape in zip(names, dtypes, shapes, strict=True):
        kind = getattr(torch, dtype)
        size = math.prod(shape) * kind.itemsize
        yield name, data[start : start + size].view(kind).view(*shape)
        start += size + -size % _ALIGNED


def packed_size(dtypes: Iterable[str], shapes: Iterable[Sequence[int]]) -> int:
    """Bytes of what `pack` makes of such tensors."""
    sizes = (math.prod(s) * getattr(torch, d).itemsize for d, s in zip(dtypes, shapes, strict=True))
    return sum(size + -size % _ALIGNED for size in sizes)


class Link:
    """A process group of one trainer, rank 0, and all workers of a vLLM engine."""

    def __init__(
        self,
        host: str,
        port: int,
        rank: int,
        size: int,
        *,
        device: torch.device,
        seconds: float,
        server: Any = None,
    ) -> None:
        """Waits up to `seconds` until all have joined; so long may each transfer take, too.

        `host` and `port` are the trainer's, whose own `server` is the store there. `device`: where the bytes
        are, and by that NCCL or gloo.
        """
        patience = timedelta(seconds=seconds)
        self._store = server or dist.TCPStore(host, port, None, is_master=False, timeout=patience)
        store = dist.PrefixStore("gpg_vl", self._store)
        self.device = device
        self._group: Any
        if device.type == "cuda":
            with _errors_left_to_us(), torch.cuda.device(device):
                self._group = dist.ProcessGroupNCCL(store, rank, size, patience)
        else:
            options = dist.ProcessGroupGloo._Options()
            options._timeout = patience
            options._devices = [dist.ProcessGroupGloo.create_device(hostname=address_towards(host, port))]
            self._group = dist.ProcessGroupGloo(store, rank, size, options)

    def broadcast(self, data: Tensor) -> None:
        """From the trainer's `data` into all others', of one size. Raises RuntimeError if any is gone."""
        options = dist.BroadcastOptions()
        options.rootRank = options.rootTensor = 0
        if not data.is_cuda:
            self._group.broadcast([data], options).wait()
            return
        with torch.cuda.device(data.device):  # each thread has a current one of its own
            self._group.broadcast([data], options).wait()
            torch.cuda.current_stream().synchronize()  # errors show here, not in a later kernel

    def close(self) -> None:
        """Leave; what others wait for ends there with an error, over gloo after a while."""
        if self.device.type == "cuda":
            self._group.abort()
        self._group = self._store = None


@contextlib.contextmanager
def _errors_left_to_us() -> Iterator[None]:
    """NCCL's watchdog would end the whole process where the other side of a transfer is gone."""
    name = "TORCH_NCCL_ASYNC_ERROR_HANDLING"
    before = os.environ.get(name)
    os.environ[name] = "0"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def listen(host: str, size: int, seconds: float) -> Any:
    """A store at a free port of this machine, where `size` processes meet; `port` says which."""
    return dist.TCPStore(
        host, 0, size, is_master=True, timeout=timedelta(seconds=seconds), wait_for_workers=False
    )


def address_towards(host: str, port: int) -> str:
    """This machine's address as `host` sees it: which of its networks leads there."""
    with socket.create_connection((host, port), timeout=30) as connection:
        address: str = connection.getsockname()[0]
        return address
