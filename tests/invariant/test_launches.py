"""What a GPU would be told to do, counted without one, at the sizes of Qwen2-VL-2B.

A change that raises a count says why. Counts are of the operators that torch is asked for, one launch each;
a matrix product may take a second one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from unittest import mock

import pytest
import torch
from transformers import Qwen2VLConfig

from benchmarks.limits import decode_bytes
from gpg_vl.model.attention import CacheView, Prefix
from gpg_vl.model.families import families
from gpg_vl.model.memory import PromptKeys
from gpg_vl.model.packing import Row, Segment, collate
from gpg_vl.model.sizes import sizes_of, skeleton
from gpg_vl.prompting.encode import EncodedPrompt
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.rollout.slots import Drawn, Slots, Stepper
from tests.support.fake_cuda import QWEN2_VL_2B, fake_cuda, fake_policy

PROMPT = 553
"""Tokens of a question about an image of 616 pixels."""


PREFILL = 2896
"""Launches at most of a pass over prompts and their images: earlier versions of transformers take one more a
layer than later ones."""
COLUMNS = 64
"""Of the answers' own cache that are read: as much as answers of 128 tokens have in the mean."""


@dataclass(frozen=True)
class Work:
    """What a step asks of the device."""

    launches: int
    bytes: int
    """Of the tensors that they read and write."""


def work(counts: Sequence[int], *, fused: bool) -> Work:
    """Of one step for questions with so many answers each; that of Triton kernels is added by `traced`."""
    answers, device = sum(counts), torch.device("cuda")
    with fake_cuda() as kernels, torch.no_grad():
        policy = fake_policy()
        stepper = Stepper(policy.step_model(1000, fused=fused), Sampling(200), policy.suppressed_ids)
        model, questions = stepper.model, len(counts)
        answer_cache = model.answer_cache(200, COLUMNS)

        def cache(heads: int, size: int) -> torch.Tensor:
            return torch.empty((questions, heads, PROMPT, size), dtype=torch.bfloat16, device=device)

        shapes = [(one.buffer.shape[2], one.buffer.shape[4]) for one in answer_cache.layers]
        prompts = [PromptKeys(cache(*shape), cache(*shape)) for shape in shapes]
        prefix = Prefix(prompts, torch.full((questions,), PROMPT, device=device))
        prefix.lay_out(counts)
        answer_cache.extend(prefix, max(counts))
        answer_cache.keep(torch.arange(answers, device=device), 0)
        answer_cache.make_room()
        numbers = [torch.zeros(answers, dtype=torch.long, device=device) for _ in range(4)]
        slots = Slots(*numbers, torch.zeros(answers, 200, dtype=torch.float64, device=device))
        column = torch.zeros(1, dtype=torch.long, device=device)
        drawn = Drawn(answers, 8, device)
        kernels.reset()
        view = CacheView.of(column, slots.starts, COLUMNS, masked=not fused)
        stepper.step(slots, prefix, answer_cache, drawn, view)
        assert not kernels.copies_back
        return Work(kernels.total, kernels.bytes)


def traced(counts: Sequence[int]) -> Work:
    """The same with Triton kernels, which are only noted here."""
    from gpg_vl.model import triton_kernels

    names = ("read_prompts", "read_answers", "add_norm", "rotate", "gate_by_silu")
    with mock.patch.multiple(triton_kernels, **dict.fromkeys(names, mock.DEFAULT)) as kernels:
        others = work(counts, fused=True)
    launched = [kernel.__getitem__.return_value for kernel in kernels.values()]
    calls = [call for kernel in launched for call in kernel.call_args_list]
    tensors = [one for call in calls for one in call.args if isinstance(one, torch.Tensor)]
    return Work(others.launches + len(calls), others.bytes + sum(one.nbytes for one in tensors))


def floor(questions: int) -> float:
    """Bytes that must be read: weights, the prompts' caches once, the answers' own."""
    policy = skeleton(Qwen2VLConfig(**QWEN2_VL_2B), families.get("qwen2_vl"))
    return decode_bytes(
        sizes_of(policy),
        prompts=questions,
        prompt_tokens=PROMPT,
        answers=8 * questions,
        new_tokens=2 * COLUMNS,
        itemsize=2,
    )


@pytest.mark.parametrize(
    ("counts", "number"), [([8] * 8, 947), ([8] * 7 + [5], 1059)], ids=["even", "ragged"]
)
def test_launches_of_a_decoded_token(counts, number):
    assert work(counts, fused=False).launches == number


def test_launches_of_a_decoded_token_with_triton_kernels():
    """Whatever answers have ended: all of one size are one size to the kernels."""
    assert traced([8] * 8).launches == traced([8] * 7 + [5]).launches == 327


@pytest.mark.parametrize(("questions", "plain", "fused"), [(8, 1.43, 1.3), (64, 3.28, 2.36)])
def test_bytes_of_a_decoded_token(questions, plain, fused):
    """In units of what must be read."""
    counts, least = [8] * questions, floor(questions)
    found = [round(one.bytes / least, 2) for one in (work(counts, fused=False), traced(counts))]
    assert found == [plain, fused]


def test_prompts_are_read_without_waiting():
    """Two questions about an image each; the second one is shorter."""
    images, texts = (44 // 2) ** 2, (69, 50)
    prompts = [
        EncodedPrompt(
            token_ids=torch.arange(images + text),
            position_ids=torch.arange(images + text).expand(3, -1),
            image_mask=torch.arange(images + text) < images,
            pixel_values=torch.zeros(44 * 44, 1176),
            grid=torch.tensor([[1, 44, 44]]),
        )
        for text in texts
    ]
    with fake_cuda() as kernels:
        policy = fake_policy()
        batch = collate([Row((Segment(prompt, (), ()),)) for prompt in prompts]).to(policy.device)
        lengths = torch.tensor([prompt.length for prompt in prompts]).to(policy.device)
        kernels.reset()
        hidden, prefix = policy.prefill(batch, lengths)
        assert kernels.copies_back == 0 and PREFILL - 28 <= kernels.total <= PREFILL
        assert (hidden.shape, hidden.dtype, hidden.device.type) == ((2, 1536), torch.float32, "cuda")
        for cache in (one for layer in range(len(prefix.layers)) for one in prefix.read(layer)):
            assert (cache.shape, cache.dtype) == ((2, 2, PROMPT, 128), torch.bfloat16)
