"""Seconds and peak memory of the phases of a step, by hooks that any trainer of the model takes."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

PHASES = ("vision", "prefill", "decode", "rewards", "forward", "backward", "optimizer", "other")
"""vision, prefill, decode: of sampling. forward: that of the gradient, vision tower included. optimizer:
clipping too. other: preparing inputs, packing, the trainer's own bookkeeping."""


@dataclass
class Spent:
    """What a phase took."""

    seconds: float = 0.0
    peak: int = 0
    """Highest resident memory of the process in bytes, weights and libraries included."""


class Phases:
    """Charges time and memory to the innermost open phase.

    Memory is the kernel's own high-water mark, started anew at every boundary (Linux): nothing between two
    samples is missed, and what the allocator keeps back counts for everybody.
    """

    def __init__(self) -> None:
        self.spent: dict[str, Spent] = {}
        self.held = 0
        """Resident bytes when the measured step began: weights, gradients, optimizer's state, libraries."""
        self._open: list[str] = []
        self._since = 0.0

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        self.enter(phase)
        try:
            yield
        finally:
            self.leave()

    def start(self) -> None:
        """Forget what was: the measured step begins."""
        self.spent.clear()
        self.held = resident()

    def enter(self, phase: str) -> None:
        self._boundary()
        self._open.append(phase)

    def leave(self) -> None:
        self._boundary()
        self._open.pop()

    def _boundary(self) -> None:
        if self._open:
            spent = self.spent.setdefault(self._open[-1], Spent())
            spent.seconds += time.perf_counter() - self._since
            spent.peak = max(spent.peak, _status("VmHWM"))
        Path("/proc/self/clear_refs").write_text("5")
        self._since = time.perf_counter()

    def wrap(self, owner: Any, method: str, phase: str) -> None:
        """Charge calls of `owner.method` to `phase`."""
        inner = getattr(owner, method)

        @functools.wraps(inner)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self(phase):
                return inner(*args, **kwargs)

        setattr(owner, method, timed)

    def hook(self, module: nn.Module, phase: str) -> None:
        """Charge a module's forward to `phase`, where it runs within `decode`; elsewhere it is a part of what
        stands around it. A text model's forward counts where it reads several tokens a row."""
        entered: list[bool] = []

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            entered.append("decode" in self._open and (phase == "vision" or _tokens(kwargs) > 1))
            if entered[-1]:
                self.enter(phase)

        def after(*_: Any) -> None:
            if entered.pop():
                self.leave()

        module.register_forward_pre_hook(before, with_kwargs=True)
        module.register_forward_hook(after)

    def hook_model(self, model: Any) -> None:
        """Tell vision and prefill from decoding in a transformers' Qwen2-VL."""
        self.hook(model.model.visual, "vision")
        self.hook(model.model.language_model, "prefill")


def _tokens(kwargs: dict[str, Any]) -> int:
    given = kwargs.get("inputs_embeds")
    given = kwargs["input_ids"] if given is None else given
    return int(given.shape[1])


def resident() -> int:
    """Bytes of memory that the process holds now."""
    return _status("VmRSS")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def warm_and_measure(step: Callable[[int], object], phases: Phases) -> None:
    """Do two steps, and keep what the second took: the first makes the optimizer's state."""
    step(1)
    phases.start()
    with phases("other"):
        step(2)
