"""What an answer's tokens weigh where another arithmetic than the policy's sampled them."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Importance:
    """Truncated importance sampling, token by token: min(pi / mu, C), pi the policy and mu the sampler.

    Source: Yao et al. 2025, https://fengyao.notion.site/off-policy-rl; truncated as in IMPALA, arXiv
    1802.01561.
    """

    sampled: Tensor
    """(M,) log mu of the targets; any numbers for a dummy's, which have no weight."""
    cap: float
    """C, the largest weight."""

    def weights(self, logprobs: Tensor, rows: slice = slice(None)) -> Tensor:
        """(m,) of the targets in `rows`, whose log pi are `logprobs` (m,); constants to the gradient."""
        return (logprobs.detach() - self.sampled[rows]).exp().clamp(max=self.cap)
