"""Runs, rows and models that several invariants start from."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from gpg_vl.config import (
    AlgorithmConfig,
    DataConfig,
    EvalConfig,
    ModelConfig,
    OptimConfig,
    RolloutConfig,
    RunConfig,
    TrainConfig,
)
from gpg_vl.data.ingest import write_prepared
from gpg_vl.model.adapt import choose_weights
from gpg_vl.model.loading import load_policy
from gpg_vl.model.policy import Policy
from gpg_vl.types import Sample
from tests.support.families import MODELS, save_family
from tests.support.inputs import encoder_of
from tests.support.training import REWARD


@pytest.fixture
def config(tiny_folder: Path, scenes_folder: Path, tmp_path: Path) -> TrainConfig:
    """A few steps on scenes. The reward counts a letter, which an untrained model varies in."""
    return TrainConfig(
        out=str(tmp_path / "run"),
        model=ModelConfig(path=str(tiny_folder)),
        data=DataConfig(train=[str(scenes_folder)], validation=[str(scenes_folder)]),
        rollout=RolloutConfig(group_size=4, max_new_tokens=10),
        algorithm=AlgorithmConfig(questions_per_step=4, max_rounds=2),
        rewards={f"{REWARD}:letters": 1.0, "format": 1.0},
        optim=OptimConfig(learning_rate=1e-3, warmup_steps=2, schedule="cosine"),
        run=RunConfig(steps=4, seed=3, threads=1, save_every=1, keep_last=9),
        eval=EvalConfig(limit=4, max_new_tokens=10),
    )


@pytest.fixture
def mixed_training(tiny_folder: Path, scene_samples, tmp_path: Path) -> TrainConfig:
    """Two steps over images and texts; three questions, so that one process has more of them."""
    texts = [Sample(f"text-{i}", "t", "Is it? " * (i + 1), "(A)", "choice", ("yes", "no")) for i in range(4)]
    write_prepared([*scene_samples[:4], *texts], tmp_path / "data", source="", converter="mixed", version="1")
    return TrainConfig(
        out=str(tmp_path / "one"),
        model=ModelConfig(path=str(tiny_folder), precision="fp32"),
        data=DataConfig(train=[str(tmp_path / "data")]),
        rollout=RolloutConfig(group_size=4, max_new_tokens=12),
        algorithm=AlgorithmConfig(questions_per_step=3, max_rounds=2, min_valid_fraction=1.0),
        rewards={f"{REWARD}:letters": 1.0},
        optim=OptimConfig(learning_rate=1e-2, eps=1e-4),
        run=RunConfig(steps=3, seed=3, threads=1, micro_batch_tokens=120),
    )


@pytest.fixture
def reference(tiny_folder: Path) -> AutoModelForImageTextToText:
    """The same weights with transformers' own attention."""
    return AutoModelForImageTextToText.from_pretrained(tiny_folder, dtype=torch.float32).eval()


@pytest.fixture
def groups(policy: Policy, mixed_samples):
    """Four prompts with three answers of unequal lengths each, one of a single token."""
    generator = torch.Generator().manual_seed(0)
    prompts = encoder_of(policy).encode(mixed_samples)
    usable = (~policy.suppressed).nonzero().flatten()

    def answer(length: int) -> tuple[int, ...]:
        picks = torch.randint(len(usable), (length,), generator=generator)
        return tuple(usable[picks].tolist())

    return [(prompt, [answer(length) for length in (1, 5 + i, 12)]) for i, prompt in enumerate(prompts)]


@pytest.fixture(scope="session", params=MODELS)
def family_folder(request, tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A tiny model of each supported family."""
    return save_family(request.param, tmp_path_factory.mktemp("family") / request.param, tiny_folder)


@pytest.fixture(scope="session")
def adapter(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA checkpoint of the tiny model whose adapters change something."""
    policy = load_policy(str(tiny_folder))
    choose_weights(policy, ModelConfig(path=str(tiny_folder), lora_rank=2))
    with torch.no_grad():
        for number, (name, weight) in enumerate(policy.named_parameters()):
            if "lora_" in name:
                weight.normal_(generator=torch.Generator().manual_seed(number))
    folder = tmp_path_factory.mktemp("adapter") / "model"
    policy.save(folder, {})
    return folder
