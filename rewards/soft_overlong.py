"""DAPO's soft overlong punishment."""

from gpg_vl.errors import ConfigurationError
from gpg_vl.registry import reward
from gpg_vl.types import Completion, Sample


@reward("soft_overlong", kind="shaping", bounds=(-1, 0), images=False)
def soft_overlong(
    completion: Completion, sample: Sample, *, max_tokens: int = 20_480, cache: int = 4_096
) -> float:
    """0 up to max_tokens − cache sampled tokens, then falling in a line to −1 at `max_tokens` and beyond.

    (max_tokens − cache − t) / cache between the two, t tokens long. `max_tokens` should be the longest
    answer that the rollout samples: the defaults are those of the paper, and punish nothing in runs with
    shorter answers. Range [−1, 0]. Raises ConfigurationError unless 0 < cache <= max_tokens. Source: DAPO,
    arXiv 2503.14476, equation 13.
    """
    if not 0 < cache <= max_tokens:
        raise ConfigurationError(
            "reward 'soft_overlong' needs 0 < cache <= max_tokens, "
            f"got cache {cache} and max_tokens {max_tokens}"
        )
    free = max_tokens - cache
    return max(-1.0, min(0.0, (free - completion.token_count) / cache))
