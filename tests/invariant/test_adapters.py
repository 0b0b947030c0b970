"""LoRA, frozen parts, and the masters' precision: what is trained moves, what is frozen does not by a bit."""

import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import IA3Config, LNTuningConfig, LoraConfig, PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from gpg_vl.config import DataConfig, ModelConfig, OptimConfig, TrainConfig
from gpg_vl.errors import ConfigurationError, ModelError
from gpg_vl.evaluation.evaluate_model import EvalSettings, evaluate_model
from gpg_vl.model.adapt import check_adapters, choose_weights, merge
from gpg_vl.model.loading import load_policy
from gpg_vl.rollout.engine import Request
from gpg_vl.rollout.own import OwnEngine
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.training.train import train
from tests.support.adapters import configured, foreign, written
from tests.support.families import save_family
from tests.support.inputs import encoder_of
from tests.support.packed import by_answer, rows_of
from tests.support.training import REWARD


@pytest.fixture
def config(config: TrainConfig) -> TrainConfig:
    """Two steps at a constant rate, without evaluations."""
    return replace(
        config,
        data=replace(config.data, validation=[]),
        rewards={f"{REWARD}:letters": 1.0},
        optim=OptimConfig(learning_rate=1e-3),
        run=replace(config.run, steps=2),
    )


def with_model(config: TrainConfig, **changes) -> TrainConfig:
    return replace(config, model=replace(config.model, **changes))


def moved(config: TrainConfig, model: Path) -> set[str]:
    """Names of the weights that training changed."""
    before = load_file(Path(config.model.path) / "model.safetensors")
    after = load_file(model / "model.safetensors")
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_a_frozen_vision_tower_does_not_move(config):
    names = moved(config, train(with_model(config, freeze_vision=True)))
    assert names and not any(".visual." in f".{name}" or name.startswith("visual") for name in names)


def test_a_frozen_language_model_does_not_move(config):
    names = moved(config, train(with_model(config, freeze_language=True)))
    assert names and all("visual" in name for name in names)


def test_without_freezing_both_move(config):
    names = moved(config, train(config))
    assert any("visual" in name for name in names) and any("layers.0.mlp" in name for name in names)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_steps_of_1e_6_move_the_weights(config, precision):
    """bf16 arithmetic over fp32 masters: in bf16 weights such steps would be rounded away."""
    small = replace(config, optim=OptimConfig(learning_rate=1e-6), run=replace(config.run, steps=1))
    names = moved(config, train(with_model(small, precision=precision)))
    assert any("layers.0.mlp.down_proj" in name for name in names)


def test_lora_trains_adapters_alone_resumes_and_merges(config, tmp_path, groups):
    lora = with_model(config, lora_rank=4)
    model = train(lora)
    assert sorted(load_file(model / "adapter_model.safetensors"))[0].endswith("lora_A.weight")
    assert not (model / "model.safetensors").exists()
    adapted = load_policy(str(model))
    assert adapted.has_adapter

    merge(str(model), tmp_path / "merged")
    merged = load_policy(str(tmp_path / "merged"))
    base = load_policy(config.model.path)
    rows = rows_of(groups, "group")
    with torch.no_grad():
        ours, whole, before = (by_answer(policy, rows, 10_000) for policy in (adapted, merged, base))
    assert (ours - whole).abs().max() < 1e-5
    assert (ours - before).abs().max() > 1e-4
    card = json.loads((tmp_path / "merged" / "gpg_vl.json").read_text())
    assert card["rewards"] == {f"{REWARD}:letters": 1.0}

    again = replace(lora, out=str(tmp_path / "again"))
    train(replace(again, run=replace(again.run, steps=1)))
    resumed = load_file(train(again, resume="auto") / "adapter_model.safetensors")
    for name, weight in load_file(model / "adapter_model.safetensors").items():
        assert torch.equal(weight, resumed[name]), name


def test_peft_itself_loads_an_adapter(adapter, tiny_folder):
    plain = AutoModelForImageTextToText.from_pretrained(tiny_folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what peft and transformers say of each other
        theirs = PeftModel.from_pretrained(plain, adapter)
    ids = torch.arange(5, 12)[None]
    with torch.no_grad():
        hidden = load_policy(str(adapter)).text_model(input_ids=ids).last_hidden_state
        expected = theirs.base_model.model.model.language_model(input_ids=ids).last_hidden_state
        base = load_policy(str(tiny_folder)).text_model(input_ids=ids).last_hidden_state
    assert torch.allclose(hidden, expected, atol=1e-5)
    assert (hidden - base).abs().max() > 1e-3


def test_adapters_are_trained_as_configured_or_not_at_all(adapter, tmp_path, tiny_folder):
    """The tests' adapters have rank 2 and alpha 4."""

    def check(path: Path = adapter, **settings) -> None:
        check_adapters(str(path), ModelConfig(path=str(path), **settings))
        choose_weights(load_policy(str(path)), ModelConfig(path=str(path), **settings))

    check(lora_rank=2)
    check(lora_rank=2, lora_alpha=4)
    theirs = r"set model\.lora_rank 2 and model\.lora_alpha 4"
    for other in ({}, {"lora_rank": 4}, {"lora_rank": 2, "lora_alpha": 99}):
        with pytest.raises(ConfigurationError, match=theirs):
            check_adapters(str(adapter), ModelConfig(path=str(adapter), **other))
        with pytest.raises(ConfigurationError, match=theirs):
            choose_weights(load_policy(str(adapter)), ModelConfig(path=str(adapter), **other))
    unsaid = configured(adapter, tmp_path / "unsaid", alpha_pattern={"q_proj": 3})
    with pytest.raises(ConfigurationError, match="have alpha_pattern, which no setting says"):
        check(unsaid, lora_rank=2)
    scaled = configured(adapter, tmp_path / "scaled", use_rslora=True)
    with pytest.raises(ConfigurationError, match=r"another scale: set model\.lora_rslora true"):
        check(scaled, lora_rank=2)


def test_adapters_on_a_frozen_tower_are_not_trained(tmp_path, tiny_folder):
    folder, _ = foreign(tmp_path / "adapter", tiny_folder, target_modules=["qkv", "q_proj"])
    policy = load_policy(str(folder))
    choose_weights(policy, ModelConfig(path=str(folder), lora_rank=2, lora_alpha=8))
    assert any(weight.requires_grad for weight in policy.vision_tower.parameters())
    choose_weights(policy, ModelConfig(path=str(folder), lora_rank=2, lora_alpha=8, freeze_vision=True))
    assert not any(weight.requires_grad for weight in policy.vision_tower.parameters())
    assert any(weight.requires_grad for weight in policy.text_model.parameters())


def test_dropout_is_switched_off(tmp_path, tiny_folder):
    """The sampler has none."""
    folder, _ = foreign(tmp_path / "adapter", tiny_folder, lora_dropout=0.5)
    policy = load_policy(str(folder))
    dropouts = [
        type(layer) for name, layer in policy.named_modules() if name.endswith("lora_dropout.default")
    ]
    assert dropouts and set(dropouts) == {torch.nn.Identity}
    policy.save(tmp_path / "saved", {})
    assert PeftConfig.from_pretrained(tmp_path / "saved").lora_dropout == 0


def test_other_adapters_than_lora_are_not_trained(tmp_path, tiny_folder):
    plain = AutoModelForImageTextToText.from_pretrained(tiny_folder)
    theirs = get_peft_model(
        plain, IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])
    )
    theirs.peft_config["default"].base_model_name_or_path = str(tiny_folder)
    theirs.save_pretrained(tmp_path / "ia3")
    AutoProcessor.from_pretrained(tiny_folder).save_pretrained(tmp_path / "ia3")
    policy = load_policy(str(tmp_path / "ia3"))
    with pytest.raises(ConfigurationError, match="adapters of another kind than LoRA: merge them first"):
        choose_weights(policy, ModelConfig(path=str(tmp_path / "ia3"), lora_rank=2))


EVERY_LAYER = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.mark.parametrize(
    "adapter",
    [
        LoraConfig(r=2, target_modules=EVERY_LAYER),
        LoraConfig(r=3, target_modules=["v_proj", "gate_proj"], use_rslora=True),
        LoraConfig(r=2, target_modules=EVERY_LAYER, use_dora=True),
        LoraConfig(r=2, target_modules=["v_proj"], lora_bias=True),
        LNTuningConfig(target_modules=["input_layernorm", "post_attention_layernorm"]),
    ],
    ids=["every layer", "some parts", "DoRA", "bias", "norms"],
)
@pytest.mark.parametrize(("precision", "nats"), [("fp32", 5e-6), ("bf16", 0.02)])
@pytest.mark.filterwarnings("ignore:Unsupported layer type", "ignore:Adapter .default.")
def test_answers_have_the_log_probabilities_of_training(
    adapter, precision, nats, tmp_path, tiny_folder, mixed_samples
):
    """In the mean; in bf16, sums are rounded in another order."""
    written(tmp_path / "adapter", tiny_folder, adapter)
    policy = load_policy(str(tmp_path / "adapter"), precision=precision)
    prompts = encoder_of(policy).encode(mixed_samples)
    requests = [Request(prompt, str(number)) for number, prompt in enumerate(prompts)]
    groups = OwnEngine(policy, max_concurrent=64).generate(requests, 3, Sampling(20, temperature=0.9))
    rows = rows_of([(p, [a.token_ids for a in g]) for p, g in zip(prompts, groups, strict=True)], "group")
    with torch.no_grad():
        trained = by_answer(policy, rows, 10_000)
    sampled = torch.tensor([value for group in groups for answer in group for value in answer.logprobs])
    assert (trained - sampled).abs().mean() < nats


def test_without_peft_lora_names_its_extra(adapter, tmp_path, tiny_folder, monkeypatch):
    policy = load_policy(str(tiny_folder))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(
        ConfigurationError, match=r"LoRA needs the package peft: pip install 'gpg-vl\[lora\]'"
    ):
        choose_weights(policy, ModelConfig(path=str(tiny_folder), lora_rank=2))
    with pytest.raises(ConfigurationError, match="needs the package peft: pip install"):
        load_policy(str(adapter))
    nowhere = TrainConfig(
        out=str(tmp_path / "run"),
        model=ModelConfig(path="Owner/Name", lora_rank=2),
        data=DataConfig(train=["nowhere"]),
    )
    for path in ("Owner/Name", str(adapter)):  # before the model and the data are looked for
        with pytest.raises(ConfigurationError, match="needs the package peft: pip install"):
            train(with_model(nowhere, path=path))
    with pytest.raises(ConfigurationError, match="needs the package peft: pip install"):
        evaluate_model(EvalSettings(str(adapter), "nowhere"))


def test_lora_on_a_text_model(tmp_path, tiny_folder):
    path = str(save_family("llama", tmp_path / "llama", tiny_folder))
    policy = load_policy(path)
    choose_weights(policy, ModelConfig(path=path, lora_rank=2))
    trained = [name for name, weight in policy.named_parameters() if weight.requires_grad]
    assert len(trained) == 2 * 7 * 2  # A and B of seven layers in each of two blocks


def test_what_makes_no_sense_is_refused(tmp_path, tiny_folder, config):
    text = load_policy(str(save_family("qwen2", tmp_path / "text", tiny_folder)))
    with pytest.raises(ConfigurationError, match="a 'qwen2' model has no vision tower"):
        choose_weights(text, ModelConfig(path="x", freeze_vision=True))
    with pytest.raises(ConfigurationError, match="every part is frozen"):
        choose_weights(
            load_policy(config.model.path), ModelConfig(path="x", freeze_vision=True, freeze_language=True)
        )
    with pytest.raises(ConfigurationError, match=r"which model\.freeze_language freezes"):
        ModelConfig(path="x", lora_rank=2, freeze_language=True)
    with pytest.raises(ModelError, match=r"is no LoRA checkpoint: it has no adapter_config\.json"):
        merge(config.model.path, tmp_path / "out")
