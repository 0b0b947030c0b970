"""What goes on with a command that was interrupted."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from gpg_vl.checks import expand
from gpg_vl.runtime.launched import launched

_RESUMED = ("sft", "train")


def going_on(arguments: Sequence[str]) -> str:
    """What to type after `gpg-vl ARGUMENTS` was interrupted, in words; empty for a command that starts anew.

    A process of a launch was given other words than the user typed, and names none.
    """
    command, *options = arguments or [""]
    if command in _RESUMED:
        return f"go on with {_typed([command, *_without_resume(options)], 'and ')}--resume auto"
    if command == "quickstart":
        return f"go on with {_typed(arguments)}".rstrip()
    if command == "eval":
        out = _value(options, "--out")
        if out is None:
            return "nothing is kept without --out FILE, with which the same command goes on"
        if Path(f"{expand(out)}.partial.jsonl").exists():
            return f"the answers so far are kept: go on with {_typed(arguments)}".rstrip()
    return ""


def _typed(arguments: Sequence[str], link: str = "") -> str:
    """The command with a space behind it, or that it is the same one."""
    if launched() is not None:
        return f"the same command {link}"
    return f"gpg-vl {shlex.join(arguments)} "


def _without_resume(options: Sequence[str]) -> list[str]:
    kept, skip = [], False
    for word in options:
        if not skip and not word.startswith("--resume="):
            kept += [] if word == "--resume" else [word]
        skip = word == "--resume" and not skip
    return kept


def _value(options: Sequence[str], name: str) -> str | None:
    """What the last `name VALUE` or `name=VALUE` says."""
    found = None
    for word, following in zip(options, [*options[1:], None], strict=True):
        if word == name and following is not None:
            found = following
        elif word.startswith(f"{name}="):
            found = word.partition("=")[2]
    return found
