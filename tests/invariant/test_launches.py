"""What a GPU would be told to do, counted without one, at the sizes of Qwen2-VL-2B.

A change that raises a count says why. Counts are of the operators that torch is asked for, one launch each;
a matrix product may take a second one.
"""

from collections.abc import Sequence
from unittest import mock

import pytest
import torch

from gpg_vl.model.attention import AnswerCache, Prefix, View
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.rollout.slots import Drawn, Slots, Stepper
from tests.support.fake_cuda import fake_cuda, fake_policy

PROMPT = 553
"""Tokens of a question about an image of 616 pixels."""
LAYERS = 28


def launches(counts: Sequence[int], *, fused: bool) -> int:
    """Of one step for questions with so many answers each."""
    answers, device = sum(counts), torch.device("cuda")
    with fake_cuda() as kernels, torch.no_grad():
        policy = fake_policy()
        stepper = Stepper(policy.step_model(1000, fused=fused), Sampling(200), policy.suppressed_ids)
        model, questions = stepper.model, len(counts)
        layers, kv_heads, size = model.cache_shape

        def cache() -> list[torch.Tensor]:
            shape = (questions, kv_heads, PROMPT, size)
            return [torch.empty(shape, dtype=torch.bfloat16, device=device) for _ in range(layers)]

        prefix = Prefix(cache(), cache(), torch.full((questions,), PROMPT, device=device))
        prefix.lay_out(counts)
        answer_cache = AnswerCache(
            model.cache_shape, 200, 64, torch.empty(0, dtype=torch.bfloat16, device=device)
        )
        answer_cache.extend(answers)
        answer_cache.make_room()
        tokens, positions, ages, starts = (
            torch.zeros(answers, dtype=torch.long, device=device) for _ in range(4)
        )
        draws = torch.zeros(answers, 200, dtype=torch.float64, device=device)
        slots = Slots(tokens, positions, ages, starts, draws)
        drawn = Drawn(answers, 8, device)
        column = torch.zeros(1, dtype=torch.long, device=device)
        kernels.reset()
        stepper.step(slots, prefix, answer_cache, drawn, View.of(column, starts, 64, masked=True))
        assert not kernels.copies_back
        return kernels.total


@pytest.mark.parametrize(
    ("counts", "number"), [([8] * 8, 948), ([8] * 7 + [5], 1060)], ids=["even", "ragged"]
)
def test_launches_of_a_decoded_token(counts, number):
    assert launches(counts, fused=False) == number


def test_launches_of_a_decoded_token_with_fused_attention():
    from gpg_vl.model import fused

    with mock.patch.object(fused, "read_prompts") as prompts, mock.patch.object(fused, "read_answers") as own:
        others = launches([8] * 7 + [5], fused=True)
    triton = prompts.__getitem__.return_value.call_count + own.__getitem__.return_value.call_count
    assert triton == 2 * LAYERS
    assert others + triton == 556
