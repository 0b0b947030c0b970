"""A judge behind HTTP, in a thread: real requests over a real socket."""

import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JUDGE = "gpg_vl.rewards.judge:judge"
"""The built-in reward."""
USAGE = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
_ASKED = re.compile(r"^(?:Right|Reference) answer: (.*)$", re.MULTILINE)
_ANSWER = re.compile(r"^(?:Answer: (.*)|(?s:<(response-\w+)>\n(.*)\n</\2>))$", re.MULTILINE)


@dataclass(frozen=True)
class Canned:
    """A reply that is not the judge's mark."""

    status: int = 200
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    """That it takes."""


@dataclass
class Judge:
    """What the server does, and what it saw."""

    url: str = ""
    seconds: float = 0.0
    """That a reply takes."""
    most: int = 0
    """Requests that were there at once."""
    requests: int = 0
    connections: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    """What was asked."""
    keys: list[str | None] = field(default_factory=list)
    """The header Authorization of each request."""
    paths: list[str] = field(default_factory=list)
    mark: Callable[[str, str], str] = lambda answer, right: "Mark: 10" if bare(answer) == right else "0"
    """The reply to an answer, or a whole response."""
    canned: deque[Canned] = field(default_factory=deque)
    """What the next requests get."""
    answering: threading.Event = field(default_factory=threading.Event)
    """Unset: hangs."""
    _here: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, change: int) -> None:
        with self._lock:
            self._here += change
            self.requests += change > 0
            self.most = max(self.most, self._here)

    def reply(self, body: dict[str, Any]) -> Canned:
        """The next canned one, or the answer's mark; 503 for `down`."""
        with self._lock:
            if self.canned:
                return self.canned.popleft()
        text = asked_text(body)
        given, _, response = _ANSWER.search(text).groups()
        answer = response if given is None else given
        return chat(self.mark(answer, _ASKED.search(text)[1]), status=503 if bare(answer) == "down" else 200)


def bare(answer: str) -> str:
    """Without the reasoning and the tags around it."""
    return re.sub("<think>.*</think>|</?answer>", "", answer)


def chat(content: Any, *, ended: str = "stop", usage: Any = USAGE, status: int = 200, **more: Any) -> Canned:
    """A chat completion with this content."""
    reply = {"choices": [{"message": {"content": content}, "finish_reason": ended}], "usage": usage}
    return Canned(status, json.dumps(reply), **more)


def asked_text(body: dict[str, Any]) -> str:
    """The text of a request, whatever else goes along."""
    content = body["messages"][0]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


@contextmanager
def judging(*, keep_alive: bool = False) -> Iterator[Judge]:
    """A server that marks answers as `Judge.reply` says; `keep_alive`: connections outlive their request."""
    judge = Judge()
    judge.answering.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1" if keep_alive else "HTTP/1.0"
        wbufsize = -1  # one packet, or the other end waits for the second

        def setup(self) -> None:
            super().setup()
            judge.connections += 1

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            judge.bodies.append(body)
            judge.keys.append(self.headers["Authorization"])
            judge.paths.append(self.path)
            judge.count(1)
            reply = judge.reply(body)
            time.sleep(judge.seconds + reply.seconds)
            judge.answering.wait(30)
            judge.count(-1)
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(reply.body.encode())), **reply.headers}.items():
                self.send_header(name, value)
            with suppress(ConnectionError):  # of who has given up
                self.end_headers()
                self.wfile.write(reply.body.encode())

        def log_message(self, *_: object) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # of connections that come at once; 5 would refuse some
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    judge.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield judge
    finally:
        judge.answering.set()
        server.shutdown()
        server.server_close()
