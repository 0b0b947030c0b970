"""The command `gpg-vl`; as `python -m gpg_vl` for launchers: `accelerate launch -m gpg_vl train …`."""

import atexit
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from gpg_vl.cli.main import main
from gpg_vl.runtime.launched import launched


def run() -> None:
    """Run the command of this process, alone or as one of a launch."""
    if launched() is None:
        main()
    else:
        leave_after(main)


def leave_after(work: Callable[[], None]) -> NoReturn:
    """Do the work of a launched process, and end it without taking the interpreter apart.

    Threads of torch.distributed may still hold tensors then, whether the work was done or failed, and would
    abort the process. Tracebacks and exit codes are Python's; no thread is waited for.
    """
    code = 0
    try:
        work()
    except SystemExit as end:
        code = _exit_code(end)
    except Exception:
        sys.excepthook(*sys.exc_info())
        code = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # a process that is started without one has None
            stream.flush()
    os._exit(code)


def _exit_code(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)
    return 1


if __name__ == "__main__":
    run()
