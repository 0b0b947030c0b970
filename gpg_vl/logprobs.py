"""Log-probabilities of sampled tokens, with the vocabulary projected in chunks."""

from collections.abc import Callable

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
        logits = sampler_logits(head(hidden), temperature, suppressed)  # (m, V)
        normaliser = logits.logsumexp(dim=-1)
        logprobs = logits.gather(-1, targets[:, None])[:, 0] - normaliser
        return logprobs, _entropy(logits.detach(), normaliser.detach(), suppressed)

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


def _entropy(logits: Tensor, normaliser: Tensor, suppressed: Tensor) -> Tensor:
    probabilities = (logits - normaliser[:, None]).exp()
    expected = (probabilities * logits.masked_fill(suppressed, 0.0)).sum(dim=-1)  # 0·-inf would be NaN
    return normaliser - expected
