"""What torch's profiler saw, by the name of the kernel or operator."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity

_NAME = 80
"""Characters of a name: templates of CUDA go on for hundreds."""


class Spent:
    """Calls and milliseconds by name: of kernels and copies on `cuda`, else of operators alone."""

    def __init__(self, events: Iterable[Any], device: str) -> None:
        self.calls: Counter[str] = Counter()
        self.ms: Counter[str] = Counter()
        kind = DeviceType.CUDA if device == "cuda" else DeviceType.CPU
        for event in events:
            # a range named by `record_function` has the time of what is in it once more
            if event.device_type == kind and not event.is_user_annotation:
                name = event.name[:_NAME]
                microseconds = event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
                self.calls[name] += 1
                self.ms[name] += microseconds / 1e3


def activity(device: str) -> ProfilerActivity:
    """What the profiler has to watch to see them."""
    return ProfilerActivity.CUDA if device == "cuda" else ProfilerActivity.CPU
