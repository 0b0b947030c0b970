"""What engines beside the policy are sent, and what it is to be equal to."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from gpg_vl.model.policy import Policy
from tests.support.training import weights

HEAD = "lm_head.weight"


def united(parts: Iterable[list[tuple[str, Tensor]]]) -> dict[str, Tensor]:
    """Copies of all parts' weights; each name comes once."""
    found: dict[str, Tensor] = {}
    for part in parts:
        assert part and not found.keys() & dict(part).keys() and len(dict(part)) == len(part)
        assert all(tensor.is_contiguous() and not tensor.requires_grad for _, tensor in part)
        found |= {name: tensor.clone() for name, tensor in part}
    return found


def on_the_hub(policy: Policy, folder: Path) -> dict[str, Tensor]:
    """What a checkpoint has, experts as the hub has them, and the head if it is the embedding."""
    stored = weights(folder)
    if policy.family.transposed_experts:
        stored = {
            name: weight.transpose(1, 2) if ".experts." in name else weight for name, weight in stored.items()
        }
    if policy.model.config.tie_word_embeddings:
        (embedding,) = (weight for name, weight in stored.items() if name.endswith("embed_tokens.weight"))
        assert HEAD not in stored
        stored[HEAD] = embedding
    return stored


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype and torch.equal(tensor, expected[name]), name
