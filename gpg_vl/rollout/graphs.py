"""Work that comes again, as CUDA graphs."""

from collections.abc import Callable, Hashable

import torch


class Graphs:
    """Steps as CUDA graphs: a step that comes again is one launch instead of hundreds.

    A graph knows addresses and shapes, so all are forgotten once a tensor that they read or write has moved.
    """

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph | None] = {}

    def forget(self) -> None:
        self._graphs.clear()

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
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                step()
            self._graphs[key] = graph
        graph.replay()
