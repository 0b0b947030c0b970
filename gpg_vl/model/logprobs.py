"""Log-probabilities of sampled tokens: the vocabulary is projected in parts, and no logits are kept."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from gpg_vl.errors import GpgError, ModelError
from gpg_vl.model.importance import Importance
from gpg_vl.runtime.devices import multiplies_bf16

LOGITS_ROWS = 256
"""Rows of logits at a time: 156 MB in fp32 with Qwen2-VL's vocabulary, twice."""
LOGITS_ROWS_ON_CUDA = 2_048
"""Fewer parts, though each takes 1.2 GB twice: adding one's share reads and writes the vocabulary's whole
gradient, 1.9 GB with Qwen2-VL-2B."""
_SLICE = 16_384
"""Tokens of the vocabulary whose gradients are added at a time, where they are not added in place."""


def logits_rows(device: str) -> int:
    """Rows of logits at a time on a type of device."""
    return LOGITS_ROWS_ON_CUDA if device == "cuda" else LOGITS_ROWS


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
    known_slopes: Tensor | None = None
    """(M,) the loss's derivatives by the log-probabilities, but for a common factor, where they are known
    before the forward. They save work; wrong ones cost it, with a warning, on a CPU. Elsewhere finding out
    would make every micro-batch wait: the matrix's gradient becomes NaN, and `check_slopes` raises."""
    importance: Importance | None = None
    """Weights of the targets that the known slopes lack: they depend on the log-probabilities."""


class VocabularyHead(nn.Linear):
    """A model's vocabulary projection, in the place of its `lm_head` and with its weight.

    With `targets` it maps hidden states (M, H) to the targets' log-probabilities and the entropies of their
    distributions, (M,), (M,), in nats, the entropies detached. Logits exist for `logits_rows` at a time, in
    the forward and in the backward pass.

    Per target the forward multiplies with the vocabulary's matrix twice, for the logits and for their
    gradient by the hidden state, which is known but for a factor. A trained matrix's own gradient takes one
    more product where slopes are known, and two in the backward pass, logits again, where they are not.
    """

    def __init__(self, projection: nn.Linear) -> None:
        """Raises ModelError for anything but a plain matrix, such as one with an adapter beside it."""
        if type(projection) not in (nn.Linear, VocabularyHead) or projection.bias is not None:
            raise ModelError(
                f"the model's lm_head ({type(projection).__name__}) is more than a matrix; a LoRA adapter "
                "there can be merged into full weights first: `gpg-vl merge`"
            )
        super().__init__(projection.in_features, projection.out_features, bias=False, device="meta")
        self.weight = projection.weight
        self._misled: Tensor | None = None  # () bool

    def forward(  # type: ignore[override]
        self, hidden: Tensor, targets: Targets | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        if targets is None:
            return linear(hidden, self.weight)
        learning = torch.is_grad_enabled() and (hidden.requires_grad or self.weight.requires_grad)
        logprobs, entropies = _TokenLogprobs.apply(hidden, self.weight, targets, learning, self._note)
        return logprobs, entropies

    def _note(self, misled: Tensor) -> None:
        self._misled = misled if self._misled is None else self._misled | misled

    def check_slopes(self) -> None:
        """Raise GpgError if known slopes have turned out wrong since the last call. Waits for the device."""
        misled, self._misled = self._misled, None
        if misled is not None and misled.item():
            raise GpgError(
                "the slopes known ahead are not the loss's, so the vocabulary has no gradient: the loss, or "
                "what was said of it before the forward pass, is wrong"
            )


class _TokenLogprobs(torch.autograd.Function):
    """(M, H) hidden states and the (V, H) matrix to (M,) log-probabilities and (M,) entropies.

    d log p(y) / d logits = 1[y] - p. With E = p - 1[y], T the temperature and s the incoming slopes, the
    gradients are -s · E W / T by the hidden states and -Eᵀ (s · h) / T by the matrix.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Targets,
        learning: bool,
        note: Callable[[Tensor], None],
    ) -> tuple[Tensor, Tensor]:
        parts = _Parts(hidden, weight, targets, _arithmetic(weight))
        logprobs, entropies = parts.new_empty(len(hidden)), parts.new_empty(len(hidden))
        directions = parts.new_empty(*hidden.shape) if learning else None
        trained = learning and ctx.needs_input_grad[1]
        known = targets.known_slopes if trained else None
        by_weight = None if known is None else parts.new_zeros(*weight.shape)
        if known is not None and targets.importance is not None:
            known = known.to(logprobs.dtype, copy=True)  # to be weighted part by part
        with torch.autocast(hidden.device.type, enabled=False):
            for rows in parts:
                logs, probabilities = parts.distributions(rows)
                logprobs[rows] = logs.gather(-1, targets.tokens[rows, None])[:, 0]
                logs.index_fill_(-1, targets.suppressed, 0.0)  # 0·-inf is NaN
                entropies[rows] = -torch.einsum("mv,mv->m", probabilities, logs)
                if known is not None and targets.importance is not None:
                    known[rows].mul_(targets.importance.weights(logprobs[rows], rows))
                if directions is not None:
                    excess = parts.excess(rows, probabilities)
                    if by_weight is not None and known is not None:
                        parts.add_by_weight(by_weight, rows, excess, known)
                    parts.directions(excess, out=directions[rows])
        ctx.save_for_backward(*((hidden, weight) if trained else (None, None)), directions)
        ctx.dtype, ctx.targets, ctx.arithmetic = hidden.dtype, targets, parts.arithmetic
        ctx.by_weight, ctx.known, ctx.note = by_weight, known, note
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor, _: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        hidden, weight, directions = ctx.saved_tensors
        by_hidden = (slopes[:, None] * directions).to(ctx.dtype)
        if weight is None:
            return by_hidden, None, None, None, None
        by_weight, ctx.by_weight = ctx.by_weight, None  # used up
        if by_weight is not None:
            scaled = _scaled if by_weight.device.type == "cpu" else partial(_scaled_unseen, note=ctx.note)
            by_weight = scaled(by_weight, slopes, ctx.known)
        if by_weight is None:
            parts = _Parts(hidden, weight, ctx.targets, ctx.arithmetic)
            by_weight = parts.new_zeros(*weight.shape)
            for rows in parts:
                _, probabilities = parts.distributions(rows)
                parts.add_by_weight(by_weight, rows, parts.excess(rows, probabilities), slopes)
        return by_hidden, by_weight.to(weight.dtype), None, None, None


class _Parts:
    """Rows of logits, a part at a time, in two buffers that all parts share.

    Matrix products are computed in `arithmetic`, everything else in fp32 or wider. CUDA's keep the sums of
    bf16 products in fp32, which CPUs round.
    """

    def __init__(self, hidden: Tensor, weight: Tensor, targets: Targets, arithmetic: torch.dtype) -> None:
        self.hidden, self.weight = hidden.to(arithmetic), weight.to(arithmetic)
        self.targets, self.arithmetic = targets, arithmetic
        self._exact = torch.promote_types(arithmetic, torch.float32)
        self._rows = logits_rows(hidden.device.type)
        size = (min(len(hidden), self._rows), len(weight))
        self._logits, self._logs = self.new_empty(*size), self.new_empty(*size)

    def new_empty(self, *size: int) -> Tensor:
        return self.hidden.new_empty(size, dtype=self._exact)

    def new_zeros(self, *size: int) -> Tensor:
        return self.hidden.new_zeros(size, dtype=self._exact)

    def __iter__(self) -> Iterator[slice]:
        count = len(self.hidden)
        return (slice(start, min(start + self._rows, count)) for start in range(0, count, self._rows))

    def _product(self, left: Tensor, right: Tensor, out: Tensor) -> Tensor:
        if self.arithmetic == self._exact:
            return torch.mm(left, right, out=out)
        if multiplies_bf16(out.device):
            return torch.mm(left, right, out_dtype=self._exact, out=out)
        return out.copy_(left @ right)

    def distributions(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Log-probabilities and probabilities of all tokens, (m, V) each, until the next part's."""
        hidden = self.hidden[rows]
        logits, logs = self._logits[: len(hidden)], self._logs[: len(hidden)]
        self._product(hidden, self.weight.t(), out=logits)
        sampler_logits(logits, self.targets.temperature, self.targets.suppressed)
        torch.log_softmax(logits, dim=-1, out=logs)
        return logs, torch.exp(logs, out=logits)

    def excess(self, rows: slice, probabilities: Tensor) -> Tensor:
        """p - 1[y] (m, V) for a matrix product; uses the probabilities up."""
        tokens = self.targets.tokens[rows, None]
        probabilities.scatter_add_(-1, tokens, probabilities.new_full(tokens.shape, -1.0))
        return probabilities.to(self.arithmetic)

    def directions(self, excess: Tensor, *, out: Tensor) -> None:
        """Write d log p(y) / d hidden (m, H) to `out`."""
        self._product(excess, self.weight, out=out).div_(-self.targets.temperature)

    def add_by_weight(self, total: Tensor, rows: slice, excess: Tensor, slopes: Tensor) -> None:
        """Add a part's share to the gradient by the matrix (V, H)."""
        scaled = self.hidden[rows] * (slopes[rows, None] / -self.targets.temperature)
        scaled = scaled.to(self.arithmetic)
        if self.arithmetic == self._exact:
            total.addmm_(excess.t(), scaled)
            return
        if multiplies_bf16(total.device):
            torch.addmm(total, excess.t(), scaled, out_dtype=self._exact, out=total)
            return
        for own, part in zip(total.split(_SLICE), excess.split(_SLICE, dim=1), strict=True):
            own.add_(part.t() @ scaled)


def _arithmetic(weight: Tensor) -> torch.dtype:
    """What matrix products are computed in."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def _scaled(by_weight: Tensor, slopes: Tensor, known: Tensor) -> Tensor | None:
    """A gradient that was made with `known` slopes, for the right ones, (M,) both; uses it up.

    None if they differ by more than a factor, with a warning unless the loss is broken.
    """
    factor, right = _factor(slopes, known)
    if right:
        return by_weight.mul_(factor)
    if slopes.isfinite().all():
        message = "the slopes known ahead are not the loss's: the vocabulary is projected again"
        warnings.warn(message, stacklevel=2)
    return None


def _scaled_unseen(
    by_weight: Tensor, slopes: Tensor, known: Tensor, note: Callable[[Tensor], None]
) -> Tensor:
    """`_scaled` without waiting for the device: NaN if they differ, and `note` is told, () bool."""
    factor, right = _factor(slopes, known)
    note(~right & slopes.isfinite().all())
    return by_weight.mul_(factor.masked_fill(~right, float("nan")))


def _factor(slopes: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """By what the known slopes are to be multiplied, (1,), and whether that makes them right, () bool."""
    known = known.to(slopes.dtype)
    largest = known.abs().argmax()[None]
    factor = slopes.index_select(0, largest) / known.index_select(0, largest)
    factor = factor.nan_to_num(0.0, 0.0, 0.0)  # no slopes, no gradient
    return factor, torch.isclose(slopes, factor * known, rtol=1e-5, atol=0.0).all()
