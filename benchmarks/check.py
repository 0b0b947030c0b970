"""Do this project and plain transformers compute the same step? On answers that this project samples."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import naive, ours
from benchmarks.inputs import text_score
from benchmarks.workloads import Workload
from gpg_vl.algorithm.advantages import answer_weights, group_advantages
from gpg_vl.algorithm.losses import policy_gradient
from gpg_vl.model.packing import collate, cut, pack
from gpg_vl.rollout.engine import Answer
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.training.session import Session


def compare(workload: Workload, model: Path) -> str:
    """A line that says how far log-probabilities and gradients are apart.

    Raises AssertionError where that is more than rounding in fp32.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = ours.build(workload, model, Path(folder) / "data")
        logprobs, gradient, answers = _ours(session, workload)
    theirs, their_gradient = _naive(model, workload, answers, session.learner.policy.suppressed)
    distance = float((logprobs - theirs).abs().max())
    apart = float((gradient - their_gradient).norm() / their_gradient.norm())
    assert distance < 1e-4 and apart < 1e-4, (distance, apart)
    return f"equal: log-probabilities within {distance:.1e} nats, gradients within {apart:.1e} of their norm"


def _advantages(answers: list[list[Answer]]) -> Tensor:
    """(B, G) of the answers' texts."""
    rewards = torch.tensor([[text_score(answer.text) for answer in group] for group in answers])
    return group_advantages(rewards).values.float()


def _ours(session: Session, workload: Workload) -> tuple[Tensor, Tensor, list[list[Answer]]]:
    """Log-probabilities (N, T), the gradient, and the answers."""
    learner, size = session.learner, workload.group_size
    questions = [learner.data[row] for row in range(workload.questions)]
    answered = session.answerer.answer(questions, size, Sampling(workload.new_tokens))
    answers = [list(one.answers) for one in answered]
    rows = []
    for number, one in enumerate(answered):
        numbered = [(number * size + g, answer.token_ids) for g, answer in enumerate(one.answers)]
        cost = learner.policy.token_cost
        rows += pack(one.prompt, numbered, packing="group", max_tokens=8192, token_cost=cost)
    lengths = torch.tensor([[len(answer.token_ids) for answer in group] for group in answers])
    weights = answer_weights(lengths, normalize="group", constant=0).float().flatten()
    advantages = _advantages(answers).flatten()
    logprobs = torch.zeros(len(advantages), workload.new_tokens)
    for micro in cut(rows, 8192):
        batch = collate(micro)
        values, _ = learner.policy(batch, 1.0)
        policy_gradient(values, advantages[batch.answer_index], weights[batch.answer_index])[0].backward()
        numbers = batch.answer_index.unique_consecutive()
        logprobs[numbers] = values.detach().view(len(numbers), -1)
    return logprobs, _gradient(learner.policy.model), answers


def _naive(
    model: Path, workload: Workload, answers: list[list[Answer]], suppressed: Tensor
) -> tuple[Tensor, Tensor]:
    policy, processor = naive.load(model)
    advantages, parts = _advantages(answers), []
    for number, group in enumerate(answers):
        tokens = torch.tensor([answer.token_ids for answer in group])
        prompts = naive.encode(workload, processor, slice(number, number + 1))
        values = naive.answer_logprobs(policy, prompts, tokens, suppressed)
        naive.gpg_loss(values, advantages[number], workload.questions).backward()
        parts.append(values.detach())
    return torch.cat(parts), _gradient(policy)


def _gradient(model: Any) -> Tensor:
    return torch.cat([p.grad.flatten() for _, p in sorted(model.named_parameters()) if p.grad is not None])
