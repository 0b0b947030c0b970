"""Runs a command, and ends everything that it started once the process that asked for it is gone."""

import signal
import subprocess
import sys

from gpg_vl.cli.launch import ended_with_the_launcher


def main() -> None:
    """Run the arguments as a command; its exit code is this one's."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave_it_to_the_command)  # unlike SIG_IGN, not inherited by it
    command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    with ended_with_the_launcher():
        code = command.wait()
    sys.exit(code)


def _leave_it_to_the_command(number: int, frame: object) -> None:
    """The whole group is signalled, this process among it."""


if __name__ == "__main__":
    main()
