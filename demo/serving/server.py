"""The server: where it listens, what it waits for, and how it ends."""

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from gpg_vl.errors import ConfigurationError

_FIRST, _PORTS = 7860, 100
_QUEUED = 2048
"""Connections that wait to be accepted."""
_PATIENCE = 20.0
"""Seconds that a connection may take to send a request's headers."""
_LEAVING = 2
"""Seconds that open requests have once the server ends."""
_MOMENT = 0.5
"""Seconds between the endings of what the server serves."""
_HANGING = 10.0
"""Seconds after which the process ends whatever still hangs, such as a model that is being loaded."""
_INTERRUPTED = 130


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes the first free one from 7860 on.

    Raises ConfigurationError if there is none, or the address is not this machine's.
    """
    problem: OSError | None = None
    for one in (port,) if port else range(_FIRST, _FIRST + _PORTS):
        try:
            family, *_, place = socket.getaddrinfo(host, one, type=socket.SOCK_STREAM)[0]
            return socket.create_server(place[:2], family=family, backlog=_QUEUED)
        except OSError as error:
            problem = error
    raise ConfigurationError(f"cannot listen on {host}, port {port}: {problem}") from problem


def address_of(listening: socket.socket) -> str:
    """What a browser on this machine opens."""
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


class PatientProtocol(H11Protocol):
    """Closes connections whose next request does not come: uvicorn waits for headers for ever."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._settle()

    def on_response_complete(self) -> None:
        self._wait()  # first: the next request may have come already
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._settle()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._settle()
        self._waiting = self.loop.call_later(_PATIENCE, self.transport.close)

    def _settle(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


class Server(uvicorn.Server):
    """Serves an app on a socket from `listen`.

    ending: called in turn when the server is told to end, so that streams without an end have one.
    """

    def __init__(self, app: ASGIApp, listening: socket.socket, *ending: Callable[[], None]) -> None:
        options: dict[str, Any] = {"http": PatientProtocol, "ws": "none", "lifespan": "on"}
        options |= {"proxy_headers": False, "server_header": False}  # TrustedProxies reads the former
        options |= {"log_level": "warning", "timeout_graceful_shutdown": _LEAVING}
        super().__init__(uvicorn.Config(app, **options))
        self._listening, self._ending, self._of_process = listening, ending, False

    def serve_until_interrupted(self) -> None:
        """Return after Ctrl-C, SIGTERM or `end`. One is enough: further ones change nothing."""
        self.run(sockets=[self._listening])
        if self._of_process:  # Python gives up handlers before it has ended, but not this
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end(self) -> None:
        """End it from another thread."""
        self.handle_exit(signal.SIGTERM, None)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True

    def take_signals(self) -> None:
        """From now on Ctrl-C and SIGTERM end the server, also one that has yet to begin, and nothing else."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        self._of_process = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """`take_signals` did: uvicorn would take a second one for force, and raise both again at the end."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._of_process:
            _end_process_later()
        logging.getLogger("uvicorn.error").addFilter(_is_no_cut)
        for end in self._ending:
            end()
            await asyncio.sleep(_MOMENT)  # in which streams bring what they still have
        await super().shutdown(sockets)


def _end_process_later() -> None:
    timer = threading.Timer(_HANGING, os._exit, [_INTERRUPTED])
    timer.daemon = True
    timer.start()


def _is_no_cut(record: logging.LogRecord) -> bool:
    """Whether a line of uvicorn's log says more than that the server's end has cut off a request."""
    cut = record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not (cut or str(record.msg).startswith("Cancel %s running task"))
