"""Gold answers that rewards cannot read: counted before training, where they cost a row and not a run."""

from collections.abc import Mapping
from functools import cache

from gpg_vl.registry import Reward, rewards
from gpg_vl.types import AnswerType, Sample

GRADERS: Mapping[AnswerType, str] = {
    "choice": "choice",
    "number": "number",
    "math": "math",
    "boxes": "detection",  # of one box it is the overlap
    "label": "label",
}
"""The built-in reward that compares answers of each type."""


def unreadable_gold(sample: Sample, reward: Reward | None = None) -> str:
    """Why `reward` cannot read the sample's gold answer, in a few words that can be counted; "" if it can.

    Without one it is the built-in reward of the answer's type. A reward that does not say reads all.
    """
    if reward is None:
        reward = _grader(sample.answer_type)
    return reward.unreadable(sample) if reward.unreadable else ""


@cache
def _grader(answer_type: AnswerType) -> Reward:
    """Looked up once: every look-up reads the installed packages."""
    return rewards.get(GRADERS[answer_type])
