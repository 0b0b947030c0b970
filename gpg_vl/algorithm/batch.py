"""From sampled groups to the gradient of a rollout's optimizer steps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from gpg_vl.algorithm.advantages import Advantages, answer_weights, group_advantages
from gpg_vl.algorithm.collect import Collection, Group
from gpg_vl.config import AlgorithmConfig
from gpg_vl.model.packing import Row, pack
from gpg_vl.types import Baseline, Normalize, Packing, PerReward


@dataclass(frozen=True)
class StepBatch:
    """The answers that a step trains on, numbered 0..N-1, as packed rows."""

    mini_batches: tuple[tuple[Row, ...], ...]
    """The rows of each optimizer step of a pass, at least one; all in one if the rollout is not parted."""
    advantages: Tensor
    """(N,) float32."""
    weights: Tensor
    """(N,) float32, of each answer's tokens in the policy gradient of its mini-batch."""
    kl_weights: Tensor
    """(N,) float32, the same for the KL term, which is averaged over all groups of the mini-batch."""
    sampled_logprobs: tuple[tuple[float, ...], ...]
    """Per answer, of the sampler."""
    sources: tuple[int, ...]
    """Per answer, its question's row in the training data."""

    def per_token(self, values: Tensor, answer_index: Tensor) -> Tensor:
        """Spread per-answer values (N,) over tokens that belong to answers `answer_index` (M,): (M,).

        All on the CPU. 0 for the tokens of dummy rows, whose answers are numbered -1.
        """
        return torch.where(answer_index < 0, torch.zeros_like(values[:1]), values[answer_index])


@dataclass(frozen=True)
class Knobs:
    """The settings of AlgorithmConfig that shape the gradient."""

    baseline: Baseline
    std_normalize: bool
    per_reward: PerReward
    age: bool
    normalize: Normalize
    mask_truncated: bool
    max_new_tokens: int
    kl: bool
    mini_batches: int = 1

    @classmethod
    def of(cls, algorithm: AlgorithmConfig, max_new_tokens: int) -> "Knobs":
        return cls(
            baseline=algorithm.baseline,
            std_normalize=algorithm.std_normalize,
            per_reward=algorithm.per_reward,
            age=algorithm.age,
            normalize=algorithm.normalize,
            mask_truncated=algorithm.mask_truncated,
            max_new_tokens=max_new_tokens,
            kl=algorithm.kl_beta > 0,
            mini_batches=algorithm.mini_batches,
        )


def step_batch(
    collection: Collection, knobs: Knobs, *, packing: Packing, max_tokens: int, token_cost: float
) -> tuple[StepBatch | None, Advantages]:
    """The batch of one step, and the advantages (B, G) of all its groups.

    Only valid groups are in the batch; with a KL term all are, since that has a gradient everywhere. None
    if nothing is left to train on. `packing`, `max_tokens` (per row) and `token_cost` (work per token in
    query-key pairs) only shape the rows.
    """
    advantages = group_advantages(
        collection.rewards,
        baseline=knobs.baseline,
        std_normalize=knobs.std_normalize,
        batch_normalize=knobs.per_reward == "normalised",
    )
    valid = advantages.valid
    chosen = torch.ones_like(valid) if knobs.kl else valid
    groups = [group for group, keep in zip(collection.groups, chosen.tolist(), strict=True) if keep]
    lengths = _trained_lengths(groups, knobs.mask_truncated)  # (B', G)
    weights, kl_weights = torch.zeros_like(lengths), torch.zeros_like(lengths)
    packed = partial(pack, packing=packing, max_tokens=max_tokens, token_cost=token_cost)
    mini_batches: list[tuple[Row, ...]] = []
    for part in _parts(len(groups), knobs.mini_batches):
        sampled = None if knobs.age else len(valid) * len(part) / len(groups)
        weights[part], kl_weights[part] = _weights(lengths[part], valid[chosen][part], knobs, sampled)
        if not (kl_weights if knobs.kl else weights)[part].any():
            continue  # every answer is masked
        answers = [(groups[i].answered.prompt, _numbered(groups[i], i, lengths[i])) for i in part]
        mini_batches.append(tuple(row for prompt, own in answers for row in packed(prompt, own)))
    if not mini_batches:
        return None, advantages
    batch = StepBatch(
        mini_batches=tuple(mini_batches),
        advantages=advantages.values[chosen].flatten().float(),
        weights=weights.flatten().float(),
        kl_weights=kl_weights.flatten().float(),
        sampled_logprobs=tuple(answer.logprobs for group in groups for answer in group.answered.answers),
        sources=tuple(group.row for group in groups for _ in group.answered.answers),
    )
    return batch, advantages


def _parts(groups: int, count: int) -> Iterator[list[int]]:
    """The numbers of `groups` groups in `count` parts, as equal as can be and of all rounds alike; none is
    empty."""
    return (list(range(first, groups, count)) for first in range(min(count, groups)))


def _weights(lengths: Tensor, valid: Tensor, knobs: Knobs, sampled: float | None) -> tuple[Tensor, Tensor]:
    """Of the policy gradient and of the KL term, (P, G) float64 each, for the P groups of a mini-batch.

    lengths: (P, G), valid: (P,). Without AGE they stand for `sampled` groups, with it that is None.
    """
    normalize, constant = knobs.normalize, knobs.max_new_tokens
    weights = torch.zeros_like(lengths)
    weights[valid] = answer_weights(lengths[valid], normalize=normalize, constant=constant, sampled=sampled)
    return weights, answer_weights(lengths, normalize=normalize, constant=constant)


def _numbered(group: Group, index: int, lengths: Tensor) -> list[tuple[int, tuple[int, ...]]]:
    """The answers of the step's group `index` that are trained on, with their numbers."""
    answers = group.answered.answers
    return [
        (index * len(answers) + g, answer.token_ids)
        for g, (answer, length) in enumerate(zip(answers, lengths.tolist(), strict=True))
        if length
    ]


def _trained_lengths(groups: Sequence[Group], mask_truncated: bool) -> Tensor:
    """(B', G) float64 tokens in the loss: 0 for truncated answers where those are masked."""
    lengths = [
        [
            0 if mask_truncated and answer.finish_reason == "length" else len(answer.token_ids)
            for answer in group.answered.answers
        ]
        for group in groups
    ]
    return torch.tensor(lengths, dtype=torch.float64)


def sampled_logprobs(rows: Sequence[Row], batch: StepBatch, count: int) -> Tensor:
    """The sampler's log-probabilities of a micro-batch's targets, in their order: (count,).

    0 for those of a dummy, which nobody sampled; they stand behind those of `rows`.
    """
    values = [logprob for row in rows for index in row.indices for logprob in batch.sampled_logprobs[index]]
    return torch.tensor(values + [0.0] * (count - len(values)))
