"""Qwen2-VL's real processor and vocabulary, on a small random model."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor

from gpg_vl.config import (
    AlgorithmConfig,
    DataConfig,
    ModelConfig,
    RolloutConfig,
    RunConfig,
    TrainConfig,
)
from gpg_vl.model.loading import load_policy
from gpg_vl.model.tiny import TinySize, tiny_model
from gpg_vl.prompting.prompts import Prompt, parse_completion
from gpg_vl.rollout.sampling import StopTexts
from gpg_vl.training.train import train
from tests.support.inputs import SHARED, SMALL, encoder_of
from tests.support.training import REWARD

PROCESSOR = SHARED / "models" / "qwen2vl_processor"
pytestmark = pytest.mark.skipif(
    not PROCESSOR.is_dir(), reason="Qwen2-VL's processor is not in ../shared/models/qwen2vl_processor"
)


@pytest.fixture(scope="module")
def real_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real processor and vocabulary, tiny layers."""
    folder = tmp_path_factory.mktemp("model") / "real"
    processor = AutoProcessor.from_pretrained(PROCESSOR)
    size = replace(SMALL, vocabulary=151_936)
    assert isinstance(size, TinySize)
    tiny_model(processor, size).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def real_policy(real_folder):
    return load_policy(str(real_folder))


def test_stop_text_straddles_real_tokens(real_policy):
    tokenizer = real_policy.tokenizer
    ids = tokenizer("<think>(x).</think><answer>(B)</answer> more")["input_ids"]
    pieces = [tokenizer.decode([i]) for i in ids]
    assert "</answer>" not in pieces  # no single token is the stop text
    stops = StopTexts(tokenizer, ("</answer>",), real_policy.vocabulary)
    complete = [stops.complete(ids[: n + 1]) for n in range(len(ids))]
    first = complete.index(True)
    assert "</answer>" in tokenizer.decode(ids[: first + 1])
    assert "</answer>" not in tokenizer.decode(ids[:first])
    assert stops.cut(tokenizer.decode(ids)).endswith("</answer>")


def test_prompt_is_transformers_own(real_policy, mixed_samples):
    encoder = encoder_of(real_policy)
    for sample, prompt in zip(mixed_samples, encoder.encode(mixed_samples), strict=True):
        assert encoder.prompt_length(sample) == prompt.length
        text = real_policy.tokenizer.decode(prompt.token_ids)
        assert text.startswith(
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        )
        assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")
        if sample.images:
            expected, _ = real_policy.model.model.get_rope_index(
                prompt.token_ids[None], prompt.image_mask[None].long(), image_grid_thw=prompt.grid
            )
            assert torch.equal(expected[:, 0], prompt.position_ids)


def test_base_prompt_opens_think(real_policy, mixed_samples):
    encoder = encoder_of(real_policy, Prompt("base"))
    text = real_policy.tokenizer.decode(encoder.encode(mixed_samples[:1])[0].token_ids)
    assert text.startswith("<|vision_start|><|image_pad|>") and text.endswith("<think>")
    parsed = parse_completion(
        "so</think><answer>(A)</answer>", think_opened=True, token_count=9, finish_reason="stop"
    )
    assert (parsed.think, parsed.answer) == ("so", "(A)")


def test_vision_and_unused_rows_are_suppressed(real_policy):
    suppressed = real_policy.suppressed
    assert len(suppressed) == 151_936
    ids = real_policy.tokenizer.convert_tokens_to_ids(["<|image_pad|>", "<|vision_start|>", "<|video_pad|>"])
    assert suppressed[ids].all()
    assert suppressed[len(real_policy.tokenizer) :].all()
    assert not suppressed[list(real_policy.eos_token_ids)].any()


def test_one_step_of_gpg(real_folder, scenes_folder, tmp_path):
    config = TrainConfig(
        out=str(tmp_path / "run"),
        model=ModelConfig(path=str(real_folder)),
        data=DataConfig(train=[str(scenes_folder)]),
        rollout=RolloutConfig(group_size=8, max_new_tokens=12),
        algorithm=AlgorithmConfig(questions_per_step=2),
        rewards={f"{REWARD}:letters": 1.0, "format": 1.0},
        run=RunConfig(steps=1),
    )
    model = train(config)
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert line["groups/valid"] >= 1 and line["grad_norm"] > 0
    assert line["logprob_gap"] < 1e-5
    assert (model / "gpg_vl.json").is_file()
    load_policy(str(model))
