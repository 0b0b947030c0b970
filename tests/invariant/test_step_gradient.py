"""A whole step, from groups to gradients, against transformers' own forward and the formula by hand."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import mean, stdev

import pytest
import torch
from transformers import AutoModelForImageTextToText

from gpg_vl.algorithm.batch import Knobs, StepBatch, sampled_logprobs, step_batch
from gpg_vl.algorithm.collect import Collection
from gpg_vl.algorithm.losses import LOSSES
from gpg_vl.model.packing import Row, collate, cut
from gpg_vl.model.policy import Policy
from tests.support.steps import LENGTHS, REWARDS, TEMPERATURE, TRUNCATED, made_up, plain_logprobs

BETA = 0.1


@pytest.fixture
def collection(policy: Policy, mixed_samples) -> Collection:
    return made_up(policy, mixed_samples)


def knobs(**changes) -> Knobs:
    values = {
        "baseline": "mean",
        "std_normalize": False,
        "per_reward": "sum",
        "age": True,
        "normalize": "group",
        "mask_truncated": False,
        "max_new_tokens": 16,
        "kl": False,
    }
    return Knobs(**values | changes)


def ours(
    policy: Policy, collection: Collection, settings: Knobs, packing: str, max_tokens: int
) -> torch.Tensor:
    """The gradient through batch, packing, micro-batches and loss; the reference is uniform noise."""
    batch, _ = step_batch(collection, settings, packing=packing, max_tokens=150, token_cost=1.0)
    assert batch is not None
    (rows,) = batch.mini_batches
    return gradient(policy, batch, rows, settings, max_tokens)


def gradient(
    policy: Policy, batch: StepBatch, rows: Sequence[Row], settings: Knobs, max_tokens: int
) -> torch.Tensor:
    policy.zero_grad()
    for part in cut(rows, max_tokens):
        micro = collate(part)
        logprobs, _ = policy(micro, TEMPERATURE)
        extra = {}
        if settings.kl:
            kl_weights = batch.per_token(batch.kl_weights, micro.answer_index)
            extra = {"reference_logprobs": logprobs.detach() - 0.5, "kl_weights": kl_weights, "kl_beta": BETA}
        advantages = batch.per_token(batch.advantages, micro.answer_index)
        weights = batch.per_token(batch.weights, micro.answer_index)
        LOSSES["grpo" if settings.kl else "gpg"](logprobs, advantages, weights, **extra)[0].backward()
    return torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])


def advantages_by_hand(settings: Knobs) -> list[list[float]]:
    """Of all four groups, each knob on its own lines."""
    values = []
    for rewards in REWARDS:
        if settings.baseline == "leave_one_out":
            row = [own - (sum(rewards) - own) / 2 for own in rewards]
        else:
            row = [own - mean(rewards) for own in rewards]
        scale = stdev(rewards) if settings.std_normalize and len(set(rewards)) > 1 else 1.0
        values.append([one / scale for one in row])
    if settings.per_reward == "normalised":
        scale = stdev(one for row in values for one in row)
        values = [[one / scale for one in row] for row in values]
    return values


def by_hand(policy: Policy, collection: Collection, settings: Knobs, folder) -> torch.Tensor:
    """The same from one plain forward per answer."""
    reference = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float64)
    used = {
        (g, i): 0 if settings.mask_truncated and (g, i) in TRUNCATED else LENGTHS[g][i]
        for g in range(4)
        for i in range(3)
    }
    valid, values = [0, 2, 3], advantages_by_hand(settings)
    total = torch.zeros((), dtype=torch.float64)
    for g, group in enumerate(collection.groups):
        for i, answer in enumerate(group.answered.answers):
            if not used[g, i]:
                continue
            logprobs = plain_logprobs(policy, reference, group, answer)
            divisors = {}
            for name, over in (("policy", valid), ("kl", range(4))):
                divisors[name] = {
                    "group": len(over) * sum(used[g, k] for k in range(3)),
                    "batch": sum(used[h, k] for h in over for k in range(3)),
                    "sequence": len(over) * 3 * used[g, i],
                    "constant": len(over) * 3 * settings.max_new_tokens,
                }[settings.normalize]
            if g in valid:
                scale = 1.0 if settings.age else 3 / 4
                total = total - scale * values[g][i] * logprobs.sum() / divisors["policy"]
            if settings.kl:
                difference = logprobs.detach() - 0.5 - logprobs
                total = total + BETA * (difference.exp() - difference - 1).sum() / divisors["kl"]
    total.backward()
    return torch.cat([p.grad.flatten() for p in reference.parameters() if p.grad is not None])


CASES = [
    knobs(),
    knobs(age=False),
    knobs(baseline="leave_one_out"),
    knobs(std_normalize=True),
    knobs(per_reward="normalised"),
    knobs(normalize="batch"),
    knobs(normalize="batch", age=False),
    knobs(normalize="sequence"),
    knobs(normalize="constant"),
    knobs(mask_truncated=True),
    knobs(mask_truncated=True, normalize="sequence"),
    knobs(kl=True),
    knobs(kl=True, mask_truncated=True, normalize="sequence", age=False),
]


@pytest.mark.parametrize("settings", CASES, ids=lambda k: "-".join(f"{v}" for v in vars(k).values()))
def test_a_step_is_the_formula(policy, tiny_folder, collection, settings):
    policy = policy.double()
    expected = by_hand(policy, collection, settings, tiny_folder)
    for packing, max_tokens in (("group", 10_000), ("none", 200), ("auto", 1)):
        gradient = ours(policy, collection, settings, packing, max_tokens)
        assert (gradient - expected).norm() / expected.norm() < 1e-6


@pytest.mark.parametrize(
    "settings", [case for case in CASES if case.per_reward == "sum"], ids=lambda k: f"{k}"
)
def test_a_mini_batch_is_the_step_of_its_groups(policy, collection, settings):
    """Without AGE each stands for as many sampled groups as the others in proportion."""
    policy, shape = policy.double(), {"packing": "auto", "max_tokens": 150, "token_cost": 1.0}
    whole, _ = step_batch(collection, replace(settings, mini_batches=2), **shape)
    parts = ((0, 2), (1, 3)) if settings.kl else ((0, 3), (2,))
    scale = 1.0 if settings.age or settings.kl else 3 / 4
    for rows, part in zip(whole.mini_batches, parts, strict=True):
        alone = Collection(tuple(collection.groups[g] for g in part), 1)
        expected = scale * ours(policy, alone, settings, "auto", 300)
        found = gradient(policy, whole, rows, settings, 300)
        assert (found - expected).norm() / expected.norm() < 1e-6


def test_a_mini_batch_that_is_masked_is_none(policy, collection):
    """Of the last group's answers, all but one ran into the limit; here that one too."""
    *groups, last = collection.groups
    answers = tuple(replace(answer, finish_reason="length") for answer in last.answered.answers)
    cut_off = replace(last, answered=replace(last.answered, answers=answers))
    settings = knobs(mask_truncated=True, mini_batches=3)
    shape = {"packing": "auto", "max_tokens": 150, "token_cost": 1.0}
    batch, _ = step_batch(Collection((*groups, cut_off), 1), settings, **shape)
    used = [{index // 3 for row in rows for index in row.indices} for rows in batch.mini_batches]
    assert used == [{0}, {1}]
    assert not batch.weights[6:].any()


def test_sampled_logprobs_follow_the_targets(policy, collection):
    """Each target's own sampling log-probability, in every packing."""
    by_token = {
        (3 * b + i, t): lp
        for b, g in enumerate((0, 2, 3))
        for i, answer in enumerate(collection.groups[g].answered.answers)
        for t, lp in enumerate(answer.logprobs)
    }
    for packing in ("group", "none"):
        batch, _ = step_batch(collection, knobs(), packing=packing, max_tokens=150, token_cost=1.0)
        for rows in cut(batch.mini_batches[0], 300):
            index = collate(rows).answer_index.tolist()
            sampled = sampled_logprobs(rows, batch, len(index) + 2)
            assert sampled[len(index) :].tolist() == [0.0, 0.0]  # a dummy's
            seen: dict[int, int] = {}
            for answer, value in zip(index, sampled.tolist(), strict=False):
                position = seen.get(answer, 0)
                seen[answer] = position + 1
                assert value == by_token[answer, position]
