"""Small run folders, written as training writes them."""

from collections.abc import Sequence
from pathlib import Path

import torch

from gpg_vl.algorithm.advantages import group_advantages
from gpg_vl.algorithm.collect import Collection, Group
from gpg_vl.prompting.encode import EncodedPrompt
from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.rollout.answering import Answered
from gpg_vl.rollout.engine import Answer
from gpg_vl.scoring.scorer import Scorer
from gpg_vl.training.records import write_rollouts
from gpg_vl.types import Sample

SCORER = Scorer({"choice": 1.0, "format": 0.5})
RIGHT, WRONG, BAD = "<think>a</think><answer>(A)</answer>", "<answer>(B)</answer>", "no tags"
"""Worth 1.5, 0 and 0 with SCORER where the gold answer is (A)."""


def sampled_group(sample: Sample, texts: Sequence[str], round: int = 0) -> Group:
    """A group as the sampler makes it: answer n has n + 1 tokens."""
    empty = torch.zeros(0, 3, dtype=torch.long)
    prompt = EncodedPrompt(torch.tensor([1, 2]), torch.zeros(3, 2), torch.zeros(2) > 0, None, empty)
    answers = tuple(Answer((5,) * (n + 1), (-0.5,) * (n + 1), text, "eos") for n, text in enumerate(texts))
    completions = tuple(
        parse_completion(a.text, think_opened=False, token_count=len(a.token_ids), finish_reason="eos")
        for a in answers
    )
    return Group(Answered(sample, prompt, answers, completions), SCORER.score(sample, completions), round)


def write_step(path: Path, groups: Sequence[Group]) -> None:
    """One file of rollout records."""
    collection = Collection(tuple(groups), rounds=2)
    write_rollouts(path, collection, group_advantages(collection.rewards).values)
