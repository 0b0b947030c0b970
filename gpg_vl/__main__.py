"""`python -m gpg_vl`, for launchers such as `accelerate launch -m gpg_vl train …`."""

import atexit
import os
import sys

from gpg_vl.cli.main import main
from gpg_vl.runtime.launched import launched


def leave(code: int) -> None:
    """End a launched process whose work is done, without taking the interpreter apart.

    Threads of torch.distributed may still hold tensors then, and would abort the process.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    try:
        main()
        done = 0
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        done = end.code
    if launched() is not None:
        leave(done)
    sys.exit(done)
