"""Work that comes again, as CUDA graphs: one launch instead of hundreds."""

import contextlib
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any

import torch


class Graphs:
    """Steps by what they depend on.

    A graph knows addresses and shapes, so all are forgotten once a tensor that they use has moved.
    """

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        """Whether the current device's work is captured; False too once its memory did not suffice."""
        self._graphs: dict[Hashable, Any] = {}
        self._first: Any = None  # keeps the memory that all graphs share, one behind the other

    def forget(self) -> None:
        """Drop all graphs."""
        if any(graph is not None for graph in self._graphs.values()):
            torch.cuda.current_stream().synchronize()  # the last one may still run
        self._graphs.clear()

    def run(self, key: Hashable, step: Callable[[], None]) -> None:
        """Do `step`, which is the same work on the same tensors whenever `key` is the same.

        The first time as it is, which loads all kernels; the second time it is captured.
        """
        known = key in self._graphs
        if self.enabled and known and self._graphs[key] is None:
            self._graphs[key] = self._captured(step)
        graph = self._graphs.setdefault(key, None)
        if graph is None:
            step()
        else:
            graph.replay()

    def _captured(self, step: Callable[[], None]) -> Any:
        """The graph of a step, which does not run meanwhile; None where memory does not suffice."""
        for _ in range(2):
            try:
                graph = self._capture(step)
            except torch.OutOfMemoryError:
                graph = None
            if graph is not None:
                self._first = self._first or graph
                return graph
            torch.cuda.empty_cache()  # a capture gets none of the memory that others have given back
        self.enabled = False
        return None

    def _capture(self, step: Callable[[], None]) -> Any:
        # torch.cuda.graph would wait for the device and empty its caches each time
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(_side_stream(torch.cuda.current_device())):
            # other threads, which load data, may use the device meanwhile
            shared = {} if self._first is None else {"pool": self._first.pool()}
            graph.capture_begin(**shared, capture_error_mode="thread_local")
            try:
                step()
            except BaseException:
                with contextlib.suppress(RuntimeError):  # what broke the capture says more
                    graph.capture_end()
                raise
            graph.capture_end()
        return graph


@cache
def _side_stream(device: int) -> torch.cuda.Stream:
    """For all captures: the libraries keep memory for each stream."""
    return torch.cuda.Stream(device)
