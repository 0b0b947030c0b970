"""Ctrl-C and SIGTERM as a request: finish the step, save, stop. A second signal stops at once."""

import signal
from types import FrameType, TracebackType
from typing import Any

from gpg_vl.errors import GpgError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(GpgError, RuntimeError):
    """A run that stopped on request, after saving; says how to go on."""


class StopRequest:
    """While open, `asked` says whether a first signal came; the second raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
