"""What a launcher tells each process that it starts, in environment variables; nothing heavy is imported."""

import contextlib
import os
from dataclasses import dataclass

from gpg_vl.errors import ConfigurationError

_RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
_MEETING = ("MASTER_ADDR", "MASTER_PORT")
_ALONE = {"RANK": "0", "WORLD_SIZE": "1"}
"""What a cluster says to a job of one process, which has nobody to meet."""
_MPI = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
_LAST_PORT = 65535
CURE = f"start the processes with --accelerate, torchrun or `accelerate launch`, or unset {', '.join(_RANKS)}"


@dataclass(frozen=True)
class Place:
    """A process among those of its launch."""

    rank: int
    local_rank: int
    """Among those of this machine."""
    size: int
    meeting: str
    """ADDRESS:PORT where all of them meet."""


def place() -> Place | None:
    """This process's place in its launch; None for a process of its own.

    Raises ConfigurationError for variables that no launcher leaves like that: some missing, or no numbers
    that fit together.
    """
    ranks = {name: value for name in _RANKS if (value := os.environ.get(name))}
    if ranks == {"LOCAL_RANK": "-1"}:  # some tools' word for no launch
        ranks = {}
    if not ranks:
        _refuse_mpi()
    if not ranks or ranks == _ALONE:
        return None
    missing = [name for name in (*_RANKS, *_MEETING) if not os.environ.get(name)]
    if missing:
        raise ConfigurationError(
            f"this environment is half of a launch's: {_listed(ranks)}, but no {' and no '.join(missing)}. "
            f"Launchers set {', '.join((*_RANKS, *_MEETING))} together: {CURE}"
        )
    size = _number("WORLD_SIZE", 1)
    rank, local_rank = _number("RANK", 0, size - 1), _number("LOCAL_RANK", 0, size - 1)
    port = _number("MASTER_PORT", 1, _LAST_PORT)
    return Place(rank, local_rank, size, f"{os.environ['MASTER_ADDR']}:{port}")


def _refuse_mpi() -> None:
    """mpirun's processes know of each other by other names, and each would train alone."""
    for name in _MPI:
        if os.environ.get(name, "1") not in ("", "1"):
            raise ConfigurationError(
                f"{name}={os.environ[name]!r}: processes that mpirun started would each train alone; {CURE}"
            )


def _number(name: str, least: int, most: int | None = None) -> int:
    try:
        number = int(os.environ[name])
    except ValueError:
        number = least - 1
    if number < least or (most is not None and number > most):
        names = (*_RANKS, "MASTER_PORT")
        found = _listed({other: os.environ[other] for other in names})
        limits = f"{least} to {most}" if most is not None else f"at least {least}"
        raise ConfigurationError(f"{name} must be a whole number, {limits} in this launch ({found}): {CURE}")
    return number


def _listed(values: dict[str, str]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())


def launched() -> Place | None:
    """As `place`, and None where that raises: for commands that need no launch."""
    with contextlib.suppress(ConfigurationError):
        return place()
    return None
