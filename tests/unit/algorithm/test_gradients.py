"""The gradient of a step against a direct implementation of the paper's formula, in float64.

The direct side is numpy and the analytic gradient of a softmax; it shares no code with the library.
"""

import itertools

import numpy as np
import pytest
import torch

from gpg_vl.algorithm.advantages import answer_weights, group_advantages
from gpg_vl.algorithm.losses import LOSSES

VOCABULARY = 5
CONSTANT = 11
MODES = ("group", "batch", "sequence", "constant")


def direct_gradient(logits, tokens, rewards, *, normalize: str, age: bool, std: bool) -> list[np.ndarray]:
    """d loss / d logits for every answer: loss = mean over valid groups of sum -log pi · A / divisor."""
    valid = [max(r) - min(r) > 1e-8 for r in rewards]
    groups, count = len(rewards), sum(valid)
    gradient = [[np.zeros_like(answer) for answer in group] for group in logits]
    all_tokens = sum(len(t) for group, ok in zip(tokens, valid, strict=True) if ok for t in group)
    for g in range(groups):
        if not valid[g]:
            continue
        mean = sum(rewards[g]) / len(rewards[g])
        scale = np.std(rewards[g], ddof=1) if std else 1.0
        for i, sampled in enumerate(tokens[g]):
            advantage = (rewards[g][i] - mean) / scale
            divisor = {
                "group": count * sum(len(t) for t in tokens[g]),
                "batch": all_tokens,
                "sequence": count * len(tokens[g]) * len(sampled),
                "constant": count * len(tokens[g]) * CONSTANT,
            }[normalize]
            for t, token in enumerate(sampled):
                z = logits[g][i][t]
                softmax = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
                onehot = np.eye(VOCABULARY)[token]
                gradient[g][i][t] = -advantage * (onehot - softmax) / divisor
                if not age:
                    gradient[g][i][t] *= count / groups
    return list(itertools.chain.from_iterable(gradient))


def library_gradient(logits, tokens, rewards, *, loss="gpg", normalize: str, age: bool, std: bool):
    """The same through the library: valid groups only, flat tokens."""
    advantages = group_advantages(torch.tensor(rewards, dtype=torch.float64), std_normalize=std)
    kept = [g for g, ok in enumerate(advantages.valid.tolist()) if ok]
    leaves = [[torch.tensor(a, requires_grad=True) for a in group] for group in logits]
    if kept:
        lengths = torch.tensor([[len(t) for t in tokens[g]] for g in kept])
        sampled = None if age else len(rewards)
        weights = answer_weights(lengths, normalize=normalize, constant=CONSTANT, sampled=sampled)
        picked = [
            (leaves[g][i].log_softmax(-1)[range(len(tokens[g][i])), tokens[g][i]], advantages.values[g, i], w)
            for g, row in zip(kept, weights, strict=True)
            for i, w in enumerate(row)
        ]
        logprobs = torch.cat([lp for lp, _, _ in picked])
        per_token = [torch.cat([v.expand(len(lp)) for lp, *vs in picked for v in [vs[k]]]) for k in (0, 1)]
        value, _ = LOSSES[loss](logprobs, *per_token)
        value.backward()
    flat = itertools.chain.from_iterable(leaves)
    return [np.zeros(a.shape) if a.grad is None else a.grad.numpy() for a in flat], advantages.alpha


def case(seed: int, kind: str):
    """Random logits, tokens and rewards of 4 groups of 3 answers."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 7, (4, 3)) if kind != "equal lengths" else np.full((4, 3), 4)
    logits = [[rng.normal(size=(n, VOCABULARY)) for n in row] for row in lengths]
    tokens = [[rng.integers(0, VOCABULARY, n).tolist() for n in row] for row in lengths]
    rewards = rng.random((4, 3)).tolist()
    invalid = {"all valid": [], "some invalid": [0, 2], "all invalid": range(4), "equal lengths": [1]}[kind]
    for g in invalid:
        rewards[g] = [rewards[g][0]] * 3
    return logits, tokens, rewards


@pytest.mark.parametrize("kind", ["all valid", "some invalid", "all invalid", "equal lengths"])
@pytest.mark.parametrize("normalize", MODES)
@pytest.mark.parametrize("age", [True, False])
@pytest.mark.parametrize("std", [True, False])
def test_gradient_is_the_formula(kind, normalize, age, std):
    for seed in range(5):
        logits, tokens, rewards = case(seed, kind)
        knobs = {"normalize": normalize, "age": age, "std": std}
        expected = direct_gradient(logits, tokens, rewards, **knobs)
        for loss in LOSSES:  # on the first update the clipped losses have the same gradient
            ours, _ = library_gradient(logits, tokens, rewards, loss=loss, **knobs)
            for a, b in zip(ours, expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


def test_age_is_alpha_times_the_plain_gradient():
    logits, tokens, rewards = case(0, "some invalid")
    for normalize in MODES:
        knobs = {"normalize": normalize, "std": False}
        rescaled, alpha = library_gradient(logits, tokens, rewards, age=True, **knobs)
        plain, _ = library_gradient(logits, tokens, rewards, age=False, **knobs)
        assert alpha == 4 / 2
        for a, b in zip(rescaled, plain, strict=True):
            np.testing.assert_allclose(a, alpha * b, rtol=1e-12)


def test_advantages_by_hand():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0]])
    plain = group_advantages(rewards)
    assert plain.values.tolist() == [[0.75, -0.25, -0.25, -0.25], [0.0] * 4]
    assert plain.valid.tolist() == [True, False]
    assert plain.alpha == 2.0
    std = group_advantages(rewards, std_normalize=True)
    assert std.values[0].tolist() == pytest.approx([1.5, -0.5, -0.5, -0.5])
    assert std.values[1].tolist() == [0.0] * 4
    assert group_advantages(rewards[1:]).alpha == float("inf")


def test_rewards_apart_by_rounding_are_equal():
    assert group_advantages(torch.tensor([[0.1 + 0.2, 0.3]], dtype=torch.float64)).valid.tolist() == [False]


def test_group_of_one_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        group_advantages(torch.ones(3, 1))


def test_weights_by_hand():
    lengths = torch.tensor([[1, 3], [2, 2]])
    weights = {m: answer_weights(lengths, normalize=m, constant=10).tolist() for m in MODES}
    assert weights["group"] == [[1 / 8] * 2, [1 / 8] * 2]
    assert weights["batch"] == [[1 / 8] * 2, [1 / 8] * 2]
    assert weights["sequence"][0] == pytest.approx([1 / 4, 1 / 12])
    assert weights["constant"] == [[1 / 40] * 2, [1 / 40] * 2]


def test_masked_answers_have_no_weight():
    weights = answer_weights(torch.tensor([[0, 3], [0, 0]]), normalize="group", constant=10)
    assert weights.tolist() == [[0.0, pytest.approx(1 / 6)], [0.0, 0.0]]


def test_clipped_surrogate_by_hand():
    logprobs = torch.tensor([0.5, -0.5, 0.05], dtype=torch.float64, requires_grad=True)
    old = torch.zeros(3, dtype=torch.float64)
    advantages = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    loss, metrics = LOSSES["grpo"](logprobs, advantages, torch.ones(3).double(), old_logprobs=old, clip=0.2)
    loss.backward()
    # Ratios 1.65 and 0.61 are clipped on the side that would profit; 1.05 is not.
    assert loss.item() == pytest.approx(-(1.2 - 0.8 + np.exp(0.05)))
    assert logprobs.grad.tolist() == pytest.approx([0.0, 0.0, -np.exp(0.05)])
    assert metrics["clipped_fraction"].item() == 2  # a sum over tokens


def test_kl_by_hand():
    logprobs = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
    zero, one = torch.zeros(1).double(), torch.ones(1).double()
    reference = torch.tensor([-1.5], dtype=torch.float64)
    loss, metrics = LOSSES["grpo"](
        logprobs, zero, one, reference_logprobs=reference, kl_weights=0.5 * one, kl_beta=0.1
    )
    loss.backward()
    kl = 0.5 * (np.exp(-0.5) + 0.5 - 1)
    assert metrics["kl"].item() == pytest.approx(kl)
    assert loss.item() == pytest.approx(0.1 * kl)
    assert logprobs.grad.item() == pytest.approx(0.1 * 0.5 * (1 - np.exp(-0.5)))
