"""The parts of a text model's layers, for one token of each answer.

A part is made from what its module has, never by a family's name; what it does not know it runs as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import rms_norm

from gpg_vl.model.projection import Projection


class Norm:
    """An RMS norm in fp32: as one kernel, or as its module where something of a tuner stands in its place."""

    def __init__(self, module: Any) -> None:
        self.plain = hasattr(module, "variance_epsilon")
        self._module = module
        if self.plain:
            self._weight, self._epsilon = module.weight.detach().float(), module.variance_epsilon

    def __call__(self, inputs: Tensor) -> Tensor:
        if not self.plain:
            return self._module(inputs)
        return rms_norm(inputs, self._weight.shape, self._weight, self._epsilon)


@dataclass(frozen=True)
class Rotation:
    """Rotary embedding of one token of each answer, for its heads of queries, keys and values together.

    Queries are scaled too, and values stay what they are.
    """

    cosines: Tensor
    """(N, heads + 2 · KV heads, D) fp32."""
    sines: Tensor
    """The same; negative in the first half of D."""

    def __call__(self, heads: Tensor, dtype: torch.dtype) -> Tensor:
        turned = torch.empty_like(heads, dtype=dtype)
        other = heads.roll(heads.shape[-1] // 2, dims=-1)
        return torch.addcmul(heads * self.cosines, other, self.sines, out=turned)


def window_of(attention: Any) -> int | None:
    """Tokens that a layer's attention reads, its own included; None where it reads all."""
    if getattr(attention, "layer_type", None) not in (None, "sliding_attention"):
        return None
    window: int | None = getattr(attention, "sliding_window", None)
    return window


class Layer:
    """A decoder layer: attention behind one norm, a gated feed-forward part behind another."""

    def __init__(self, layer: Any, dtype: torch.dtype, heads: tuple[int, int]) -> None:
        attention, feed = layer.self_attn, layer.mlp
        self._heads, self._dtype = heads, dtype
        self.window = window_of(attention)
        """Tokens that it reads; None where it reads all."""
        self._before_attention = Norm(layer.input_layernorm)
        self._qkv = Projection([attention.q_proj, attention.k_proj, attention.v_proj], dtype)
        self._norms = [Norm(attention.q_norm), Norm(attention.k_norm)] if hasattr(attention, "q_norm") else []
        self._o_proj = Projection([attention.o_proj], dtype)
        self._before_feed = Norm(layer.post_attention_layernorm)
        self._gate_up = Projection([feed.gate_proj, feed.up_proj], dtype)
        self._activation: Callable[[Tensor], Tensor] = feed.act_fn
        self._down_proj = Projection([feed.down_proj], dtype)
        projections = (self._qkv, self._o_proj, self._gate_up, self._down_proj)
        norms = (self._before_attention, self._before_feed, *self._norms)
        self.plain = all(part.plain for part in projections) and all(norm.plain for norm in norms)

    def queries_keys_values(self, hidden: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor]:
        """(N, H) to scaled queries (N, heads, D), and keys and values (2, N, KV heads, D), in `dtype`."""
        heads, kv_heads = self._heads
        read = self._qkv(self._before_attention(hidden).to(self._dtype))
        read = read.view(len(hidden), heads + 2 * kv_heads, -1)
        if self._norms:
            queries, keys, values = read.float().split([heads, kv_heads, kv_heads], dim=1)
            query_norm, key_norm = self._norms
            read = torch.cat([query_norm(queries), key_norm(keys), values], dim=1)
        turned = rotation(read, self._dtype)
        keys_values = turned[:, heads:].view(len(hidden), 2, kv_heads, -1).transpose(0, 1)
        return turned[:, :heads], keys_values

    def finish(self, hidden: Tensor, attended: Tensor) -> Tensor:
        """The residual stream (N, H) behind what attention has read, (N, heads · D)."""
        hidden = hidden + self._o_proj(attended)
        gate, up = self._gate_up(self._before_feed(hidden).to(self._dtype)).chunk(2, dim=-1)
        return hidden + self._down_proj(self._activation(gate) * up)
