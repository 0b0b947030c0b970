"""A judge behind HTTP, in a thread: real requests over a real socket."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Judge:
    """What the server does, and what it saw."""

    url: str = ""
    seconds: float = 0.0
    """That a reply takes."""
    most: int = 0
    """Requests that were there at once."""
    requests: int = 0
    answering: threading.Event = field(default_factory=threading.Event)
    """Unset: hangs."""
    _here: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, change: int) -> None:
        with self._lock:
            self._here += change
            self.requests += change > 0
            self.most = max(self.most, self._here)


@contextmanager
def judging() -> Iterator[Judge]:
    """A server whose mark is 10 where the answer asked about is the right one, else 0; 503 for `down`."""
    judge = Judge()
    judge.answering.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            lines = dict(line.split(": ", 1) for line in body["messages"][0]["content"].splitlines()[:3])
            judge.count(1)
            time.sleep(judge.seconds)
            judge.answering.wait(30)
            judge.count(-1)
            mark = "Mark: 10" if lines["Answer"] == lines["Right answer"] else "0"
            reply = json.dumps({"choices": [{"message": {"content": mark}}]}).encode()
            self.send_response(503 if lines["Answer"] == "down" else 200)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

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
