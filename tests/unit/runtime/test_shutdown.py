import os
import signal
import subprocess
import sys

import pytest

from gpg_vl.runtime.shutdown import STOP_SIGNAL, StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request_and_the_second_stops(number):
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_the_launchers_signal_is_a_request_however_often_it_comes():
    with StopRequest() as stop:
        for _ in range(3):
            os.kill(os.getpid(), STOP_SIGNAL)
        assert stop.asked
        os.kill(os.getpid(), signal.SIGTERM)  # overtaken by the launcher's, and no second one
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


TORN_DOWN = """
import atexit, os, sys
from gpg_vl.__main__ import leave_after

class Native:
    def __del__(self):
        os.abort()  # as a thread that still holds a tensor does

kept = Native()
atexit.register(print, "flushed at exit")
sys.excepthook = lambda kind, error, trace: print(
    kind.__name__, error, "in", trace.tb_next.tb_frame.f_code.co_name, file=sys.stderr
)

def work():
    print("done", end=" ")
    {end}

leave_after(work)
"""


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("return", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('why')", 1, "why\n"),
        ("raise ValueError('a bug')", 1, "ValueError a bug in work\n"),
    ],
)
def test_a_launched_process_leaves_without_taking_the_interpreter_apart(end: str, code: int, said: str):
    command = [sys.executable, "-c", TORN_DOWN.format(end=end)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "done flushed at exit\n", said)


def test_a_launched_process_without_output_keeps_its_exit_code():
    script = "import sys; from gpg_vl.__main__ import leave_after; leave_after(lambda: sys.exit(3))"
    command = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", sys.executable, "-c", script]
    assert subprocess.run(command).returncode == 3


LAUNCH = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}


@pytest.mark.parametrize(("word", "code"), [("--version", 0), ("nothing", 2)])
@pytest.mark.parametrize("launched", [{}, LAUNCH])
def test_a_launched_process_keeps_its_exit_code(launched: dict[str, str], word: str, code: int):
    command = [sys.executable, "-m", "gpg_vl", word]
    ended = subprocess.run(command, env=os.environ | launched, capture_output=True, text=True)
    assert ended.returncode == code
    assert (ended.stdout + ended.stderr).startswith("gpg-vl")
