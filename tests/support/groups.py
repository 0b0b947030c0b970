"""Groups of scored answers without a model."""

import torch

from gpg_vl.algorithm.collect import Group
from gpg_vl.prompting.encode import EncodedPrompt
from gpg_vl.rollout.answering import Answered
from gpg_vl.rollout.engine import Answer
from gpg_vl.scoring.scorer import GroupScores
from gpg_vl.types import Completion, Sample

PROMPT = EncodedPrompt(
    torch.zeros(1, dtype=torch.long), torch.zeros(3, 1).long(), torch.zeros(1).bool(), None, torch.zeros(0, 3)
)


def group(name: str, round: int, total: tuple[float, ...]) -> Group:
    sample = Sample(name, "t", "q", "(A)", "choice", ("x", "y"))
    answers = tuple(Answer((1, 2), (-0.1, -0.2), "x", "eos") for _ in total)
    completions = tuple(Completion("x", None, None, 2, "eos") for _ in total)
    scores = GroupScores({"r": total}, total, total, ())
    return Group(Answered(sample, PROMPT, answers, completions), scores, round)
