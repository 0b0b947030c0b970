"""Whom a request comes from, and under which names the app is served."""

from socket import gethostname

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from gpg_vl.demo.serving.hosts import AllowedHosts, HostNames
from gpg_vl.demo.serving.proxies import TrustedProxies, visitor


async def seen(scope, receive, send):
    """What the app sees of a request."""
    request = Request(scope)
    kept = [name for name in request.headers if "forward" in name or name in ("x-real-ip", "x-gradio-server")]
    answer = {"client": scope["client"][0], "url": str(request.url), "visitor": visitor(scope), "kept": kept}
    await JSONResponse(answer)(scope, receive, send)


def ask(sender: str, trusted=("127.0.0.1",), **headers: str) -> dict[str, object]:
    client = TestClient(TrustedProxies(seen, trusted), "http://app:7860", client=(sender, 1))
    return client.get("/", headers={name.replace("_", "-"): value for name, value in headers.items()}).json()


PUBLIC = {"x_forwarded_proto": "https", "x_forwarded_host": "demo.org", "x_real_ip": "6.6.6.6"}


def test_a_trusted_proxy_is_believed():
    answer = ask("127.0.0.1", x_forwarded_for="9.9.9.9", **PUBLIC)
    assert answer == {"client": "9.9.9.9", "url": "https://demo.org/", "visitor": "9.9.9.9", "kept": []}


def test_nobody_else_is():
    answer = ask("8.8.8.8", x_forwarded_for="9.9.9.9", x_gradio_server="http://evil.com", **PUBLIC)
    assert answer == {"client": "8.8.8.8", "url": "http://app:7860/", "visitor": "8.8.8.8", "kept": []}


@pytest.mark.parametrize(
    ("addresses", "client"),
    [
        ("1.1.1.1, 9.9.9.9", "9.9.9.9"),  # what a visitor wrote stands before what the proxy heard
        ("1.1.1.1, 9.9.9.9, 10.0.0.7", "9.9.9.9"),  # two proxies
        ("9.9.9.9:4711", "9.9.9.9"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("10.0.0.1, 10.0.0.2", "10.0.0.1"),  # a visitor in the proxies' own network
        ("9.9.9.9, nonsense", "10.0.0.9"),  # then the proxy counts
        ("9.9.9.9, nonsense, 10.0.0.2", "10.0.0.2"),
        (",", "10.0.0.9"),
    ],
)
def test_the_last_address_that_is_no_proxys_is_the_visitors(addresses, client):
    assert ask("10.0.0.9", ("10.0.0.0/8",), x_forwarded_for=addresses)["client"] == client


@pytest.mark.parametrize("scheme", ["javascript", "", "https, ftp"])
def test_a_scheme_is_http_or_https(scheme):
    assert ask("127.0.0.1", x_forwarded_proto=scheme)["url"] == "http://app:7860/"


def test_mapped_addresses_are_the_same_visitor():
    assert ask("::ffff:127.0.0.1", x_forwarded_for="::ffff:9.9.9.9")["visitor"] == "9.9.9.9"


def test_an_ipv6_visitor_is_a_network():
    assert ask("2001:db8::1")["visitor"] == ask("2001:db8::2")["visitor"] == "2001:db8::/64"
    assert ask("2001:db8:0:1::1")["visitor"] == "2001:db8:0:1::/64"


LOCAL = ["localhost", "LocalHost:7860", "127.0.0.1:7860", "[::1]:7860", "localhost."]
FOREIGN = [
    "evil.com",
    "evil.com:7860",
    "localhost.evil.com",
    "127.0.0.1.evil.com",
    "",
    "a b",
    "[::1",
    "localhost:x",
]


@pytest.mark.parametrize(
    ("listens", "names", "served", "refused"),
    [
        ("127.0.0.1", (), LOCAL, [*FOREIGN, "192.168.0.5", gethostname(), "0.0.0.0"]),
        ("192.168.0.5", (), [*LOCAL, "192.168.0.5:80"], [*FOREIGN, "192.168.0.6"]),
        ("0.0.0.0", (), [*LOCAL, "192.168.0.5", "[2001:db8::1]:80", gethostname()], FOREIGN),
        (
            "0.0.0.0",
            ("demo.org",),
            [*LOCAL, "demo.org", "DEMO.org:443"],
            [*FOREIGN, "192.168.0.5", "a.demo.org"],
        ),
        ("127.0.0.1", ("*.demo.org",), ["a.demo.org", "a.b.demo.org"], [*FOREIGN, "demo.org", "xdemo.org"]),
    ],
)
def test_names_that_are_served(listens, names, served, refused):
    known = HostNames(listens, names)
    assert [host for host in served if host not in known] == []
    assert [host for host in refused if host in known] == []


def test_a_foreign_host_gets_one_line():
    client = TestClient(AllowedHosts(seen, HostNames("127.0.0.1", ())), "http://evil.com")
    answer = client.get("/")
    assert answer.status_code == 403
    assert answer.json()["detail"] == (
        "no app is served as 'evil.com'; if that is its name, start it with --host_name"
    )
    page = client.get("/", headers={"accept": "text/html"})
    assert page.headers["content-type"].startswith("text/plain") and page.text.startswith("no app is served")
