"""Weights held in the arithmetic's type: the same numbers as autocast's copies give, in less memory."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from gpg_vl.config import ModelConfig, TrainConfig
from gpg_vl.errors import ConfigurationError, ModelError
from gpg_vl.model.adapt import merge
from gpg_vl.model.holding import Holding
from gpg_vl.model.loading import load_policy
from gpg_vl.model.policy import Policy
from gpg_vl.prompting.encode import EncodedPrompt
from gpg_vl.rollout.engine import Request
from gpg_vl.rollout.own import OwnEngine
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.training.train import train
from gpg_vl.types import Sample
from tests.support.families import save_family
from tests.support.inputs import encoder_of, noise
from tests.support.packed import rows_of
from tests.support.training import metrics, round_to_bf16, same

SAMPLES = [
    Sample("long", "t", "Where is it? " * 8, "1", "math"),
    Sample("two", "t", "Left?", "(A)", "choice", ("1", "2"), (noise(112, 84, 1), noise(60, 200, 2))),
]
FROZEN = Holding.untrained(bf16=True)


def load(folder: Path, holding: Holding) -> Policy:
    return load_policy(str(folder), precision="bf16", holding=holding)


def prompts_of(policy: Policy) -> list[EncodedPrompt]:
    return encoder_of(policy).encode(SAMPLES if policy.takes_images else SAMPLES[:1])


def groups_of(policy: Policy) -> list[tuple[EncodedPrompt, list[tuple[int, ...]]]]:
    usable = (~policy.suppressed).nonzero().flatten()
    picks = torch.randint(len(usable), (6,), generator=torch.Generator().manual_seed(0))
    return [(prompt, [tuple(usable[picks].tolist())] * 2) for prompt in prompts_of(policy)]


@pytest.mark.parametrize("published", [True, False])
def test_frozen_weights_in_bf16_change_no_number(family_folder, published, tmp_path):
    folder = shutil.copytree(family_folder, tmp_path / "model")
    if published:
        round_to_bf16(folder)
    whole, held = load(folder, Holding()), load(folder, FROZEN)
    embedding = held.text_model.embed_tokens.weight
    assert embedding.dtype == (torch.bfloat16 if published else torch.float32)
    assert any(weight.dtype == torch.bfloat16 for weight in held.parameters())
    requests = [Request(prompt, str(number)) for number, prompt in enumerate(prompts_of(whole))]
    sampling = Sampling(max_new_tokens=12)
    answers = [OwnEngine(one, max_concurrent=8).generate(requests, 2, sampling) for one in (whole, held)]
    assert answers[0] == answers[1]
    batch = whole.collate(rows_of(groups_of(whole), "group"))
    with torch.no_grad():
        for found, expected in zip(held(batch, 1.0), whole(batch, 1.0), strict=True):
            assert torch.equal(found, expected)


WAYS = {
    "lora": ModelConfig(lora_rank=4),
    "lora_vision": ModelConfig(lora_rank=4, lora_vision=True, gradient_checkpointing=True),
    "lora_targets": ModelConfig(lora_rank=4, lora_targets=["q_proj", r"mlp\.up_proj"], lora_rslora=True),
    "nf4": ModelConfig(lora_rank=4, frozen_precision="nf4"),
    "nf4_vision": ModelConfig(
        lora_rank=4, lora_vision=True, frozen_precision="nf4", gradient_checkpointing=True
    ),
    "freeze_vision": ModelConfig(freeze_vision=True),
    "freeze_language": ModelConfig(freeze_language=True, gradient_checkpointing=True),
    "bf16": ModelConfig(trained_precision="bf16"),
}


@pytest.fixture(params=WAYS)
def way(request, config) -> TrainConfig:
    """Four steps in bf16 arithmetic."""
    model = replace(WAYS[request.param], path=config.model.path, precision="bf16")
    kind = "adamw8bit" if model.trained_precision == "bf16" else "adamw"
    return replace(config, model=model, optim=replace(config.optim, kind=kind))


def test_each_way_trains_and_goes_on_bit_for_bit(way, tmp_path):
    whole = train(way)
    middle = Path(way.out) / "checkpoints" / "step_000002"
    rest = train(replace(way, out=str(tmp_path / "rest")), resume=str(middle))
    assert same(whole, rest)
    gaps = [line["logprob_gap"] for line in metrics(Path(way.out)) if "logprob_gap" in line]
    assert gaps and max(gaps) < 0.05  # rollouts and training speak of the same weights


def test_each_way_is_read_by_plain_transformers(way, tmp_path):
    folder = train(way)
    kind = AutoModelForImageTextToText
    if way.model.lora_rank:
        plain = kind.from_pretrained(way.model.path)
        plain.load_adapter(str(folder))
        names = {name for name, layer in plain.named_modules() if hasattr(layer, "lora_A")}
        assert any("visual" in name for name in names) == way.model.lora_vision
        merge(str(folder), tmp_path / "merged")
        folder = tmp_path / "merged"
    plain, held = kind.from_pretrained(folder), load_policy(str(folder)).model
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, held.state_dict()[name]), name
    trained = load_policy(str(folder), precision="bf16", holding=Holding.of(way.model, bf16=True))
    kinds = {weight.dtype for weight in trained.parameters() if weight.ndim > 1}
    assert torch.bfloat16 in kinds or way.model.frozen_precision == "nf4"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"frozen_precision": "bf16"}, r"model\.frozen_precision bf16 needs bf16 arithmetic"),
        ({"frozen_precision": "nf4", "lora_rank": 2}, r"model\.frozen_precision nf4 needs bf16 arithmetic"),
        ({"trained_precision": "bf16"}, r"model\.trained_precision bf16 needs bf16 arithmetic"),
    ],
)
def test_less_than_the_arithmetic_has_is_refused(config, model, message):
    optim = replace(config.optim, kind="adamw8bit")
    with pytest.raises(ConfigurationError, match=message):
        train(replace(config, optim=optim, model=replace(config.model, **model)))


def test_experts_have_no_4_bit_base(tiny_folder, tmp_path):
    folder = save_family("qwen3_vl_moe", tmp_path / "model", tiny_folder)
    holding = Holding.of(ModelConfig(lora_rank=2, frozen_precision="nf4"), bf16=True)
    with pytest.raises(ModelError, match="has experts or states"):
        load_policy(str(folder), precision="bf16", holding=holding)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"lora_targets": ["nothing"]}, "'nothing' is the end of no linear layer's name"),
        ({"lora_targets": ["("]}, "is no pattern"),
        ({"lora_targets": ["qkv"]}, "'qkv' is the end of no linear layer's name"),  # the tower's
    ],
)
def test_targets_that_name_nothing_are_refused(config, choice, message):
    with pytest.raises(ConfigurationError, match=message):
        train(replace(config, model=replace(config.model, lora_rank=2, **choice)))


def test_adapters_elsewhere_than_configured_are_refused(config, tmp_path):
    model = replace(config.model, lora_rank=2, lora_targets=["q_proj"])
    folder = train(replace(config, model=model, run=replace(config.run, steps=1)))
    other = replace(model, path=str(folder), lora_targets=["v_proj"])
    with pytest.raises(ConfigurationError, match="stand beside other layers"):
        train(replace(config, out=str(tmp_path / "other"), model=other))


def test_whole_checkpoints_note_the_widest_type(tiny_folder, tmp_path):
    """transformers would note that of the first weight, and read all others in it."""
    policy = load_policy(str(tiny_folder))
    next(policy.model.parameters()).data = next(policy.model.parameters()).data.bfloat16()
    policy.save(tmp_path, {})
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float32"
