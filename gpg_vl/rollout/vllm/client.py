"""One vLLM server over HTTP: what is asked of it, and how it fails."""

import contextlib
import socket
import uuid
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from gpg_vl.errors import EngineError
from gpg_vl.rollout.vllm.serving import log_file

_CONNECT = 10.0
"""Seconds until a machine that does not answer counts as gone."""
_ALIVE = 5.0
"""Seconds that a server has to say that it is there."""
_SHORT = 30.0
"""Seconds for what a server answers at once."""
_LAST_LINES = 12
_TRIES = 3
"""Times that a question is asked whose answers get lost on their way."""
_PREFIX = "generate-tokens-"
"""What vLLM puts before the names of requests."""
_KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)  # not every system has all of them
        for name, value in {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}.items()
        if hasattr(socket, name)
    ),
]
"""Answers take long, and a machine that is gone says nothing: after a minute without a sign it is lost."""


class ServerGoneError(EngineError):
    """A server that cannot be reached any more, or not yet."""


class VllmClient:
    """The endpoints of a server that `gpg-vl serve` started."""

    def __init__(self, url: str, connections: int) -> None:
        self.url = url.rstrip("/")
        # Servers close connections that rest, perhaps as the next question leaves: each has one of its own.
        limits = httpx.Limits(max_connections=connections + 2, max_keepalive_connections=0)
        transport = httpx.HTTPTransport(limits=limits, socket_options=_KEEPALIVE)
        timeout = httpx.Timeout(None, connect=_CONNECT)
        # A proxy of the environment is for the internet, and weights do not go through it.
        self._http = httpx.Client(transport=transport, timeout=timeout, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def healthy(self) -> bool:
        """Whether it is up and can answer."""
        with contextlib.suppress(httpx.HTTPError):
            return self._http.get(f"{self.url}/health", timeout=_ALIVE).is_success
        return False

    def get(self, path: str) -> Any:
        """Raises ServerGoneError, or EngineError with the server's words."""
        return self._ask("GET", path, None, _SHORT)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """As `get`, waiting as long as it takes."""
        return self._ask("POST", path, body or {}, None)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None, seconds: float | None) -> Any:
        timeout = httpx.Timeout(seconds, connect=_CONNECT)
        try:
            reply = self._http.request(method, f"{self.url}{path}", json=body, timeout=timeout)
        except httpx.TransportError as error:
            raise ServerGoneError(f"{self.url} is gone ({_words(error)})") from error
        if reply.is_success:
            return reply.json() if reply.content.strip() else None
        said = " ".join(reply.text.split())[:500]
        if reply.status_code == httpx.codes.NOT_FOUND:
            raise EngineError(
                f"{self.url} has no {path}: start it with `gpg-vl serve`, or with the flags that it prints"
            )
        if reply.is_server_error and not self.healthy():
            raise ServerGoneError(f"{self.url} failed at {path} and is gone: {said}")
        raise EngineError(f"{self.url} refused {path} ({reply.status_code}): {said}")

    def generate(self, body: Mapping[str, Any], version: str, open_questions: set[str]) -> Any:
        """Answers to a question, which is asked again where they get lost, or are ended by somebody else, and
        the server has the weights of `version` still.

        Its name is in `open_questions` meanwhile, for `abort`. Raises as `get` does.
        """
        for _ in range(_TRIES - 1):
            try:
                return self._answers(body, open_questions)
            except ServerGoneError:
                if self.weight_version() != version:
                    raise
        return self._answers(body, open_questions)

    def _answers(self, body: Mapping[str, Any], open_questions: set[str]) -> Any:
        name = uuid.uuid4().hex
        open_questions.add(name)
        try:
            reply = self.post("/inference/v1/generate", {**body, "request_id": name})
        finally:
            wanted = name in open_questions
            open_questions.discard(name)
        if any(choice["finish_reason"] == "abort" for choice in reply["choices"]):
            kind = ServerGoneError if wanted else EngineError
            raise kind(f"{self.url} ended a question before its answers were complete")
        return reply

    def abort(self, questions: Iterable[str]) -> None:
        """End these, and nothing of others."""
        if names := [f"{_PREFIX}{name}" for name in questions]:  # none would be all
            self.post("/abort_requests", {"request_ids": names})

    def weight_version(self) -> str:
        """What its weights are called: `default` are those that it was started with."""
        return str(self.get("/weight_info")["weight_version"])

    def workers(self) -> int:
        """Processes that hold its weights."""
        return int(self.get("/get_world_size")["world_size"])

    def model(self) -> tuple[str, int]:
        """The folder or hub id that it was started with, and the tokens of its longest prompt and answer."""
        served = self.get("/v1/models")["data"][0]
        return str(served["root"]), int(served["max_model_len"])

    def paused(self) -> bool:
        """Whether it answers nothing, as while weights are replaced."""
        return bool(self.get("/is_paused")["is_paused"])

    def missing_weights(self) -> list[str]:
        """Parameters that the last update left as they were, on any worker."""
        found = self.post("/collective_rpc", {"method": "gpg_vl_missing"})["results"]
        return sorted({name for worker in found for name in worker})

    def last_lines(self) -> str:
        """What a server of this machine wrote last, for a message; empty for one elsewhere."""
        place = urlsplit(self.url)
        log = log_file(place.port or 80)
        if not (place.hostname or "").startswith(("127.", "localhost")) or not log.is_file():
            return ""
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
        return f". Its last lines ({log}): " + " | ".join(line.strip() for line in lines if line.strip())


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
