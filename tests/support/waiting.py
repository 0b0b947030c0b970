"""Tests wait for facts: a busy machine takes its time."""

import time
from collections.abc import Callable

import psutil


def until(there: Callable[[], object], seconds: float = 120) -> None:
    """Return once it is so. Fails behind `seconds`, in which it would be even on a busy machine."""
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, f"not so within {seconds:g} s"
        time.sleep(0.02)


def running(pid: int) -> bool:
    """Whether a process is there, and no zombie whose parent has not looked yet."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # also if it goes between the two calls
        return False
