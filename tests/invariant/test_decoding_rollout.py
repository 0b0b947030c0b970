"""A rollout of models with windows and states: questions come in and answers end while others grow."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen3_5TextConfig

from gpg_vl.model.attention import Prefix
from gpg_vl.model.packing import PackedBatch
from gpg_vl.prompting.encode import EncodedPrompt
from gpg_vl.rollout.decoding import DecodeOptions
from gpg_vl.rollout.engine import Request
from gpg_vl.rollout.own import OwnEngine
from gpg_vl.rollout.sampling import Sampling
from tests.support.text_models import VOCABULARY, full_forward, prefix_of, step_model, text_model

SIZE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}
MODELS = {
    "windows": Qwen2Config(**SIZE, use_sliding_window=True, sliding_window=5, max_window_layers=1),
    "states": Qwen3_5TextConfig(**SIZE, **LINEAR),
}


class Policy(nn.Module):
    """As much of a policy as a rollout asks for, around a text model alone; prompts are read one by one."""

    eos_token_ids = (1, 2)
    device = torch.device("cpu")
    tokenizer = SimpleNamespace(batch_decode=lambda rows, **_: [str(row) for row in rows])
    vocabulary = VOCABULARY

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.suppressed_ids = torch.tensor([0])
        self.head = step_model(model).head

    def prefill(self, batch: PackedBatch, lengths: Tensor) -> tuple[Tensor, Prefix]:
        rows = [ids[:length].tolist() for ids, length in zip(batch.token_ids, lengths.tolist(), strict=True)]
        last = torch.stack([full_forward(self.model, row)[-1] for row in rows])
        prefix, *others = [prefix_of(self.model, row) for row in rows]
        for other in others:
            prefix = prefix.join(other)
        return last, prefix

    def step_model(self, positions: int, *, fused: bool) -> Any:
        return step_model(self.model)

    def logprobs(self, prompt: EncodedPrompt, answer: tuple[int, ...]) -> list[float]:
        """Of an answer by one plain forward over prompt and answer."""
        hidden = full_forward(self.model, prompt.token_ids.tolist() + list(answer))[prompt.length - 1 : -1]
        logits = self.head(hidden).index_fill(1, self.suppressed_ids, float("-inf"))
        return logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0].tolist()


def encoded(length: int) -> EncodedPrompt:
    tokens = torch.randint(3, VOCABULARY, (length,), generator=torch.Generator().manual_seed(length))
    places = torch.arange(length).expand(3, -1)
    nothing = torch.zeros(0, 3, dtype=torch.long)
    return EncodedPrompt(tokens, places, torch.zeros(length, dtype=torch.bool), None, nothing)


@pytest.mark.parametrize(
    "options", [DecodeOptions(check_every=1, bucket=1), DecodeOptions(check_every=5, bucket=16)], ids=str
)
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_logprobs_equal_the_full_forward(name, options):
    policy = Policy(text_model(MODELS[name]))
    requests = [Request(encoded(length), str(length)) for length in (3, 17, 9, 4, 12, 7)]
    engine: Any = OwnEngine(policy, max_concurrent=6, seed=2, options=options)  # type: ignore[arg-type]
    groups = engine.generate(requests, 3, Sampling(max_new_tokens=20))
    lengths = {len(answer.token_ids) for group in groups for answer in group}
    assert len(lengths) > 5 and max(lengths) == 20
    for request, group in zip(requests, groups, strict=True):
        for answer in group:
            expected = policy.logprobs(request.prompt, answer.token_ids)
            assert answer.logprobs == pytest.approx(expected, abs=1e-5)
