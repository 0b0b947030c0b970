"""Adapters on disk: what peft and earlier releases wrote is read, what is damaged or another's is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftConfig

from gpg_vl.config import ModelConfig
from gpg_vl.errors import ModelError
from gpg_vl.model.adapt import choose_weights, merge
from gpg_vl.model.adapter_files import base_of
from gpg_vl.model.loading import load_policy
from tests.support.adapters import configured, rewrite


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


def test_earlier_patterns_mean_what_they_meant(adapter, tmp_path):
    """A pattern and full names over Qwen2-VL's layers as they were called before."""

    def earlier(weights):
        return {name.replace("model.language_model.", "model."): weight for name, weight in weights.items()}

    old = rewrite(adapter, tmp_path / "old", earlier)
    told = configured(
        old,
        tmp_path / "told",
        target_modules=r"^model(?!.*(lm_head|visual|embed)).*_proj$",
        alpha_pattern={"model.layers.0.mlp.up_proj": 50},
    )
    layers = load_policy(str(told)).text_model.layers
    assert [layer.mlp.up_proj.scaling["default"] for layer in layers] == [25, 2]


def test_a_pattern_that_names_what_is_around_the_layers_means_the_layers(adapter, tmp_path):
    pattern = r"^(model)(?!.*(lm_head|output|emb|wte|shared|visual)).*"
    loose = configured(adapter, tmp_path / "loose", target_modules=pattern)
    expected = load_policy(str(adapter)).state_dict()
    assert all(torch.equal(w, expected[name]) for name, w in load_policy(str(loose)).state_dict().items())


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


def first(weights, change):
    """Weights with `change` made to the first of them."""
    name = min(weights)
    return weights | {name: change(weights[name])}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weight: weight * torch.nan, "has values that are NaN or infinite"),
        (lambda weight: weight / 0, "has values that are NaN or infinite"),
        (lambda weight: weight.to(torch.float8_e4m3fn), "is of type torch.float8_e4m3fn"),
        (lambda weight: weight.to(torch.int8), "is of type torch.int8"),
        (lambda weight: weight[:0], "size mismatch"),
        (lambda weight: weight[:, :3].contiguous(), "size mismatch"),
    ],
    ids=["NaN", "infinite", "float8", "int8", "no values", "another shape"],
)
def test_weights_that_are_no_finite_numbers_of_this_model_are_refused(adapter, tmp_path, change, message):
    broken = rewrite(adapter, tmp_path / "broken", lambda weights: first(weights, change))
    with pytest.raises(ModelError, match=message):
        load_policy(str(broken))


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
@pytest.mark.parametrize(
    "content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"\xff\xfe", b"{"], ids=str
)
def test_files_that_are_no_adapters_are_refused(adapter, tmp_path, name, content):
    broken = shutil.copytree(adapter, tmp_path / "broken")
    (broken / name).write_bytes(content)
    with pytest.raises(ModelError, match=r"is no adapter of its base|does not say which model"):
        load_policy(str(broken))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora_alpha": float("nan")}, "its lora_alpha is not a finite number"),
        (
            {"alora_invocation_tokens": [3], "task_type": "CAUSAL_LM"},
            "its alora_invocation_tokens is not supported",
        ),
        ({"layer_replication": [[0, 2], [0, 2]]}, "its layer_replication is not supported"),
    ],
    ids=["alpha", "alora", "layers"],
)
def test_what_peft_does_beyond_the_layers_is_refused(adapter, tmp_path, settings, message):
    with pytest.raises(ModelError, match=message):
        load_policy(str(configured(adapter, tmp_path / "other", **settings)))


def test_a_base_is_found_from_any_directory(tmp_path, tiny_folder, monkeypatch):
    shutil.copytree(tiny_folder, tmp_path / "runs" / "base")
    monkeypatch.chdir(tmp_path)
    policy = load_policy("runs/base")
    choose_weights(policy, ModelConfig(path="runs/base", lora_rank=2))
    policy.save(Path("runs/new/model"), {})
    stored = PeftConfig.from_pretrained("runs/new/model").base_model_name_or_path
    assert stored == str(tmp_path / "runs" / "base")
    old = configured(Path("runs/new/model"), Path("runs/old/model"), base_model_name_or_path="runs/base")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for folder in ("new", "old"):  # an earlier adapter's relative name holds from a folder above it
        path = tmp_path / "runs" / folder / "model"
        assert load_policy(str(path)).has_adapter
    load_policy(str(tmp_path / old)).save(tmp_path / "again", {})
    assert PeftConfig.from_pretrained(tmp_path / "again").base_model_name_or_path == stored


def test_a_hub_id_stays_as_it_is(tiny_folder, tmp_path, monkeypatch):
    policy = load_policy(str(tiny_folder))
    choose_weights(policy, ModelConfig(path="Owner/Name", lora_rank=2))
    policy.save(tmp_path / "adapter", {})
    assert base_of(str(tmp_path / "adapter")) == "Owner/Name"


def test_a_base_that_is_gone_is_looked_for_and_named(adapter, tiny_folder, tmp_path):
    gone = configured(adapter, tmp_path / "a" / "model", base_model_name_or_path="/nowhere/runs/base")
    cure = r"no model is in that folder; .* base_model_name_or_path$"
    for use in (load_policy, lambda path: merge(path, tmp_path / "out")):
        with pytest.raises(ModelError, match=cure):
            use(str(gone))
    moved = shutil.copytree(tiny_folder, tmp_path / "runs" / "base")
    with pytest.raises(ModelError, match=rf"\(is it '{moved}'\?\)$"):
        load_policy(str(gone))
    nested = configured(adapter, tmp_path / "nested", base_model_name_or_path=str(adapter))
    with pytest.raises(ModelError, match="is a LoRA checkpoint too"):
        load_policy(str(nested))
