"""Processes that a test starts end with it."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any


@contextmanager
def ending(*processes: subprocess.Popen[Any]) -> Iterator[None]:
    """Behind the block none of them is left, whatever failed in it.

    Else they would go on beside later tests, which would find their zombies and open pipes.
    """
    with ExitStack() as stack:
        for process in processes:
            stack.enter_context(process)  # closes its pipes and waits
            stack.callback(process.kill)  # before that
        yield
