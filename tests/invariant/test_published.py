"""What engines beside the policy are sent: the numbers that a checkpoint would have, a layer at a time."""

import contextlib
import re
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from gpg_vl.config import ModelConfig
from gpg_vl.errors import ModelError
from gpg_vl.model.adapt import choose_weights, merge
from gpg_vl.model.holding import Holding
from gpg_vl.model.loading import load_policy
from gpg_vl.model.policy import Policy
from gpg_vl.model.published import published
from tests.support.adapters import foreign
from tests.support.sent import assert_same, on_the_hub, united
from tests.support.training import round_to_bf16

Q_PROJ = "model.layers.0.self_attn.q_proj"
LAYER = re.compile(r".*?(?:layers?|blocks|list)\.\d+")


def learning(policy: Policy, config: ModelConfig) -> Policy:
    """With adapters that change something."""
    choose_weights(policy, config)
    for number, (name, weight) in enumerate(policy.named_parameters()):
        if "lora_" in name:
            weight.data.normal_(generator=torch.Generator().manual_seed(number))
    return policy


def test_every_family_is_published_as_it_is_saved(family_folder, tmp_path):
    policy = load_policy(str(family_folder))
    policy.save(tmp_path, {})
    assert_same(united(published(policy)), on_the_hub(policy, tmp_path))


def test_weights_are_read_where_they_are_whole_and_a_layer_at_a_time(family_folder):
    policy = load_policy(str(family_folder))
    expected = united(published(policy))
    whole = {weight: weight.data for weight in policy.parameters()}
    for weight in whole:
        weight.data = torch.empty(0)
    taken = []

    @contextlib.contextmanager
    def gathered(parameters):
        taken.append(sum(whole[weight].numel() for weight in parameters))
        for weight in parameters:
            weight.data = whole[weight]
        yield
        for weight in parameters:
            weight.data = torch.empty(0)

    found = {}
    for part in published(policy, gathered):
        layers = [LAYER.search(name) for name, _ in part]
        assert len({layer and layer[0] for layer in layers}) == 1
        found |= {name: tensor.clone() for name, tensor in part}
    assert_same(found, expected)
    assert sum(taken) == sum(tensor.numel() for tensor in expected.values())


def test_every_familys_adapters_are_merged(family_folder, tmp_path):
    policy = load_policy(str(family_folder))
    learning(policy, ModelConfig(path=str(family_folder), lora_rank=2, lora_vision=policy.takes_images))
    policy.save(tmp_path / "adapter", {})
    before = {name: weight.clone() for name, weight in policy.state_dict().items()}
    found = united(published(policy))
    merge(str(tmp_path / "adapter"), tmp_path / "merged")
    assert_same(found, on_the_hub(policy, tmp_path / "merged"))
    assert all(torch.equal(weight, before[name]) for name, weight in policy.state_dict().items())


@pytest.mark.filterwarnings("ignore:Setting `save_embed")  # peft says why
@pytest.mark.parametrize(
    "settings",
    [
        {"bias": "all"},
        {"use_dora": True},
        {"use_rslora": True},
        {"modules_to_save": ["norm"]},
        {"target_modules": ["embed_tokens", "q_proj"]},
    ],
    ids=str,
)
def test_other_adapters_are_merged(settings, tiny_folder, tmp_path):
    folder = untied(tiny_folder, tmp_path / "untied")
    adapter, _ = foreign(tmp_path / "adapter", folder, **settings)
    policy = load_policy(str(adapter))
    merge(str(adapter), tmp_path / "merged")
    assert_same(united(published(policy)), on_the_hub(policy, tmp_path / "merged"))


def untied(tiny_folder: Path, folder: Path) -> Path:
    """The tiny model with a head of its own."""
    shutil.copytree(tiny_folder, folder)
    model = AutoModelForImageTextToText.from_pretrained(tiny_folder)
    config = model.config.to_dict()
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = False
    type(model)(type(model.config).from_dict(config)).save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore:Model .*`tie_word", "ignore:Setting `save_embed")  # peft says why
def test_an_adapter_on_an_embedding_that_is_the_head_is_refused(tiny_folder, tmp_path):
    adapter, _ = foreign(tmp_path / "adapter", tiny_folder, target_modules=["embed_tokens"])
    with pytest.raises(ModelError, match="embedding and head are one matrix"):
        united(published(load_policy(str(adapter))))


def test_a_base_in_bf16_is_merged_in_fp32(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    round_to_bf16(folder)
    config = ModelConfig(path=str(folder), lora_rank=2)
    policy = learning(held(config), config)
    policy.save(tmp_path / "adapter", {})
    merge(str(tmp_path / "adapter"), tmp_path / "merged")
    found, expected = united(published(policy)), on_the_hub(policy, tmp_path / "merged")
    kinds = {name: found[f"{name}.weight"].dtype for name in ("visual.blocks.0.attn.qkv", Q_PROJ)}
    assert kinds == {"visual.blocks.0.attn.qkv": torch.bfloat16, Q_PROJ: torch.float32}
    assert_same({name: tensor.float() for name, tensor in found.items()}, expected)
    cast = united(published(policy, dtype=torch.bfloat16))
    assert_same(cast, {name: tensor.bfloat16() for name, tensor in expected.items()})


def test_4_bit_weights_are_unpacked(tiny_folder):
    config = ModelConfig(path=str(tiny_folder), lora_rank=2, frozen_precision="nf4", lora_targets=["q_proj"])
    policy = learning(held(config), config)
    found = united(published(policy))
    assert found.keys() == united(published(load_policy(config.path))).keys()
    for name, layer in policy.text_model.named_modules():
        if re.search(r"\.\w+_proj$", name):
            inputs = torch.randn(5, layer.in_features, dtype=torch.bfloat16)
            weight = found[f"model.{name}.weight"]
            with torch.no_grad(), policy.autocast():
                expected = layer(inputs).float()
            ours = inputs.float() @ weight.float().T + (0 if layer.bias is None else layer.bias.detach())
            torch.testing.assert_close(ours, expected, rtol=0, atol=0.02 * float(expected.abs().max()))


def held(config: ModelConfig) -> Policy:
    """As it is trained in bf16 arithmetic."""
    return load_policy(config.path, precision="bf16", holding=Holding.of(config, bf16=True))
