"""Packed rows and what they are compared with."""

from collections.abc import Sequence

import torch

from gpg_vl.model.packing import Row, cut, pack
from gpg_vl.model.policy import Policy
from gpg_vl.prompting.encode import EncodedPrompt


def inputs(prompt: EncodedPrompt, answer: Sequence[int], image_token: int) -> dict[str, torch.Tensor | None]:
    """What transformers' own forward takes for one prompt and answer."""
    ids = torch.cat([prompt.token_ids, torch.tensor(answer, dtype=torch.long)])[None]
    values = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if prompt.pixel_values is None:
        return values
    images = {"pixel_values": prompt.pixel_values, "image_grid_thw": prompt.grid}
    return values | images | {"mm_token_type_ids": (ids == image_token).long()}


def rows_of(groups, packing: str, max_tokens: int = 10_000) -> list[Row]:
    rows: list[Row] = []
    for index, (prompt, answers) in enumerate(groups):
        options = {"packing": packing, "max_tokens": max_tokens, "token_cost": 1.0}
        rows += pack(prompt, [(3 * index + i, answer) for i, answer in enumerate(answers)], **options)
    return rows


def by_answer(policy: Policy, rows: list[Row], max_tokens: int) -> torch.Tensor:
    """Log-probabilities of all tokens in the order of the answers, however the rows are cut."""
    parts = []
    for micro in cut(rows, max_tokens):
        batch = policy.collate(micro).to(policy.device)
        parts.append((batch.answer_index, policy(batch, 0.9)[0]))
    index = torch.cat([i for i, _ in parts])
    return torch.cat([values for _, values in parts])[index.argsort(stable=True)]


def gradient(policy: Policy, logprobs: torch.Tensor) -> torch.Tensor:
    """The gradient of a sum that weighs every token differently."""
    policy.zero_grad()
    (logprobs * torch.linspace(-1, 1, len(logprobs), device=logprobs.device)).sum().backward()
    return torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])
