"""vLLM itself beside a policy: models that it loads, runs on it, and how far its answers are off."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from gpg_vl.config import (
    AlgorithmConfig,
    DataConfig,
    ModelConfig,
    OptimConfig,
    RolloutConfig,
    RunConfig,
    TrainConfig,
)
from gpg_vl.model.packing import Row, Segment
from gpg_vl.model.policy import Policy
from gpg_vl.model.tiny import TinySize
from gpg_vl.rollout.answering import Answered
from gpg_vl.types import Sample
from tests.support.training import REWARD

REAL = [
    pytest.mark.vllm,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed: make test-vllm"),
    pytest.mark.filterwarnings("default"),  # what vLLM warns of is not ours to mend
]
STEPS = 15
BLOCKS = 256
"""Of vLLM's cache, with 128 tokens each: as many as a test needs, not a GiB for every model."""

SIZE = TinySize(hidden=128, layers=2, heads=4, kv_heads=2, feed_forward=192, vision_hidden=96)
"""vLLM's attention on a CPU takes heads of 32 numbers and their multiples."""
_TEXT: dict[str, Any] = {
    "hidden_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
}
_TOWER = {"hidden_size": 64, "out_hidden_size": 128, "num_heads": 4}


def _turned(sections: list[int], **more: Any) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": sections, **more}
    return {"text_config": _TEXT | {"rope_parameters": rope}, "vision_config": _TOWER}


FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2_vl": {},
    "qwen2_5_vl": _turned([4, 6, 6]),
    "qwen3_vl": _turned([8, 4, 4], mrope_interleaved=True),
    "qwen2": _TEXT,
}
"""What they have larger than elsewhere; all sizes but those of Qwen2-VL's tower divide by two."""
IN_BF16 = {"qwen3_5": {"text_config": {"linear_key_head_dim": 64, "linear_value_head_dim": 64}}}
"""Families that vLLM has no other precision for on a CPU."""


def questions_of(family: str, samples: Sequence[Sample]) -> list[Sample]:
    """Those that a model of the family reads."""
    return [sample for sample in samples if not sample.images or family != "qwen2"]


def config_of(model: Path, data: Path, out: Path, rollout: Mapping[str, Any], **options: Any) -> TrainConfig:
    """A run whose steps change the weights a lot; `options` are the model's."""
    return TrainConfig(
        out=str(out),
        model=ModelConfig(path=str(model), **({"precision": "fp32"} | options)),
        data=DataConfig(train=[str(data)], max_prompt_tokens=700),
        rollout=RolloutConfig(group_size=4, max_new_tokens=32, max_concurrent=32, **rollout),
        algorithm=AlgorithmConfig(questions_per_step=4, max_rounds=2),
        rewards={f"{REWARD}:letters": 1.0},
        optim=OptimConfig(learning_rate=3e-3),
        run=RunConfig(steps=STEPS, seed=3, threads=1),
    )


@torch.no_grad()
def differences(policy: Policy, answered: Sequence[Answered], temperature: float) -> torch.Tensor:
    """(tokens,) nats between what an engine says of its tokens and what training does."""
    found = []
    for one in answered:
        tokens = tuple(answer.token_ids for answer in one.answers)
        row = Row((Segment(one.prompt, tokens, tuple(range(len(tokens)))),))
        logprobs, _ = policy(policy.collate([row]), temperature)
        sampled = torch.tensor([logprob for answer in one.answers for logprob in answer.logprobs])
        found.append((logprobs - sampled).abs())
    return torch.cat(found)


@torch.no_grad()
def move(policy: Policy, part: str = "") -> None:
    """Change the weights that are trained, or those whose names hold `part`."""
    for name, weight in policy.named_parameters():
        if weight.requires_grad and part in name:
            weight.add_(torch.randn_like(weight), alpha=0.03)
