"""Asking a server that speaks OpenAI's chat completions: one request, and again where it may help."""

import asyncio
import json
import os
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx

from gpg_vl.errors import ConfigurationError
from gpg_vl.scoring.counters import count

_PATH = "/chat/completions"
_VARIABLE = re.compile("[A-Z_][A-Z0-9_]*")
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
"""Seconds before the second try, doubled for each further one up to the longest."""
_PASSING = (408, 409, 425, 429)
"""Statuses below 500 that another try may not meet: too early, too many, in conflict."""
_MISTAKEN = {401: "the key is refused", 403: "the key may not do this", 404: "there is no such model or path"}
_SHOWN = 200
"""Characters of a server's own words."""
_clients: dict[asyncio.AbstractEventLoop, tuple[httpx.AsyncClient, "asyncio.Task[None]"]] = {}
_jitter = random.Random()  # the global one's state belongs to the run
_heard: set[str] = set()
"""Servers that have replied: what they refuse from then on is no mistake of the configuration."""


class NoReplyError(Exception):
    """The server gave no reply that can be read; says why."""

    def __init__(self, reason: str, *, passing: bool, wait: float | None = None) -> None:
        super().__init__(reason)
        self.passing = passing
        """Whether another try may help."""
        self.wait = wait
        """Seconds that the server asks to wait before it."""


@dataclass(frozen=True)
class Server:
    """A server, and how long it is tried."""

    url: str
    """Of `…/chat/completions`."""
    key_env: str | None
    """The environment variable that holds the key; None sends none."""
    timeout: float
    """Seconds for one request."""
    retries: int
    """Further tries where the server is busy, down or late."""


def chat_url(url: str) -> str:
    """The address to post to, of a server's base URL with or without `/v1`.

    Raises ConfigurationError for what is no http URL, and for one that holds a password.
    """
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # a port that is no number, half an IPv6 address
        fits = False
    if not fits:
        raise ConfigurationError(f"the url must be like http://localhost:8000/v1, got {url!r}")
    if parts.username or parts.password:
        raise ConfigurationError(
            "the url holds a password: name an environment variable with key_env instead"
        )
    path = parts.path.rstrip("/") or "/v1"
    return urlunsplit(parts._replace(path=path if path.endswith(_PATH) else f"{path}{_PATH}"))


def api_key(variable: str | None) -> str | None:
    """The key in an environment variable; None where none is named.

    Raises ConfigurationError if it is not set. What may be a key itself is not shown.
    """
    if variable is None:
        return None
    if not _VARIABLE.fullmatch(variable):
        raise ConfigurationError(
            "key_env is the name of an environment variable in capitals, such as OPENAI_API_KEY; the key "
            "itself stands in no configuration"
        )
    key = os.environ.get(variable, "").strip()
    if not key or not (key.isascii() and key.isprintable()):
        state = "holds no key" if key else "is not set"
        raise ConfigurationError(
            f"the environment variable {variable} {state}: export it, or leave out key_env"
        )
    return key


async def ask(server: Server, body: bytes, again: Callable[[NoReplyError], None]) -> str:
    """The text of the server's reply to a request in JSON.

    Tried again, after a growing and random wait or the server's own, where it cannot be reached, is late,
    busy or at fault; `again` hears of each such failure. Counts requests and tokens. Raises NoReplyError
    where that did not help; ConfigurationError where a server that never replied refuses the key or knows no
    such model.
    """
    for attempt in range(server.retries):
        try:
            return await _try(server, body)
        except NoReplyError as failure:
            if not failure.passing:
                raise
            again(failure)
            await asyncio.sleep(_backoff(attempt) if failure.wait is None else failure.wait)
    return await _try(server, body)


async def _try(server: Server, body: bytes) -> str:
    try:
        response = await _post(server, body)
    except TimeoutError as error:
        raise NoReplyError(f"none within {server.timeout:g} s", passing=True) from error
    except httpx.RequestError as error:
        raise NoReplyError(f"{type(error).__name__}: {error}".rstrip(": "), passing=True) from error
    if not response.is_success:
        raise _refusal(server, response)
    try:
        return _text(server, response)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        reason = f"its reply is no chat completion: {_words(server, response)}"
        raise NoReplyError(reason, passing=True) from error


def _refusal(server: Server, response: httpx.Response) -> NoReplyError | ConfigurationError:
    status = response.status_code
    said = f"{_without_key(server, response.reason_phrase)}: {_words(server, response)}"
    reason = f"{status} {said}".rstrip(": ")
    if status in _MISTAKEN and server.url not in _heard:
        return ConfigurationError(f"{_MISTAKEN[status]}: {server.url} says {reason}")
    passing = status >= 500 or status in _PASSING
    return NoReplyError(reason, passing=passing, wait=_asked_wait(response))


async def _post(server: Server, body: bytes) -> httpx.Response:
    headers = {"Content-Type": "application/json"}
    if (key := api_key(server.key_env)) is not None:
        headers["Authorization"] = f"Bearer {key}"
    count("judge/requests")
    async with asyncio.timeout(server.timeout):  # httpx's own would begin anew with every byte
        return await _client().post(server.url, content=body, headers=headers)


def _client() -> httpx.AsyncClient:
    """The one of this event loop; who calls bounds the connections."""
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        unbounded = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        client = httpx.AsyncClient(timeout=None, limits=unbounded)
        _clients[loop] = client, loop.create_task(_closed_with(loop, client))
    return _clients[loop][0]


async def _closed_with(loop: asyncio.AbstractEventLoop, client: httpx.AsyncClient) -> None:
    """Close the connections when the loop's end cancels all that it runs."""
    try:
        await asyncio.Event().wait()
    finally:
        del _clients[loop]
        await client.aclose()


def _text(server: Server, response: httpx.Response) -> str:
    """Raises ValueError, LookupError, TypeError or RecursionError for what is no chat completion;
    NoReplyError for one that was cut off, of which nobody knows how it would have ended."""
    reply: Any = response.json()
    choice = reply["choices"][0]
    content = choice["message"]["content"]
    if isinstance(content, list):  # parts; thoughts stand in parts of another type
        content = "".join(part["text"] for part in content if part["type"] == "text")
    if not isinstance(content, str | None):
        raise TypeError("content is no text")
    _heard.add(server.url)
    _count_tokens(reply.get("usage"))
    if choice.get("finish_reason") == "length":
        raise NoReplyError("its reply was cut off: raise max_tokens", passing=False)
    # None where it was cut off before it began; half characters no file takes.
    return (content or "").encode(errors="replace").decode()


def _count_tokens(usage: Any) -> None:
    for name in ("prompt_tokens", "completion_tokens"):
        tokens = usage.get(name) if isinstance(usage, Mapping) else None
        if isinstance(tokens, int):
            count(f"judge/{name}", tokens)


def _words(server: Server, response: httpx.Response) -> str:
    """The beginning of what a server says, on one line, without the key that it may quote."""
    text = _without_key(server, " ".join(response.text.split()))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _without_key(server: Server, text: str) -> str:
    """What a server says, without the key that it may quote, plainly or as JSON writes it."""
    key = api_key(server.key_env)
    if key is None:
        return text
    escaped = json.dumps(key)[1:-1]
    for form in (key, escaped, escaped.replace("/", "\\/")):
        text = text.replace(form, "…")
    return text


def _backoff(attempt: int) -> float:
    """Seconds; random, so that those who were refused together do not come back together."""
    return min(_FIRST_WAIT * 2**attempt, _LONGEST_WAIT) * _jitter.uniform(0.5, 1.0)


def _asked_wait(response: httpx.Response) -> float | None:
    """Seconds that Retry-After asks for, and a little more; None where it is missing or unreadable."""
    said = response.headers.get("Retry-After", "")
    try:
        seconds = float(said)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):  # TypeError: a date without a time zone
            return None
    return max(0.0, seconds) * _jitter.uniform(1.0, 1.1) if seconds < float("inf") else None
