"""Another web site in the browser of somebody who is logged in: it reads, starts and changes nothing."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.support.serving import served

FORM = "application/x-www-form-urlencoded"
CALL = '{"data": ["Why?", null, "", "choice", "", 1, 0, 4, 0]}'
FETCH = """async ([url, method, type, body]) => {
    try {
        const options = {method, credentials: 'include', body, headers: type ? {'Content-Type': type} : {}};
        const answer = await fetch(url, options);
        return [answer.status, await answer.text()];
    } catch (error) { return String(error); }
}"""


@pytest.fixture(scope="module")
def app(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app with a password, on 127.0.0.1."""
    folder = tmp_path_factory.mktemp("guarded")
    with served(folder, "--base", tiny_folder, "--auth_env", "DEMO_AUTH", DEMO_AUTH="ada:secret") as address:
        yield address


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        """Nothing: requests are no news here."""


@pytest.fixture(scope="module")
def port(app: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of another web site, with a link to the app and forms that a click sends there."""
    folder = tmp_path_factory.mktemp("foreign")
    forms = [
        f"<form id='{name}' method='post' action='{app}{path}'><input name='username' value='ada'>"
        "<input name='password' value='secret'><button>send</button></form>"
        for name, path in (("login", "/login"), ("join", "/gradio_api/queue/join"))
    ]
    text = f"<!doctype html><title>foreign</title><a href='{app}/?tab=math'>open</a>{''.join(forms)}"
    (folder / "index.html").write_text(f"{text}<img id='pixel' src='{app}/favicon.ico'>")
    (folder / "frame.html").write_text(f"<!doctype html><iframe src='{app}/'></iframe>")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def visitor(chromium: Browser, app: str) -> Iterator[BrowserContext]:
    """A browser that is logged in."""
    context = chromium.new_context()
    page = context.new_page()
    page.goto(app)
    assert page.evaluate(FETCH, [f"{app}/login", "POST", FORM, "username=ada&password=secret"])[0] == 200
    yield context
    context.close()


@pytest.fixture(params=["127.0.0.1", "localhost"])
def foreign(request: pytest.FixtureRequest, visitor: BrowserContext, port: int) -> Page:
    """The other site: the same site on another port, whose requests bring cookies, and another site."""
    page = visitor.new_page()
    page.goto(f"http://{request.param}:{port}/")
    return page


def test_the_visitor_is_logged_in_with_cookies_for_this_site_alone(visitor, app):
    page = visitor.pages[0]
    page.reload()
    expect(page.locator("#title")).to_be_visible()
    cookies = visitor.cookies(app)
    assert cookies and {(one["sameSite"], one["httpOnly"]) for one in cookies} == {("Lax", True)}
    assert page.evaluate("document.cookie") == ""


@pytest.mark.parametrize(
    ("method", "path", "kind", "body"),
    [
        ("GET", "/config", None, None),
        ("GET", "/gradio_api/info", None, None),
        ("GET", "/gradio_api/queue/data?session_hash=a", None, None),
        ("POST", "/gradio_api/call/compare", "application/json", CALL),
        ("POST", "/gradio_api/call/compare", "text/plain", CALL),
        ("POST", "/login", FORM, "username=ada&password=secret"),
    ],
)
def test_a_foreign_page_reads_nothing(foreign, app, method, path, kind, body):
    assert foreign.evaluate(FETCH, [f"{app}{path}", method, kind, body]) == "TypeError: Failed to fetch"


def test_a_foreign_page_starts_nothing(foreign, visitor, app):
    """Blindly, without reading the answer; the status, which no page sees, is asked for with the login."""
    url = f"{app}/gradio_api/call/compare"
    send = "([url, body]) => fetch(url, {method: 'POST', mode: 'no-cors', credentials: 'include', body})"
    assert foreign.evaluate(f"([url, body]) => ({send})([url, body]).catch(String)", [url, CALL]) == (
        "TypeError: Failed to fetch"
    )
    site = foreign.evaluate("location.origin")
    said = {"Content-Type": "application/json", "Origin": site}
    assert visitor.request.post(url, data=CALL, headers=said).status == 403
    assert foreign.evaluate("document.getElementById('pixel').naturalWidth") == 0


@pytest.mark.parametrize("form", ["login", "join"])
def test_a_foreign_form_does_nothing(foreign, app, form):
    with foreign.expect_navigation() as went:
        foreign.locator(f"#{form} button").click()
    assert went.value.status == 403
    expect(foreign.locator("body")).to_contain_text("--allow_origin")


def test_a_foreign_page_cannot_frame_the_app(foreign, app):
    foreign.goto(foreign.url + "frame.html")
    foreign.wait_for_timeout(2000)
    assert [frame.url for frame in foreign.frames if frame.url.startswith(app)] == []


def test_a_link_opens_the_app_with_the_login(foreign, app):
    foreign.get_by_text("open").click()
    expect(foreign.locator("#title")).to_be_visible()
    assert foreign.url.startswith(f"{app}/?tab=math")


def test_the_apps_own_page_asks(visitor, app):
    page = visitor.pages[0]
    page.reload()
    expect(page.locator("#title")).to_be_visible()
    call = [f"{app}/gradio_api/call/compare", "POST", "application/json", CALL]
    status, text = page.evaluate(FETCH, call)
    assert status == 200 and "event_id" in text


def test_another_name_for_the_same_server_is_refused(app):
    """DNS rebinding: evil.com resolves to this machine, and its page is of the same origin."""
    answer = httpx.get(app, headers={"Host": "evil.com", "X-Forwarded-Host": "localhost"})
    assert answer.status_code == 403
