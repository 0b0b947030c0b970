"""What code costs, told apart from what else the machine and this process do."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def within_cpu_seconds(most: float) -> Iterator[None]:
    """The block takes less than `most` seconds of a CPU in this thread: others may keep it waiting.

    Without the garbage collector: in a long run it looks for a second through what earlier tests left.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        start = time.thread_time()
        yield
        taken = time.thread_time() - start
    finally:
        if collects:
            gc.enable()
    assert taken < most, f"{taken:.2f} s of a CPU; {most:g} s is the limit"
