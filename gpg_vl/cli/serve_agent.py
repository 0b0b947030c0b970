"""Runs a command, and ends everything that it started once the process that asked for it is gone."""

import signal
import subprocess
import sys
import threading

from gpg_vl.cli.launch import end_with_the_launcher


def main() -> None:
    """Run the arguments as a command; its exit code is this one's."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave_it_to_the_command)  # unlike SIG_IGN, not inherited by it
    command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    # Behind it: what is started while the others are looked for, and killed, could be missed.
    threading.Thread(target=end_with_the_launcher, daemon=True).start()
    sys.exit(command.wait())


def _leave_it_to_the_command(number: int, frame: object) -> None:
    """The whole group is signalled, this process among it."""


if __name__ == "__main__":
    main()
