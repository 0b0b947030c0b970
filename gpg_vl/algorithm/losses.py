"""Policy-gradient losses: tensors in, `(loss, sums)` out.

All sums run over the answer tokens (M,) of a micro-batch. `weights` hold the divisors of the whole optimizer
step (see `advantages.answer_weights`), so the losses of micro-batches add up to its own, however it is cut.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Sums = dict[str, Tensor]
"""A loss's own figures, summed over the micro-batch's tokens."""


def policy_gradient(logprobs: Tensor, advantages: Tensor, weights: Tensor) -> tuple[Tensor, Sums]:
    """GPG: sum of -log pi · A · weight. No ratio, no clip, no reference.

    logprobs, advantages, weights: (M,). Returns a scalar. Source: arXiv 2504.02546, equation 7.
    """
    return -(logprobs * advantages * weights).sum(), {}


def clipped_surrogate(
    logprobs: Tensor,
    advantages: Tensor,
    weights: Tensor,
    *,
    old_logprobs: Tensor | None = None,
    clip: float = 0.2,
    clip_high: float | None = None,
    answers: Tensor | None = None,
    reference_logprobs: Tensor | None = None,
    kl_weights: Tensor | None = None,
    kl_beta: float = 0.0,
) -> tuple[Tensor, Sums]:
    """GRPO: clipped ratio to the policy that sampled, plus an optional KL term.

    All tensors (M,). `old_logprobs` None means a rollout's first optimizer step, where the ratio is 1
    and only its gradient counts. `clip_high` is the range above 1 where it is not `clip` (DAPO, arXiv
    2503.14476, equation 10). `answers`, the answer of each token, gives all tokens of an answer its
    `sequence_ratio`. The KL estimator is exp(d) - d - 1 with d = reference - policy ("k3"). Source: arXiv
    2402.03300, equations 3 and 4.
    """
    old = logprobs.detach() if old_logprobs is None else old_logprobs
    ratio = (logprobs - old).exp() if answers is None else sequence_ratio(logprobs, old, answers)
    clipped = ratio.clamp(1 - clip, 1 + (clip if clip_high is None else clip_high))
    surrogate = torch.minimum(ratio * advantages, clipped * advantages)
    loss = -(surrogate * weights).sum()
    sums = {"clipped_fraction": (clipped * advantages < ratio * advantages).sum()}
    if kl_beta:
        assert reference_logprobs is not None and kl_weights is not None
        difference = reference_logprobs - logprobs
        kl = ((difference.exp() - difference - 1) * kl_weights).sum()
        loss = loss + kl_beta * kl
        sums["kl"] = kl.detach()
    return loss, sums


def sequence_ratio(logprobs: Tensor, old: Tensor, answers: Tensor) -> Tensor:
    """The geometric mean of an answer's token ratios, at each of its tokens; differentiable.

    logprobs, old: (M,); answers: (M,) int64, any numbers that tell answers apart. A token's gradient is that
    of its own log-probability, so that tokens may weigh differently; with equal weights it is that of the
    answer's ratio. Source: GSPO, arXiv 2507.18071, equations 7 and 13.
    """
    _, place, counts = answers.unique(return_inverse=True, return_counts=True)
    sums = torch.zeros_like(counts, dtype=logprobs.dtype).index_add(0, place, (logprobs - old).detach())
    return ((sums / counts)[place] + logprobs - logprobs.detach()).exp()


LOSSES: Mapping[str, Callable[..., tuple[Tensor, Sums]]] = {
    "gpg": policy_gradient,
    "grpo": clipped_surrogate,
    "dr_grpo": clipped_surrogate,
    "rloo": clipped_surrogate,
    "dapo": clipped_surrogate,
    "gspo": clipped_surrogate,
}
