"""Log-probabilities of sampled tokens: the vocabulary is projected in parts, and no logits are kept."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

LOGITS_ROWS = 256
"""Rows of logits at a time: 156 MB in fp32 with Qwen2-VL's vocabulary, twice."""


def sampler_logits(logits: Tensor, temperature: float, suppressed: Tensor) -> Tensor:
    """The sampler's logits: at least fp32, / temperature, suppressed tokens at -inf.

    logits: (…, V), used up: fp32 logits are changed in place; suppressed: (s,) token ids. Rollouts and
    training share this one function, so both speak of the same distribution.
    """
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if temperature != 1:
        exact.div_(temperature)
    return exact.index_fill_(-1, suppressed, float("-inf"))


@dataclass(frozen=True)
class Targets:
    """Tokens whose log-probabilities are wanted, and under which distribution."""

    tokens: Tensor
    """(M,) int64."""
    temperature: float
    suppressed: Tensor
    """(s,) ids of tokens that are never sampled."""
    slopes: Tensor | None = None
    """(M,) the loss's derivatives by the log-probabilities up to a common factor, where they are known ahead.
    They only save work: the gradient is right with any."""


class VocabularyHead(nn.Linear):
    """A model's vocabulary projection, in the place of its `lm_head` and with its weight.

    With `targets` it maps hidden states (M, H) to the targets' log-probabilities and the entropies of their
    distributions, (M,), (M,), in nats, the entropies detached. Logits exist for 256 rows at a time, in the
    forward and in the backward pass.

    Per target the forward multiplies with the vocabulary's matrix twice, for the logits and for their
    gradient by the hidden state, which is known but for a factor; a trained matrix's own gradient takes one
    more product where `slopes` are given, and two in the backward pass, logits again, where they are not.
    """

    def __init__(self, projection: nn.Linear) -> None:
        assert projection.bias is None, "no supported family has a bias here"
        super().__init__(projection.in_features, projection.out_features, bias=False, device="meta")
        self.weight = projection.weight

    def forward(  # type: ignore[override]
        self, hidden: Tensor, targets: Targets | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        if targets is None:
            return linear(hidden, self.weight)
        logprobs, entropies = _TokenLogprobs.apply(hidden, self.weight, targets, torch.is_grad_enabled())
        return logprobs, entropies


class _TokenLogprobs(torch.autograd.Function):
    """(M, H) hidden states and the (V, H) matrix to (M,) log-probabilities and (M,) entropies.

    d log p(y) / d logits = 1[y] - p. With E = p - 1[y], T the temperature and s the incoming slopes, the
    gradients are -s · E W / T by the hidden states and -Eᵀ (s · h) / T by the matrix.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Targets, learning: bool
    ) -> tuple[Tensor, Tensor]:
        parts = _Parts(hidden, weight, targets, _arithmetic(weight))
        logprobs, entropies = parts.new_empty(2, len(hidden))
        directions = parts.new_empty(*hidden.shape) if learning else None
        slopes = targets.slopes if learning and ctx.needs_input_grad[1] else None
        by_weight = None if slopes is None else parts.new_zeros(*weight.shape)
        with torch.autocast(hidden.device.type, enabled=False):
            for rows in parts:
                tokens = targets.tokens[rows, None]
                logs, probabilities = parts.distributions(rows)
                logprobs[rows] = logs.gather(-1, tokens)[:, 0]
                logs.index_fill_(-1, targets.suppressed, 0.0)  # 0·-inf is NaN
                entropies[rows] = -torch.einsum("mv,mv->m", probabilities, logs)
                if directions is not None:
                    excess = parts.excess(probabilities, tokens)
                    directions[rows] = (excess @ parts.weight).div_(-targets.temperature).to(logs.dtype)
                    if by_weight is not None and slopes is not None:
                        parts.add_by_weight(by_weight, excess, rows, slopes)
        ctx.save_for_backward(hidden, weight, directions)
        ctx.targets, ctx.arithmetic, ctx.by_weight = targets, parts.arithmetic, by_weight
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor, _: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        hidden, weight, directions = ctx.saved_tensors
        by_hidden = (slopes[:, None] * directions).to(hidden.dtype)
        if not ctx.needs_input_grad[1]:
            return by_hidden, None, None, None
        by_weight, ctx.by_weight = ctx.by_weight, None  # used up
        factor = None if by_weight is None else _factor(slopes, ctx.targets.slopes)
        if factor is not None:
            by_weight.mul_(factor)
        else:
            parts = _Parts(hidden, weight, ctx.targets, ctx.arithmetic)
            by_weight = parts.new_zeros(*weight.shape)
            for rows in parts:
                _, probabilities = parts.distributions(rows)
                excess = parts.excess(probabilities, ctx.targets.tokens[rows, None])
                parts.add_by_weight(by_weight, excess, rows, slopes)
        return by_hidden, by_weight.to(weight.dtype), None, None


class _Parts:
    """Rows of logits, a part at a time, in two buffers that all parts share.

    Matrix products are computed in `arithmetic`, everything else in fp32 or wider.
    """

    def __init__(self, hidden: Tensor, weight: Tensor, targets: Targets, arithmetic: torch.dtype) -> None:
        self.hidden, self.weight = hidden.to(arithmetic), weight.to(arithmetic)
        self.targets, self.arithmetic = targets, arithmetic
        self._exact = torch.promote_types(arithmetic, torch.float32)
        size = (min(len(hidden), LOGITS_ROWS), len(weight))
        self._logits, self._logs = self.new_empty(*size), self.new_empty(*size)

    def new_empty(self, *size: int) -> Tensor:
        return self.hidden.new_empty(size, dtype=self._exact)

    def new_zeros(self, *size: int) -> Tensor:
        return self.hidden.new_zeros(size, dtype=self._exact)

    def __iter__(self) -> Iterator[slice]:
        count = len(self.hidden)
        return (slice(start, min(start + LOGITS_ROWS, count)) for start in range(0, count, LOGITS_ROWS))

    def distributions(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Log-probabilities and probabilities of all tokens, (m, V) each, until the next part's."""
        hidden = self.hidden[rows]
        logits, logs = self._logits[: len(hidden)], self._logs[: len(hidden)]
        if self.arithmetic == self._exact:
            torch.mm(hidden, self.weight.t(), out=logits)
        else:
            logits.copy_(hidden @ self.weight.t())
        sampler_logits(logits, self.targets.temperature, self.targets.suppressed)
        torch.log_softmax(logits, dim=-1, out=logs)
        return logs, torch.exp(logs, out=logits)

    def excess(self, probabilities: Tensor, tokens: Tensor) -> Tensor:
        """p - 1[y] (m, V) for tokens (m, 1), for a matrix product; uses the probabilities up."""
        probabilities.scatter_add_(-1, tokens, probabilities.new_full(tokens.shape, -1.0))
        return probabilities.to(self.arithmetic)

    def add_by_weight(self, total: Tensor, excess: Tensor, rows: slice, slopes: Tensor) -> None:
        """Add a part's share of the gradient by the matrix (V, H)."""
        scaled = self.hidden[rows] * (slopes[rows, None] / -self.targets.temperature)
        scaled = scaled.to(self.arithmetic)
        if total.dtype == self.arithmetic:
            total.addmm_(excess.t(), scaled)
        else:
            total.add_(excess.t() @ scaled)


def _arithmetic(weight: Tensor) -> torch.dtype:
    """What matrix products are computed in."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def _factor(slopes: Tensor, known: Tensor) -> Tensor | None:
    """The f with slopes = f · known, (M,) both; None if there is none."""
    factor = slopes.dot(known.to(slopes.dtype)) / known.square().sum().clamp(min=1e-38)
    return factor if torch.allclose(slopes, factor * known.to(slopes.dtype), rtol=1e-4, atol=0.0) else None
