"""Log-probabilities of sampled tokens, with the vocabulary projected in chunks."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def sampler_logits(logits: Tensor, temperature: float, suppressed: Tensor) -> Tensor:
    """The sampler's logits: at least fp32, / temperature, suppressed tokens at -inf.

    logits: (…, V), used up: fp32 logits are changed in place; suppressed: (V,) bool. Rollouts and training
    share this one function, so both speak of the same distribution.
    """
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return exact.div_(temperature).masked_fill_(suppressed, float("-inf"))


def token_logprobs(
    hidden: Tensor,
    targets: Tensor,
    head: Callable[[Tensor], Tensor],
    *,
    temperature: float,
    suppressed: Tensor,
    chunks: int,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target token and entropy of its distribution (nats).

    hidden: (M, H); targets: (M,) int64; `head` maps (m, H) to (m, V). Returns (M,), (M,), the entropy
    detached. The logits exist in `chunks` parts, one at a time: the backward pass computes them again.
    """

    def scores(hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        chosen, logprobs = _SamplerLogprobs.apply(head(hidden), targets, temperature, suppressed)
        return chosen, _entropy(logprobs, suppressed)  # (m,), of (m, V)

    parts = []
    for hidden_part, targets_part in zip(
        hidden.tensor_split(chunks), targets.tensor_split(chunks), strict=True
    ):
        if torch.is_grad_enabled():
            parts.append(checkpoint(scores, hidden_part, targets_part, use_reentrant=False))
        else:
            parts.append(scores(hidden_part, targets_part))
    logprobs, entropies = zip(*parts, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)


class _SamplerLogprobs(torch.autograd.Function):
    """Logits (m, V), used up, to the targets' log-probabilities (m,), and to all (m, V) without a gradient.

    Autograd's own chain takes three times as many passes over the vocabulary, and twice the memory. The
    logits change in place unknown to autograd: they come from a linear layer, which does not keep its output.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: Tensor, temperature: float, suppressed: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.temperature, ctx.dtype = temperature, logits.dtype
        logprobs = sampler_logits(logits, temperature, suppressed).log_softmax(dim=-1)
        ctx.save_for_backward(logprobs, targets)
        ctx.mark_non_differentiable(logprobs)
        ctx.set_materialize_grads(False)
        return logprobs.gather(-1, targets[:, None])[:, 0], logprobs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, _: None) -> tuple[Tensor | None, None, None, None]:
        if gradient is None:
            return None, None, None, None
        logprobs, targets = ctx.saved_tensors
        scaled = gradient[:, None] / ctx.temperature  # (m, 1)
        gradients = logprobs.exp().mul_(-scaled)  # (m, V)
        return gradients.scatter_add_(-1, targets[:, None], scaled).to(ctx.dtype), None, None, None


def _entropy(logprobs: Tensor, suppressed: Tensor) -> Tensor:
    """(m, V) to (m,), in nats."""
    products = logprobs.exp().mul_(logprobs)
    return -products.masked_fill_(suppressed, 0.0).sum(dim=-1)  # 0·-inf is NaN
