"""A pickle that runs code when it is loaded."""

import os
from pathlib import Path
from typing import Any


class Hostile:
    """Loaded by pickle, it makes a folder at `trace`; pickled, no name of ours is in it."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return _make, (str(self._trace),)


_make = os.mkdir
