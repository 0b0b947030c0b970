"""Every supported family is trained: all weights, adapters, without its vision tower, in bf16, by two."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoProcessor

from gpg_vl.config import (
    AlgorithmConfig,
    DataConfig,
    ModelConfig,
    OptimConfig,
    RolloutConfig,
    RunConfig,
    TrainConfig,
)
from gpg_vl.data.ingest import write_prepared
from gpg_vl.model.loading import load_policy, model_class
from gpg_vl.model.policy import Policy
from gpg_vl.training.train import train
from gpg_vl.types import Sample
from tests.support.inputs import noise
from tests.support.launched import finish, start
from tests.support.training import REWARD, metrics, round_to_bf16


@pytest.fixture
def config(family_folder: Path, tmp_path: Path) -> TrainConfig:
    """One step over a text and, where the family takes images, over one image and over two."""
    rows = [Sample(f"text-{i}", "t", "Is it? " * (i + 1), "(A)", "choice", ("yes", "no")) for i in range(4)]
    if load_policy(str(family_folder)).takes_images:
        pictures = ((noise(84, 84),), (noise(112, 84, 1), noise(60, 200, 2)))
        rows[1:] = [
            Sample(f"image-{i}", "t", "Left?", "(A)", "choice", ("1", "2"), images)
            for i, images in enumerate(pictures)
        ]
    write_prepared(rows, tmp_path / "data", source="", converter="mixed", version="1")
    return TrainConfig(
        out=str(tmp_path / "one"),
        model=ModelConfig(path=str(family_folder), precision="fp32"),
        data=DataConfig(train=[str(tmp_path / "data")]),
        rollout=RolloutConfig(group_size=4, max_new_tokens=12),
        algorithm=AlgorithmConfig(questions_per_step=3, max_rounds=2, min_valid_fraction=1.0),
        rewards={f"{REWARD}:letters": 1.0},
        optim=OptimConfig(learning_rate=1e-2, eps=1e-4),
        run=RunConfig(steps=1, seed=3, threads=1, micro_batch_tokens=600),
    )


def with_model(config: TrainConfig, **changes) -> TrainConfig:
    return replace(config, model=replace(config.model, **changes))


def moved(policy: Policy, trained: Policy) -> set[str]:
    before = dict(policy.named_parameters())
    return {name for name, weight in trained.named_parameters() if not torch.equal(weight, before[name])}


def vision_weights(policy: Policy) -> set[str]:
    vision = {id(weight) for weight in policy.vision_tower.parameters()}
    return {name for name, weight in policy.named_parameters() if id(weight) in vision}


def test_all_weights_and_the_checkpoint_is_transformers_own(config, family_folder):
    model = train(config)
    (step,) = metrics(Path(config.out))
    assert step["logprob_gap"] < 1e-5 and step["grad_norm"] > 0
    trained = load_policy(str(model))
    names = moved(load_policy(str(family_folder)), trained)
    assert any("layers.0" in name for name in names)
    assert bool(names & vision_weights(trained)) == trained.takes_images
    plain, found = model_class(trained.family).from_pretrained(model, dtype="auto", output_loading_info=True)
    assert not any(found.values()), found
    assert plain.dtype == torch.float32
    weights = plain.state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in trained.model.state_dict().items())
    if trained.takes_images:
        assert type(AutoProcessor.from_pretrained(model)) is type(trained.processor)


def test_adapters(config):
    model = train(with_model(config, lora_rank=2))
    (step,) = metrics(Path(config.out))
    assert step["logprob_gap"] < 1e-5 and step["grad_norm"] > 0
    trained = load_policy(str(model))
    beside = {id(layer) for layer in trained.text_model.layers.modules() if hasattr(layer, "base_layer")}
    everywhere = {id(layer) for layer in trained.model.modules() if hasattr(layer, "base_layer")}
    assert beside == everywhere
    attention = {name for name in load_file(model / "adapter_model.safetensors") if "_attn." in name}
    assert len(attention) >= 2 * 4 * trained.layers - 4  # two for each of four projections


def test_bf16_without_the_vision_tower(config, family_folder, tmp_path):
    """Of a model as published: a frozen part is held and saved in bf16."""
    folder = shutil.copytree(family_folder, tmp_path / "published")
    round_to_bf16(folder)
    frozen = load_policy(str(folder)).takes_images
    model = train(with_model(config, path=str(folder), precision="bf16", freeze_vision=frozen))
    (step,) = metrics(Path(config.out))
    assert step["logprob_gap"] < 0.2 and step["grad_norm"] > 0
    trained = load_policy(str(model))
    names = moved(load_policy(str(folder)), trained)
    assert names and not names & vision_weights(trained)


def test_the_vision_tower_alone(config, family_folder):
    policy = load_policy(str(family_folder))
    if not policy.takes_images:
        pytest.skip("a text model has no vision tower")
    trained = load_policy(str(train(with_model(config, freeze_language=True))))
    names = moved(policy, trained)
    assert names and names <= vision_weights(trained)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "zero3"])
def test_two_processes(config, kind, tmp_path):
    one = load_file(train(config) / "model.safetensors")
    two = replace(config, out=str(tmp_path / kind))
    finish(two, start(two, kind))
    trained = load_file(tmp_path / kind / "checkpoints" / "step_000001" / "model" / "model.safetensors")
    for name, weight in one.items():
        torch.testing.assert_close(trained[name], weight, rtol=1e-4, atol=1e-6, msg=name)
