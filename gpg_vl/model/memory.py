"""What a layer remembers while answers grow: keys and values of every token, or states that go on with them.

Of prompts it is read once and kept by question; of answers, by answer. A layer with keys reads the prompt's
where they are; states are copied for each answer when its question comes in.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import Cache, LinearAttentionLayer


@dataclass
class PromptKeys:
    """A layer's keys and values of B prompts, right-padded to P tokens."""

    keys: Tensor
    """(B, KV heads, P, head size)."""
    values: Tensor
    """The same."""

    @property
    def width(self) -> int:
        """P tokens."""
        return self.keys.shape[2]

    def keep(self, questions: Tensor, longest: int) -> None:
        """Drop all but some prompts, and what is behind the `longest` of these."""
        self.keys = self.keys[:, :, :longest].index_select(0, questions)
        self.values = self.values[:, :, :longest].index_select(0, questions)

    def join(self, other: "PromptMemory") -> None:
        """Put the `other` prompts behind these."""
        assert isinstance(other, PromptKeys), "another kind of layer"
        width = max(self.width, other.width)
        self.keys = torch.cat([_wider(self.keys, width), _wider(other.keys, width)])
        self.values = torch.cat([_wider(self.values, width), _wider(other.values, width)])


def _wider(buffer: Tensor, width: int) -> Tensor:
    """(B, KV heads, P, D) with zeros up to `width` tokens: padding has weight 0, so it must be finite."""
    return pad(buffer, (0, 0, 0, width - buffer.shape[2]))


@dataclass
class PromptStates:
    """A layer's states behind B prompts, until their answers have taken them."""

    states: tuple[Tensor, ...]
    """(B, …) each: the convolution's and the recurrence's, in their own types. None are left once taken."""
    width = 0
    """Tokens that are kept: none."""

    def keep(self, questions: Tensor, longest: int) -> None:
        """Drop all but some prompts; how long they are does not matter."""
        self.states = tuple(state.index_select(0, questions) for state in self.states)

    def join(self, other: "PromptMemory") -> None:
        """Put the `other` prompts behind these."""
        assert isinstance(other, PromptStates), "another kind of layer"
        pairs = zip(self.states, other.states, strict=True)
        self.states = tuple(torch.cat(pair) for pair in pairs)

    def take(self, each: int) -> list[Tensor]:
        """`each` copies of every prompt's states, (B · each, …), next to each other; none are left here."""
        states, self.states = self.states, ()
        return [state.repeat_interleave(each, dim=0) for state in states]


PromptMemory = PromptKeys | PromptStates


def prompt_memory(layer: Any, dtype: torch.dtype) -> PromptMemory:
    """What a layer of transformers' own cache holds; keys and values become of this type."""
    if isinstance(layer, LinearAttentionLayer):
        return PromptStates((layer.conv_states[0], layer.recurrent_states[0]))
    return PromptKeys(layer.keys.to(dtype), layer.values.to(dtype))


class AnswerKeys:
    """A layer's keys and values of N answers, a column for each token."""

    def __init__(self, heads: int, size: int, like: Tensor) -> None:
        """`heads` of keys of that `size`; `like` has their type and device."""
        self.heads = heads
        self.buffer = like.new_zeros(2, 0, heads, 0, size)
        """(2, N, KV heads, columns, head size): keys, then values."""

    def widen(self, columns: int) -> None:
        """Add so many columns."""
        self.buffer = pad(self.buffer, (0, 0, 0, columns))

    def write(self, keys_values: Tensor, column: Tensor) -> None:
        """Store one token's (2, N, KV heads, D) in column (1,)."""
        self.buffer.index_copy_(3, column, keys_values[:, :, :, None])

    def read(self, span: int) -> tuple[Tensor, Tensor]:
        """Keys and values (N, KV heads, span, D) of the first columns."""
        keys, values = self.buffer[:, :, :, :span].unbind()
        return keys, values

    def extend(self, prompts: PromptMemory, answers: int, each: int) -> None:
        """Add answers whose columns so far are empty: zeros, since they are read with weight 0."""
        empty = self.buffer.new_zeros(2, answers, *self.buffer.shape[2:])
        self.buffer = torch.cat([self.buffer, empty], dim=1)

    def keep(self, slots: Tensor, first: int) -> None:
        """Keep only these answers, in this order, and the columns from `first` on."""
        self.buffer = self.buffer[:, :, :, first:].index_select(1, slots)


class AnswerStates:
    """A layer's states behind the last token of each of N answers, with which its own module goes on.

    What that writes goes to the same memory until answers come or go.
    """

    def __init__(self, number: int) -> None:
        """`number`: the layer's, by which its module asks for it."""
        self._layer = LinearAttentionLayer()
        self.cache = Cache(layers=[self._layer] * (number + 1))
        """The layer's states for its module."""

    @property
    def states(self) -> list[Tensor]:
        """(N, …) each; none before the first answers."""
        found = [kind[0] for kind in self._kinds]
        return [state for state in found if state is not None]

    @property
    def _kinds(self) -> tuple[dict[int, Tensor | None], ...]:
        return self._layer.conv_states, self._layer.recurrent_states

    def widen(self, columns: int) -> None:
        """States have no columns."""

    def extend(self, prompts: PromptMemory, answers: int, each: int) -> None:
        """Add `each` answers for every prompt, which go on from its states."""
        assert isinstance(prompts, PromptStates), "another kind of layer"
        own, taken = self.states, prompts.take(each)
        self._set([torch.cat(pair) for pair in zip(own, taken, strict=True)] if own else taken)

    def keep(self, slots: Tensor, first: int) -> None:
        """Keep only these answers, in this order."""
        self._set([state.index_select(0, slots) for state in self.states])

    def _set(self, states: list[Tensor]) -> None:
        for kind, state in zip(self._kinds, states, strict=True):
            kind[0] = state
        known = self._layer.is_conv_states_initialized, self._layer.is_recurrent_states_initialized
        for said in (*known, self._layer.has_previous_state):
            said[0] = True


AnswerMemory = AnswerKeys | AnswerStates
