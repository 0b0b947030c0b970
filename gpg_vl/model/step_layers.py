"""The parts of a text model's layers, for one token of each answer.

A part is made from what its module has, never by a family's name; what it does not know it runs as it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm
from transformers.activations import SiLUActivation

from gpg_vl.model.attention import AnswerCache, CacheView, Prefix
from gpg_vl.model.compat import cache_argument
from gpg_vl.model.memory import AnswerKeys, AnswerStates
from gpg_vl.model.projection import Projection, autocast
from gpg_vl.model.rotation import Rotation, Turn, turn_of
from gpg_vl.model.step_kernels import StepKernels


class Part(Protocol):
    """A part of a layer."""

    plain: bool
    """Whether nothing but our own code runs."""


class Norm:
    """An RMS norm in fp32: as one kernel, or as its module where something of a tuner stands in its place."""

    def __init__(self, module: Any) -> None:
        self._module = module
        kind: Any = type(module)
        known = hasattr(module, "variance_epsilon")
        added = 0 if known else _added(kind) if hasattr(module, "eps") else None
        self.plain = added is not None
        if added is not None:
            weight = module.weight.detach().float()
            self._weight = weight + added if added else weight
            self._epsilon = module.variance_epsilon if known else module.eps

    def __call__(self, inputs: Tensor) -> Tensor:
        """(…, H) fp32 to the same."""
        if not self.plain:
            return self._module(inputs)
        return rms_norm(inputs, self._weight.shape, self._weight, self._epsilon)

    def behind(
        self, hidden: Tensor, added: Tensor | None, step: "Step", dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """The residual stream (N, H) fp32 with `added` (N, H) to it, and its norm for what takes `dtype`."""
        if self.plain:
            return step.kernels.add_norm(hidden, added, self._weight, self._epsilon, dtype)
        if added is not None:
            hidden = hidden + added
        return hidden, self._module(hidden).to(dtype)


@cache
def _added(kind: Callable[..., Any]) -> int | None:
    """What a kind of RMS norm adds to its weight: 1 where weights lie around 0. None if it is no such norm.

    Norms do not say it of themselves, so one is asked for an example.
    """
    with torch.no_grad(), torch.device("cpu"):
        try:
            norm: Any = kind(2, eps=1e-6)
        except TypeError:  # a tuner's wrapper
            return None
        norm.weight.fill_(3)
        inputs = torch.tensor([[1.0, 7.0]])
        given = norm(inputs) / inputs * 5  # which is their root mean square
        return next(
            (more for more in (0, 1) if torch.allclose(given, torch.full_like(given, 3 + more))), None
        )


@dataclass(frozen=True)
class Step:
    """What all layers share while they read one token of each answer."""

    prefix: Prefix
    cache: AnswerCache
    views: Mapping[int | None, CacheView]
    """By the window of layers that look so; None for those without."""
    rotations: Mapping[Turn, Rotation]
    kernels: StepKernels


class Attention:
    """Softmax attention of a layer, its projections included; what it reads may be gated."""

    def __init__(
        self, module: Any, number: int, turn: Turn, heads: tuple[int, int], dtype: torch.dtype
    ) -> None:
        """`number`: the layer's in the caches; `heads`: of queries, of keys."""
        self._number, self._heads, self.takes = number, heads, dtype
        self.turn, self.window = turn, window_of(module)
        self._size = turn.head_size
        self._gated = module.q_proj.out_features == 2 * heads[0] * self._size
        self._qkv = Projection([module.q_proj, module.k_proj, module.v_proj], dtype)
        self._norms = [Norm(module.q_norm), Norm(module.k_norm)] if hasattr(module, "q_norm") else []
        self._o_proj = Projection([module.o_proj], dtype)
        parts: list[Part] = [self._qkv, self._o_proj, *self._norms]
        self.plain = all(part.plain for part in parts)

    def memory(self, like: Tensor) -> AnswerKeys:
        """For no answers yet; `like` has the arithmetic's type, on the device."""
        return AnswerKeys(self._heads[1], self._size, like)

    def __call__(self, inputs: Tensor, step: Step) -> Tensor:
        """(N, H) to (N, H), in the arithmetic's type."""
        read, gates = self._qkv(inputs), None
        if self._gated:
            read, gates = self._gates_apart(read)
        memory, view = step.cache.keys(self._number), step.views[self.window]
        queries = step.kernels.rotate(self._normed(read), step.rotations[self.turn], memory, view)
        keys, values = memory.read(view.span)
        attended = step.kernels.attend(queries, keys, values, step.prefix, self._number, view)
        return self._o_proj(attended if gates is None else attended * gates.sigmoid())

    def _gates_apart(self, read: Tensor) -> tuple[Tensor, Tensor]:
        """Queries, keys and values (N, …), and gates (N, heads · D), one behind each head's query."""
        heads, kv_heads = self._heads
        first, others = read.split([2 * heads * self._size, 2 * kv_heads * self._size], dim=1)
        queries, gates = first.view(len(read), heads, 2, self._size).unbind(dim=2)
        return torch.cat([queries.flatten(1), others], dim=1), gates.flatten(1)

    def _normed(self, read: Tensor) -> Tensor:
        """Queries, keys and values (N, heads + 2 · KV heads, D), in fp32 where some pass a norm."""
        heads, kv_heads = self._heads
        read = read.view(len(read), heads + 2 * kv_heads, self._size)
        if not self._norms:
            return read
        queries, keys, values = read.float().split([heads, kv_heads, kv_heads], dim=1)
        query_norm, key_norm = self._norms
        return torch.cat([query_norm(queries), key_norm(keys), values], dim=1)


def window_of(attention: Any) -> int | None:
    """Tokens that a layer's attention reads, its own included; None where it reads all."""
    if getattr(attention, "layer_type", None) not in (None, "sliding_attention"):
        return None
    window: int | None = getattr(attention, "sliding_window", None)
    return window


class LinearAttention:
    """A layer's attention that has states in place of keys, as its own module."""

    plain = False
    takes = torch.float32

    def __init__(self, module: Any, number: int, dtype: torch.dtype) -> None:
        """`number`: the layer's in the caches."""
        self._module, self._number, self._dtype = module, number, dtype
        self._cache_argument = cache_argument(module)

    def memory(self, like: Tensor) -> AnswerStates:
        """For no answers yet; states have types of their own."""
        return AnswerStates(self._number)

    def __call__(self, inputs: Tensor, step: Step) -> Tensor:
        """(N, H) fp32 to (N, H), in the type that it gives in training."""
        states = {self._cache_argument: step.cache.states(self._number)}
        with autocast(inputs.device, self._dtype):
            return self._module(inputs[:, None], **states)[:, 0]


Mixer = Attention | LinearAttention
"""What lets tokens see those before them."""


def mixer_of(text_model: Any, number: int, dtype: torch.dtype) -> Mixer:
    """That of a layer."""
    layer, config = text_model.layers[number], text_model.config
    if hasattr(layer, "linear_attn"):
        return LinearAttention(layer.linear_attn, number, dtype)
    heads = (config.num_attention_heads, config.num_key_value_heads)
    return Attention(layer.self_attn, number, turn_of(text_model, number), heads, dtype)


class GatedFeed:
    """A feed-forward part whose inner values are gated."""

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        self.takes = dtype
        self._gate_up = Projection([module.gate_proj, module.up_proj], dtype)
        self._activation: Callable[[Tensor], Tensor] = module.act_fn
        self._by_silu = isinstance(module.act_fn, nn.SiLU | SiLUActivation)
        self._down_proj = Projection([module.down_proj], dtype)
        self.plain = self._gate_up.plain and self._down_proj.plain

    def __call__(self, inputs: Tensor, kernels: StepKernels) -> Tensor:
        """(N, H) to (N, H), in the arithmetic's type."""
        gate_up = self._gate_up(inputs)
        if self._by_silu:
            return self._down_proj(kernels.gate_by_silu(gate_up))
        gate, up = gate_up.chunk(2, dim=-1)
        return self._down_proj(self._activation(gate) * up)


class ModuleFeed:
    """A feed-forward part that runs as its own module, such as one that chooses experts.

    It is given what training gives it, not rounded before: a token that is near two experts goes the same way
    as there, as far as what it has read is the same.
    """

    plain = False
    takes = torch.float32

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        self._module, self._dtype = module, dtype

    def __call__(self, inputs: Tensor, kernels: StepKernels) -> Tensor:
        """(N, H) fp32 to (N, H), in the type that it gives in training."""
        with autocast(inputs.device, self._dtype):
            return self._module(inputs[:, None])[:, 0]


def feed_of(module: Any, dtype: torch.dtype) -> GatedFeed | ModuleFeed:
    """A feed-forward part as few products, if that is what it is."""
    gated = all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj", "act_fn"))
    return GatedFeed(module, dtype) if gated else ModuleFeed(module, dtype)


class Layer:
    """A decoder layer: a mixer behind one norm, a feed-forward part behind another.

    What they give may pass a norm of its own before it is added to the residual stream, which the next norm
    does: adding and norm are one kernel.
    """

    def __init__(self, layer: Any, mixer: Mixer, dtype: torch.dtype) -> None:
        self.mixer, self._feed = mixer, feed_of(layer.mlp, dtype)
        self._before_mixer = Norm(layer.input_layernorm)
        four = hasattr(layer, "pre_feedforward_layernorm")
        self._before_feed = Norm(layer.pre_feedforward_layernorm if four else layer.post_attention_layernorm)
        self._after_mixer = Norm(layer.post_attention_layernorm) if four else None
        self._after_feed = Norm(layer.post_feedforward_layernorm) if four else None
        norms = (self._before_mixer, self._before_feed, self._after_mixer, self._after_feed)
        parts: list[Part] = [mixer, self._feed, *(norm for norm in norms if norm is not None)]
        self.plain = all(part.plain for part in parts)

    def __call__(self, hidden: Tensor, added: Tensor | None, step: Step) -> tuple[Tensor, Tensor]:
        """The residual stream (N, H) fp32, and what is yet to be added to it, before and behind the layer."""
        mixer, feed = self.mixer, self._feed
        hidden, inputs = self._before_mixer.behind(hidden, added, step, mixer.takes)
        added = _normed(mixer(inputs, step), self._after_mixer)
        hidden, inputs = self._before_feed.behind(hidden, added, step, feed.takes)
        return hidden, _normed(feed(inputs, step.kernels), self._after_feed)


def _normed(added: Tensor, norm: Norm | None) -> Tensor:
    """What is added to the residual stream, in the type that it had before the norm, as in training."""
    return added if norm is None else norm(added.float()).to(added.dtype)
