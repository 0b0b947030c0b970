"""Tokens per second of decoding: this project's engine, transformers' `generate`, and the bandwidth floor."""

import gc
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from torch.profiler import profile

from benchmarks import inputs, naive
from benchmarks.kernels import Spent, activity
from benchmarks.limits import decode_bytes, synchronize, timed
from benchmarks.scales import Scale
from gpg_vl.model.policy import Policy
from gpg_vl.model.sizes import ModelSizes
from gpg_vl.prompting.encode import EncodedPrompt
from gpg_vl.rollout.decoding import DecodeOptions
from gpg_vl.rollout.engine import Request
from gpg_vl.rollout.own import OwnEngine
from gpg_vl.rollout.sampling import Sampling


def ours(
    policy: Policy,
    prompts: Sequence[EncodedPrompt],
    scale: Scale,
    rows: int,
    repeats: int,
    options: DecodeOptions,
) -> float:
    """Tokens per second of this project's engine."""
    generate, tokens = _engine(policy, prompts, scale, rows, options), scale.decoded
    return rows * (tokens - 1) / _seconds(generate, tokens, policy.device, repeats)


def _engine(
    policy: Policy, prompts: Sequence[EncodedPrompt], scale: Scale, rows: int, options: DecodeOptions
) -> Callable[[int], None]:
    """Answers of so many tokens in `rows` rows."""
    size = scale.workload.group_size
    # A prompt that is the same object would go through the vision tower only once.
    asked = [replace(prompts[i % len(prompts)]) for i in range(rows // size)]
    requests = [Request(prompt, str(number)) for number, prompt in enumerate(asked)]
    engine = OwnEngine(policy, max_concurrent=rows, options=options)

    def generate(count: int) -> None:
        answers = engine.generate(requests, size, Sampling(count))
        assert all(len(answer.token_ids) == count for group in answers for answer in group)

    return generate


def kernels(
    policy: Policy, prompts: Sequence[EncodedPrompt], scale: Scale, rows: int, options: DecodeOptions
) -> dict[str, Any]:
    """Kernels of the engine a token behind the first one, and their milliseconds.

    The rest of a token's time is what launching them costs. On a CPU, operators instead.
    """
    generate, device = _engine(policy, prompts, scale, rows, options), policy.device.type
    steps = min(16, scale.decoded)
    generate(1 + steps)  # warms up
    spent = []
    for count in (1, 1 + steps):
        with profile(activities=[activity(device)]) as prof:
            generate(count)
            synchronize(policy.device)
        spent.append(Spent(prof.events(), device))
    first, whole = spent
    ms = {name: (whole.ms[name] - first.ms[name]) / steps for name in whole.ms}
    return {
        "kernel ms a token": sum(ms.values()),
        "kernels a token": (whole.calls.total() - first.calls.total()) / steps,
        "largest": dict(Counter(ms).most_common(8)),
    }


def plain(model: Any, processor: Any, scale: Scale, rows: int, repeats: int) -> float:
    """Tokens per second of transformers' `generate` over prompts and images repeated G times."""
    device, workload = model.device, replace(scale.workload, new_tokens=scale.decoded)
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
        new_tokens=scale.decoded,
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
