"""What models are called on the page."""

import re

from ..service.evaluations import title

TITLES = {"gold": "Gold", "base": "Base", "trained": "Trained"}
"""Whose an answer is."""
_PLAIN = ("model", "checkpoints")
"""Folders that every run has: they tell nobody anything."""


def title_of(path: str) -> str:
    """A model's path in words: the run and the step of a checkpoint, the last folder of another one.

    A hub id is its own name. `runs/gpg/checkpoints/step_000600/model` is "gpg step 600".
    """
    parts = [part for part in re.split(r"[\\/]", path) if part not in ("", ".", "..")]
    if len(parts) == 2 and not path.startswith((".", "/", "~")) and parts[1] != "model":
        return path  # a hub id, or a folder that reads like one
    telling = [part for part in parts if part not in _PLAIN] or parts[-1:] or [path]
    last = title(telling[-1])
    in_a_run = last != telling[-1] or "checkpoints" in parts
    return " ".join([*telling[-2:-1], last]) if in_a_run else last
