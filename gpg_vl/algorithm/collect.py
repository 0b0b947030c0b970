"""The threshold loop: sample groups until enough of them are valid."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from gpg_vl.algorithm.advantages import VALID_SPREAD, normalised_sum
from gpg_vl.rollout.answering import Answered
from gpg_vl.scoring.scorer import GroupScores
from gpg_vl.types import PerReward


@dataclass(frozen=True)
class Group:
    """One question, its G answers and their scores."""

    answered: Answered
    scores: GroupScores
    round: int
    """In which round of the step it was sampled, from 0."""
    row: int = 0
    """The question's row in the training data."""
    per_reward: PerReward = "sum"
    """How the scores of several rewards become one."""

    @cached_property
    def rewards(self) -> tuple[float, ...]:
        """(G) what advantages are made of: the weighted sum, or that of the normalised rewards."""
        if self.per_reward == "sum" or not self.scores.by_reward:
            return self.scores.total
        names = list(self.scores.by_reward)
        scores = torch.tensor([self.scores.by_reward[name] for name in names], dtype=torch.float64)
        weights = torch.tensor([self.scores.weights[name] for name in names], dtype=torch.float64)
        return tuple(normalised_sum(scores, weights).tolist())

    def without_images(self) -> "Group":
        """What other processes need of it."""
        one = self.answered
        sample = replace(one.sample, images=())
        return replace(self, answered=replace(one, sample=sample, prompt=one.prompt.without_pixels()))

    @property
    def valid(self) -> bool:
        """Whether its rewards differ, that is, whether it has a gradient."""
        return max(self.rewards) - min(self.rewards) > VALID_SPREAD


@dataclass(frozen=True)
class Collection:
    """All groups of one step: B = len(groups), of which M are invalid."""

    groups: tuple[Group, ...]
    rounds: int

    @property
    def rewards(self) -> Tensor:
        """(B, G) float64, what advantages are made of."""
        return torch.tensor([group.rewards for group in self.groups], dtype=torch.float64)

    @property
    def finite(self) -> bool:
        """Whether all log-probabilities of the sampler are finite; else there is nothing to learn from."""
        return all(group.answered.finite for group in self.groups)


def needed_groups(questions_per_step: int, min_valid_fraction: float) -> int:
    """Valid groups that end a step's sampling: ceil(beta_th·B0)."""
    return math.ceil(min_valid_fraction * questions_per_step - 1e-9)  # 0.7·10 is 7.000000000000001


def collect(
    draw: Callable[[int], Sequence[int]],
    sample_groups: Callable[[Sequence[int], int], Sequence[Group]],
    *,
    questions_per_step: int,
    min_valid_fraction: float,
    max_rounds: int,
) -> Collection:
    """Sample rounds of `questions_per_step` (B0) new questions until ceil(beta_th·B0) groups are valid.

    `draw(n)` gives the rows of the next n questions; `sample_groups(rows, round)` answers and scores them.
    Every group of every round is kept. When the rounds run out, what is there is returned; it may hold no
    valid group. Source: GPG, arXiv 2504.02546, section 2.2 (threshold beta_th).
    """
    needed = needed_groups(questions_per_step, min_valid_fraction)
    groups: list[Group] = []
    rounds = 0
    while rounds < max_rounds:
        groups += sample_groups(draw(questions_per_step), rounds)
        rounds += 1
        if sum(group.valid for group in groups) >= needed:
            break
    return Collection(tuple(groups), rounds)
