"""Drawing the next token: one random stream per answer, filters for evaluation, stop texts."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from gpg_vl.errors import ConfigurationError

DRAW_ELEMENTS = 2**24
"""Logits in memory at a time: answers times vocabulary would be gigabytes."""
DRAW_ELEMENTS_ON_CUDA = 2**27
"""A GPU reads the vocabulary's matrix anew for every part of the answers."""
_BLOCK = 128
"""Tokens whose probabilities are summed together; divides most vocabularies, which are then not copied."""
_NUCLEUS = 1024
"""Tokens that top-p looks at first."""


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn. `temperature` 0 is greedy; the filters are for evaluation and the app."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    """Keep the smallest set of tokens with at least this probability."""
    top_k: int = 0
    """Keep this many tokens; 0 keeps all."""
    min_p: float = 0.0
    """Keep tokens of at least this share of the likeliest one's probability."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer, matched on the decoded text and kept in it."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ConfigurationError(f"max_new_tokens must be positive, got {self.max_new_tokens}")
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.top_k < 0 or not 0 <= self.min_p < 1:
            raise ConfigurationError(
                "sampling needs temperature >= 0, 0 < top_p <= 1, top_k >= 0 and 0 <= min_p < 1; got "
                f"{self.temperature}, {self.top_p}, {self.top_k}, {self.min_p}"
            )

    @property
    def asks_host(self) -> bool:
        """Whether drawing a token waits for the device."""
        return self.top_p < 1

    @property
    def logit_temperature(self) -> float:
        """What logits are divided by: greedy decoding reports log-probabilities at 1."""
        return self.temperature or 1.0


def uniform_stream(key: tuple[int, int, str, int], length: int) -> Tensor:
    """(T,) float64 in [0, 1): the draws of one answer, from (seed, step, question id, answer index).

    What an answer draws does not depend on which other answers are sampled beside it.
    """
    draws = np.random.Generator(np.random.Philox(key=_number(*key))).random(length)
    # 2^-24 steps stay below 1 in every float type, so a draw never lands behind the last token.
    return torch.from_numpy(np.floor(draws * 2**24) / 2**24)


def _number(seed: int, step: int, question: str, answer: int) -> int:
    text = f"{seed}\x1f{step}\x1f{question}\x1f{answer}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def draw_elements(device: str) -> int:
    """Logits in memory at a time on a type of device."""
    return DRAW_ELEMENTS_ON_CUDA if device == "cuda" else DRAW_ELEMENTS


def draw(logits: Tensor, uniforms: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Next tokens and their log-probabilities under the unfiltered distribution.

    logits: (n, V) from `sampler_logits`; uniforms: (n, g) float64 for g tokens from each distribution, which
    greedy decoding does not look at. Returns (n, g), (n, g).
    """
    probabilities = logits.softmax(dim=-1)
    if sampling.temperature == 0:
        tokens = logits.argmax(dim=-1, keepdim=True).expand(uniforms.shape)
    else:
        tokens = _invert(_filtered(probabilities, sampling), uniforms)
    return tokens, probabilities.gather(-1, tokens).log()


def _invert(weights: Tensor, uniforms: Tensor) -> Tensor:
    """Tokens at the given shares of the total weight: (n, V), (n, g) to (n, g).

    Two levels, so that only sums of blocks and the chosen blocks are summed in fp64.
    """
    vocabulary = weights.shape[-1]
    blocks = pad(weights, (0, -vocabulary % _BLOCK)).unflatten(-1, (-1, _BLOCK))  # (n, K, block)
    sums = blocks.sum(dim=-1).double()  # (n, K)
    through = sums.cumsum(dim=-1)
    targets = uniforms * through[:, -1:]
    block = _place(through, targets)  # (n, g)
    rest = (targets - through.gather(-1, block) + sums.gather(-1, block)).clamp(min=0.0)
    chosen = blocks.gather(1, block[..., None].expand(-1, -1, _BLOCK)).double()  # (n, g, block)
    tokens = block * _BLOCK + _place(chosen.cumsum(dim=-1), rest[..., None])[..., 0]
    return tokens.clamp(max=vocabulary - 1)


def _place(cumulative: Tensor, targets: Tensor) -> Tensor:
    """The first place whose cumulative weight exceeds the target; never behind the last weight, whatever
    rounding says. NaN, of a model that has diverged, leads to some place: its log-probability tells."""
    last = torch.searchsorted(cumulative, cumulative[..., -1:].contiguous())
    place = torch.minimum(torch.searchsorted(cumulative, targets, right=True), last)
    return place.clamp(max=cumulative.shape[-1] - 1)


def _filtered(probabilities: Tensor, sampling: Sampling) -> Tensor:
    """Probabilities (n, V) with the tokens that top-k, top-p or min-p drop at 0; not renormalised."""
    if sampling.top_p == 1 and not sampling.top_k and not sampling.min_p:
        return probabilities
    floor = torch.zeros_like(probabilities[:, :1])
    if sampling.top_k:
        k = min(sampling.top_k, probabilities.shape[-1])
        floor = torch.maximum(floor, probabilities.topk(k, dim=-1).values[:, -1:])
    if sampling.min_p:
        floor = torch.maximum(floor, probabilities.amax(dim=-1, keepdim=True) * sampling.min_p)
    if sampling.top_p < 1:
        floor = torch.maximum(floor, _nucleus(probabilities, sampling.top_p))
    return probabilities.masked_fill(probabilities < floor, 0.0)


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """The least probability in the smallest set of at least `top_p`: (n, V) to (n, 1).

    Looks at the likeliest few tokens, and at more only where they do not suffice.
    """
    size = probabilities.shape[-1]
    k = min(_NUCLEUS, size)
    while True:
        ordered = probabilities.topk(k, dim=-1).values
        through = ordered.cumsum(dim=-1)
        if k == size or bool((through[:, -1] >= top_p).all()):
            kept = (through - ordered < top_p).sum(dim=-1, keepdim=True)
            return ordered.gather(-1, kept - 1)
        k = min(16 * k, size)


class StopTexts:
    """Finds stop texts in generated tokens.

    Real tokens straddle them (`</think><answer>` becomes `).</`, `think`, `><`, …), so the decoded text
    is searched, but only for tokens that hold the last character of a stop text.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str], vocabulary: int) -> None:
        self.tokenizer, self.stop = tokenizer, tuple(stop)
        self.may_complete = np.zeros(vocabulary, dtype=bool)  # (V,)
        if self.stop:
            pieces = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
            lasts = {text[-1] for text in self.stop}
            if not all(last.isascii() for last in lasts):
                lasts.add("\N{REPLACEMENT CHARACTER}")  # tokens that hold part of a character's bytes
            self.may_complete[: len(pieces)] = [bool(lasts & set(piece)) for piece in pieces]

    def complete(self, tokens: Sequence[int]) -> bool:
        """Whether the last of these tokens completes a stop text."""
        if not self.may_complete[tokens[-1]]:
            return False
        text = self.tokenizer.decode(tokens)
        return any(stop in text for stop in self.stop)

    def cut(self, text: str) -> str:
        """`text` up to and including the first stop text."""
        return cut_at_stop(text, self.stop)


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """`text` up to and including the first stop text."""
    ends = [text.find(one) + len(one) for one in stop if one in text]
    return text[: min(ends)] if ends else text
