"""Pools whose workers go: nothing waits for ever, and nothing is left behind."""

import os
import signal
import threading
import time
from concurrent.futures.process import BrokenProcessPool

import pytest

from gpg_vl.runtime.worker_pool import WorkerPool
from tests.support.waiting import running, until

_SOON = 30.0
"""Seconds for processes to start or end beside other work."""


def ready() -> None:
    """Nothing to prepare."""


def refuses() -> None:
    os._exit(3)


@pytest.fixture
def pool():
    pool = WorkerPool(1, ready)
    yield pool
    pool.end()


def test_a_task_of_a_pool_that_ended_is_not_waited_for(pool):
    """Begun or not: the pool tells nobody what became of it."""
    pool.schedule(os.getpid).result()
    begun, queued = pool.schedule(time.sleep, 600), pool.schedule(time.sleep, 600)
    until(begun.running, _SOON)
    assert not queued.done() and not queued.wait(0.01)
    pool.end()
    for task in (begun, queued):
        with pytest.raises(BrokenProcessPool):
            task.result()
        assert task.done()


def test_a_worker_that_died_idle_is_replaced(pool):
    for _ in range(3):
        worker = pool.schedule(os.getpid).result()
        os.kill(worker, signal.SIGKILL)
        until(lambda worker=worker: not running(worker), _SOON)
        until(lambda: answers(pool), _SOON)


def answers(pool: WorkerPool) -> bool:
    """Whether a task comes through; one that was given to the dead worker does not."""
    try:
        return pool.schedule(os.getpid).result() > 0
    except BrokenProcessPool:
        return False


def test_an_ended_pool_leaves_neither_processes_nor_threads(pool):
    before = threading.active_count()
    worker = pool.schedule(os.getpid).result()
    pool.end()
    until(lambda: not running(worker), _SOON)
    until(lambda: threading.active_count() <= before, _SOON)
    assert pool.schedule(os.getpid).result() != worker


class Unreadable:
    """Ends the worker that reads it: between taking a task and saying so."""

    def __reduce__(self):
        return int, ("no number",)


def test_a_task_whose_worker_died_unsaid_is_not_waited_for():
    """Another worker is busy, so that the pool goes on."""
    pool = WorkerPool(2, ready)
    busy = pool.schedule(time.sleep, 600)
    until(busy.running, _SOON)
    with pytest.raises(BrokenProcessPool):
        pool.schedule(bool, Unreadable()).result()
    assert pool.schedule(bool, 1).result() and busy.running()
    pool.end()


def test_a_retired_pool_ends_what_it_has(pool):
    worker = pool.schedule(os.getpid).result()
    begun, queued = pool.schedule(time.sleep, 0.5), pool.schedule(os.getpid)
    pool.retire()
    assert pool.schedule(os.getpid).result() != worker
    assert begun.result() is None and queued.result() == worker
    until(lambda: not running(worker), _SOON)


def test_workers_that_cannot_start_are_told():
    pool = WorkerPool(1, refuses)
    with pytest.raises(BrokenProcessPool):
        pool.schedule(os.getpid).result()
