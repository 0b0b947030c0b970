"""`merge` writes a model that answers as the adapters beside their base do, or nothing."""

import os
import resource

import pytest
import torch
from peft.tuners.lora.layer import Linear
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from gpg_vl.config import ModelConfig
from gpg_vl.errors import ConfigurationError, ModelError, RunFolderError
from gpg_vl.model.adapt import choose_weights, merge
from gpg_vl.model.adapters import load_adapter
from gpg_vl.model.loading import load_policy
from gpg_vl.model.merging import merge_adapter, probe
from tests.support.adapters import configured, foreign
from tests.support.families import MODELS, save_family


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


@pytest.mark.parametrize("family", MODELS)
def test_every_family_is_merged(family, tmp_path, tiny_folder):
    path = str(save_family(family, tmp_path / family, tiny_folder))
    policy = load_policy(path)
    choose_weights(policy, ModelConfig(path=path, lora_rank=2))
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.1)
    policy.save(tmp_path / "adapter", {})
    merge(str(tmp_path / "adapter"), tmp_path / "merged")
    merged, ids = load_policy(str(tmp_path / "merged")), torch.arange(5, 12)[None]
    with torch.no_grad():
        ours, theirs = (one.text_model(input_ids=ids).last_hidden_state for one in (merged, policy))
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_a_merge_that_changes_the_answers_is_refused(adapter, tmp_path, tiny_folder, monkeypatch):
    def unmerged(layer, **_):
        """Forgets one layer."""
        if layer is not model.model.language_model.layers[0].mlp.up_proj:
            right(layer)

    right = Linear.merge
    policy = load_policy(str(tiny_folder))
    model = policy.model
    load_adapter(model, adapter)
    monkeypatch.setattr(Linear, "merge", unmerged)
    with pytest.raises(ModelError, match="the merged model's logits are off by"):
        merge_adapter(model, policy.family, probe(policy.processor, policy.family, policy.vocabulary))


def test_adapters_that_change_nothing_are_not_merged(adapter, tmp_path, tiny_folder):
    silent = configured(adapter, tmp_path / "silent", lora_alpha=0)
    with pytest.raises(ModelError, match="change nothing, though their weights are not zero"):
        merge(str(silent), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    policy = load_policy(str(tiny_folder))  # fresh ones have nothing to change
    choose_weights(policy, ModelConfig(path=str(tiny_folder), lora_rank=2))
    policy.save(tmp_path / "fresh", {})
    merge(str(tmp_path / "fresh"), tmp_path / "merged")
    base = load_file(tiny_folder / "model.safetensors")
    assert all(torch.equal(base[n], w) for n, w in load_file(tmp_path / "merged/model.safetensors").items())


@pytest.mark.filterwarnings("ignore:`lora_bias=True` was passed", "ignore:Adapter .default.")
def test_a_bias_that_no_layer_can_take_is_refused(tmp_path, tiny_folder):
    folder, _ = foreign(tmp_path / "adapter", tiny_folder, target_modules=["o_proj"], lora_bias=True)
    with pytest.raises(ModelError, match=r"layers\.0\.self_attn\.o_proj cannot be merged: .*lora_bias"):
        merge(str(folder), tmp_path / "merged")


def test_out_appears_whole_or_not_at_all(adapter, tmp_path, monkeypatch):
    out = tmp_path / "merged"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))  # a disk that is full
    try:
        with pytest.raises(RunFolderError, match=r"cannot write '.*merged'"):
            merge(str(adapter), out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert os.listdir(tmp_path) == []
    with pytest.raises(ConfigurationError, match="is inside the checkpoint"):
        merge(str(adapter), adapter / "merged")
    with pytest.raises(ConfigurationError, match="exists already"):
        merge(str(adapter), adapter)
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="cannot write"):
        merge(str(adapter), tmp_path / "file" / "merged")
