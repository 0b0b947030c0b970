"""The stand-in over HTTP: in threads of this process, or in one of its own."""

import contextlib
import ctypes
import itertools
import json
import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import torch

from tests.support.fake_vllm.endpoints import Endpoints, Mischief
from tests.support.fake_vllm.model import Served

_NETWORKS = 0x40000000  # CLONE_NEWNET
GENERATE = "/inference/v1/generate"


class FakeVllm(ThreadingHTTPServer):
    """A model at an address."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(
        self,
        served: Served,
        host: str,
        port: int,
        mischief: Mischief | None = None,
        death: Callable[[], None] | None = None,
    ) -> None:
        """`death`: how it ends; by default its threads leave, and its connections close."""
        super().__init__((host, port), _Handler)
        self.die = death or self.end
        self.mischief = mischief or Mischief()
        self.endpoints = Endpoints(served, self.mischief, self.die)
        self.report = self.endpoints.report
        self.numbers = itertools.count(1)
        """Of the answers that leave."""
        self._connections: set[socket.socket] = set()
        self._ending = threading.Lock()
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._connections.add(connection)
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that end are part of the game."""
        if not isinstance(sys.exception(), OSError | ValueError):
            super().handle_error(request, client_address)

    def end(self) -> None:
        """As a process ends: nobody is waited for."""
        if self._ending.acquire(blocking=False):
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)  # or it listens as long as a thread waits for it
            self.socket.close()
            threading.Thread(target=self.shutdown).start()
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self.endpoints.leave()
            self.ended.set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # an answer is one piece
    server: FakeVllm

    def do_GET(self) -> None:
        self._reply("GET", {})

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("content-length") or 0))
        self._reply("POST", json.loads(sent or b"{}"))

    def _reply(self, method: str, body: dict[str, Any]) -> None:
        endpoints, mischief = self.server.endpoints, self.server.mischief
        status, content = endpoints.reply(method, self.path, body)
        times = 1
        if self.path == GENERATE and status == 200:
            answered = next(self.server.numbers)
            if mischief.drop_every and answered % mischief.drop_every == 0:
                endpoints.report.dropped += 1
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if mischief.die_after and answered >= mischief.die_after:
                self.server.die()
                return
            times += mischief.twice
        data = b"" if content is None else json.dumps(content).encode()
        for _ in range(times):
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing of each request."""


@contextlib.contextmanager
def serving(served: Served, *, host: str = "127.0.0.1", port: int = 0, **mischief: Any) -> Iterator[FakeVllm]:
    """A server in threads."""
    with FakeVllm(served, host, port, Mischief(**mischief)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.end()
            thread.join()


class Process:
    """A server that is a process of its own, killed with SIGKILL.

    All are forks of one that has imported what they need and done nothing.
    """

    def __init__(
        self, model: Path, host: str, port: int, log: Path, network: str = "", **mischief: Any
    ) -> None:
        """`network`: a namespace of `ip netns`, where it stands in the place of this one."""
        self.url = f"http://{host}:{port}"
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        log.parent.mkdir(parents=True, exist_ok=True)
        how = (str(model), host, port, str(log), network, Mischief(**mischief))
        self._process = context.Process(target=serve, args=how, daemon=True)
        self._process.start()

    def wait(self, seconds: float = 120) -> "Process":
        """Return once it is up."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._process.is_alive():
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health", trust_env=False).is_success:
                    return self
            time.sleep(0.05)
        raise AssertionError(f"no server at {self.url}: {self._process.exitcode}")

    def ask(self, **mischief: Any) -> dict[str, Any]:
        """Its report; `mischief` is how it behaves from now on."""
        report: dict[str, Any] = httpx.post(f"{self.url}/fake", json=mischief, trust_env=False).json()
        return report

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.join()
        self._process.close()


def serve(model: str, host: str, port: int, log: str, network: str, mischief: Mischief) -> None:
    """A process's life, which ends by itself only where it is told to die."""
    with open(log, "w") as output:
        os.dup2(output.fileno(), sys.stdout.fileno())
        os.dup2(output.fileno(), sys.stderr.fileno())
    if network:
        enter(network)
    torch.set_num_threads(1)
    server = FakeVllm(Served(model), host, port, mischief, death=lambda: os._exit(9))
    print(f"fake vLLM: {model} at {server.url}", flush=True)
    server.serve_forever(poll_interval=0.05)


def enter(network: str) -> None:
    """Move this thread, and those that it starts, to a network of `ip netns`. Raises OSError."""
    with open(f"/run/netns/{network}") as namespace:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(namespace.fileno(), _NETWORKS):
            raise OSError(ctypes.get_errno(), f"setns {network}")
