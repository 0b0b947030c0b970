"""Accuracy scaled by length: short right answers, and no short wrong ones."""

import math
from functools import lru_cache

from gpg_vl.errors import ConfigurationError
from gpg_vl.registry import Reward, reward, rewards
from gpg_vl.types import Completion, Sample


@reward("length", deadline=5.0, timeout_score=-1.0, images=False)
def length(
    completion: Completion,
    sample: Sample,
    *,
    max_tokens: int = 3584,
    accuracy: str = "math",
    max_correct: float = 1.0,
    min_correct: float = 0.5,
    min_wrong: float = -1.0,
    max_wrong: float = -0.5,
) -> float | None:
    """Cosine length-scaled accuracy: end + (start − end)·(1 + cos(π·t/max_tokens))/2, t tokens long.

    Right answers fall from `max_correct` (start) at no length to `min_correct` (end) at `max_tokens`; wrong
    ones rise from `min_wrong` to `max_wrong`, because a wrong answer may need more thought. t is the number
    of sampled tokens, at most `max_tokens`: beyond it the cosine would rise again. Right is what the reward
    `accuracy` gives 0.5 or more; what that one cannot parse is wrong, so it scores below 0 here. None where
    `accuracy` gives None. Range [min_wrong, max_correct]. Raises ConfigurationError for bounds out of order.
    Source: arXiv 2502.03373; bounds of open-r1, length of open-rs.
    """
    if not (min_wrong <= max_wrong < min_correct <= max_correct and max_tokens > 0):
        raise ConfigurationError(
            "reward 'length' needs min_wrong <= max_wrong < min_correct <= max_correct and max_tokens > 0, "
            f"got {min_wrong}, {max_wrong}, {min_correct}, {max_correct} and {max_tokens}"
        )
    score = _judge(accuracy).function(completion, sample)
    if score is None:
        return None
    start, end = (max_correct, min_correct) if score >= 0.5 else (min_wrong, max_wrong)
    progress = min(completion.token_count / max_tokens, 1.0)
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


@lru_cache
def _judge(name: str) -> Reward:
    """The reward that says right or wrong; looked up once, as every look-up reads the installed packages."""
    judge = rewards.get(name)
    if judge.kind != "correctness" or judge.is_batch or judge.function is length:
        raise ConfigurationError(
            f"reward 'length': accuracy {name!r} must be another reward of kind correctness that scores one "
            "answer at a time, such as 'math', 'number' or 'choice'"
        )
    return judge
