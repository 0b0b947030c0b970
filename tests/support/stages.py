"""Runs `benchmarks.gpu_session` on stages that fail in every way; what it imports of torch is left out."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

from benchmarks import gpu_session


def check(place: object, needs_model: bool):
    if needs_model:
        raise SystemExit("no card here")
    yield from ()


def probe(place: object):
    """Forgets a child."""
    yield {"pid": os.getpid()}
    yield {"child": subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid}


def tests(place: object):
    """Dies."""
    yield {"a": 1}
    os.abort()


def memory_tests(place: object):
    """Writes half a line of the session's file."""
    print("no room")
    with open(place.file, "a") as out:
        out.write('{"stage": "memory_te')
    os._exit(7)
    yield


def quickstart(place: object):
    """Hangs, with a child that holds out against polite signals."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code])
    yield {"pids": [os.getpid(), child.pid]}
    time.sleep(60)


def model(place: object):
    raise ValueError("no room\nfor it")
    yield


def decode(place: object):
    yield {"rows": 64}


if __name__ == "__main__":
    stages = SimpleNamespace(**globals(), place=lambda *given: SimpleNamespace(file=given[-1]))
    sys.modules["benchmarks.gpu_stages"] = stages
    sys.modules["benchmarks.machine"] = SimpleNamespace(commit=lambda: "unknown")
    if os.environ.get("CARD"):
        stages.check = lambda place, needs_model: ()
    gpu_session._LEAST = 0.0
    gpu_session.SECONDS["quickstart"] = float(os.environ.get("QUICKSTART", "2"))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell has switched it off
    gpu_session.main()
