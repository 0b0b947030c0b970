"""Drawing the next token: one random stream per answer, filters for evaluation, stop texts."""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpg_vl.errors import ConfigurationError

DRAW_ELEMENTS = 2**24
"""Logits drawn from at a time: the sums are float64, and answers times vocabulary would be gigabytes."""


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
    def logit_temperature(self) -> float:
        """What logits are divided by: greedy decoding reports log-probabilities at 1."""
        return self.temperature or 1.0


class UniformStreams:
    """One stream of uniform numbers per answer, from (seed, step, question id, answer index).

    What an answer draws does not depend on which other answers are sampled beside it.
    """

    def __init__(self, keys: Sequence[tuple[int, int, str, int]], length: int) -> None:
        draws = [np.random.Generator(np.random.Philox(key=_key(*key))).random(length) for key in keys]
        # 2^-24 steps stay below 1 in every float type, so a draw never lands behind the last token.
        self.draws = torch.from_numpy(np.floor(np.stack(draws) * 2**24) / 2**24)  # (N, T) float64

    def at(self, answers: Tensor, step: int) -> Tensor:
        """Draws of the given answers for token `step`: (n,) float64 in [0, 1)."""
        return self.draws[answers.cpu(), step]


def _key(seed: int, step: int, question: str, answer: int) -> int:
    text = f"{seed}\x1f{step}\x1f{question}\x1f{answer}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def draw(logits: Tensor, uniforms: Tensor | None, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Next tokens and their log-probabilities under the unfiltered distribution.

    logits: (n, V) from `sampler_logits`; uniforms: (n,) float64, None for greedy. Returns (n,), (n,).
    """
    rows = max(1, DRAW_ELEMENTS // logits.shape[-1])
    draws = uniforms.split(rows) if uniforms is not None else itertools.repeat(None)
    parts = [_draw(part, u, sampling) for part, u in zip(logits.split(rows), draws, strict=False)]
    tokens, logprobs = zip(*parts, strict=True)
    return torch.cat(tokens), torch.cat(logprobs)


def _draw(logits: Tensor, uniforms: Tensor | None, sampling: Sampling) -> tuple[Tensor, Tensor]:
    logprobs = logits.log_softmax(dim=-1)
    if uniforms is None:
        tokens = logits.argmax(dim=-1)
    else:
        cumulative = _filtered(logprobs, sampling).exp().double().cumsum(dim=-1)  # (n, V)
        targets = uniforms.to(logits.device) * cumulative[:, -1]
        tokens = torch.searchsorted(cumulative, targets[:, None], right=True)[:, 0]
    return tokens, logprobs.gather(-1, tokens[:, None])[:, 0]


def _filtered(logprobs: Tensor, sampling: Sampling) -> Tensor:
    """Log-probabilities with the tokens that top-k, top-p or min-p drop at -inf; not renormalised."""
    if sampling.top_p == 1 and not sampling.top_k and not sampling.min_p:
        return logprobs
    floor = torch.full_like(logprobs[:, :1], float("-inf"))
    if sampling.top_k:
        k = min(sampling.top_k, logprobs.shape[-1])
        floor = torch.maximum(floor, logprobs.topk(k, dim=-1).values[:, -1:])
    if sampling.min_p:
        floor = torch.maximum(floor, logprobs.amax(dim=-1, keepdim=True) + float(np.log(sampling.min_p)))
    if sampling.top_p < 1:
        ordered = logprobs.sort(dim=-1, descending=True).values
        before = ordered.exp().cumsum(dim=-1) - ordered.exp()
        kept = (before < sampling.top_p).sum(dim=-1, keepdim=True)
        floor = torch.maximum(floor, ordered.gather(-1, kept - 1))
    return logprobs.masked_fill(logprobs < floor, float("-inf"))


class StopTexts:
    """Finds stop texts in generated tokens.

    Real tokens straddle them (`</think><answer>` becomes `).</`, `think`, `><`, …), so the decoded text
    is searched, but only for tokens that hold the last character of a stop text.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str], vocabulary: int) -> None:
        self.tokenizer, self.stop = tokenizer, tuple(stop)
        self.may_complete = torch.zeros(vocabulary, dtype=torch.bool)  # (V,)
        if self.stop:
            pieces = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
            lasts = {text[-1] for text in self.stop}
            if not all(last.isascii() for last in lasts):
                lasts.add("\N{REPLACEMENT CHARACTER}")  # tokens that hold part of a character's bytes
            self.may_complete[: len(pieces)] = torch.tensor([bool(lasts & set(p)) for p in pieces])

    def complete(self, tokens: Sequence[int]) -> bool:
        """Whether the text of these tokens holds a stop text."""
        text = self.tokenizer.decode(tokens)
        return any(stop in text for stop in self.stop)

    def cut(self, text: str) -> str:
        """`text` up to and including the first stop text."""
        ends = [text.find(stop) + len(stop) for stop in self.stop if stop in text]
        return text[: min(ends)] if ends else text
