"""The rollout engine equals transformers' own `generate` and its full forward."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForImageTextToText

from gpg_vl.model.policy import Policy
from gpg_vl.model.step import StepModel
from gpg_vl.prompting.encode import EncodedPrompt
from gpg_vl.rollout.decoding import DecodeOptions
from gpg_vl.rollout.engine import Answer, Request
from gpg_vl.rollout.own import OwnEngine, decode_options
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.types import Sample
from tests.support.inputs import encoder_of
from tests.support.packed import inputs


def requests(policy: Policy, samples: Sequence[Sample], step: int = 0) -> list[Request]:
    prompts = encoder_of(policy).encode(samples)
    return [Request(prompt, s.id, step) for prompt, s in zip(prompts, samples, strict=True)]


def full_logprobs(
    reference: AutoModelForImageTextToText,
    policy: Policy,
    prompt: EncodedPrompt,
    answer: Answer,
    temperature: float,
) -> list[float]:
    """Log-probabilities of an answer by one plain forward over prompt and answer."""
    reference.model.rope_deltas = None
    logits = reference(**inputs(prompt, answer.token_ids, policy.processor.image_token_id)).logits[0]
    logits = logits.masked_fill(policy.suppressed, float("-inf")) / temperature
    logprobs = logits.log_softmax(-1)[prompt.length - 1 : -1]
    return [logprobs[t, token].item() for t, token in enumerate(answer.token_ids)]


def test_greedy_equals_generate(policy, reference, mixed_samples):
    batch = requests(policy, mixed_samples)
    engine = OwnEngine(policy, max_concurrent=64)
    answers = engine.generate(batch, 3, Sampling(max_new_tokens=24, temperature=0))
    suppressed = policy.suppressed.nonzero().flatten().tolist()
    for request, group in zip(batch, answers, strict=True):
        reference.model.rope_deltas = None
        prompt = request.prompt
        generated = reference.generate(
            **inputs(prompt, (), policy.processor.image_token_id),
            max_new_tokens=24,
            do_sample=False,
            suppress_tokens=suppressed,
        )[0, prompt.length :].tolist()
        assert [list(answer.token_ids) for answer in group] == [generated] * 3


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
def test_sampling_logprobs_equal_the_full_forward(policy, reference, mixed_samples, temperature):
    batch = requests(policy, mixed_samples)
    engine = OwnEngine(policy, max_concurrent=64, seed=3)
    # A stop text ends answers at different times, so slots are given up on the way.
    answers = engine.generate(batch, 4, Sampling(max_new_tokens=70, temperature=temperature, stop=("e",)))
    lengths = {len(answer.token_ids) for group in answers for answer in group}
    assert len(lengths) > 3
    for request, group in zip(batch, answers, strict=True):
        for answer in group:
            expected = full_logprobs(reference, policy, request.prompt, answer, temperature)
            assert answer.logprobs == pytest.approx(expected, abs=5e-6)


def test_an_answer_does_not_depend_on_its_neighbours(policy, mixed_samples):
    batch = requests(policy, mixed_samples)
    sampling = Sampling(max_new_tokens=20, stop=("e",))
    together = OwnEngine(policy, max_concurrent=64, seed=5).generate(batch, 4, sampling)
    apart = OwnEngine(policy, max_concurrent=4, seed=5).generate(batch, 4, sampling)
    fewer = OwnEngine(policy, max_concurrent=64, seed=5).generate(batch[::-1], 2, sampling)[::-1]
    for one, other, few in zip(together, apart, fewer, strict=True):
        assert [a.token_ids for a in one] == [a.token_ids for a in other]
        assert [a.token_ids for a in one[:2]] == [a.token_ids for a in few]
        assert len({a.token_ids for a in one}) > 1


@pytest.mark.parametrize(
    "options",
    [decode_options(torch.device("cpu")), DecodeOptions(check_every=5, bucket=16)],
    ids=["cpu", "gpu"],
)
def test_questions_come_in_as_others_are_done(policy, mixed_samples, monkeypatch, options):
    """Answers of questions of any age decode together as they would alone."""
    samples = [replace(s, id=f"{s.id}/{copy}") for copy in range(4) for s in mixed_samples]
    batch = requests(policy, samples)
    sampling = Sampling(max_new_tokens=30, stop=("e",))
    alone = OwnEngine(policy, max_concurrent=1, seed=5)
    expected = [alone.generate([one], 2, sampling)[0] for one in batch]
    widths, read = [], StepModel.read

    def watched(self, tokens, positions, prefix, cache, view):
        widths.append((len(tokens), int(view.starts.max()) > 0))
        return read(self, tokens, positions, prefix, cache, view)

    monkeypatch.setattr(StepModel, "read", watched)
    order: list[int] = []
    engine = OwnEngine(policy, max_concurrent=8, seed=5, options=options)
    answers = engine.generate(batch, 2, sampling, done=lambda i, group: order.append(i))
    for one, other in zip(answers, expected, strict=True):
        assert [a.token_ids for a in one] == [a.token_ids for a in other]
        assert [a.finish_reason for a in one] == [a.finish_reason for a in other]
        for a, b in zip(one, other, strict=True):
            assert a.logprobs == pytest.approx(b.logprobs, abs=5e-6)
    assert max(width for width, _ in widths) == 8 and any(staggered for _, staggered in widths)
    assert sorted(order) == list(range(len(batch))) and order != sorted(order)


def test_a_callers_autocast_changes_nothing(policy, mixed_samples):
    batch, sampling = requests(policy, mixed_samples), Sampling(max_new_tokens=8)
    expected = OwnEngine(policy, max_concurrent=64).generate(batch, 2, sampling)
    with torch.autocast("cpu", torch.bfloat16):
        assert OwnEngine(policy, max_concurrent=64).generate(batch, 2, sampling) == expected


def test_other_steps_and_seeds_give_other_answers(policy, mixed_samples):
    sampling = Sampling(max_new_tokens=20)
    first = OwnEngine(policy, max_concurrent=64, seed=5).generate(
        requests(policy, mixed_samples), 2, sampling
    )
    step = OwnEngine(policy, max_concurrent=64, seed=5).generate(
        requests(policy, mixed_samples, step=1), 2, sampling
    )
    seed = OwnEngine(policy, max_concurrent=64, seed=6).generate(requests(policy, mixed_samples), 2, sampling)
    assert first[0][0].token_ids != step[0][0].token_ids
    assert first[0][0].token_ids != seed[0][0].token_ids


def test_finish_reasons_and_cut_text(policy, mixed_samples):
    batch = requests(policy, mixed_samples)
    engine = OwnEngine(policy, max_concurrent=64, seed=1)
    answers = [a for g in engine.generate(batch, 8, Sampling(max_new_tokens=40, stop=("e",))) for a in g]
    assert {answer.finish_reason for answer in answers} == {"stop", "eos", "length"} or {
        answer.finish_reason for answer in answers
    } == {"stop", "eos"}
    for answer in answers:
        assert len(answer.logprobs) == len(answer.token_ids)
        if answer.finish_reason == "stop":
            assert answer.text.endswith("e") and answer.text.count("e") == 1
        if answer.finish_reason == "eos":
            assert answer.token_ids[-1] in policy.eos_token_ids
        assert not any(policy.suppressed[token] for token in answer.token_ids)


def test_one_token_answers(policy, mixed_samples):
    engine = OwnEngine(policy, max_concurrent=64)
    answers = engine.generate(requests(policy, mixed_samples), 2, Sampling(max_new_tokens=1))
    assert all(len(answer.token_ids) == 1 for group in answers for answer in group)


def test_work_done_for_a_group(policy, mixed_samples, monkeypatch):
    """Every image passes the vision tower once per question, and every prompt is read once."""
    images, decoded = [], []
    features, text = policy.model.model.get_image_features, policy.text_model.forward
    read = StepModel.read

    def count_images(pixels, grid, **kwargs):
        images.append(len(grid))
        return features(pixels, grid, **kwargs)

    def count_tokens(**kwargs):
        rows, tokens, _ = kwargs["inputs_embeds"].shape
        decoded.append(rows * tokens)
        return text(**kwargs)

    def count_steps(self, tokens, *args):
        decoded.append(len(tokens))
        return read(self, tokens, *args)

    monkeypatch.setattr(policy.model.model, "get_image_features", count_images)
    monkeypatch.setattr(policy.text_model, "forward", count_tokens)
    monkeypatch.setattr(StepModel, "read", count_steps)
    batch = requests(policy, mixed_samples)
    OwnEngine(policy, max_concurrent=64).generate(batch, 8, Sampling(max_new_tokens=3))
    longest = max(request.prompt.length for request in batch)
    assert images == [4]
    # One prefill of 4 padded prompts, then two more tokens for at most 32 answers.
    assert decoded[0] == 4 * longest
    assert len(decoded) == 3 and all(tokens <= 32 for tokens in decoded[1:])


def test_a_watcher_sees_every_token_and_can_stop(policy, mixed_samples):
    """What is streamed ends as the answers do; what the watcher raises ends the generation there."""
    batch, engine = requests(policy, mixed_samples), OwnEngine(policy, max_concurrent=64, seed=3)
    sampling = Sampling(max_new_tokens=12, temperature=1.0)
    seen: list[list[list[int]]] = []
    answers = engine.generate(batch, 2, sampling, watch=lambda ids: seen.append([list(one) for one in ids]))
    assert seen[-1] == [list(answer.token_ids) for group in answers for answer in group]
    assert len(seen) == max(map(len, seen[-1])) > 3
    for step, ids in enumerate(seen, start=1):
        assert ids == [final[:step] for final in seen[-1]]

    def stop_at_three(ids: Sequence[Sequence[int]]) -> None:
        seen.append([list(one) for one in ids])
        if max(map(len, ids)) == 3:
            raise InterruptedError

    seen.clear()
    policy.train()
    with pytest.raises(InterruptedError):
        engine.generate(batch, 2, sampling, watch=stop_at_three)
    assert len(seen) == 3 and policy.training
