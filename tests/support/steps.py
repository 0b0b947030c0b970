"""A step's answers, made up, and what transformers' own forward says of them."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from gpg_vl.algorithm.collect import Collection, Group
from gpg_vl.model.policy import Policy
from gpg_vl.rollout.answering import Answered
from gpg_vl.rollout.engine import Answer
from gpg_vl.scoring.scorer import GroupScores
from gpg_vl.types import Completion, Sample
from tests.support.inputs import encoder_of
from tests.support.packed import inputs

TEMPERATURE = 0.8
REWARDS = [(1.0, 0.0, 0.5), (0.3, 0.3, 0.3), (0.0, 0.0, 1.0), (2.0, 1.0, 0.0)]
LENGTHS = [(3, 7, 2), (4, 4, 4), (1, 9, 5), (6, 2, 8)]
TRUNCATED = {(0, 1), (3, 0), (3, 2)}
"""(group, answer) pairs that ended by length."""


def made_up(policy: Policy, samples: Sequence[Sample]) -> Collection:
    """Four questions, one of them invalid, with random answers of unequal lengths."""
    generator = torch.Generator().manual_seed(0)
    usable = (~policy.suppressed).nonzero().flatten()
    groups = []
    for g, (sample, prompt) in enumerate(zip(samples, encoder_of(policy).encode(samples), strict=True)):
        answers = []
        for i, length in enumerate(LENGTHS[g]):
            ids = usable[torch.randint(len(usable), (length,), generator=generator)].tolist()
            reason = "length" if (g, i) in TRUNCATED else "eos"
            logprobs = tuple(float(100 * g + 10 * i + t) for t in range(length))
            answers.append(Answer(tuple(ids), logprobs, "", reason))
        completions = tuple(Completion("", None, None, len(a.token_ids), a.finish_reason) for a in answers)
        scores = GroupScores({"r": REWARDS[g]}, REWARDS[g], REWARDS[g], ())
        groups.append(Group(Answered(sample, prompt, tuple(answers), completions), scores, 0))
    return Collection(tuple(groups), 1)


def plain_logprobs(policy: Policy, reference: PreTrainedModel, group: Group, answer: Answer) -> torch.Tensor:
    """(T,) in nats, from a forward of prompt and answer alone."""
    prompt = group.answered.prompt
    reference.model.rope_deltas = None
    logits = reference(**inputs(prompt, answer.token_ids, policy.processor.image_token_id)).logits[0]
    logits = (logits / TEMPERATURE).masked_fill(policy.suppressed, float("-inf"))
    logprobs = logits.log_softmax(-1)[prompt.length - 1 : -1]
    return logprobs.gather(1, torch.tensor(answer.token_ids)[:, None])[:, 0]
