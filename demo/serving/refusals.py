"""What a request that is not served gets: a status and one line."""

from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

_SHOWN = 100
"""Characters of what was sent that a line repeats."""


@dataclass
class Refusal(Exception):
    """Raised by the layers before the app; `answer` sends it."""

    status: int
    line: str
    wait: float = 0.0
    """Seconds after which another try may succeed; 0 says nothing about it."""

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the line: bare to a browser's window, as `detail` to programs, as Gradio does."""
        headers = {"Retry-After": str(max(1, round(self.wait)))} if self.wait else {}
        response: Response
        if "text/html" in Headers(scope=scope).get("accept", ""):
            response = PlainTextResponse(f"{self.line}\n", self.status, headers)
        else:
            response = JSONResponse({"detail": self.line}, self.status, headers)
        await response(scope, receive, send)


def shown(sent: str) -> str:
    """What was sent, as a line repeats it."""
    return repr(sent if len(sent) <= _SHOWN else f"{sent[:_SHOWN]}…")
