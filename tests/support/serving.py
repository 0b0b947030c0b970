"""`gpg-vl demo` in a process of its own."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import ending


@contextmanager
def served(folder: Path, *options: object, **environment: str) -> Iterator[str]:
    """The address of the app with these options; its log and uploads lie in `folder`."""
    own = {"GRADIO_TEMP_DIR": str(folder / "uploads"), "OMP_NUM_THREADS": "1", **environment}
    words = [sys.executable, "-m", "gpg_vl", "demo", "--port", "0", *map(str, options)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(words, stderr=log, stdout=log, env={**os.environ, **own})
    with ending(process):
        try:
            yield _address(folder / "log", process)
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
