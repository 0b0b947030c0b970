"""What a user's own code sees of a run while it trains."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from gpg_vl.algorithm.collect import Group
from gpg_vl.errors import ConfigurationError, unknown
from gpg_vl.types import Metrics


class Callback(Protocol):
    """Follows a run: write a class with those of these methods that you need.

    They are called on the first process alone, and see what is written down already; what one raises ends
    the run.
    """

    def on_groups(self, step: int, groups: Sequence[Group]) -> None:
        """Every group that a step sampled, scored; those without a gradient too."""

    def on_step(self, step: int, metrics: Metrics) -> bool | None:
        """The step's line of metrics.jsonl. True ends the run behind this step, with its weights saved."""

    def on_save(self, step: int, model: Path) -> None:
        """The folder of a checkpoint's model, as transformers loads it."""

    def on_evaluation(self, step: int, evaluation: Mapping[str, Any]) -> None:
        """What a file of the run's eval/ says."""


NAMES = tuple(name for name in vars(Callback) if name.startswith("on_"))


@dataclass(frozen=True)
class Step:
    """One step of the loop, with all that its processes sampled together."""

    number: int
    """From 1."""
    groups: Sequence[Group]
    """B questions with their G answers and scores, valid or not."""
    advantages: Tensor
    """(B, G), rescaled by AGE where it is on; 0 for groups that are not valid."""
    metrics: Metrics
    """The line of metrics.jsonl; see docs/metrics.md."""


class Callbacks:
    """Several as one; each is asked for the methods that it has."""

    def __init__(self, callbacks: Iterable[object] = ()) -> None:
        """Raises ConfigurationError for an object that would never be called."""
        if not isinstance(callbacks, Iterable):
            raise ConfigurationError(f"callbacks is a list of objects, got {callbacks!r}")
        self._callbacks = list(callbacks)
        for callback in self._callbacks:
            _check(callback)

    def __len__(self) -> int:
        return len(self._callbacks)

    def call(self, name: str, *values: object) -> bool:
        """Call the method `name` of all that have it; whether one of them returned something true."""
        methods = [getattr(callback, name) for callback in self._callbacks if hasattr(callback, name)]
        return any([method(*values) for method in methods])  # all of them are called


NO_CALLBACKS = Callbacks()


def _check(callback: object) -> None:
    own = [name for name in dir(callback) if name.startswith("on_")]
    for name in own:
        if name not in NAMES:
            raise ConfigurationError(unknown(f"method of callback {callback!r}", name, NAMES))
    if not own or isinstance(callback, type):
        raise ConfigurationError(
            f"callback {callback!r} is no object with one of the methods {', '.join(NAMES)}"
        )
