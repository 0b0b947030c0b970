"""Decoding equals transformers' own forward for every kind of layer, whatever family it belongs to."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import (
    Gemma3TextConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen3_5TextConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    Qwen3VLMoeTextConfig,
)
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from gpg_vl.model.attention import CacheView, Prefix
from gpg_vl.model.memory import PromptKeys
from gpg_vl.model.step_kernels import PLAIN, StepKernels
from gpg_vl.model.step_layers import Norm, feed_of
from tests.support.fake_cuda import fake_cuda
from tests.support.text_models import (
    LONGEST,
    VOCABULARY,
    largest_difference,
    replayed,
    step_model,
    text_model,
)

SIZE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": LONGEST,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
    "attn_implementation": "eager",
}
SLIDING = {"use_sliding_window": True, "max_window_layers": 1}
TOLERANCE = 2e-6
"""Of hidden states in fp32, in units of the largest."""
WINDOWS = (1, 3, 7, 14, 40)
"""Tokens: of one alone, less than an answer, up to inside of the shorter prompt, of the longer one, all."""


def windowed(config: type, window: int) -> Any:
    return text_model(config(**SIZE, **SLIDING, sliding_window=window))


@pytest.mark.parametrize("config", [LlamaConfig, Qwen2Config, Qwen3Config])
def test_full_attention(config):
    assert largest_difference(replayed(text_model(config(**SIZE)))) < TOLERANCE


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("config", [Qwen2Config, Qwen3Config])
def test_sliding_windows(config, window, monkeypatch):
    model = windowed(config, window)
    assert [layer.self_attn.sliding_window for layer in model.layers] == [None, window, window]
    assert largest_difference(replayed(model)) < TOLERANCE
    # and the window matters: one token more or less is seen
    within = CacheView.within
    for other in (window + 1, window - 1):
        monkeypatch.setattr(CacheView, "within", lambda self, _, prefix, w=other: within(self, w, prefix))
        assert not largest_difference(replayed(model)) < 1e-3 or window == 40


def gemma3(**changes: object) -> Any:
    rope = {"sliding_attention": 1e2, "full_attention": 1e4}
    rope = {kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in rope.items()}
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    ours = {"layer_types": kinds, "sliding_window": 4, "query_pre_attn_scalar": 3, "rope_parameters": rope}
    return text_model(Gemma3TextConfig(**SIZE | ours | changes))


def test_four_norms_and_an_embedding_for_each_type_of_layer():
    model = gemma3()
    assert largest_difference(replayed(model)) < TOLERANCE
    step = step_model(model)
    assert step.plain, "its norms are kernels"


def qwen3_5(kinds: Sequence[str]) -> Any:
    linear = {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
    linear |= {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_conv_kernel_dim": 4}
    rope = {
        "rope_type": "default",
        "rope_theta": 1e3,
        "partial_rotary_factor": 0.5,
        "mrope_section": [1, 1, 0],
    }
    types = {"layer_types": list(kinds), "num_hidden_layers": len(kinds)}
    return text_model(Qwen3_5TextConfig(**SIZE | types, **linear, rope_parameters=rope))


def test_gated_attention_that_is_turned_in_part():
    model = qwen3_5(["full_attention"] * 3)
    assert model.layers[0].self_attn.q_proj.out_features == 2 * SIZE["hidden_size"]
    assert model.rotary_emb.inv_freq.shape == (2,), "half of a head"
    assert largest_difference(replayed(model)) < TOLERANCE
    assert step_model(model).plain


HYBRID = ["linear_attention", "full_attention", "linear_attention"]


@pytest.mark.parametrize("prompts", [(5, 12), (2, 70), (1, 3)], ids=str)
@pytest.mark.parametrize("kinds", [HYBRID, sorted(HYBRID)], ids=["first", "last"])
def test_states_in_place_of_keys(kinds, prompts):
    """Prompts shorter than the convolution, and of more tokens than a forward takes together."""
    model = qwen3_5(kinds)
    # a forward takes 64 tokens together, and so is rounded otherwise, as transformers' own steps are too
    assert largest_difference(replayed(model, prompts=prompts)) < 10 * TOLERANCE
    assert not step_model(model).plain


EXPERTS = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


@pytest.mark.parametrize("config", [Qwen3MoeConfig, Qwen3VLMoeTextConfig])
def test_experts_beside_layers_without(config):
    model = text_model(config(**SIZE, **EXPERTS, mlp_only_layers=[1]))
    assert [hasattr(layer.mlp, "experts") for layer in model.layers] == [True, False, True]
    assert largest_difference(replayed(model)) < TOLERANCE
    assert not step_model(model).plain, "experts are chosen with the host's help"
    model = text_model(config(**SIZE, **EXPERTS, mlp_only_layers=[0, 1, 2]))
    assert step_model(model).plain


def test_experts_with_a_window():
    """In a family whose layers have no types: one window is for all."""
    model = text_model(Qwen3MoeConfig(**SIZE, **EXPERTS, use_sliding_window=True, sliding_window=3))
    assert [layer.self_attn.sliding_window for layer in model.layers] == [3, 3, 3]
    assert largest_difference(replayed(model)) < TOLERANCE


def hybrid() -> Any:
    return qwen3_5(HYBRID)


def experts() -> Any:
    return text_model(Qwen3MoeConfig(**SIZE, **EXPERTS, mlp_only_layers=[1]))


@pytest.mark.parametrize("model", [lambda: text_model(Qwen3Config(**SIZE)), gemma3, experts, hybrid])
def test_bf16_differs_from_training_by_less_than_training_from_the_truth(model):
    """Near ties, experts may still be others: the median knows of none."""
    model = model()
    pairs, exact = replayed(model, torch.bfloat16), [full for _, full in replayed(model)]
    steps = torch.cat([(given - full).norm(dim=-1) for given, full in pairs])
    training = torch.cat([(full - true).norm(dim=-1) for (_, full), true in zip(pairs, exact, strict=True)])
    assert steps.median() < training.median()


def test_experts_are_chosen_as_in_training():
    """A router's input is not rounded on the way to it: training does not do it either."""
    block, inputs = experts().layers[0].mlp, torch.randn(64, SIZE["hidden_size"])
    with torch.no_grad():
        given = feed_of(block, torch.bfloat16)(inputs, PLAIN)
        with torch.autocast("cpu", torch.bfloat16):
            expected = block(inputs[:, None])[:, 0]
    assert given.dtype == expected.dtype and torch.equal(given, expected)


def test_norms_are_asked_what_they_multiply_by():
    class Other(torch.nn.RMSNorm):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + 1

    inputs = torch.randn(4, 8)
    for kind, plain in (Gemma3RMSNorm, True), (Qwen2RMSNorm, True), (torch.nn.RMSNorm, True), (Other, False):
        norm = kind(8, eps=1e-5)
        torch.nn.init.normal_(norm.weight)
        ours = Norm(norm)
        assert ours.plain == plain
        torch.testing.assert_close(ours(inputs), norm(inputs))


def test_windows_ask_the_device_nothing():
    """So that a graph can repeat a step: no number comes back, and shapes come from the host."""
    with fake_cuda() as kernels, torch.no_grad(), torch.device("cuda"):
        step = step_model(windowed(Qwen3Config, 4))
        cache, shape = step.answer_cache(LONGEST, 1), (2, SIZE["num_key_value_heads"], 12, SIZE["head_dim"])
        prompts = [PromptKeys(torch.zeros(shape), torch.zeros(shape)) for _ in cache.layers]
        prefix = Prefix(prompts, torch.zeros(2, dtype=torch.long))
        prefix.lay_out([3, 3])
        cache.extend(prefix, 3)
        cache.make_room()
        numbers = [torch.zeros(6, dtype=torch.long) for _ in range(3)]
        view = CacheView.of(torch.zeros(1, dtype=torch.long), numbers[0], cache.span, masked=True)
        kernels.reset()
        hidden = step.read(numbers[1], numbers[2], prefix, cache, view)
        assert hidden.shape == (6, 32) and kernels.total and not kernels.copies_back


def test_fused_attention_is_not_for_windows():
    def fused(*_: object) -> torch.Tensor:
        raise AssertionError("the kernels know no windows")

    for model in windowed(Qwen2Config, 3), text_model(Qwen2Config(**SIZE)):
        step = step_model(model, kernels=StepKernels(attend=fused))
        assert step.kernels.finds_columns == (model.layers[1].self_attn.sliding_window is None)
