"""Disks that take no more: Python's writes below a folder raise, or the system cuts files at a size."""

import contextlib
import errno
import io
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def full_disk(monkeypatch: pytest.MonkeyPatch, folder: Path, *, code: int = errno.ENOSPC) -> None:
    """From now on, opening a file below `folder` for writing by Python gives one that takes no byte."""
    plain = io.open

    def refusing(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        opened = plain(file, mode, *rest, **options)
        if not isinstance(file, int) and set(mode) & set("wax+") and folder in Path(file).absolute().parents:
            opened.write = refuse
        return opened

    def refuse(*_: Any) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(io, "open", refusing)
    monkeypatch.setattr("builtins.open", refusing)


@contextlib.contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """The system takes no file beyond `size` bytes, whatever library writes it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
