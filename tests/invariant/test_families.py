"""Every supported family: packed rows and shared caches equal transformers' own forward and `generate`."""

import json
import re
from pathlib import Path

import pytest
import torch

from gpg_vl.errors import ConfigurationError, DataError, ModelError
from gpg_vl.model.loading import load_policy
from gpg_vl.model.policy import Policy
from gpg_vl.prompting.prompts import Prompt
from gpg_vl.rollout.engine import Request
from gpg_vl.rollout.own import OwnEngine
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.types import Sample
from tests.support.families import save_family
from tests.support.inputs import encoder_of, noise
from tests.support.packed import by_answer, gradient, rows_of
from tests.support.reference import Reference

TEXTS = [
    Sample("one", "t", "How many?", "3", "math"),
    Sample("long", "t", "Where is it? " * 8, "1", "math"),
    Sample("choice", "t", "Is it?", "(A)", "choice", ("yes", "no")),
]
IMAGES = [
    Sample("image", "t", "How many?", "(A)", "choice", ("1", "2"), (noise(196, 140, 4),)),
    Sample("two", "t", "Left?", "(A)", "choice", ("1", "2"), (noise(112, 84, 1), noise(60, 200, 2))),
]
LENGTHS = (1, 6, 12)
"""Tokens of answers."""


@pytest.fixture
def policy(family_folder: Path) -> Policy:
    return load_policy(str(family_folder))


@pytest.fixture
def reference(family_folder: Path, policy: Policy) -> Reference:
    return Reference(family_folder, policy)


@pytest.fixture
def samples(policy: Policy) -> list[Sample]:
    return TEXTS + IMAGES if policy.takes_images else TEXTS


def test_prompts_are_the_processors_own(policy, reference, samples):
    encoder = encoder_of(policy)
    for sample, prompt in zip(samples, encoder.encode(samples), strict=True):
        given = reference.inputs(sample)
        assert prompt.token_ids.tolist() == given["input_ids"][0].tolist()
        assert encoder.prompt_length(sample) == prompt.length
        assert encoder.image_tokens(sample) == int(prompt.image_mask.sum())
        assert (prompt.pixel_values is not None) == bool(sample.images)


def test_greedy_equals_generate(policy, reference, samples):
    batch = [Request(p, s.id) for p, s in zip(encoder_of(policy).encode(samples), samples, strict=True)]
    engine = OwnEngine(policy, max_concurrent=64)
    answers = engine.generate(batch, 2, Sampling(max_new_tokens=20, temperature=0))
    for sample, group in zip(samples, answers, strict=True):
        expected = reference.generate(sample, 20)
        assert [list(answer.token_ids) for answer in group] == [expected] * 2


def test_packed_equals_naive(policy, reference, samples):
    generator = torch.Generator().manual_seed(0)
    usable = (~policy.suppressed).nonzero().flatten()
    groups = [
        (p, [tuple(usable[torch.randint(len(usable), (n,), generator=generator)].tolist()) for n in LENGTHS])
        for p in encoder_of(policy).encode(samples)
    ]
    naive = torch.cat(
        [
            reference.logprobs(sample, answer, 0.9)
            for sample, (_, answers) in zip(samples, groups, strict=True)
            for answer in answers
        ]
    )
    packed = by_answer(policy, rows_of(groups, "group"), 10_000)
    assert (packed - naive).abs().max() < policy.family.tolerance
    gradient(policy, packed)
    ours = {name: w.grad for name, w in policy.model.named_parameters() if w.grad is not None}
    theirs = reference.gradient((naive * torch.linspace(-1, 1, len(naive))).sum())
    assert ours.keys() == theirs.keys()
    difference = torch.cat([(ours[name] - theirs[name]).flatten() for name in theirs])
    whole = torch.cat([part.flatten() for part in theirs.values()])
    assert difference.norm() / whole.norm() < policy.family.tolerance


def test_answers_of_one_token_need_no_row(policy, reference, samples):
    prompts = encoder_of(policy).encode(samples)
    token = int((~policy.suppressed).nonzero()[7])
    groups = [(prompt, [(token,), (token,)]) for prompt in prompts]
    packed = by_answer(policy, rows_of(groups, "group"), 10_000)
    naive = torch.stack([reference.logprobs(sample, (token,), 0.9)[0] for sample in samples])
    assert (packed - naive.repeat_interleave(2)).abs().max() < policy.family.tolerance


def test_checkpointed_gradients_are_the_same(policy, family_folder, samples):
    answers = [(5, 9, 11, 7), (6, 8)]
    groups = [(prompt, answers) for prompt in encoder_of(policy).encode(samples)]
    sparing = load_policy(str(family_folder), gradient_checkpointing=True)
    found = []
    for one in (policy, sparing):
        one.train()
        found.append(gradient(one, by_answer(one, rows_of(groups, "group"), 10_000)))
    assert (found[0] - found[1]).norm() / found[0].norm() < policy.family.tolerance


def test_a_familys_own_tokens_are_refused_in_questions_and_never_sampled(policy):
    encoder, known = encoder_of(policy), policy.tokenizer.get_vocab()
    for token in {*policy.family.image_markup, *policy.tokenizer.all_special_tokens}:
        sample = Sample("row", "t", f"What is {token} here?", "3", "math")
        with pytest.raises(
            DataError, match=rf"'row': the question contains the special token {re.escape(token)}"
        ):
            encoder.prompt_length(sample)
        if token.startswith("<|"):  # refused before the family is known
            continue
        with pytest.raises(ConfigurationError, match=r"prompt\.system contains the special token"):
            encoder_of(policy, Prompt(system=f"Look at {token}."))
    never = {known[token] for token in policy.family.image_markup if token in known}
    assert never <= set(policy.suppressed_ids.tolist())


def test_boxes_are_asked_for_as_the_family_writes_them(policy):
    if not policy.takes_images:
        pytest.skip("a text model has no boxes")
    gold = "[[20, 35, 200, 140]]"
    sample = Sample("box", "t", "Where?", gold, "boxes", images=(noise(200, 140),))
    encoder = encoder_of(policy)
    width, height = encoder.reader.seen((200, 140))
    whole = {"grid": (1000, 1000), "resized": (width, height), "image": (200, 140)}[policy.family.box_space]
    corners = [round(whole[0] / 10), round(whole[1] / 4), whole[0], whole[1]]
    assert "({},{}),({},{})".format(*corners) in encoder.target(sample)
    assert encoder.to_image(sample)(tuple(map(float, corners))) == pytest.approx((20, 35, 200, 140), abs=0.8)


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
