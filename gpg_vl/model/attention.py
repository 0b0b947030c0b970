"""Attention of the decoding phase: G answers read one prompt's cache.

The prompt's keys and values exist once per question. Scores against the prompt and against the answer's
own suffix are computed apart and share one softmax, so decoding equals attention over the joined cache
without ever joining it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask
from torch.nn.functional import pad
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from gpg_vl.model.flex import flex_rows

ATTENTION_NAME = "gpg_vl_packed"
"""The text model's attention over packed rows, as it is registered with transformers: for a name that it does
not know, it makes no mask of its own, and does not take positions behind an image for another sequence's."""

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
    first: Tensor
    """(B,) int64, each question's first slot."""
    count: Tensor
    """(B,) int64, its slots."""

    @classmethod
    def of(cls, counts: Sequence[int], device: torch.device) -> "Layout":
        """For so many slots of each question, one behind the other."""
        width, slots = max(counts), torch.tensor(counts)
        first, count = (slots.cumsum(0) - slots).to(device), slots.to(device)
        if min(counts) == width:
            return cls(len(counts), width, None, None, first, count)
        place = [row * width + k for row, n in enumerate(counts) for k in range(n)]
        fill = torch.zeros(len(counts) * width, dtype=torch.long)
        fill[place] = torch.arange(len(place))
        return cls(len(counts), width, fill.to(device), torch.tensor(place, device=device), first, count)

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
    lengths: Tensor
    """(B,) int64 tokens of each prompt."""
    layout: Layout | None = None
    """Which slots read which prompt; set before decoding."""
    padding: Tensor | None = None
    """(B, 1, 1, P) bool, True where there is no token; set with the layout."""
    before: Tensor | None = None
    """(N,) int64, tokens of the prompt that each slot reads; set with the layout."""

    def lay_out(self, counts: Sequence[int]) -> None:
        """Let so many slots read each prompt, one question's behind the other's."""
        places = torch.arange(self.keys[0].shape[2], device=self.lengths.device)
        self.padding = (places >= self.lengths[:, None])[:, None, None]
        self.layout = Layout.of(counts, self.lengths.device)
        self.before = self.lengths.repeat_interleave(self.layout.count, output_size=sum(counts))

    def keep(self, questions: Tensor, longest: int) -> None:
        """Drop all but some questions' caches, and what is behind the `longest` prompt of these; layer by
        layer, so that never two copies of all exist."""
        for buffers in (self.keys, self.values):
            for layer, buffer in enumerate(buffers):
                buffers[layer] = buffer[:, :, :longest].index_select(0, questions)
        self.lengths = self.lengths.index_select(0, questions)

    def join(self, other: "Prefix") -> "Prefix":
        """These questions and behind them the `other` ones; uses both up."""
        size = max(self.keys[0].shape[2], other.keys[0].shape[2])
        for own, more in ((self.keys, other.keys), (self.values, other.values)):
            for layer in range(len(own)):
                own[layer] = torch.cat([_wider(own[layer], size), _wider(more[layer], size)])
        return Prefix(self.keys, self.values, torch.cat([self.lengths, other.lengths]))


def _wider(buffer: Tensor, size: int) -> Tensor:
    """(B, KV heads, P, D) with zeros up to `size` tokens: padding has weight 0, so it must be finite."""
    return pad(buffer, (0, 0, 0, size - buffer.shape[2]))


@dataclass(frozen=True)
class CacheView:
    """What one step writes and reads of the answers' cache."""

    column: Tensor
    """(1,) int64: the column that is written, the same for all answers."""
    starts: Tensor
    """(N,) int64: the column of each answer's first token."""
    span: int
    """Columns that are read; some of them may lie behind the written one."""
    hidden: Tensor | None
    """(N, 1, 1, span) bool: columns outside of an answer, or of a window; None where there are none."""
    left: Tensor | None = None
    """(N, 1, 1, P) bool: tokens of the prompt that a window has left behind; None without a window."""

    @classmethod
    def of(cls, column: Tensor, starts: Tensor, span: int, *, masked: bool) -> "CacheView":
        """`masked` is False where all columns of the span belong to every answer."""
        if not masked:
            return cls(column, starts, span, None)
        columns = torch.arange(span, device=column.device)
        hidden = (columns < starts[:, None]) | (columns > column)
        return cls(column, starts, span, hidden[:, None, None])

    def within(self, window: int, prefix: Prefix) -> "CacheView":
        """What layers see of it that read only tokens less than `window` behind their own.

        Tokens are counted in each answer's own sequence, its prompt without padding first; the token that is
        read is one of the window's.
        """
        assert prefix.before is not None and prefix.padding is not None, "the prefix has no layout yet"
        columns = torch.arange(self.span, device=self.column.device)
        places = torch.arange(prefix.padding.shape[-1], device=self.column.device)
        starts, last = self.starts[:, None], self.column - window
        hidden = (columns < starts) | (columns > self.column) | (columns <= last)
        left = places <= prefix.before[:, None] - starts + last
        return CacheView(self.column, self.starts, self.span, hidden[:, None, None], left[:, None, None])


class AnswerCache:
    """Keys and values of N answers, a column for each token; grows by doubling, to at most `most` columns.

    Steps that read the same span of columns may share a CUDA graph: spans are multiples of `bucket`.
    """

    def __init__(self, shape: tuple[int, int, int], most: int, bucket: int, like: Tensor) -> None:
        """`shape`: layers, KV heads, head size; `like` has their type and device."""
        layers, heads, size = shape
        self.most, self.bucket = _up(most, bucket), bucket
        self.layers = [like.new_zeros(2, 0, heads, 0, size) for _ in range(layers)]
        """(2, N, KV heads, capacity, head size) each: keys, then values."""
        self.length = 0
        """Columns so far."""

    @property
    def span(self) -> int:
        """Columns that the next step reads, its own included."""
        return _up(self.length + 1, self.bucket)

    def make_room(self) -> bool:
        """See to it that the next step has its columns; says whether anything moved."""
        capacity = self.layers[0].shape[3]
        if self.span <= capacity:
            return False
        wanted = max(self.span, min(max(2 * capacity, _up(FIRST_CAPACITY, self.bucket)), self.most))
        for layer, buffer in enumerate(self.layers):
            self.layers[layer] = pad(buffer, (0, 0, 0, wanted - capacity))
        return True

    def write(self, layer: int, keys_values: Tensor, view: CacheView) -> tuple[Tensor, Tensor]:
        """Store one token's (2, N, KV heads, D); returns keys and values (N, KV heads, span, D) of all."""
        buffer = self.layers[layer]
        buffer.index_copy_(3, view.column, keys_values[:, :, :, None])
        keys, values = buffer[:, :, :, : view.span].unbind()
        return keys, values

    def extend(self, answers: int) -> None:
        """Add answers whose columns so far are empty: zeros, since they are read with weight 0."""
        for layer, buffer in enumerate(self.layers):
            empty = buffer.new_zeros(2, answers, *buffer.shape[2:])
            self.layers[layer] = torch.cat([buffer, empty], dim=1)

    def keep(self, slots: Tensor, first: int) -> None:
        """Keep only these answers, in this order, and the columns from `first` on."""
        for layer, buffer in enumerate(self.layers):
            self.layers[layer] = buffer[:, :, :, first:].index_select(1, slots)
        self.length = max(0, self.length - first)


def _up(number: int, unit: int) -> int:
    """The next multiple of `unit`."""
    return -(-number // unit) * unit


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, prefix: Prefix, layer: int, view: CacheView
) -> Tensor:
    """What each answer reads of its prompt and of its own tokens, by one softmax over both.

    queries: (N, heads, D), scaled; keys, values: (N, KV heads, T, D), the answers' own, those of a question
    next to each other. Returns (N, heads · D).
    """
    layout, prompt_keys, prompt_values = prefix.layout, prefix.keys[layer], prefix.values[layer]
    assert layout is not None and prefix.padding is not None, "the prefix has no layout yet"
    answers, _, size = queries.shape
    kv_heads, prompt = prompt_keys.shape[1:3]
    queries = queries.reshape(answers, kv_heads, -1, size)  # (N, KV, rep, D)
    # One matrix product per question: its answers and their grouped heads are rows of one query block.
    to_prompt = layout.spread(queries) @ prompt_keys.transpose(2, 3)  # (B, KV, W·rep, P)
    to_prompt = layout.gather(to_prompt.masked_fill(prefix.padding, float("-inf")))
    if view.left is not None:
        to_prompt = to_prompt.masked_fill(view.left, float("-inf"))
    to_suffix = queries @ keys.transpose(2, 3)  # (N, KV, rep, T)
    if view.hidden is not None:
        to_suffix = to_suffix.masked_fill(view.hidden, float("-inf"))
    weights = torch.cat([to_prompt, to_suffix], dim=-1).float().softmax(dim=-1).to(values.dtype)
    on_prompt, on_suffix = weights[..., :prompt], weights[..., prompt:]
    from_prompt = layout.gather(layout.spread(on_prompt) @ prompt_values)  # (N, KV, rep, D)
    return (from_prompt + on_suffix @ values).reshape(answers, -1)


Attend = Callable[[Tensor, Tensor, Tensor, Prefix, int, CacheView], Tensor]
"""`attend`, or the same as Triton kernels."""


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | BlockMask | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention function in transformers' interface: SDPA, or FlexAttention where the mask is one of its."""
    if isinstance(attention_mask, BlockMask):
        return flex_rows(query, key, value, attention_mask, scaling), None
    outputs: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, **kwargs
    )
    return outputs


ALL_ATTENTION_FUNCTIONS.register(ATTENTION_NAME, packed_attention)
