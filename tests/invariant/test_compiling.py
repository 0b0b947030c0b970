"""Compiled layers compute what the others do; the slow tests compile, which takes half a minute."""

from collections.abc import Sequence

import pytest
import torch

from gpg_vl.config import ModelConfig
from gpg_vl.errors import ConfigurationError
from gpg_vl.model.adapt import choose_weights
from gpg_vl.model.loading import load_policy
from gpg_vl.model.policy import Policy
from gpg_vl.rollout.engine import Answer, Request
from gpg_vl.rollout.own import OwnEngine
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.types import Sample
from tests.support.inputs import encoder_of
from tests.support.packed import by_answer, gradient, rows_of


def trained(model: ModelConfig) -> Policy:
    """A policy in training, LoRA's adapters away from 0, so that all of them have gradients."""
    policy = load_policy(
        model.path, gradient_checkpointing=model.gradient_checkpointing, compiled=model.compile
    )
    choose_weights(policy, model)
    generator = torch.Generator().manual_seed(0)
    for name, weight in policy.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.1, generator=generator)
    return policy.train()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch.compile reads it
@pytest.mark.parametrize("options", [{}, {"gradient_checkpointing": True}, {"lora_rank": 4}], ids=str)
def test_compiled_equals_eager(tiny_folder, groups, options):
    torch._dynamo.reset()  # it gives up on layers that earlier tests compiled too often
    torch._dynamo.utils.counters.clear()
    results = []
    for compiled in (False, True):
        policy = trained(ModelConfig(path=str(tiny_folder), compile=compiled, **options))
        for packing, tokens in (("group", 300), ("none", 10_000), ("group", 10_000)):
            logprobs = by_answer(policy, rows_of(groups, packing), tokens)
            results.append((logprobs.detach(), gradient(policy, logprobs)))
    for (eager, gradients), (compiled, theirs) in zip(results[:3], results[3:], strict=True):
        assert (compiled - eager).abs().max() < 1e-5
        assert (theirs - gradients).norm() / gradients.norm() < 1e-5
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


def answers_of(policy: Policy, samples: Sequence[Sample]) -> list[Answer]:
    requests = [Request(prompt, "a") for prompt in encoder_of(policy).encode(samples)]
    groups = OwnEngine(policy, max_concurrent=4).generate(requests, 2, Sampling(4))
    return [answer for group in groups for answer in group]


def test_names_of_weights_and_rollouts_of_text_stay(tiny_folder, policy, mixed_samples):
    compiled = load_policy(str(tiny_folder), compiled=True)
    assert list(compiled.state_dict()) == list(policy.state_dict())
    torch._dynamo.utils.counters.clear()
    assert answers_of(compiled, mixed_samples[2:3]) == answers_of(policy, mixed_samples[2:3])
    assert not torch._dynamo.utils.counters["stats"]


@pytest.mark.slow
def test_rollouts_read_images_in_compiled_layers(tiny_folder, policy, mixed_samples):
    """Once sizes have changed, other ones are no reason to compile again."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = load_policy(str(tiny_folder), compiled=True)
    graphs = []
    for samples in (mixed_samples[:1], mixed_samples[1:2], mixed_samples[3:]):
        for ours, eager in zip(answers_of(compiled, samples), answers_of(policy, samples), strict=True):
            assert ours.token_ids == eager.token_ids
            assert ours.logprobs == pytest.approx(eager.logprobs, abs=1e-5)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert 0 < graphs[1] == graphs[2]


def test_without_a_compiler_the_cure_is_named(tiny_folder, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigurationError, match=r"no 'no-such-compiler'.*CXX.*model\.compile to false"):
        load_policy(str(tiny_folder), compiled=True)
