"""Other web sites: refused, unless they are named or only link here."""

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from gpg_vl.demo.serving.headers import SafeHeaders, safe_cookie
from gpg_vl.demo.serving.origins import Origins, origin_of

OWN = "http://localhost:7860"
LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}


async def echo(scope, receive, send):
    """Says whether the app saw an Origin."""
    names = {name for name, _ in scope["headers"]}
    await PlainTextResponse(str(b"origin" in names))(scope, receive, send)


def client(*allowed: str, url: str = OWN) -> TestClient:
    return TestClient(Origins(echo, allowed), url)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/login", {}, 200),  # a program
        ("POST", "/login", {"origin": OWN, "sec-fetch-site": "same-origin"}, 200),
        ("POST", "/login", {"origin": "http://evil.com"}, 403),
        ("POST", "/gradio_api/queue/join", {"origin": "http://localhost:7861"}, 403),  # another port
        ("POST", "/gradio_api/queue/join", {"origin": "https://localhost:7860"}, 403),  # another scheme
        ("POST", "/gradio_api/queue/join", {"origin": "null"}, 403),  # a file, or a frame without an origin
        ("OPTIONS", "/gradio_api/queue/join", {"origin": "http://evil.com"}, 403),
        ("GET", "/config", {"origin": "http://evil.com"}, 403),
        ("GET", "/config", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ("GET", "/gradio_api/file=a.png", {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}, 403),
        ("GET", "/config", {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}, 200),  # typed
        ("GET", "/?tab=compare&q=3", LINK, 200),
        ("GET", "/logout", LINK, 403),
        ("POST", "/", LINK, 403),
        ("GET", "/", {**LINK, "origin": "http://evil.com"}, 403),
        ("GET", "/", {**LINK, "sec-fetch-mode": "cors"}, 403),
    ],
)
def test_who_is_served(method, path, headers, status):
    answer = client().request(method, path, headers=headers)
    assert answer.status_code == status
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_line_names_the_cure():
    lines = [
        client().post("/login", headers={"origin": origin}).json()["detail"]
        for origin in ("http://evil.com", "https://localhost:7860")
    ]
    assert "'http://evil.com'" in lines[0] and "--allow_origin" in lines[0]
    assert "X-Forwarded-Proto" in lines[1] and "--trusted_proxy" in lines[1]


def test_a_site_that_is_named_may_use_the_app():
    friend = "https://friend.org"
    answer = client(friend).post(
        "/gradio_api/queue/join", headers={"origin": friend, "sec-fetch-site": "cross-site"}
    )
    assert answer.text == "False"  # Gradio would answer an Origin with headers of its own
    assert answer.headers["access-control-allow-origin"] == friend
    assert answer.headers["access-control-allow-credentials"] == "true" and answer.headers["vary"] == "Origin"
    asked = {"origin": friend, "access-control-request-headers": "content-type"}
    before = client(friend).options("/gradio_api/queue/join", headers=asked)
    assert before.status_code == 204 and before.headers["access-control-allow-headers"] == "content-type"
    assert client(friend).get("/config", headers={"origin": "https://friend.org.evil.com"}).status_code == 403


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Demo.org", "https://demo.org:443"),
        ("http://demo.org:80/path", "http://demo.org:80"),
        ("http://[::1]:7860", "http://::1:7860"),
        ("null", ""),
        ("file:///tmp/a.html", ""),
        ("http://demo.org:port", ""),
        ("http://", ""),
    ],
)
def test_origins_are_compared_with_their_ports(url, origin):
    assert origin_of(url) == origin


GRADIOS = "access-token-x=abc; HttpOnly; Path=/; SameSite=none; Secure"


def test_cookies_stay_with_this_site():
    assert safe_cookie(GRADIOS, https=False) == "access-token-x=abc; Path=/; HttpOnly; SameSite=Lax"
    assert safe_cookie(GRADIOS, https=True) == "access-token-x=abc; Path=/; HttpOnly; SameSite=Lax; Secure"
    assert safe_cookie('a=""; expires=Mon, 1 Jan 2026; Max-Age=0', https=False).startswith(
        'a=""; expires=Mon, 1 Jan'
    )


@pytest.mark.parametrize(("scheme", "secure"), [("http", False), ("https", True)])
def test_every_response_has_the_headers(scheme, secure):
    async def two_cookies(scope, receive, send):
        response = PlainTextResponse("", headers={"content-security-policy": "frame-ancestors *"})
        for name in ("a", "b"):
            response.set_cookie(name, "1", samesite="none")
        await response(scope, receive, send)

    headers = TestClient(SafeHeaders(two_cookies, ()), f"{scheme}://localhost").get("/").headers
    cookies = headers.get_list("set-cookie")
    assert len(cookies) == 2 and all("SameSite=Lax" in cookie and "HttpOnly" in cookie for cookie in cookies)
    assert [("Secure" in cookie) for cookie in cookies] == [secure, secure]
    assert headers["content-security-policy"] == "frame-ancestors 'self'"
    assert headers["x-frame-options"] == "SAMEORIGIN" and headers["x-content-type-options"] == "nosniff"
    framed = TestClient(SafeHeaders(two_cookies, ("https://friend.org",))).get("/").headers
    assert framed["content-security-policy"] == "frame-ancestors 'self' https://friend.org"
    assert "x-frame-options" not in framed
