"""Attention of the decoding phase: G answers read one prompt's cache.

The prompt's keys and values exist once per question. Scores against the prompt and against the answer's
own suffix are computed apart and share one softmax, so decoding equals attention over the joined cache
without ever joining it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

ATTENTION_NAME = "gpg_vl_shared_prefix"
"""Registered with transformers for the text decoder. Outside decoding it is SDPA."""

FIRST_CAPACITY = 64
"""Columns of a new cache; it doubles up to the longest answer."""


@dataclass(frozen=True)
class Layout:
    """Where the slots of B questions stand in a B×W grid, W those of the liveliest; the order is the same."""

    questions: int
    width: int
    fill: Tensor | None
    """(B·W,) the slot at each place, any where it is empty; None where all places are taken."""
    place: Tensor | None
    """(N,) the place of each slot."""

    @classmethod
    def of(cls, counts: Sequence[int], device: torch.device) -> "Layout":
        """For so many slots of each question, one behind the other."""
        width = max(counts)
        if min(counts) == width:
            return cls(len(counts), width, None, None)
        place = [row * width + k for row, count in enumerate(counts) for k in range(count)]
        fill = torch.zeros(len(counts) * width, dtype=torch.long)
        fill[place] = torch.arange(len(place))
        return cls(len(counts), width, fill.to(device), torch.tensor(place, device=device))

    def spread(self, slots: Tensor) -> Tensor:
        """(N, KV, rep, X) to (B, KV, W·rep, X): a question's answers and grouped heads in one block."""
        grid = slots if self.fill is None else slots.index_select(0, self.fill)
        grid = grid.view(self.questions, self.width, *slots.shape[1:]).transpose(1, 2)
        return grid.flatten(2, 3)

    def gather(self, blocks: Tensor) -> Tensor:
        """Back to (N, KV, rep, X)."""
        grid = blocks.unflatten(2, (self.width, -1)).transpose(1, 2).flatten(0, 1)
        return grid if self.place is None else grid.index_select(0, self.place)


@dataclass
class Prefix:
    """Prompt caches of B questions, right-padded to P tokens."""

    keys: list[Tensor]
    """Per layer (B, KV heads, P, head size)."""
    values: list[Tensor]
    padding: Tensor
    """(B, P) bool, True where there is no token."""
    layout: Layout | None = None
    """Which slots read which prompt; set before decoding."""
    suffix_padding: Tensor | None = None
    """(N, T) bool, True for columns of the answers' cache before an answer's first; None without such."""

    def keep(self, questions: Tensor, longest: int) -> None:
        """Drop all but some questions' caches, and what is behind the `longest` prompt of these; layer by
        layer, so that never two copies of all exist."""
        for buffers in (self.keys, self.values):
            for layer, buffer in enumerate(buffers):
                buffers[layer] = buffer[:, :, :longest].index_select(0, questions)
        self.padding = self.padding[:, :longest].index_select(0, questions)

    def join(self, other: "Prefix") -> "Prefix":
        """These questions and behind them the `other` ones; uses both up."""
        size = max(self.padding.shape[1], other.padding.shape[1])
        for own, more in ((self.keys, other.keys), (self.values, other.values)):
            for layer in range(len(own)):
                own[layer] = torch.cat([_wider(own[layer], size), _wider(more[layer], size)])
        pads = [pad(part.padding, (0, size - part.padding.shape[1]), value=True) for part in (self, other)]
        return Prefix(self.keys, self.values, torch.cat(pads))


def _wider(buffer: Tensor, size: int) -> Tensor:
    """(B, KV heads, P, D) with zeros up to `size` tokens: padding has weight 0, so it must be finite."""
    return pad(buffer, (0, 0, 0, size - buffer.shape[2]))


class AnswerCache:
    """Keys and values of N answers, a column for each token; grows by doubling, to at most `most` columns.

    Has the two methods that transformers' attention layers and text models call on a cache.
    """

    def __init__(self, layers: int, dtype: torch.dtype, most: int) -> None:
        self.dtype, self.most = dtype, most
        self.keys: list[Tensor | None] = [None] * layers
        self.values: list[Tensor | None] = [None] * layers
        self.lengths = [0] * layers

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append one token's (N, KV heads, 1, head size); returns all so far (N, KV heads, T, head size)."""
        length = self.lengths[layer]
        self.lengths[layer] = length + 1
        keys, values = keys.to(self.dtype), values.to(self.dtype)
        return self._append(self.keys, layer, keys, length), self._append(self.values, layer, values, length)

    def _append(self, buffers: list[Tensor | None], layer: int, new: Tensor, length: int) -> Tensor:
        """Write one token behind `length` stored ones; returns a view of all of them."""
        buffers[layer] = buffer = self._room(buffers[layer], new, length)
        buffer[:, :, length] = new[:, :, 0]
        return buffer[:, :, : length + 1]

    def _room(self, buffer: Tensor | None, new: Tensor, length: int) -> Tensor:
        """`buffer` with a free place at `length`, twice as long where it was full."""
        if buffer is not None and length < buffer.shape[2]:
            return buffer
        shape = list(new.shape)
        doubled = FIRST_CAPACITY if buffer is None else 2 * buffer.shape[2]
        shape[2] = max(length + 1, min(doubled, self.most))
        grown = new.new_empty(shape)
        if buffer is not None:
            grown[:, :, :length] = buffer[:, :, :length]
        return grown

    def get_seq_length(self, layer: int = 0) -> int:
        """Columns so far."""
        return self.lengths[layer]

    def extend(self, answers: int) -> None:
        """Add answers whose columns so far are empty: zeros, since they are read with weight 0."""
        for buffers in (self.keys, self.values):
            for layer, buffer in enumerate(buffers):
                if buffer is not None:
                    buffers[layer] = torch.cat([buffer, buffer.new_zeros(answers, *buffer.shape[1:])])

    def keep(self, slots: Tensor, first: int) -> None:
        """Keep only these answers, in this order, and the columns from `first` on."""
        for buffers in (self.keys, self.values):
            for layer, buffer in enumerate(buffers):
                if buffer is not None:
                    buffers[layer] = buffer[:, :, first:].index_select(0, slots)
        self.lengths = [max(0, length - first) for length in self.lengths]


def shared_prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    prefix: Prefix | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention function in transformers' interface; with `prefix`, one decoding step.

    query: (N, heads, 1, D); key, value: (N, KV heads, T, D), the answers' own suffixes, those of a question
    next to each other. Returns (N, 1, heads, D).
    """
    if prefix is None:
        outputs: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return outputs
    return _decode(query, key, value, prefix, module.layer_idx, scaling), None  # type: ignore[arg-type]


def _decode(
    query: Tensor, key: Tensor, value: Tensor, prefix: Prefix, layer: int, scaling: float | None
) -> Tensor:
    prompt_key, prompt_value, layout = prefix.keys[layer], prefix.values[layer], prefix.layout
    assert layout is not None, "the prefix has no layout yet"
    answers, heads, _, size = query.shape
    kv_heads, prompt = prompt_key.shape[1:3]
    scale = size**-0.5 if scaling is None else scaling
    query = (query * scale).view(answers, kv_heads, -1, size)  # (N, KV, rep, D)
    # One matrix product per question: its answers and their grouped heads are rows of one query block.
    to_prompt = layout.spread(query) @ prompt_key.transpose(2, 3)  # (B, KV, W·rep, P)
    to_prompt = layout.gather(to_prompt.masked_fill(prefix.padding[:, None, None, :], float("-inf")))
    to_suffix = query @ key.transpose(2, 3)  # (N, KV, rep, T)
    if prefix.suffix_padding is not None:
        to_suffix = to_suffix.masked_fill(prefix.suffix_padding[:, None, None, :], float("-inf"))
    weights = torch.cat([to_prompt, to_suffix], dim=-1).float().softmax(dim=-1).to(value.dtype)
    on_prompt, on_suffix = weights[..., :prompt], weights[..., prompt:]
    from_prompt = layout.gather(layout.spread(on_prompt) @ prompt_value)  # (N, KV, rep, D)
    return (from_prompt + on_suffix @ value).reshape(answers, 1, heads, size)


ALL_ATTENTION_FUNCTIONS.register(ATTENTION_NAME, shared_prefix_attention)
