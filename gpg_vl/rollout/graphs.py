"""Work that comes again, as CUDA graphs: one launch instead of hundreds."""

from collections.abc import Callable, Hashable

import torch


class Graphs:
    """Steps by what they depend on.

    A graph knows addresses and shapes, so all are forgotten once a tensor that they use has moved.
    """

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph | None] = {}
        self._stream = torch.cuda.Stream() if enabled else None
        self.forget()

    def forget(self) -> None:
        """Drop all graphs, and the memory that they share."""
        self._graphs.clear()
        self._pool = torch.cuda.graph_pool_handle() if self._enabled else None

    def run(self, key: Hashable, step: Callable[[], None]) -> None:
        """Do `step`, which is the same work on the same tensors whenever `key` is the same.

        The first time as it is, which loads all kernels; the second time it is captured.
        """
        if not self._enabled or key not in self._graphs:
            step()
            self._graphs[key] = None
            return
        graph = self._graphs[key]
        if graph is None:
            self._graphs[key] = graph = self._captured(step)
        graph.replay()

    def _captured(self, step: Callable[[], None]) -> torch.cuda.CUDAGraph:
        # torch.cuda.graph would wait for the device and empty its caches each time
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self._stream):
            # other threads, which load data, may use the device meanwhile
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                step()
            finally:
                graph.capture_end()
        return graph
