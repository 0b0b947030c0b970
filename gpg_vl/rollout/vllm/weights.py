"""What an engine beside the trainer takes of it."""

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

Weights = Callable[[], Iterator[Sequence[tuple[str, Tensor]]]]
"""The trainer's weights of now, a layer at a time, each valid until the next one is asked for; all processes
go through them together."""
