"""Says where a process hangs: rank, phase and the stacks of all its threads."""

import contextlib
import faulthandler
import sys
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def watched(phase: str, rank: int, limit: float) -> Iterator[None]:
    """Print rank, phase and stacks to stderr if the block takes longer than `limit` seconds, once.

    The process goes on: a long rollout is no error, and a deadlock's stacks say which collective waits. 0 as
    a limit switches it off.
    """
    if not limit:
        yield
        return
    timer = threading.Timer(limit, _dump, (phase, rank, limit))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _dump(phase: str, rank: int, limit: float) -> None:
    print(f"watchdog: rank {rank} has been in phase {phase!r} for {limit:g} s; stacks:", file=sys.stderr)
    sys.stderr.flush()
    faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr, all_threads=True)
