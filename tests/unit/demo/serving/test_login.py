"""The login: slower with every wrong one, closed after five, and for nobody else."""

import asyncio

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse

from gpg_vl.demo.serving.login import FORGOTTEN, TRIES, LoginGuard, checker


class Door:
    """A guarded login whose password is `right`, with a clock of its own."""

    def __init__(self) -> None:
        self.now, self.slept, self.asked, self.paths = 0.0, [], 0, []
        self.guard = LoginGuard(self._app, lambda: self.now, self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def _app(self, scope, receive, send):
        self.asked += 1
        self.paths.append(scope["path"])
        body = await Request(scope, receive).body()
        await asyncio.sleep(0)  # others come meanwhile
        await JSONResponse({}, 200 if body == b"right" else 400)(scope, receive, send)

    async def type(
        self, text: str, address: str = "9.9.9.9", path: str = "/login", method: str = "POST"
    ) -> httpx.Response:
        transport = httpx.ASGITransport(self.guard, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            return await client.request(method, path, content=text)

    def statuses(self, *texts: str, **where: str) -> list[int]:
        async def all_of_them() -> list[int]:
            return [(await self.type(text, **where)).status_code for text in texts]

        return asyncio.run(all_of_them())


def test_wrong_logins_get_slower_and_then_none_is_let_in():
    door = Door()
    assert door.statuses(*["wrong"] * TRIES, "right") == [400] * TRIES + [429]
    assert door.slept == [0.25, 0.5, 1.0, 2.0, 4.0]
    door.now = 60.0
    answer = asyncio.run(door.type("right"))
    assert answer.headers["retry-after"] == "840"
    assert answer.json()["detail"] == "5 wrong logins; try again in 14 minutes"
    assert door.asked == TRIES


def test_they_are_forgotten_after_a_while_or_a_right_one():
    door = Door()
    door.statuses(*["wrong"] * TRIES)
    door.now = FORGOTTEN
    assert door.statuses("wrong", "right", *["wrong"] * (TRIES - 1), "right") == [
        400,
        200,
        400,
        400,
        400,
        400,
        200,
    ]


def test_others_are_let_in_meanwhile():
    door = Door()
    door.statuses(*["wrong"] * (TRIES + 1))
    assert door.statuses("right", address="8.8.8.8") == [200]
    assert door.statuses("right", address="9.9.9.9", path="/login/") == [429]
    assert door.statuses("wrong", path="/gradio_api/queue/join") == [400]


def test_only_the_login_page_is_open_to_those_outside():
    door = Door()  # whose app lets nobody in: `login_check` brings no body
    for path in ("/openapi.json", "/gradio_api/heartbeat/s", "/gradio_api/cancel", "//", "/themes"):
        assert door.statuses("right", path=path) == [400]
        assert door.paths.pop() == "/gradio_api/login_check"
    for path in ("/", "/theme.css", "/static/a.js", "/assets/a.js"):
        assert asyncio.run(door.type("", path=path, method="GET")).status_code == 400
        assert door.paths.pop() == path
    assert not door.paths


@pytest.mark.parametrize(("text", "most"), [("wrong", TRIES), ("right", 50)])
def test_many_at_once_are_checked_one_after_the_other(text, most):
    door = Door()

    async def at_once() -> None:
        await asyncio.gather(*(door.type(text) for _ in range(50)))

    asyncio.run(at_once())
    assert door.asked == most


@pytest.mark.parametrize(
    ("typed", "right"),
    [(("ada", "sécret"), True), (("ada", "sécre"), False), (("eve", "sécret"), False), (("", ""), False)],
)
def test_user_and_password_must_both_be_right(typed, right):
    assert asyncio.run(checker("ada", "sécret")(*typed)) is right
