"""One token of each answer through the text model, with few kernels and, but for parts that run as their own
modules, no autocast.

Decoding reads every weight for a handful of tokens, so casts and launches cost more than arithmetic. Here the
matrices lie in the arithmetic's type, those that read the same input are one product, and keys and values are
rotated and stored together. Results equal those of transformers' layers but for rounding.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from gpg_vl.model.attention import AnswerCache, CacheView, Prefix, attend
from gpg_vl.model.embedding import embedded
from gpg_vl.model.rotation import Rotations
from gpg_vl.model.step_kernels import PLAIN, StepKernels
from gpg_vl.model.step_layers import Attention, Layer, Norm, Step, mixer_of
from gpg_vl.runtime.devices import multiplies_bf16


class StepModel:
    """A text model with its vocabulary for one token of each answer, as its weights are when it is made."""

    def __init__(
        self,
        text_model: Any,
        head: nn.Linear,
        dtype: torch.dtype,
        positions: Tensor,
        kernels: StepKernels = PLAIN,
    ) -> None:
        """`positions`: all that an answer's tokens may have, as the rotary embedding takes them."""
        config = text_model.config
        self.dtype = dtype
        self._embedding, self._norm = text_model.embed_tokens, Norm(text_model.norm)
        mixers = [mixer_of(text_model, number, dtype) for number in range(len(text_model.layers))]
        self._layers = [
            Layer(layer, mixer, dtype) for layer, mixer in zip(text_model.layers, mixers, strict=True)
        ]
        attentions = [mixer for mixer in mixers if isinstance(mixer, Attention)]
        heads = (config.num_attention_heads, config.num_key_value_heads)
        turns = {mixer.turn for mixer in attentions}
        self._rotations = Rotations(text_model.rotary_emb, positions, turns, heads)
        self._windows = {mixer.window for mixer in attentions}
        # fused attention knows no windows
        self.kernels = kernels if self._windows <= {None} else replace(kernels, attend=attend)
        self._head = head.weight.detach().to(dtype)
        self.vocabulary = len(self._head)
        self.plain = self._norm.plain and all(layer.plain for layer in self._layers)
        """Whether nothing but our own code runs, of which a CUDA graph can be made."""

    def answer_cache(self, most: int, bucket: int) -> AnswerCache:
        """For no answers yet, which will have at most so many columns; spans are multiples of `bucket`."""
        like = self._head.new_zeros(0)
        return AnswerCache([layer.mixer.memory(like) for layer in self._layers], most, bucket)

    def read(
        self, tokens: Tensor, positions: Tensor, prefix: Prefix, cache: AnswerCache, view: CacheView
    ) -> Tensor:
        """Hidden states (N, H) behind one token of each answer: tokens (N,), positions (N,).

        What layers remember of them goes to `cache`, where `view` says. An answer that has run past its end
        may have positions beyond all: what it reads there, nobody looks at.
        """
        views = {w: view if w is None else view.within(w, prefix) for w in self._windows}
        step = Step(prefix, cache, views, self._rotations.at(positions), self.kernels)
        hidden, added = embedded(self._embedding, tokens), None
        for layer in self._layers:
            hidden, added = layer(hidden, added, step)
        return self._norm.behind(hidden, added, step, hidden.dtype)[1]

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (n, V) of hidden states (n, H); on CUDA in fp32, as training has them."""
        hidden = hidden.to(self.dtype)
        if self.dtype == torch.bfloat16 and multiplies_bf16(hidden.device):
            return torch.mm(hidden, self._head.t(), out_dtype=torch.float32)
        return linear(hidden, self._head)
