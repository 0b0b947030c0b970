"""Tokens per second of decoding: this project's engine, transformers' `generate`, and the bandwidth floor."""

import gc
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from torch.autograd.profiler_util import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks import inputs, naive
from benchmarks.limits import decode_bytes, synchronize, timed
from benchmarks.scales import Scale
from gpg_vl.model.policy import Policy
from gpg_vl.model.sizes import ModelSizes
from gpg_vl.prompting.encode import EncodedPrompt
from gpg_vl.rollout.decoding import Decoding, Growing, Pace
from gpg_vl.rollout.engine import Request, RolloutEngine
from gpg_vl.rollout.sampling import Sampling, StopTexts


def ours(
    policy: Policy, prompts: Sequence[EncodedPrompt], scale: Scale, rows: int, repeats: int, pace: Pace
) -> float:
    """Tokens per second of this project's engine."""
    size, tokens = scale.workload.group_size, scale.decoded
    requests = [Request(prompt, str(number)) for number, prompt in enumerate(_asked(prompts, rows // size))]
    engine = RolloutEngine(policy, max_concurrent=rows, pace=pace)

    def generate(count: int) -> None:
        answers = engine.generate(requests, size, Sampling(count))
        assert all(len(answer.token_ids) == count for group in answers for answer in group)

    return rows * (tokens - 1) / _seconds(generate, tokens, policy.device, repeats)


def _asked(prompts: Sequence[EncodedPrompt], count: int) -> list[EncodedPrompt]:
    """So many prompts: one that is the same object would go through the vision tower only once."""
    return [replace(prompts[i % len(prompts)]) for i in range(count)]


@torch.no_grad()
def kernels(
    policy: Policy, prompts: Sequence[EncodedPrompt], scale: Scale, rows: int, pace: Pace
) -> dict[str, Any]:
    """Kernels and milliseconds a token of theirs, beside the milliseconds that pass: what the launches cost."""
    size, steps = scale.workload.group_size, 4
    sampling = Sampling(32)
    stops = StopTexts(policy.tokenizer, (), policy.vocabulary)
    policy.eval()
    with policy.autocast():
        asked = _asked(prompts, rows // size)
        longest = max(prompt.next_position for prompt in asked)
        decoding = Decoding(policy, size, sampling, stops, pace, longest + sampling.max_new_tokens)
        keys = [(0, 0, str(i)) for i in range(len(asked))]
        growing = [[Growing() for _ in range(size)] for _ in asked]
        decoding.admit(range(len(asked)), asked, keys, growing)

        def advance() -> None:
            for _ in range(steps):
                decoding.advance()

        advance()
        wall = timed(advance, policy.device)
        watched = ProfilerActivity.CUDA if policy.device.type == "cuda" else ProfilerActivity.CPU
        with profile(activities=[watched]) as prof:
            advance()
            synchronize(policy.device)
    spent = [event for event in prof.events() if event.device_type == DeviceType.CUDA]
    busy: Counter[str] = Counter()
    for event in spent:
        busy[event.name[:80]] += event.self_device_time_total / 1e3 / steps
    return {
        "ms a token": 1e3 * wall / steps,
        "kernel ms a token": sum(busy.values()),
        "kernels a token": len(spent) / steps,
        "largest": dict(busy.most_common(8)),
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
