"""One token of each answer through the text model, with few kernels and no autocast.

Decoding reads every weight for a handful of tokens, so casts and launches cost more than arithmetic. Here the
matrices lie in the arithmetic's type, those that read the same input are one product, and keys and values are
rotated and stored together. Results equal those of transformers' layers but for rounding.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from gpg_vl.model import attention
from gpg_vl.model.attention import AnswerCache, CacheView, Prefix
from gpg_vl.model.step_layers import Layer, Norm, Rotation
from gpg_vl.runtime.devices import multiplies_bf16

Attend = Callable[[Tensor, Tensor, Tensor, Prefix, int, CacheView], Tensor]
"""`gpg_vl.model.attention.attend`, or the same as Triton kernels."""


class StepModel:
    """A text model with its vocabulary for one token of each answer, as its weights are when it is made."""

    def __init__(
        self, text_model: Any, head: nn.Linear, dtype: torch.dtype, positions: Tensor, attend: Attend
    ) -> None:
        """`positions`: all that an answer's tokens may have, as the rotary embedding takes them."""
        config = text_model.config
        self.dtype = dtype
        self._heads = (config.num_attention_heads, config.num_key_value_heads)
        self._embedding, self._norm = text_model.embed_tokens, Norm(text_model.norm)
        self._layers = [Layer(layer, dtype, self._heads) for layer in text_model.layers]
        self._windows = {layer.window for layer in self._layers}
        # the kernels know no windows
        self._attend = attend if self._windows == {None} else attention.attend
        self.fused = self._attend is not attention.attend
        """Whether attention finds an answer's columns by itself, so that a view need not hide the others."""
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
        views = {w: view if w is None else view.within(w, prefix) for w in self._windows}
        for number, layer in enumerate(self._layers):
            queries, keys_values = layer.queries_keys_values(hidden, rotation)
            keys, values = cache.write(number, keys_values, view)
            attended = self._attend(queries, keys, values, prefix, number, views[layer.window])
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
