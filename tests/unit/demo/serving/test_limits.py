"""Limits per visitor, and of bodies in bytes and time."""

import asyncio

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from gpg_vl.demo.serving.bodies import BODY, BoundedBodies
from gpg_vl.demo.serving.limits import Bucket, ClientLimits, Visitors

UPLOAD = "/gradio_api/upload"


async def size(scope, receive, send):
    """The app: how many bytes came."""
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


async def send_to(app, path: str, address: str = "9.9.9.9", method: str = "POST", **given) -> httpx.Response:
    transport = httpx.ASGITransport(app, client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        return await client.request(method, path, **given)


def test_a_bucket_fills_with_time():
    now = [0.0]
    bucket = Bucket(2, 0.5, lambda: now[0])
    assert [bucket.take(), bucket.take(), bucket.take()] == [0, 0, 2.0]
    now[0] = 1.0
    assert bucket.take() == 1.0
    now[0] = 100.0
    assert [bucket.take(2), bucket.take()] == [0, 2.0]


def test_counts_are_kept_of_those_seen_last():
    visitors = Visitors(list, most=2)
    visitors["a"].append(1)
    visitors["b"], visitors["a"], visitors["c"]
    assert len(visitors) == 2 and visitors["a"] == [1]


def test_one_visitor_has_a_bound_and_the_others_their_own():
    async def flood() -> None:
        app = ClientLimits(size, 1000, lambda visitor: 0)
        many = [(await send_to(app, "/gradio_api/queue/join")).status_code for _ in range(300)]
        assert many[:256] == [200] * 256 and many[-1] == 429
        assert (await send_to(app, "/gradio_api/queue/join")).headers["retry-after"] == "1"
        assert (await send_to(app, "/config", method="GET")).status_code == 200
        assert (await send_to(app, "/gradio_api/queue/join", "8.8.8.8")).status_code == 200

    asyncio.run(flood())


@pytest.mark.parametrize("path", ["/", "/config"])
def test_pages_are_bounded_for_writing_one_stops_the_others(path):
    async def flood() -> None:
        app = ClientLimits(size, 1000, lambda visitor: 0)
        many = [(await send_to(app, path, method="GET")).status_code for _ in range(80)]
        assert many[:64] == [200] * 64 and many[-1] == 429
        assert (await send_to(app, "/theme.css", method="GET")).status_code == 200
        assert (await send_to(app, path, "8.8.8.8", method="GET")).status_code == 200

    asyncio.run(flood())


def test_unfinished_events_are_bounded():
    app = ClientLimits(size, 1000, {"9.9.9.9": 3, "8.8.8.8": 2}.get, most=3)
    answer = asyncio.run(send_to(app, "/gradio_api/call/compare"))
    assert (answer.status_code, answer.json()["detail"]) == (
        429,
        "3 requests of yours wait or run; let some end",
    )
    assert asyncio.run(send_to(app, "/gradio_api/call/compare", "8.8.8.8")).status_code == 200


@pytest.mark.parametrize(("path", "most_at_once"), [(UPLOAD, 4), ("/gradio_api/call/compare", 6)])
def test_uploads_wait_for_each_other_and_open_requests_are_bounded(path, most_at_once):
    running, seen = 0, []

    async def slow(scope, receive, send):
        nonlocal running
        running += 1
        seen.append(running)
        await asyncio.sleep(0.01)
        running -= 1
        await PlainTextResponse("")(scope, receive, send)

    async def at_once() -> list[int]:
        app = ClientLimits(slow, 1000, lambda visitor: 0, most=6)
        answers = await asyncio.gather(*(send_to(app, path) for _ in range(9)))
        return sorted(answer.status_code for answer in answers)

    assert asyncio.run(at_once()) == [200] * 6 + [429] * 3
    assert max(seen) == most_at_once


def test_uploads_are_bounded_in_bytes_an_hour():
    async def upload() -> list[int]:
        app = ClientLimits(size, 1000, lambda visitor: 0)
        return [(await send_to(app, UPLOAD, content=b"0" * 1000)).status_code for _ in range(51)]

    assert asyncio.run(upload()) == [200] * 50 + [429]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/gradio_api/run/compare", "it would run on when you leave; use /gradio_api/call/compare"),
        ("/gradio_api/api/compare/", "use /gradio_api/call/compare"),
        ("/gradio_api/token", "/gradio_api/token is closed here"),
        ("/gradio_api/component_server", "is closed here"),
        ("/gradio_api/proxy=http://x", "is closed here"),
    ],
)
def test_closed_routes_say_so(path, line):
    answer = asyncio.run(send_to(ClientLimits(size, 1000, lambda visitor: 0), path))
    assert answer.status_code == 404 and line in answer.json()["detail"]


async def pieces(count: int, pause: float = 0.0):
    for _ in range(count):
        await asyncio.sleep(pause)
        yield b"0" * 2**18


@pytest.mark.parametrize(
    ("path", "given", "status"),
    [
        ("/gradio_api/queue/join", {"content": b"0" * BODY}, 200),
        ("/gradio_api/queue/join", {"content": b"0" * (BODY + 1)}, 413),
        ("/gradio_api/queue/join", {"content": pieces(3)}, 200),
        ("/gradio_api/queue/join", {"content": pieces(5)}, 413),
        ("/gradio_api/queue/join", {"content": b"", "headers": {"content-length": "-1"}}, 413),
        (UPLOAD, {"content": b"0" * (BODY + 1)}, 200),
        (UPLOAD, {"content": b"0" * (2 * BODY + 2**16 + 1)}, 413),
        (UPLOAD, {"content": pieces(1)}, 411),
    ],
)
def test_bodies_are_bounded(path, given, status):
    answer = asyncio.run(send_to(BoundedBodies(size, 2 * BODY), path, **given))
    assert answer.status_code == status


@pytest.mark.parametrize("path", [UPLOAD, "/gradio_api/queue/join"])
def test_a_body_that_stops_is_given_up(path):
    """The server's `receive` stands still; the client has announced more."""
    sent: list[dict[str, object]] = []

    async def stuck() -> dict[str, object]:
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def keep(message) -> None:
        sent.append(message)

    headers = [(b"content-length", b"100"), (b"content-type", b"text/plain")]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    asyncio.run(BoundedBodies(size, BODY, patience=0.05)(scope, stuck, keep))
    assert sent[0]["status"] == 408 and b"stopped" in sent[1]["body"]
