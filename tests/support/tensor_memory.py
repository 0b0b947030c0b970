"""Measured peaks of the memory that tensors take."""

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile


def peak_on_cpu(work: Callable[[], object]) -> int:
    """Bytes of tensors at the highest point of `work`, above what was there before.

    Every allocation and release of torch's CPU allocator, in order of time.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        work()
    events = [e for e in prof.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        highest = max(highest, now)
    return highest


def peak_on_gpu(work: Callable[[], object]) -> int:
    """Bytes of tensors on the GPU at the highest point of `work`, above what was there before."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    return torch.cuda.max_memory_allocated() - before
