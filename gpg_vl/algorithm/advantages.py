"""Group advantages and AGE, as pure functions of rewards and lengths."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gpg_vl.errors import ConfigurationError
from gpg_vl.types import Baseline, Normalize

VALID_SPREAD = 1e-8
"""A group whose rewards differ by no more than this has no gradient."""


@dataclass(frozen=True)
class Advantages:
    """Advantages of B groups."""

    values: Tensor
    """(B, G) float64, 0 for invalid groups."""
    valid: Tensor
    """(B,) bool."""

    @property
    def alpha(self) -> float:
        """B / (B - M) of AGE, where M groups are invalid; infinite if all are."""
        valid = int(self.valid.sum())
        return len(self.valid) / valid if valid else float("inf")


def valid_groups(rewards: Tensor) -> Tensor:
    """Which groups carry a gradient: rewards (B, G) to (B,) bool."""
    return rewards.amax(dim=1) - rewards.amin(dim=1) > VALID_SPREAD


def normalised_sum(rewards: Tensor, weights: Tensor) -> Tensor:
    """Each reward centred and divided by its own standard deviation in the group, then weighted and summed.

    rewards: (R, G), unweighted scores of the R rewards of one group's G answers; weights: (R,). A reward
    that is equal in all answers adds nothing. Returns (G,) float64. Source: GDPO, arXiv 2601.05242,
    equations 4 and 5; the batch's standard deviation is `group_advantages`'s.
    """
    own = group_advantages(rewards, std_normalize=True)
    return (weights.double()[:, None] * own.values).sum(dim=0)


def group_advantages(
    rewards: Tensor,
    *,
    baseline: Baseline = "mean",
    std_normalize: bool = False,
    batch_normalize: bool = False,
) -> Advantages:
    """Each answer's reward above its baseline, divided by a standard deviation if asked to.

    rewards: (B, G), unitless. The baseline is the group's `mean`, or the mean of the other answers
    (`leave_one_out`), which is G / (G - 1) times as much and unbiased. `std_normalize` divides by the sample
    standard deviation of the group, `batch_normalize` by that of the advantages of all B groups, invalid ones
    too. Raises ConfigurationError if G < 2. Source: GPG, arXiv 2504.02546, section 2.2, where F_norm is 1 or
    the standard deviation of GRPO; RLOO, arXiv 2402.14740, equation 9; GDPO, arXiv 2601.05242, equation 6.
    """
    if rewards.shape[1] < 2:
        raise ConfigurationError(f"a group needs at least 2 answers, got {rewards.shape[1]}")
    rewards = rewards.double()
    valid = valid_groups(rewards)
    values = rewards - rewards.mean(dim=1, keepdim=True)
    if std_normalize:
        values = values / rewards.std(dim=1, keepdim=True)
    if baseline == "leave_one_out":
        values = values * (rewards.shape[1] / (rewards.shape[1] - 1))
    values = values.masked_fill(~valid[:, None], 0.0)
    if batch_normalize and valid.any():
        values = values / values.std()
    return Advantages(values, valid)


def answer_weights(
    lengths: Tensor, *, normalize: Normalize, constant: int, sampled: float | None = None
) -> Tensor:
    """Weight of every token of each answer in the loss, so that the loss is a plain weighted sum.

    lengths: (B', G), tokens trained on of the groups in the sum. The divisor of a group's token sum is its
    tokens (`group`, the paper), G times each answer's tokens (`sequence`) or G·constant (`constant`,
    Dr. GRPO), and the groups are averaged; `batch` divides by the tokens of all groups together.

    AGE averages over the B' valid groups. Without AGE, `sampled` is B, or a mini-batch's share of it, and the
    mean over the valid groups is multiplied by B'/B, exactly, in every mode. Returns (B', G) float64.
    """
    lengths = lengths.double()
    groups, size = lengths.shape
    if normalize == "group":
        divisor = groups * lengths.sum(dim=1, keepdim=True).expand(-1, size)
    elif normalize == "batch":
        divisor = lengths.sum().expand(groups, size)
    elif normalize == "sequence":
        divisor = groups * size * lengths
    else:
        divisor = torch.full_like(lengths, groups * size * constant)
    weights = torch.where(lengths > 0, 1 / divisor, torch.zeros_like(lengths))
    return weights if sampled is None else weights * (groups / sampled)
