"""A run folder's lock: one process at a time, given up when that ends, however it ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from gpg_vl.errors import RunFolderError

LOCK = ".lock"


def acquire(folder: Path) -> int:
    """Lock a folder; the file descriptor holds it until closed.

    Raises RunFolderError if another process has it, OSError if the file cannot be written.
    """
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise RunFolderError(f"{str(folder)!r} is in use by another run; choose another --out") from error
    return lock


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock meanwhile. Raises as `acquire` does."""
    lock = acquire(folder)
    try:
        yield
    finally:
        os.close(lock)
