"""Model folders as they really come: incomplete, damaged, of another kind. Each is one clear error."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gpg_vl.errors import ConfigurationError, ModelError
from gpg_vl.model.loading import load_policy, read_config
from gpg_vl.prompting.card import read_card
from tests.support.inputs import encoder_of

Weights = dict[str, torch.Tensor]
EMBEDDING = "model.embed_tokens.weight"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:12ab\nsize 4429\n"


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def rewrite(folder: Path, change: Callable[[Weights], Weights]) -> None:
    file = folder / "model.safetensors"
    save_file({name: w.contiguous() for name, w in change(load_file(file)).items()}, file, {"format": "pt"})


def edit(folder: Path, name: str, **values: object) -> None:
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def refused(folder: Path, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load_policy(str(folder))
    assert str(folder) in str(caught.value)


def without(part: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: w for name, w in weights.items() if part not in name}


def with_value(value: float) -> Callable[[Weights], Weights]:
    def change(weights: Weights) -> Weights:
        weights["model.layers.1.mlp.up_proj.weight"][3, 4] = value
        return weights

    return change


INCOMPLETE = {
    "one tensor": (without("layers.1.mlp.up_proj"), r"layers\.1\.mlp\.up_proj\.weight are missing"),
    "the vision tower": (without("visual"), r"visual\..*and \d+ more are missing"),
    "the embedding": (without("embed_tokens"), r"embed_tokens\.weight.* missing"),
    "all under a prefix": (
        lambda weights: {f"module.{name}": w for name, w in weights.items()},
        r"are missing; module\..* are no part",
    ),
    "one too many": (
        lambda weights: weights | {"model.value_head.weight": torch.zeros(3)},
        r"value_head\.weight are no part of the model",
    ),
    "another shape": (
        lambda weights: weights | {EMBEDDING: torch.zeros(7, 48)},
        r"embed_tokens\.weight have other shapes",
    ),
    "no size": (
        lambda weights: weights | {EMBEDDING: torch.zeros(0, 48)},
        r"embed_tokens\.weight have other shapes",
    ),
    "not a number": (with_value(float("nan")), r"NaN, infinite .*layers\.1\.mlp\.up_proj\.weight"),
    "infinite": (with_value(float("-inf")), r"NaN, infinite .*layers\.1\.mlp\.up_proj\.weight"),
    "diverged": (with_value(1e30), r"beyond all measure.*layers\.1\.mlp\.up_proj\.weight"),
}


@pytest.mark.parametrize("name", INCOMPLETE)
def test_the_file_must_hold_exactly_the_weights(folder, name):
    change, message = INCOMPLETE[name]
    rewrite(folder, change)
    refused(folder, message)


def test_a_tied_head_may_be_missing_or_there(folder, policy):
    def with_head(weights: Weights) -> Weights:
        assert not [name for name in weights if "head" in name]
        return weights | {"lm_head.weight": weights[EMBEDDING].clone()}

    rewrite(folder, with_head)
    loaded = load_policy(str(folder))
    for (name, weight), (_, other) in zip(policy.named_parameters(), loaded.named_parameters(), strict=True):
        assert torch.equal(weight, other), name


def test_a_head_of_its_own_beside_a_tied_one_is_refused(folder):
    rewrite(folder, lambda weights: weights | {"lm_head.weight": weights[EMBEDDING] + 1})
    refused(folder, r"ties head and embedding, and its lm_head\.weight is another matrix")


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "cut weights": ("model.safetensors", lambda data: data[:-100], "no loadable weights"),
    "cut header": ("model.safetensors", lambda data: data[:40], "no loadable weights"),
    "empty weights": ("model.safetensors", lambda data: b"", r"model\.safetensors: empty"),
    "pointer": ("model.safetensors", lambda data: LFS, r"model\.safetensors: Git LFS pointers.*git lfs pull"),
    "pointer to the tokenizer": ("tokenizer.json", lambda data: LFS, r"tokenizer\.json: Git LFS pointers"),
    "cut tokenizer": ("tokenizer.json", lambda data: data[:500], "no loadable processor"),
    "cut config": ("config.json", lambda data: data[:100], r"no readable config\.json"),
    "a list for a config": ("config.json", lambda data: b"[1, 2]", r"no readable config\.json"),
    "cut processor": ("processor_config.json", lambda data: data[:30], "processor"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_files_are_named(folder, name):
    file, damage, message = DAMAGES[name]
    (folder / file).write_bytes(damage((folder / file).read_bytes()))
    refused(folder, message)


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8"])
def test_quantised_models_are_refused_as_such(folder, method):
    edit(folder, "config.json", quantization_config={"quant_method": method, "bits": 4})
    refused(folder, rf"quantised \({method}\)")


def test_a_tokenizer_larger_than_the_embedding_is_refused(folder):
    rows = json.loads((folder / "config.json").read_text())["text_config"]["vocab_size"]
    policy = load_policy(str(folder))
    policy.tokenizer.add_tokens([f"<extra{i}>" for i in range(rows - len(policy.tokenizer) + 1)])
    policy.processor.save_pretrained(folder)
    refused(folder, rf"tokenizer has {rows + 1} tokens, its embedding {rows} rows")


def test_a_vision_model_without_chat_template_is_refused(policy, mixed_samples):
    policy.processor.chat_template = policy.tokenizer.chat_template = None
    with pytest.raises(ConfigurationError, match=r"no chat template.*base models take `base`"):
        encoder_of(policy).text(mixed_samples[0])


def test_an_older_checkpoints_template_is_its_tokenizers(policy, mixed_samples):
    whole = encoder_of(policy).text(mixed_samples[0])
    policy.tokenizer.chat_template, policy.processor.chat_template = policy.processor.chat_template, None
    assert encoder_of(policy).text(mixed_samples[0]) == whole


@pytest.mark.parametrize("template", ["{{ raise_exception('no system turn') }}", "{% if %}", "", "hello"])
def test_a_chat_template_that_does_not_take_the_question_is_refused(policy, mixed_samples, template):
    policy.processor.chat_template = template
    with pytest.raises(ConfigurationError, match="chat template"):
        encoder_of(policy).text(mixed_samples[0])


def test_a_folder_called_like_an_owner_hides_no_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("Qwen").mkdir()
    with pytest.raises(ModelError, match="was not fetched before"):  # it was looked for
        read_config("Qwen/Qwen2-VL-2B-Instruct")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1]",
        '{"prompt": {"template": "of another version"}}',
        '{"prompt": {"unknown": 1}}',
        '{"prompt": []}',
        '{"max_pixels": "many"}',
        '{"min_pixels": -1}',
        '{"stop": "</answer>"}',
    ],
)
def test_a_damaged_card_is_refused(tmp_path, text):
    (tmp_path / "gpg_vl.json").write_text(text)
    with pytest.raises(ModelError, match=r"gpg_vl\.json"):
        read_card(tmp_path)


def test_whole_numbers_are_no_weights(folder):
    """Those of a quantised model whose config.json does not say so; bf16 is as good as fp32."""
    rewrite(folder, lambda weights: {name: w.bfloat16() for name, w in weights.items()})
    load_policy(str(folder))
    rewrite(folder, lambda weights: weights | {EMBEDDING: (weights[EMBEDDING] * 20).to(torch.int8)})
    refused(folder, r"whole numbers, as in a quantised model: model\.embed_tokens\.weight; take the model")
