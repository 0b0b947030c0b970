"""Threads that never keep a process from ending: those of concurrent.futures are waited for at its exit."""

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

Result = TypeVar("Result")


def in_thread(name: str, function: Callable[..., Result], *arguments: Any) -> "Future[Result]":
    """Call a function in a thread of its own; what hangs there ends with the process."""
    future: Future[Result] = Future()
    Thread(target=_run, args=(future, function, arguments), name=name, daemon=True).start()
    return future


class SerialThread:
    """One thread that does what is submitted, in that order."""

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None] = (
            SimpleQueue()
        )
        in_thread(name, self._serve)

    def submit(self, function: Callable[..., Result], *arguments: Any) -> "Future[Result]":
        """Call a function there, after those before."""
        future: Future[Result] = Future()
        self._work.put((future, function, arguments))
        return future

    def close(self) -> None:
        """End the thread after what was submitted; cancelled futures are passed over."""
        self._work.put(None)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            _run(*work)


def _run(future: "Future[Any]", function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function(*arguments)
    except BaseException as error:  # raised again where the result is asked for
        future.set_exception(error)
    else:
        future.set_result(result)
