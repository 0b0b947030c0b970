"""Tokens per second of decoding: this project's engine, transformers' `generate`, and the bandwidth floor."""

import gc
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from statistics import median
from typing import Any

import torch

from benchmarks import inputs, naive
from benchmarks.limits import decode_bytes, timed
from benchmarks.scales import Scale
from gpg_vl.model.policy import Policy
from gpg_vl.model.sizes import ModelSizes
from gpg_vl.prompting.encode import EncodedPrompt
from gpg_vl.rollout.engine import Request, RolloutEngine
from gpg_vl.rollout.sampling import Sampling


def ours(policy: Policy, prompts: Sequence[EncodedPrompt], scale: Scale, rows: int, repeats: int) -> float:
    """Tokens per second of this project's engine."""
    size, tokens = scale.workload.group_size, scale.workload.new_tokens
    # A prompt that is the same object would go through the vision tower only once.
    asked = [replace(prompts[i % len(prompts)]) for i in range(rows // size)]
    requests = [Request(prompt, str(number)) for number, prompt in enumerate(asked)]
    engine = RolloutEngine(policy, max_concurrent=rows)

    def generate(count: int) -> None:
        answers = engine.generate(requests, size, Sampling(count))
        assert all(len(answer.token_ids) == count for group in answers for answer in group)

    return rows * (tokens - 1) / _seconds(generate, tokens, policy.device, repeats)


def plain(model: Any, processor: Any, scale: Scale, rows: int, repeats: int) -> float:
    """Tokens per second of transformers' `generate` over prompts and images repeated G times."""
    workload, device = scale.workload, model.device
    asked = replace(workload, questions=rows // workload.group_size)
    prompts = {name: values.to(device) for name, values in naive.encode(asked, processor).items()}
    sampling = {"do_sample": True, "top_k": 0, "top_p": 1.0, "pad_token_id": processor.tokenizer.pad_token_id}
    sampling["suppress_tokens"] = inputs.suppressed_tokens(processor, model)

    @torch.no_grad()
    def generate(count: int) -> None:
        answers = model.generate(**prompts, **sampling, max_new_tokens=count)
        assert answers.shape == (rows, prompts["input_ids"].shape[1] + count)

    tokens = workload.new_tokens
    return rows * (tokens - 1) / _seconds(generate, tokens, device, repeats)


def _seconds(generate: Callable[[int], object], tokens: int, device: torch.device, repeats: int) -> float:
    """Seconds of the tokens behind the first one: `generate(tokens)` less `generate(1)`, medians."""
    generate(2)  # warms up
    first, whole = [], []
    for _ in range(repeats):
        first.append(timed(lambda: generate(1), device))
        whole.append(timed(lambda: generate(tokens), device))
    return median(whole) - median(first)


def floor(
    sizes: ModelSizes, prompt_tokens: int, scale: Scale, rows: int, bandwidth: float, itemsize: int
) -> float:
    """Tokens per second if reading weights and caches once a step, at `bandwidth` bytes/s, were all."""
    needed = decode_bytes(
        sizes,
        prompts=rows // scale.workload.group_size,
        prompt_tokens=prompt_tokens,
        answers=rows,
        new_tokens=scale.workload.new_tokens,
        itemsize=itemsize,
    )
    return rows * bandwidth / needed


def largest_that_fits(measure: Callable[[int], float], rows: int, least: int) -> tuple[int, float]:
    """What `measure` returns for `rows`, or for half of them as often as memory runs out, down to `least`.

    Returns the rows too. Raises OutOfMemoryError if not even `least` rows fit.
    """
    while rows > least:
        with suppress(torch.OutOfMemoryError):
            return rows, measure(rows)
        rows //= 2
        release()
    return rows, measure(rows)


def release() -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
