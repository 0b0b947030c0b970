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
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from gpg_vl.model.flex import flex_rows
from gpg_vl.model.memory import (
    AnswerKeys,
    AnswerMemory,
    AnswerStates,
    PromptKeys,
    PromptMemory,
    prompt_memory,
)

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
    """What layers remember of the prompts of B questions."""

    layers: list[PromptMemory]
    """Of B prompts each; those with keys are right-padded to the same P tokens."""
    lengths: Tensor
    """(B,) int64 tokens of each prompt."""
    layout: Layout | None = None
    """Which slots read which prompt; set before decoding."""
    padding: Tensor | None = None
    """(B, 1, 1, P) bool, True where there is no token; set with the layout."""
    before: Tensor | None = None
    """(N,) int64, tokens of the prompt that each slot reads; set with the layout."""

    @classmethod
    def of(cls, cache: Any, lengths: Tensor, dtype: torch.dtype) -> "Prefix":
        """What transformers' own cache holds when it has read B prompts of `lengths` (B,) tokens.

        Keys and values, which become of this type, must be there of every token, for layers with a window
        too. Where layers have states, nothing but the prompt's tokens may have been read: no padding.
        """
        return cls([prompt_memory(layer, dtype) for layer in cache.layers], lengths)

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """A layer's keys and values, (B, KV heads, P, head size) both."""
        memory = self.layers[layer]
        assert isinstance(memory, PromptKeys), "the layer has states"
        return memory.keys, memory.values

    def lay_out(self, counts: Sequence[int]) -> None:
        """Let so many slots read each prompt, one question's behind the other's."""
        width = max(memory.width for memory in self.layers)
        places = torch.arange(width, device=self.lengths.device)
        self.padding = (places >= self.lengths[:, None])[:, None, None]
        self.layout = Layout.of(counts, self.lengths.device)
        self.before = self.lengths.repeat_interleave(self.layout.count, output_size=sum(counts))

    def keep(self, questions: Tensor, longest: int) -> None:
        """Drop all but some questions, and what is behind the `longest` prompt of these; layer by layer, so
        that never two copies of all exist."""
        for memory in self.layers:
            memory.keep(questions, longest)
        self.lengths = self.lengths.index_select(0, questions)

    def join(self, other: "Prefix") -> "Prefix":
        """These questions and behind them the `other` ones; uses both up."""
        for own, more in zip(self.layers, other.layers, strict=True):
            own.join(more)
        return Prefix(self.layers, torch.cat([self.lengths, other.lengths]))


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
    """What layers remember of N answers: a column for each token, or a state behind it.

    Columns grow by doubling, to at most `most`. Steps that read the same span of them may share a CUDA graph:
    spans are multiples of `bucket`.
    """

    def __init__(self, layers: Sequence[AnswerMemory], most: int, bucket: int) -> None:
        self.layers, self.most, self.bucket = layers, _up(most, bucket), bucket
        self.length = 0
        """Columns so far."""
        self._capacity = 0

    @property
    def capacity(self) -> int:
        """Columns that there is memory for."""
        return self._capacity

    @property
    def span(self) -> int:
        """Columns that the next step reads, its own included."""
        return _up(self.length + 1, self.bucket)

    def make_room(self) -> bool:
        """See to it that the next step has its columns; says whether anything moved."""
        if self.span <= self._capacity:
            return False
        wanted = max(self.span, min(max(2 * self._capacity, _up(FIRST_CAPACITY, self.bucket)), self.most))
        for memory in self.layers:
            memory.widen(wanted - self._capacity)
        self._capacity = wanted
        return True

    def keys(self, layer: int) -> AnswerKeys:
        """What a layer with keys remembers."""
        memory = self.layers[layer]
        assert isinstance(memory, AnswerKeys), "the layer has states"
        return memory

    def states(self, layer: int) -> Any:
        """A layer's states as a cache of transformers, for its module to go on with."""
        memory = self.layers[layer]
        assert isinstance(memory, AnswerStates), "the layer has keys"
        return memory.cache

    def extend(self, prefix: Prefix, each: int) -> None:
        """Add `each` answers, which have no token yet, for every prompt.

        They take the prompts' states with them: before these join others.
        """
        answers = each * len(prefix.lengths)
        for memory, prompts in zip(self.layers, prefix.layers, strict=True):
            memory.extend(prompts, answers, each)

    def keep(self, slots: Tensor, first: int) -> None:
        """Keep only these answers, in this order, and the columns from `first` on."""
        for memory in self.layers:
            memory.keep(slots, first)
        self._capacity = max(0, self._capacity - first)
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
    layout, (prompt_keys, prompt_values) = prefix.layout, prefix.read(layer)
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
