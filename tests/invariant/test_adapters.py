"""LoRA, frozen parts, and the masters' precision: what is trained moves, what is frozen does not by a bit."""

import json
import shutil
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import IA3Config, LNTuningConfig, LoraConfig, PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from gpg_vl.config import ModelConfig, OptimConfig, TrainConfig
from gpg_vl.errors import ConfigurationError, ModelError
from gpg_vl.model.adapt import choose_weights, merge
from gpg_vl.model.loading import load_policy
from gpg_vl.rollout.engine import Request, RolloutEngine
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.training.train import train
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


@pytest.fixture(scope="module")
def adapter(tiny_folder, tmp_path_factory) -> Path:
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


def rewrite(adapter: Path, folder: Path, change) -> Path:
    """A copy of an adapter whose weights went through `change`."""
    shutil.copytree(adapter, folder)
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file(change(weights), folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def test_names_of_earlier_transformers_are_understood(adapter, tmp_path):
    """Qwen2-VL's language model used to be `model` itself."""

    def earlier(weights):
        return {name.replace("model.language_model.", "model."): weight for name, weight in weights.items()}

    old = rewrite(adapter, tmp_path / "old", earlier)
    merge(str(old), tmp_path / "merged")
    expected = load_policy(str(adapter)).state_dict()
    loaded = load_policy(str(old)).state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in expected.items())
    merged = load_policy(str(tmp_path / "merged")).text_model.layers[0].mlp.up_proj.weight
    layer = load_policy(str(adapter)).text_model.layers[0].mlp.up_proj
    change = layer.lora_B.default.weight @ layer.lora_A.default.weight * 2  # alpha is twice the rank
    assert torch.allclose(merged, layer.base_layer.weight + change, atol=1e-6)


def test_adapters_that_are_not_all_there_are_refused(adapter, tmp_path):
    half = rewrite(adapter, tmp_path / "half", lambda weights: dict(sorted(weights.items())[::2]))
    with pytest.raises(
        ModelError, match=r"no adapter of its base model: it lacks .*lora_B\.weight and 13 more"
    ):
        load_policy(str(half))
    with pytest.raises(ModelError, match="it lacks "):
        merge(str(half), tmp_path / "merged")
    strange = rewrite(adapter, tmp_path / "strange", lambda weights: weights | {"other": torch.zeros(1)})
    with pytest.raises(ModelError, match=r"it also has other$"):
        load_policy(str(strange))
    (half / "adapter_model.safetensors").write_bytes(b"cut")
    with pytest.raises(ModelError, match="is no adapter of its base model"):
        load_policy(str(half))
    (half / "adapter_model.safetensors").unlink()
    with pytest.raises(
        ModelError, match=r"is no LoRA checkpoint: it has .*, but no adapter_model\.safetensors"
    ):
        load_policy(str(half))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_model_name_or_path": None}, "names no base_model_name_or_path, but None"),
        ({"r": None}, "is no adapter of its base model"),
        ({"peft_type": "NOTHING"}, "is no adapter of its base model"),
        ({"target_modules": "("}, "is no adapter of its base model"),
    ],
)
def test_a_damaged_configuration_is_refused(adapter, tmp_path, change, message):
    file = shutil.copytree(adapter, tmp_path / "broken") / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ModelError, match=message):
        load_policy(str(file.parent))
    file.write_text("[]")
    with pytest.raises(ModelError, match="does not say which model it belongs to"):
        load_policy(str(file.parent))


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


def foreign(folder: Path, tiny_folder: Path, **settings) -> tuple[Path, PeftModel]:
    """A LoRA adapter that peft trained and wrote, beside our processor; and peft's own model."""
    return written(
        folder, tiny_folder, LoraConfig(**{"r": 2, "target_modules": ["q_proj", "up_proj"], **settings})
    )


def written(folder: Path, tiny_folder: Path, config: PeftConfig) -> tuple[Path, PeftModel]:
    """An adapter of any kind, with noise in its weights."""
    plain = AutoModelForImageTextToText.from_pretrained(tiny_folder)
    theirs = get_peft_model(plain, config)
    with torch.no_grad():
        for number, weight in enumerate(theirs.parameters()):
            if weight.requires_grad:
                weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(number)) / 8)
    theirs.peft_config["default"].base_model_name_or_path = str(tiny_folder)
    theirs.save_pretrained(folder)
    AutoProcessor.from_pretrained(tiny_folder).save_pretrained(folder)
    return folder, theirs


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
    groups = RolloutEngine(policy, max_concurrent=64).generate(requests, 3, Sampling(20, temperature=0.9))
    rows = rows_of([(p, [a.token_ids for a in g]) for p, g in zip(prompts, groups, strict=True)], "group")
    with torch.no_grad():
        trained = by_answer(policy, rows, 10_000)
    sampled = torch.tensor([value for group in groups for answer in group for value in answer.logprobs])
    assert (trained - sampled).abs().mean() < nats


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"bias": "all"},
        {"use_dora": True},
        {"use_rslora": True},
        {"modules_to_save": ["norm"]},
        {"trainable_token_indices": [7, 8]},
    ],
    ids=str,
)
def test_merge_writes_what_peft_computes(settings, tmp_path, tiny_folder):
    adapter, theirs = foreign(tmp_path / "adapter", tiny_folder, **settings)
    merge(str(adapter), tmp_path / "merged")
    merged = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged")
    ids = torch.arange(5, 12)[None]
    with torch.no_grad():
        ours, expected = merged(input_ids=ids).logits, theirs.eval()(input_ids=ids).logits
    assert torch.allclose(ours, expected, atol=1e-4)
    assert (
        ours - AutoModelForImageTextToText.from_pretrained(tiny_folder)(input_ids=ids).logits
    ).abs().max() > 0.1


@pytest.mark.filterwarnings("ignore:Model .*`tie_word", "ignore:Setting `save_embed")  # peft says why
@pytest.mark.parametrize(
    "settings", [{"modules_to_save": ["lm_head"]}, {"target_modules": ["lm_head"]}], ids=str
)
def test_what_cannot_be_merged_is_refused(settings, tmp_path, tiny_folder):
    adapter, _ = foreign(tmp_path / "adapter", tiny_folder, **settings)
    with pytest.raises(ModelError, match="one matrix"):
        merge(str(adapter), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_without_peft_lora_names_its_extra(adapter, tiny_folder, monkeypatch):
    policy = load_policy(str(tiny_folder))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(
        ConfigurationError, match=r"LoRA needs the package peft: pip install 'gpg-vl\[lora\]'"
    ):
        choose_weights(policy, ModelConfig(path=str(tiny_folder), lora_rank=2))
    with pytest.raises(ConfigurationError, match="LoRA needs the package peft"):
        load_policy(str(adapter))


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
