"""The exception tree: what a user can mend is a `UserError` and ends the program with code 2.

Each class is also the built-in exception that fits, so callers may catch either.
"""

import difflib
from collections.abc import Iterable


class GpgError(Exception):
    """Root of everything this package raises on purpose."""


class UserError(GpgError):
    """Something in the configuration, the data or the files that the user can mend."""


class ConfigurationError(UserError, ValueError):
    """A setting that is missing, unknown, out of range, or at odds with another one."""


class DataError(UserError, ValueError):
    """A data set or a row of one that cannot be used."""


class RowError(DataError):
    """A row of a source that is skipped: `reason` is counted, the message says which and why."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ModelError(UserError, OSError):
    """A path or hub id that does not hold a model this package can train."""


class RunFolderError(UserError, FileExistsError):
    """An output folder that cannot be written, or that another run owns."""


class WriteError(UserError, OSError):
    """A file that cannot be written: the disk is full, read-only, or not the user's."""


class EngineError(UserError, RuntimeError):
    """A rollout engine that is gone, reads prompts otherwise, or has other weights than it should."""


class BusyError(UserError, RuntimeError):
    """A limit that is reached for now: the same request may succeed later."""


class CheckpointError(UserError, OSError):
    """A checkpoint that is missing, incomplete, or of another run."""


class DivergedError(UserError, ArithmeticError):
    """Gradients that stay infinite or NaN: the run cannot go on as it is configured."""


class UnknownNameError(UserError, KeyError):
    """A reward or converter that nothing installed announces."""

    def __str__(self) -> str:  # KeyError would print the message in quotes
        return str(self.args[0])


class RewardError(GpgError, RuntimeError):
    """A reward function raised: names the reward, the sample's id and the user's line, in a few lines."""

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message, trace)  # both survive pickle, on the way from a worker process
        self.trace = trace
        """The whole traceback; empty where there is none."""

    def __str__(self) -> str:
        return str(self.args[0])


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that does not exist: what, got, choices, cure."""
    names = sorted(known)
    message = f"unknown {kind} {name!r}; known: {', '.join(names) or 'none'}."
    near = nearest(name, names)
    return f"{message} Did you mean {near!r}?" if near else message


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or None if none is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None
