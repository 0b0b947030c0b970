"""Worker processes import the program's main file: what a script without a main guard is told."""

import sys
from multiprocessing import process

GUARD = 'a script of your own needs `if __name__ == "__main__":` around what it runs'


def leave_if_imported_by_a_worker() -> None:
    """End a worker process that would run the script it imports; the process that started it says why.

    Without a word: each worker would print a traceback of its own.
    """
    if getattr(process.current_process(), "_inheriting", False):
        sys.exit(1)
