"""Attention of the decoding phase: G answers read one prompt's cache.

The prompt's keys and values exist once per question. Scores against the prompt and against the answer's
own suffix are computed apart and share one softmax, so decoding equals attention over the joined cache
without ever joining it.
"""

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


@dataclass
class Prefix:
    """Prompt caches of B questions, right-padded to P tokens."""

    keys: list[Tensor]
    """Per layer (B, KV heads, P, head size)."""
    values: list[Tensor]
    padding: Tensor
    """(B, P) bool, True where there is no token."""
    suffix_padding: Tensor | None = None
    """(B, T) bool, True for columns of the answers' cache that are before a question's first; None where all
    questions start at the first column."""

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
    """Keys and values of N = B·G answers, a column for each token; grows by doubling.

    Has the two methods that transformers' attention layers and text models call on a cache.
    """

    def __init__(self, layers: int, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.keys: list[Tensor | None] = [None] * layers
        self.values: list[Tensor | None] = [None] * layers
        self.lengths = [0] * layers

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append one token's (N, KV heads, 1, head size); returns all so far (N, KV heads, T, head size)."""
        length = self.lengths[layer]
        self.lengths[layer] = length + 1
        keys, values = keys.to(self.dtype), values.to(self.dtype)
        return _append(self.keys, layer, keys, length), _append(self.values, layer, values, length)

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


def _append(buffers: list[Tensor | None], layer: int, new: Tensor, length: int) -> Tensor:
    """Write one token behind `length` stored ones; returns a view of all of them."""
    buffers[layer] = buffer = _room(buffers[layer], new, length)
    buffer[:, :, length] = new[:, :, 0]
    return buffer[:, :, : length + 1]


def _room(buffer: Tensor | None, new: Tensor, length: int) -> Tensor:
    """`buffer` with a free place at `length`, twice as long where it was full."""
    if buffer is not None and length < buffer.shape[2]:
        return buffer
    shape = list(new.shape)
    shape[2] = FIRST_CAPACITY if buffer is None else 2 * buffer.shape[2]
    grown = new.new_empty(shape)
    if buffer is not None:
        grown[:, :, :length] = buffer
    return grown


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

    query: (N, heads, 1, D); key, value: (N, KV heads, T, D), the answers' own suffixes. N = B·G with the
    G answers of a question next to each other. Returns (N, 1, heads, D).
    """
    if prefix is None:
        outputs: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return outputs
    layer: int = module.layer_idx  # type: ignore[assignment]
    keys, values = prefix.keys[layer], prefix.values[layer]
    return _decode(query, key, value, keys, values, prefix, scaling), None


def _decode(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    prefix_key: Tensor,
    prefix_value: Tensor,
    prefix: Prefix,
    scaling: float | None,
) -> Tensor:
    answers, heads, _, size = query.shape
    questions, kv_heads, prompt, _ = prefix_key.shape
    repeat = heads // kv_heads
    scale = size**-0.5 if scaling is None else scaling
    query = (query * scale).view(answers, kv_heads, repeat, size)
    # One matrix product per question: its G answers and their grouped heads are rows of one query block.
    block = query.view(questions, -1, kv_heads, repeat, size).transpose(1, 2)  # (B, KV, G, rep, D)
    rows = block.reshape(questions, kv_heads, -1, size)  # (B, KV, G·rep, D)
    to_prompt = rows @ prefix_key.transpose(2, 3)  # (B, KV, G·rep, P)
    to_prompt = to_prompt.masked_fill(prefix.padding[:, None, None, :], float("-inf"))
    to_prompt = (
        to_prompt.view(*block.shape[:4], prompt).transpose(1, 2).reshape(answers, kv_heads, repeat, prompt)
    )
    to_suffix = query @ key.transpose(2, 3)  # (N, KV, rep, T)
    if prefix.suffix_padding is not None:
        hidden = prefix.suffix_padding.repeat_interleave(answers // questions, dim=0)  # (N, T)
        to_suffix = to_suffix.masked_fill(hidden[:, None, None, :], float("-inf"))
    weights = torch.cat([to_prompt, to_suffix], dim=-1).float().softmax(dim=-1).to(value.dtype)
    on_prompt, on_suffix = weights[..., :prompt], weights[..., prompt:]
    on_prompt = on_prompt.reshape(questions, -1, kv_heads, repeat, prompt).transpose(1, 2)
    from_prompt = on_prompt.reshape(questions, kv_heads, -1, prompt) @ prefix_value  # (B, KV, G·rep, D)
    from_prompt = from_prompt.view(*block.shape).transpose(1, 2).reshape(answers, kv_heads, repeat, size)
    mixed = from_prompt + on_suffix @ value  # (N, KV, rep, D)
    return mixed.reshape(answers, 1, heads, size)


ALL_ATTENTION_FUNCTIONS.register(ATTENTION_NAME, shared_prefix_attention)
