"""Tokens per second of the gradient pass, and its share of what matrix products reach."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.limits import timed, training_flops, work_of
from benchmarks.workloads import Workload
from gpg_vl.algorithm.losses import policy_gradient
from gpg_vl.model.packing import Row, cut, pack
from gpg_vl.model.policy import Policy
from gpg_vl.model.sizes import ModelSizes
from gpg_vl.prompting.encode import EncodedPrompt


def measure(
    policy: Policy, rows: Sequence[Row], sizes: ModelSizes, peak: float, repeats: int
) -> dict[str, Any]:
    """Forward and backward over one micro-batch; `peak` in FLOP/s."""
    work, gradient = work_of(rows), gradient_of(policy, rows)
    gradient()  # warms up
    seconds = median(timed(gradient, policy.device) for _ in range(repeats))
    rate = training_flops(sizes, work) / seconds
    figures = {"rows": len(rows), "seconds": seconds, "tokens/s": work.tokens / seconds}
    return asdict(work) | figures | {"FLOP/s": rate, "share of matmul peak": rate / peak}


def fullest_micro_batch(
    policy: Policy, prompts: Sequence[EncodedPrompt], workload: Workload, max_tokens: int
) -> list[Row]:
    """Groups of random answers, packed and cut as in training."""
    usable = (~policy.suppressed).nonzero().flatten().cpu()
    generator = torch.Generator().manual_seed(0)
    rows: list[Row] = []
    for number, prompt in enumerate(prompts):
        picks = torch.randint(len(usable), (workload.group_size, workload.new_tokens), generator=generator)
        first = number * workload.group_size
        answers = [(first + g, tuple(ids)) for g, ids in enumerate(usable[picks].tolist())]
        options = {"packing": "group", "max_tokens": max_tokens, "token_cost": policy.token_cost}
        rows += pack(prompt, answers, **options)
    return max(cut(rows, max_tokens), key=len)


def gradient_of(policy: Policy, rows: Sequence[Row]) -> Callable[[], None]:
    """A gradient pass over the rows: forward, loss, backward."""
    batch = policy.collate(rows).to(policy.device)
    alternating = torch.where(batch.answer_index % 2 == 0, 1.0, -1.0)
    weights = torch.full_like(alternating, 1 / len(alternating))
    policy.train()

    def gradient() -> None:
        values: Tensor = policy(batch, 1.0)[0]
        policy_gradient(values, alternating, weights)[0].backward()
        policy.zero_grad()

    return gradient
