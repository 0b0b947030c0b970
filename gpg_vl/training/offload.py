"""An optimizer's moments in the machine's memory, but for its steps."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

_MOMENTS = ("exp_avg", "exp_avg_sq", "state1", "state2", "rest")
"""What is as large as its weight in the state of AdamW, and of 8-bit AdamW."""


def to_pinned(moment: Tensor, buffer: Tensor | None) -> Tensor:
    """A copy in `buffer`, or in new pinned memory; the device may still be at it."""
    if buffer is None or buffer.shape != moment.shape or buffer.dtype != moment.dtype:
        buffer = torch.empty_like(moment, device="cpu", pin_memory=True)
    return buffer.copy_(moment, non_blocking=True)


def to_device(moment: Tensor, device: torch.device) -> Tensor:
    """On the device, without waiting for it."""
    return moment.to(device, non_blocking=True)


class OffloadedMoments:
    """Hooks of an optimizer that bring its moments before a step, and take them away behind it.

    They go by torch's own hooks, so an optimizer that Accelerate wraps has them too. A save reads the copies
    in the machine's memory. A step that fails leaves them on the device, where the next one takes them.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        to_host: Callable[[Tensor, Tensor | None], Tensor] = to_pinned,
        to_device: Callable[[Tensor, torch.device], Tensor] = to_device,
    ) -> None:
        self._optimizer, self._to_host, self._to_device = optimizer, to_host, to_device
        self._buffers: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)
        optimizer.register_step_pre_hook(lambda *_: self.fetch())
        optimizer.register_step_post_hook(lambda *_: self.release())
        optimizer.register_load_state_dict_post_hook(lambda _: self.release())

    def fetch(self) -> None:
        """Bring the moments to their weights."""
        for weight, state, name in self._moments():
            state[name] = self._to_device(state[name], weight.device)

    def release(self) -> None:
        """Leave the moments in the machine's memory alone."""
        for weight, state, name in self._moments():
            buffers = self._buffers[weight]
            state[name] = buffers[name] = self._to_host(state[name], buffers.get(name))
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()  # they may be saved next

    def _moments(self) -> Iterator[tuple[Tensor, dict[str, Any], str]]:
        """Each weight with its state and the name of a moment in it."""
        for group in self._optimizer.param_groups:
            for weight in group["params"]:
                state = self._optimizer.state.get(weight, {})
                yield from ((weight, state, name) for name in _MOMENTS if name in state)
