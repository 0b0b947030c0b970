"""`--overwrite`: what is in the way of a new run is named, asked about, and deleted."""

import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from gpg_vl.checks import expand
from gpg_vl.config import SftConfig, TrainConfig
from gpg_vl.errors import RunFolderError
from gpg_vl.runs import leftovers
from gpg_vl.runtime.launched import launched

OPTION = "--overwrite"


def delete_earlier_run(config: TrainConfig | SftConfig, arguments: Sequence[str]) -> None:
    """Delete the run in `config.out`, if there is one, after a question on a terminal.

    `arguments` are the command's: files among them are read again by each process of a launch.

    Raises RunFolderError if it is in use, holds what no run wrote, or the answer is no; ConfigurationError
    if the new run would read something in it.
    """

    def agree(found: str) -> None:
        asked = launched() is None and sys.stdin.isatty()
        if asked and not _agreed(f"{config.out} holds {found}. Delete all of it?"):
            raise RunFolderError(f"{config.out!r} is left as it is: choose another --out")

    if found := leftovers.delete_earlier_run(Path(config.out), _read_by(config, arguments), agree):
        print(f"{config.out}: deleted an earlier run: {found}", file=sys.stderr)


def _read_by(config: TrainConfig | SftConfig, arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What the new run reads: the option's name and the path."""
    yield "model.path", config.model.path
    words = [part for word in arguments for part in word.split("=", 1)]
    yield from ((name, expand(value)) for name, value in pairwise(words) if name == "--config")


def _agreed(question: str) -> bool:
    print(f"{question} [y/N] ", end="", flush=True, file=sys.stderr)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
