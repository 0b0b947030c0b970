"""What `benchmarks.gpu_session` measures. It stays as it is: figures of different commits compare."""

from dataclasses import dataclass

from benchmarks.workloads import ModelSize, Workload
from gpg_vl.preflight.memory import GIB


@dataclass(frozen=True)
class Scale:
    """What is measured: the step, the rows decoded together, and how the device's own rates are taken."""

    workload: Workload
    """Four of its groups fill a micro-batch of 8,192 tokens."""
    rows: tuple[int, ...]
    more_rows: tuple[int, ...]
    """Measured last, if there is time."""
    decoded: int
    """Tokens of an answer where only decoding is measured."""
    copy: int
    """Bytes copied within the device."""
    side: int
    """Of the square matrices that are multiplied."""


FULL = Scale(
    Workload(side=616, group_size=8, new_tokens=187, questions=16), (64, 256), (128, 512), 64, 4 * GIB, 8192
)
SMALL = Scale(
    Workload(
        side=112,
        group_size=4,
        new_tokens=8,
        questions=4,
        model=ModelSize(hidden=64, layers=2, feed_forward=128, vision_hidden=64, vision_layers=1),
    ),
    (8, 16),
    (4,),
    8,
    2**26,
    512,
)
