"""One token of each answer through the text model, with few kernels and no autocast.

Decoding reads every weight for a handful of tokens, so casts and launches cost more than arithmetic. Here the
matrices lie in the arithmetic's type, those that read the same input are one product, and keys and values are
rotated and stored together. Results equal those of transformers' layers but for rounding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, rms_norm

from gpg_vl.model.adapters import low_rank
from gpg_vl.model.attention import AnswerCache, CacheView, Prefix
from gpg_vl.runtime.devices import multiplies_bf16

Attend = Callable[[Tensor, Tensor, Tensor, Prefix, int, CacheView], Tensor]
"""`gpg_vl.model.attention.attend`, or the same as Triton kernels."""


class Projection:
    """Linear layers of the same input as one: (N, in) to (N, sum of their outputs).

    Weights of another type than `dtype` are copied, and the copies joined; others are used where they are.
    Plain LoRA adapters are two more products for all layers together; layers of any other kind run as they
    are.
    """

    def __init__(self, layers: Sequence[Any], dtype: torch.dtype) -> None:
        adapters = [low_rank(layer) for layer in layers]
        bases: list[Any] = [
            layer if one is None else one.base for layer, one in zip(layers, adapters, strict=True)
        ]
        self._dtype = dtype
        self.plain = all(type(base) is nn.Linear for base in bases)
        """Whether it is products of matrices alone."""
        self._modules = layers
        if not self.plain:
            return
        if len(bases) > 1 and any(base.weight.dtype != dtype for base in bases):
            self._parts = [_joined(bases, dtype)]
        else:
            self._parts = [_alone(base, dtype) for base in bases]
        self._down, self._up = _low_rank_of(adapters, [base.out_features for base in bases], dtype)

    def __call__(self, inputs: Tensor) -> Tensor:
        if not self.plain:
            # the modules' own weights may be of any type
            with torch.autocast(inputs.device.type, self._dtype, enabled=self._dtype != torch.float32):
                return torch.cat([layer(inputs) for layer in self._modules], dim=-1).to(self._dtype)
        outputs = [linear(inputs, weight, bias) for weight, bias in self._parts]
        output = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)
        if self._down is not None and self._up is not None:
            output.add_(inputs @ self._down @ self._up)  # rounded apart, as training does
        return output


def _alone(layer: nn.Linear, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Weight and bias, without a copy where they have the type."""
    bias = None if layer.bias is None else layer.bias.detach().to(dtype)
    return layer.weight.detach().to(dtype), bias


def _joined(layers: Sequence[nn.Linear], dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Weight (sum of outputs, in) and bias of all layers, copied layer by layer."""
    sizes, weight = [layer.out_features for layer in layers], layers[0].weight
    whole = weight.new_empty((sum(sizes), weight.shape[1]), dtype=dtype)
    biased = any(layer.bias is not None for layer in layers)
    bias = weight.new_zeros(sum(sizes), dtype=dtype) if biased else None
    for end, size, layer in zip(accumulate(sizes), sizes, layers, strict=True):
        rows = slice(end - size, end)
        whole[rows] = layer.weight.detach()
        if bias is not None and layer.bias is not None:
            bias[rows] = layer.bias.detach()
    return whole, bias


def _low_rank_of(
    adapters: Sequence[Any], sizes: Sequence[int], dtype: torch.dtype
) -> tuple[Tensor | None, Tensor | None]:
    """(in, sum of ranks) and (sum of ranks, sum of outputs): every adapter writes its own layer's outputs."""
    found = [one for one in adapters if one is not None]
    if not found:
        return None, None
    down = torch.cat([one.down.detach() for one in found]).t().to(dtype)
    up = down.new_zeros(down.shape[1], sum(sizes))
    row = column = 0
    for one, size in zip(adapters, sizes, strict=True):
        if one is not None:
            rank = len(one.down)
            up[row : row + rank, column : column + size] = one.scaling * one.up.detach().t()
            row += rank
        column += size
    return down, up


class _Norm:
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


class _Layer:
    """A decoder layer: attention behind one norm, a gated feed-forward part behind another."""

    def __init__(self, layer: Any, dtype: torch.dtype, heads: tuple[int, int]) -> None:
        attention, feed = layer.self_attn, layer.mlp
        self._heads, self._dtype = heads, dtype
        self._before_attention = _Norm(layer.input_layernorm)
        self._qkv = Projection([attention.q_proj, attention.k_proj, attention.v_proj], dtype)
        self._norms = (
            [_Norm(attention.q_norm), _Norm(attention.k_norm)] if hasattr(attention, "q_norm") else []
        )
        self._o_proj = Projection([attention.o_proj], dtype)
        self._before_feed = _Norm(layer.post_attention_layernorm)
        self._gate_up = Projection([feed.gate_proj, feed.up_proj], dtype)
        self._activation: Callable[[Tensor], Tensor] = feed.act_fn
        self._down_proj = Projection([feed.down_proj], dtype)
        projections = (self._qkv, self._o_proj, self._gate_up, self._down_proj)
        norms = (self._before_attention, self._before_feed, *self._norms)
        self.plain = all(part.plain for part in projections) and all(norm.plain for norm in norms)

    def queries_keys_values(self, hidden: Tensor, rotation: "Rotation") -> tuple[Tensor, Tensor]:
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


class StepModel:
    """A text model with its vocabulary for one token of each answer, as its weights are when it is made."""

    def __init__(
        self, text_model: Any, head: nn.Linear, dtype: torch.dtype, positions: Tensor, attend: Attend
    ) -> None:
        """`positions`: all that an answer's tokens may have, as the rotary embedding takes them."""
        config = text_model.config
        self.dtype, self._attend = dtype, attend
        self._heads = (config.num_attention_heads, config.num_key_value_heads)
        self._embedding, self._norm = text_model.embed_tokens, _Norm(text_model.norm)
        self._layers = [_Layer(layer, dtype, self._heads) for layer in text_model.layers]
        self._head = head.weight.detach().to(dtype)
        cosines, sines = text_model.rotary_emb(positions.new_zeros(1, dtype=torch.float32), positions)
        scaling = text_model.layers[0].self_attn.scaling
        self._cosines, self._sines = _tables(cosines, sines, scaling)
        self.cache_shape = (len(self._layers), config.num_key_value_heads, self._cosines.shape[-1])
        """Layers, KV heads, head size."""
        self.vocabulary = len(self._head)
        self.plain = self._norm.plain and all(layer.plain for layer in self._layers)
        """Whether nothing but our own code runs, of which a CUDA graph can be made."""

    def read(
        self, tokens: Tensor, positions: Tensor, prefix: Prefix, cache: AnswerCache, view: CacheView
    ) -> Tensor:
        """Hidden states (N, H) behind one token of each answer: tokens (N,), positions (N,).

        Their keys and values go to `cache`, where `view` says. An answer that has run past its end may have
        positions beyond all: what it reads there, nobody looks at.
        """
        positions = positions.clamp(max=len(self._cosines) - 1)
        hidden = self._embedding(tokens).float()
        rotation = Rotation(*(self._spread(table[positions]) for table in (self._cosines, self._sines)))
        for number, layer in enumerate(self._layers):
            queries, keys_values = layer.queries_keys_values(hidden, rotation)
            keys, values = cache.write(number, keys_values, view)
            attended = self._attend(queries, keys, values, prefix, number, view)
            hidden = layer.finish(hidden, attended)
        return self._norm(hidden)

    def _spread(self, table: Tensor) -> Tensor:
        """(N, 3, D) for each head: (N, heads + 2 · KV heads, D)."""
        heads, kv_heads = self._heads
        queries, keys, values = table.unbind(dim=1)
        parts = [(queries, heads), (keys, kv_heads), (values, kv_heads)]
        return torch.cat([part[:, None].expand(-1, count, -1) for part, count in parts], dim=1)

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (n, V) of hidden states (n, H); on CUDA in fp32, as training has them."""
        hidden = hidden.to(self.dtype)
        if self.dtype == torch.bfloat16 and multiplies_bf16(hidden.device):
            return torch.mm(hidden, self._head.t(), out_dtype=torch.float32)
        return linear(hidden, self._head)


def _tables(cosines: Tensor, sines: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    """(1, positions, D) both to (positions, 3, D): for queries, which are scaled, for keys and for values."""
    cosines, sines = cosines[0].float(), sines[0].float()
    first, second = sines.chunk(2, dim=-1)
    sines = torch.cat([-first, second], dim=-1)
    nothing = torch.zeros_like(sines)
    return (
        torch.stack([scaling * cosines, cosines, nothing + 1], dim=1),
        torch.stack([scaling * sines, sines, nothing], dim=1),
    )
