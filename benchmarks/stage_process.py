"""Stages in process groups of their own: with a time limit, and a record that keeps every figure at once."""

import json
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

Figures = dict[str, Any]
"""By the names that a session's file uses."""
Work = Callable[[], Iterable[Figures]]

_FORK = multiprocessing.get_context("fork")
"""All stages share what the session imported once; nothing there may touch the GPU before it forks."""
_TAIL = 1500
"""Characters kept of what a failed stage wrote."""
_SHOWN = 240
"""Characters of a line that the terminal gets."""


class Record:
    """A file of JSON lines that a session and its stages append to."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._terminal = os.dup(1)  # a stage's own output goes elsewhere

    def append(self, line: Figures) -> None:
        """Write one whole line, behind a line break if another process was cut off within its own."""
        text = json.dumps(line)
        with self.file.open("ab+", buffering=0) as out:
            out.write(b"\n" * _ends_within_a_line(self.file) + f"{text}\n".encode())
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"
        os.write(self._terminal, f"{shown}\n".encode())


def _ends_within_a_line(file: Path) -> bool:
    return file.stat().st_size > 0 and file.read_bytes()[-1:] != b"\n"


def run_stage(name: str, work: Work, record: Record, limit: float) -> Figures:
    """Append what `work` yields, in a process that has `limit` seconds; returns why it failed, if it did.

    Whatever the stage has started ends with it, also where this process is interrupted meanwhile.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        child = _FORK.Process(target=_child, args=(name, work, record, output.fileno()))
        child.start()
        late = True
        try:
            child.join(limit)
            late = child.is_alive()
        finally:
            _end(child)
        reason = f"took longer than {limit:.0f} s" if late else _reason(child.exitcode or 0)
        output.seek(0)
        wrote = output.read().strip()[-_TAIL:]
    if not reason:
        return {}
    last = wrote.splitlines()[-1:]
    return {"failed": ": ".join([reason, *last]), "output": wrote}


def _end(child: ForkProcess) -> None:
    assert child.pid is not None  # it has been started
    with suppress(ProcessLookupError):  # nobody is left, or the child has not made its group yet
        os.killpg(child.pid, signal.SIGKILL)
    child.kill()
    child.join()


def _reason(status: int) -> str:
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    return f"exit status {status}" if status else ""


def _child(name: str, work: Work, record: Record, output: int) -> None:
    os.setpgid(0, 0)
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.SIG_DFL)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout, sys.stderr = (os.fdopen(fd, "w", buffering=1, closefd=False) for fd in (1, 2))
    for figures in work():
        record.append({"stage": name} | figures)
