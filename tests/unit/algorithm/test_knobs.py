"""Baselines, rewards normalised one by one, and clipping, against direct formulas in float64.

The direct side is numpy and central differences; it shares no code with the library.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from gpg_vl.algorithm.advantages import group_advantages, normalised_sum
from gpg_vl.algorithm.collect import Collection
from gpg_vl.algorithm.losses import clipped_surrogate, policy_gradient
from gpg_vl.scoring.scorer import GroupScores
from tests.support.groups import group

LENGTHS = (3, 1, 5, 2)
ANSWERS = np.repeat(np.arange(4) + 7, LENGTHS)
"""Numbers that tell answers apart, as those of a micro-batch do."""


def tensor(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("std", [True, False])
def test_leave_one_out_compares_with_the_others(seed, std):
    rewards = np.random.default_rng(seed).random((4, 5))
    rewards[1] = rewards[1, 0]
    found = group_advantages(tensor(rewards), baseline="leave_one_out", std_normalize=std)
    for g, row in enumerate(rewards):
        for i, reward in enumerate(row):
            above = reward - np.delete(row, i).mean()
            scale = np.std(row, ddof=1) if std else 1.0
            expected = 0.0 if g == 1 else above / scale
            assert found.values[g, i].item() == pytest.approx(expected, rel=1e-12, abs=1e-15)
    assert found.valid.tolist() == [True, False, True, True]


@pytest.mark.parametrize("seed", range(5))
def test_normalised_rewards_weigh_as_they_say(seed):
    rng = np.random.default_rng(seed)
    scores, weights = rng.random((3, 6)) * [[1.0], [100.0], [0.0]], [1.0, -0.5, 2.0]
    expected = sum(
        weight * (row - row.mean()) / np.std(row, ddof=1)
        for row, weight in zip(scores[:2], weights, strict=False)
    )
    np.testing.assert_allclose(normalised_sum(tensor(scores), tensor(weights)).numpy(), expected, rtol=1e-11)


def test_the_batch_divides_advantages_by_their_deviation():
    rewards = np.random.default_rng(0).random((3, 4))
    rewards[2] = 0.5
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    centred[2] = 0.0
    found = group_advantages(tensor(rewards), batch_normalize=True)
    np.testing.assert_allclose(found.values.numpy(), centred / np.std(centred, ddof=1), rtol=1e-12)
    nothing = group_advantages(tensor([[1.0, 1.0]]), batch_normalize=True)
    assert nothing.values.tolist() == [[0.0, 0.0]]


def scored(by_reward: dict[str, tuple[float, ...]], weights: dict[str, float]) -> GroupScores:
    total = np.sum([weights[name] * np.array(row) for name, row in by_reward.items()], axis=0)
    return GroupScores(by_reward, tuple(total.tolist()), None, (), weights=weights)


def test_rewards_that_cancel_in_the_sum_are_valid_when_normalised():
    """The kind of group for which GDPO was made: different answers, one sum."""
    weights = {"right": 1.0, "short": 1.0}
    scores = scored({"right": (1.0, 0.0, 0.0), "short": (0.0, 1.0, 1.0)}, weights)
    summed = replace(group("a", 0, (1.0, 1.0, 1.0)), scores=scores)
    assert not summed.valid
    unequal = scored({"right": (1.0, 0.0, 0.0), "short": (0.0, 0.0, 1.0)}, {"right": 2.0, "short": 1.0})
    split = replace(summed, scores=unequal, per_reward="normalised")
    deviation = np.std([1, 0, 0], ddof=1)
    expected = [(2 * 2 / 3 - 1 / 3) / deviation, -1 / deviation, (-2 / 3 + 2 / 3) / deviation]
    assert split.valid and split.rewards == pytest.approx(expected, abs=1e-12)
    assert Collection((split,), 1).rewards.tolist() == [list(split.rewards)]


def slopes(loss: Callable[[np.ndarray], float], at: np.ndarray) -> np.ndarray:
    """Central differences."""
    step, found = 1e-6, np.zeros_like(at)
    for place in range(len(at)):
        off = np.zeros_like(at)
        off[place] = step
        found[place] = (loss(at + off) - loss(at - off)) / (2 * step)
    return found


def direct(logprobs, old, advantages, low: float, high: float, *, sequence: bool) -> float:
    """The clipped objective; weights are those of `sequence`: one over the answer's length."""
    total = 0.0
    for answer in dict.fromkeys(ANSWERS):
        chosen = answer == ANSWERS
        ratio, advantage = np.exp(logprobs - old)[chosen], advantages[chosen][0]
        if sequence:
            ratio = np.exp(np.mean((logprobs - old)[chosen]))
        total -= np.mean(np.minimum(ratio * advantage, np.clip(ratio, 1 - low, 1 + high) * advantage))
    return total


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("sequence", [True, False])
@pytest.mark.parametrize(("low", "high"), [(0.2, None), (0.2, 0.28), (0.05, 1.5), (3e-4, 4e-4)])
def test_the_gradient_is_that_of_the_clipped_objective(seed, sequence, low, high):
    rng = np.random.default_rng(seed)
    old, logprobs = -rng.random(11), -rng.random(11)
    advantages = np.repeat(rng.normal(size=4), LENGTHS)
    weights = np.repeat(1 / np.array(LENGTHS), LENGTHS)
    leaf = tensor(logprobs).requires_grad_()
    loss, _ = clipped_surrogate(
        leaf,
        tensor(advantages),
        tensor(weights),
        old_logprobs=tensor(old),
        clip=low,
        clip_high=high,
        answers=torch.from_numpy(ANSWERS) if sequence else None,
    )
    loss.backward()

    def objective(at: np.ndarray) -> float:
        return direct(at, old, advantages, low, low if high is None else high, sequence=sequence)

    assert loss.item() == pytest.approx(objective(logprobs), rel=1e-12)
    np.testing.assert_allclose(leaf.grad.numpy(), slopes(objective, logprobs), rtol=1e-6, atol=1e-8)


def test_a_sequence_ratio_of_one_has_the_plain_gradient():
    """So that the first update needs no second look at the tokens."""
    rng = np.random.default_rng(1)
    advantages, weights = tensor(rng.normal(size=11)), tensor(rng.random(11))
    grads = []
    for options in ({"answers": torch.from_numpy(ANSWERS)}, None):
        leaf = torch.full((11,), -0.5, dtype=torch.float64, requires_grad=True)
        loss = policy_gradient if options is None else clipped_surrogate
        loss(leaf, advantages, weights, **(options or {}))[0].backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(*grads, rtol=1e-12, atol=0.0)
