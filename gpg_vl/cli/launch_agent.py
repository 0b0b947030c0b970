"""`accelerate launch`, with the ranks' own exit code and messages in place of torchrun's traceback."""

import logging
import signal
import sys
from signal import Signals

from accelerate.commands.launch import launch_command, launch_command_parser
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from gpg_vl.cli.launch import ended_with_the_launcher


def main() -> None:
    """Run what the arguments say, as `accelerate launch` does.

    Ends with 2 if any rank did (its message stands above already), else with the first failure's code.
    """
    arguments = launch_command_parser().parse_args()
    arguments.signals_to_handle = "SIGQUIT"  # torchrun's own handlers would kill the ranks
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _leave_it_to_the_ranks)  # unlike SIG_IGN, not inherited by them
    logging.disable(logging.ERROR)
    try:
        with ended_with_the_launcher():
            launch_command(arguments)
    except ChildFailedError as failed:
        sys.exit(_explain(failed))


def _leave_it_to_the_ranks(number: int, frame: object) -> None:
    """A cluster's manager signals all processes of a job, and so asks the ranks itself."""


def _explain(failed: ChildFailedError) -> int:
    codes = [failure.exitcode for failure in failed.failures.values()]
    if 2 in codes:
        return 2
    rank, failure = failed.get_first_failure()
    code: int = failure.exitcode
    how = f"ended with exit code {code}" if code >= 0 else f"was ended by {Signals(-code).name}"
    if code != -signal.SIGUSR1:
        print(f"gpg-vl: rank {rank} {how}, and all others with it", file=sys.stderr)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    main()
