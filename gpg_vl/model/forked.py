"""Layers that carry a state along the row, in packed rows: each answer goes on from its prompt's state.

A mask keeps nothing out of such a state. So these layers read a row's prompts first, each by itself, and
then its answers, which get copies of their prompt's state: a prompt is still read once, and gradients pass.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from gpg_vl.model.compat import cache_argument
from gpg_vl.model.packing import Fork


class _Carried:
    """The states that a layer carries from prompts to answers: a cache of transformers', with gradients."""

    record_past = False  # as transformers 5.17 asks

    def __init__(self) -> None:
        self._convolved: Tensor | None = None
        self._state: Tensor | None = None

    def fork(self, owners: Tensor) -> None:
        """Let answers (N,) go on from the prompts that they belong to."""
        assert self._convolved is not None and self._state is not None, "no prompt has been read"
        self._convolved, self._state = self._convolved[owners], self._state[owners]

    def update_conv_state(self, inputs: Tensor, *_: Any, conv_kernel_size: int, **__: Any) -> Tensor:
        """A convolution's inputs (n, channels, tokens) behind its last ones."""
        joined = inputs if self._convolved is None else torch.cat([self._convolved, inputs], dim=-1)
        missing = max(0, conv_kernel_size - joined.shape[-1])
        self._convolved = nn.functional.pad(joined, (missing, 0))[..., -conv_kernel_size:]
        return joined

    def update_recurrent_state(self, state: Tensor, *_: Any, **__: Any) -> Tensor:
        self._state = state
        return state

    def get_conv_state(self, *_: Any, **__: Any) -> Tensor | None:
        return self._convolved

    def get_recurrent_state(self, *_: Any, **__: Any) -> Tensor | None:
        return self._state

    def is_recording_past(self, *_: Any) -> bool:
        return self.record_past

    # transformers 5.17 looks into the cache's layers
    @property
    def layers(self) -> "_Carried":
        return self

    def __getitem__(self, _: int) -> "_Carried":
        return self

    def has_previous_state(self, *_: Any, **__: Any) -> bool:
        return self._state is not None

    @property
    def conv_states(self) -> list[Tensor | None]:
        return [self._convolved]

    @property
    def recurrent_states(self) -> list[Tensor | None]:
        return [self._state]


def fork_states(text_model: Any) -> None:
    """Let a text model's layers with states take `fork`, a `Fork` of the rows, through its forward."""
    for layer in text_model.layers:
        module = getattr(layer, "linear_attn", None)
        if module is not None and not hasattr(module, "forks"):
            module.forward, module.forks = _forking(module.forward, cache_argument(module)), True


def _forking(forward: Callable[..., Tensor], cache: str) -> Callable[..., Tensor]:
    """A layer's forward that takes `fork`, too; `cache` is its name for a cache."""

    @wraps(forward)
    def forked(hidden_states: Tensor, *args: Any, fork: Fork | None = None, **kwargs: Any) -> Tensor:
        if fork is None:
            return forward(hidden_states, *args, **kwargs)
        rows, tokens, width = hidden_states.shape
        flat = nn.functional.pad(hidden_states.flatten(0, 1), (0, 0, 0, 1))  # padding reads zeros
        given: dict[str, Any] = {cache: _Carried()}
        outputs = [forward(flat[fork.prompts], attention_mask=fork.prompts < rows * tokens, **given)]
        if len(fork.owners):
            given[cache].fork(fork.owners)
            outputs.append(forward(flat[fork.answers], **given))  # padding is behind an answer
        every = torch.cat([part.flatten(0, 1) for part in outputs])
        places = torch.cat([fork.prompts.flatten(), fork.answers.flatten()])
        out = every.new_zeros(rows * tokens + 1, width).index_copy(0, places, every)
        return out[:-1].view(rows, tokens, width)

    return forked
