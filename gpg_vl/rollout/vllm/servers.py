"""Servers as a trainer sees them: there or gone, and which weights they have."""

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from gpg_vl.errors import EngineError
from gpg_vl.rollout.vllm.client import ServerGoneError, VllmClient
from gpg_vl.rollout.vllm.sender import Receiver
from gpg_vl.rollout.vllm.worker.gpg_vl_wire import Packed

STARTED_WITH = "default"
"""vLLM's name for the weights that a server was started with."""
_AWAY = 60.0
"""Seconds until a server that is gone is looked for again, while others answer."""


@dataclass
class Server:
    """One server: what it is asked by, and what takes its weights."""

    client: VllmClient
    receiver: Receiver
    alive: bool = True
    again: float = 0.0
    """When one that is gone is looked for again."""
    away: float = _AWAY
    """Seconds until then, the next time."""

    @property
    def due(self) -> bool:
        """Whether it is there, or may be there again."""
        return self.alive or time.monotonic() >= self.again

    def has(self, name: str) -> bool:
        """Whether its weights are these: by its own word, since it may have been started anew meanwhile."""
        with contextlib.suppress(EngineError):
            return self.receiver.version == name == self.client.weight_version()
        return False

    def lose(self) -> None:
        """It is gone; a machine that does not answer costs seconds, so it is not asked at each step."""
        self.alive = False
        self.again = time.monotonic() + self.away
        self.away *= 2
        self.receiver.drop()


class Update:
    """One update of several servers: who still takes part, and what went wrong."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.taking = list(servers)
        self.failure: BaseException | None = None
        self.gone: BaseException | None = None
        """Why the last one that is gone was left out."""

    def each(self, work: Callable[[Server], None]) -> None:
        """Let all do it at once. Those that are gone are left out; any other mistake is kept as `failure`."""
        if not self.taking:
            return
        with ThreadPoolExecutor(len(self.taking)) as pool:
            tried = [(server, pool.submit(work, server)) for server in self.taking]
        for server, one in tried:
            error = one.exception()
            if error is None:
                continue
            self.taking.remove(server)
            if not isinstance(error, ServerGoneError) and server.client.healthy():
                self.failure = self.failure or error
            else:
                self.gone = error
                if server.alive:
                    print(f"gpg-vl: {error}; going on without it", file=sys.stderr)
            server.lose()

    def end(self) -> None:
        """Those that took part to the end are there."""
        for server in self.taking:
            server.alive, server.away = True, _AWAY


def begin(server: Server, run: str) -> None:
    """Get a server ready for weights; one that was started anew is joined anew.

    Raises EngineError where it had those of `run`, and has another run's by now.
    """
    receiver, client = server.receiver, server.client
    if not client.healthy():
        raise ServerGoneError(f"{client.url} is gone")
    if receiver.version and (version := client.weight_version()) != receiver.version:
        if version != STARTED_WITH and not version.startswith(run):
            raise EngineError(f"{client.url} has weights of another run by now ({version}): one run a server")
        receiver.drop()
    receiver.begin()


def give(server: Server, bucket: Packed) -> None:
    """Send a server some of the weights."""
    server.receiver.send(bucket)


def finish(server: Server, name: str) -> None:
    """A server has all weights, which are called `name`."""
    server.receiver.finish(name)
