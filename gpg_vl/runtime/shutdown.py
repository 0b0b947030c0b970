"""Ctrl-C and SIGTERM as a request: finish the step, save, stop. A second signal stops at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any

from gpg_vl.errors import GpgError

STOP_SIGNAL = signal.SIGUSR1
"""The same request, however often it comes: for launchers, which cannot know whether a cluster's manager has
signalled every process already."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, STOP_SIGNAL)
_NOTICE = b"\nstopping after this step, then saving; a second Ctrl-C stops at once\n"


class Stopped(GpgError, RuntimeError):
    """A run that stopped on request, with everything saved."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after step {step}")


class StopRequest:
    """While open, `asked` says whether a first signal came; the second raises KeyboardInterrupt.

    In a thread beside the main one nothing is asked for: signals do there what they did before.

    Signals set `asked` at any moment and nothing takes it back: what is decided by it, as processes do
    together, is a value of its own. A launcher's STOP_SIGNAL is none of the two: it may overtake the one that
    a cluster's manager sends.
    """

    def __init__(self) -> None:
        self.asked = False
        self._signalled = False
        self._before: dict[signal.Signals, Any] = {}

    def check(self, step: int) -> None:
        """Raise Stopped if a signal came; call it where everything up to `step` is saved."""
        if self.asked:
            raise Stopped(step)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if number == STOP_SIGNAL:
            return
        if self._signalled:
            raise KeyboardInterrupt
        self._signalled = True
        os.write(2, _NOTICE)  # print is not safe in a signal handler

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def ignore_stop_signals() -> None:
    """In a worker process: keep out of Ctrl-C and SIGUSR1, which are meant for the trainer.

    They reach the whole process group, some of a scheduler's signals even every process of a job: the trainer
    alone decides what they mean.
    """
    os.setpgrp()
    for number in (signal.SIGINT, STOP_SIGNAL):
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def stop_signals_held(numbers: Sequence[signal.Signals] = _SIGNALS) -> Iterator[None]:
    """While open, these signals wait; processes started meanwhile never see them, also while they load.

    Nor do those that threads started meanwhile start later.
    """
    resource_tracker.ensure_running()  # first: starting it lets SIGINT and SIGTERM through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """While open, SIGTERM raises KeyboardInterrupt, so that what is half done is cleared away."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
