"""Every supported family: packed rows and shared caches equal transformers' own forward and `generate`."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from gpg_vl.errors import ConfigurationError, DataError, ModelError
from gpg_vl.model.loading import load_policy
from gpg_vl.model.policy import Policy
from gpg_vl.prompting.prompts import Prompt
from gpg_vl.rollout.engine import Request, RolloutEngine
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.types import Sample
from tests.support.families import MODELS, save_family
from tests.support.inputs import encoder_of, noise
from tests.support.packed import by_answer, gradient, inputs, rows_of

TEXTS = [
    Sample("one", "t", "How many?", "3", "math"),
    Sample("long", "t", "Where is it? " * 8, "1", "math"),
    Sample("choice", "t", "Is it?", "(A)", "choice", ("yes", "no")),
]
IMAGES = [
    Sample("image", "t", "How many?", "(A)", "choice", ("1", "2"), (noise(196, 140, 4),)),
    Sample("two", "t", "Left?", "(A)", "choice", ("1", "2"), (noise(112, 84, 1), noise(60, 200, 2))),
]


@pytest.fixture(params=MODELS)
def folder(request, tmp_path: Path, tiny_folder: Path) -> Path:
    return save_family(request.param, tmp_path / request.param, tiny_folder)


@pytest.fixture
def policy(folder: Path) -> Policy:
    return load_policy(str(folder))


@pytest.fixture
def reference(folder: Path, policy: Policy):
    kind = AutoModelForImageTextToText if policy.takes_images else AutoModelForCausalLM
    return kind.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture
def samples(policy: Policy) -> list[Sample]:
    return TEXTS + IMAGES if policy.takes_images else TEXTS


def plain_inputs(policy, prompt, answer):
    return inputs(prompt, answer, policy.processor.image_token_id if policy.takes_images else -1)


def forget_positions(reference) -> None:
    if hasattr(reference.model, "rope_deltas"):
        reference.model.rope_deltas = None


def test_greedy_equals_generate(policy, reference, samples):
    batch = [Request(p, s.id) for p, s in zip(encoder_of(policy).encode(samples), samples, strict=True)]
    engine = RolloutEngine(policy, max_concurrent=64)
    answers = engine.generate(batch, 2, Sampling(max_new_tokens=20, temperature=0))
    suppressed = policy.suppressed.nonzero().flatten().tolist()
    for request, group in zip(batch, answers, strict=True):
        forget_positions(reference)
        prompt = request.prompt
        generated = reference.generate(
            **plain_inputs(policy, prompt, ()),
            max_new_tokens=20,
            do_sample=False,
            suppress_tokens=suppressed,
        )[0, prompt.length :].tolist()
        assert [list(answer.token_ids) for answer in group] == [generated] * 2


def test_packed_equals_naive(policy, reference, samples):
    generator = torch.Generator().manual_seed(0)
    usable = (~policy.suppressed).nonzero().flatten()
    lengths = (1, 6, 12)
    groups = [
        (p, [tuple(usable[torch.randint(len(usable), (n,), generator=generator)].tolist()) for n in lengths])
        for p in encoder_of(policy).encode(samples)
    ]
    expected = []
    for prompt, answers in groups:
        for answer in answers:
            forget_positions(reference)
            logits = reference(**plain_inputs(policy, prompt, answer)).logits[0]
            logits = (logits / 0.9).masked_fill(policy.suppressed, float("-inf"))
            logprobs = logits.log_softmax(-1)[prompt.length - 1 : -1]
            expected.append(logprobs.gather(1, torch.tensor(answer)[:, None])[:, 0])
    naive = torch.cat(expected)
    packed = by_answer(policy, rows_of(groups, "group"), 10_000)
    assert (packed - naive).abs().max() < 2e-6
    ours = gradient(policy, packed)
    (naive * torch.linspace(-1, 1, len(naive))).sum().backward()
    theirs = torch.cat([p.grad.flatten() for p in reference.parameters() if p.grad is not None])
    assert (ours - theirs).norm() / theirs.norm() < 2e-6


def test_a_text_model_refuses_an_image_by_name(tmp_path, tiny_folder):
    policy = load_policy(str(save_family("qwen2", tmp_path / "text", tiny_folder)))
    with pytest.raises(DataError, match="sample 'image' has an image, and the model takes text only"):
        encoder_of(policy).encode(IMAGES[:1])


def test_without_a_chat_template_only_base_prompts_work(tmp_path, tiny_folder):
    policy = load_policy(str(save_family("llama", tmp_path / "text", tiny_folder)))
    policy.tokenizer.chat_template = None
    with pytest.raises(
        ConfigurationError, match=r"no chat template, which prompt\.template 'instruct' needs"
    ):
        encoder_of(policy).encode(TEXTS[:1])
    (prompt,) = encoder_of(policy, Prompt("base")).encode(TEXTS[:1])
    assert prompt.opens_think
    assert "about the image" not in policy.tokenizer.decode(prompt.token_ids)


def test_a_chat_template_that_opens_think_is_noticed(tmp_path, tiny_folder):
    policy = load_policy(str(save_family("qwen2", tmp_path / "text", tiny_folder)))
    policy.tokenizer.chat_template += "{%- if add_generation_prompt -%}<think>\n{% endif -%}"
    encoder = encoder_of(policy)
    assert encoder.encode(TEXTS[:1])[0].opens_think
    assert encoder.target(TEXTS[0]) == "</think><answer>3</answer>"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer_types": ["full_attention", "chunked_attention"]}, "chunked_attention layers"),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "'dynamic' rotary"),
        ({"model_type": "gpt2"}, "is a 'gpt2' model; supported: .*qwen2, qwen2_5_vl, qwen2_vl, "),
    ],
)
def test_what_packing_does_not_reproduce_is_refused_by_name(tmp_path, tiny_folder, change, message):
    folder = save_family("qwen2", tmp_path / "text", tiny_folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ModelError, match=message):
        load_policy(str(folder))
