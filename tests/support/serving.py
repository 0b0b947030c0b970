"""`gpg-vl demo` in a process of its own."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import ending


@dataclass(frozen=True)
class App:
    """The app while it runs, as the leader of a process group: a terminal's Ctrl-C reaches all of it."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def served(folder: Path, *options: object, **environment: str) -> Iterator[str]:
    """The address of the app with these options; its log and uploads lie in `folder`."""
    with running(folder, *options, **environment) as app:
        yield app.address


@contextmanager
def running(folder: Path, *options: object, **environment: str) -> Iterator[App]:
    """The app with these options; its log and uploads lie in `folder`."""
    own = {"GRADIO_TEMP_DIR": str(folder / "uploads"), "OMP_NUM_THREADS": "1", **environment}
    words = [sys.executable, "-m", "gpg_vl", "demo", "--port", "0", *map(str, options)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            words, stderr=log, stdout=log, env={**os.environ, **own}, start_new_session=True
        )
    with ending(process):
        try:
            yield App(_address(folder / "log", process), process, folder / "log")
        finally:
            process.terminate()
            process.wait(20)


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 240  # beside other work, imports alone take long
    while process.poll() is None and time.monotonic() < deadline:
        if found := re.search(r"gpg-vl demo: (http://127\.0\.0\.1:\d+)/", log.read_text()):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(log.read_text())
