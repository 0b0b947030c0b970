"""A packed row equals one row per answer: log-probabilities and gradients."""

import pytest
import torch

from gpg_vl.model.packing import collate, join, pack
from tests.support.packed import by_answer, gradient, inputs, rows_of


def naive(policy, reference, groups) -> torch.Tensor:
    """transformers' own forward over each answer alone."""
    values = []
    for prompt, answers in groups:
        for answer in answers:
            reference.model.rope_deltas = None
            logits = reference(**inputs(prompt, answer, policy.processor.image_token_id)).logits[0]
            logits = (logits / 0.9).masked_fill(policy.suppressed, float("-inf"))
            logprobs = logits.log_softmax(-1)[prompt.length - 1 : -1]
            values.append(logprobs.gather(1, torch.tensor(answer)[:, None])[:, 0])
    return torch.cat(values)


def test_joined_rows_do_not_see_each_other(policy, reference, groups):
    """Supervised packing: whole groups behind one another in one row."""
    joined = join(rows_of(groups, "group"), 10_000)
    assert [len(row.segments) for row in joined] == [len(groups)]
    packed = by_answer(policy, joined, 10_000)
    assert (packed - naive(policy, reference, groups)).abs().max() < 2e-6
    within = join(rows_of(groups, "none"), 200)
    assert len(within) < 3 * len(groups) and all(row.length <= 200 for row in within)
    assert (by_answer(policy, within, 500) - packed).abs().max() < 2e-6


def test_rows_of_one_answer_need_no_mask(policy, groups):
    assert collate(rows_of(groups, "none")).causal
    assert not collate(rows_of(groups, "group")).causal
    assert not collate(join(rows_of(groups, "none"), 10_000)).causal


@pytest.mark.parametrize(
    ("packing", "row_tokens", "batch_tokens"),
    [("group", 10_000, 10_000), ("none", 10_000, 10_000), ("group", 130, 130), ("group", 10_000, 300)],
    ids=["group", "none", "split groups", "micro-batches"],
)
def test_packed_equals_naive(policy, reference, groups, packing, row_tokens, batch_tokens):
    packed = by_answer(policy, rows_of(groups, packing, row_tokens), batch_tokens)
    expected = naive(policy, reference, groups)
    assert (packed - expected).abs().max() < 2e-6
    ours = gradient(policy, packed)
    reference.zero_grad()
    (expected * torch.linspace(-1, 1, len(expected))).sum().backward()
    theirs = torch.cat([p.grad.flatten() for p in reference.parameters() if p.grad is not None])
    assert (ours - theirs).norm() / theirs.norm() < 2e-6


def test_split_groups_repeat_the_prompt_but_not_the_image(policy, groups):
    prompt, answers = groups[1]
    numbered = list(enumerate(answers))
    rows = pack(prompt, numbered, packing="group", max_tokens=prompt.length + 6, token_cost=1.0)
    assert [row.indices for row in rows] == [(0, 1), (2,)]
    assert [len(row.segments) for row in rows] == [1, 1]
    batch = collate(rows)
    assert batch.pixel_values is not None and prompt.pixel_values is not None
    assert len(batch.pixel_values) == len(prompt.pixel_values)
    assert len(batch.image_slots) == 2 * int(prompt.image_mask.sum())


def test_entropy_is_that_of_the_distribution(policy, groups):
    batch = collate(rows_of(groups, "group"))
    policy.eval()
    with torch.no_grad():
        entropies = policy(batch, 1.0)[1]
        everything = [
            policy(_with_target(batch, token), 1.0)[0] for token in (~policy.suppressed).nonzero().flatten()
        ]
    logprobs = torch.stack(everything)  # (V', M)
    assert torch.allclose(logprobs.exp().sum(0), torch.ones(len(entropies)), atol=1e-5)
    assert torch.allclose(-(logprobs.exp() * logprobs).sum(0), entropies, atol=1e-4)


def _with_target(batch, token):
    from dataclasses import replace

    return replace(batch, targets=torch.full_like(batch.targets, int(token)))
