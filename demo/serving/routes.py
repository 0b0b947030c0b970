"""Which requests do what: Gradio's routes, as the layers before the app tell them apart."""

from urllib.parse import parse_qs

from starlette.types import Scope

API = "/gradio_api/"
LOGIN = "/login"
_CLOSED = (
    "token",
    "proxy=",
    "component_server",
    "process_recording",
    "vibe-",
    "undo-vibe-",
    "deep_link",
    "call/v2",
)
"""Routes that this app has no use for: they hand out the login, fetch, or work beside the queue."""
_LOGIN_PAGE = ("/theme.css", "/favicon.ico", "/static/", "/assets/")
"""What the login page loads; the page itself is `is_page`."""
_DIRECT = ("run/", "api/")
_INDEXED = "predict"
"""Under this name the page runs what needs no queue, by number; Gradio refuses it for everything else."""


def path(scope: Scope) -> str:
    """The path below the app's root, without a slash at its end."""
    return str(scope["path"]).removeprefix(scope.get("root_path", "")).rstrip("/") or "/"


def is_page(scope: Scope) -> bool:
    """Opens the page: the only thing that a link of another web site may do."""
    return scope["method"] in ("GET", "HEAD") and path(scope) == "/"


def is_rendered(scope: Scope) -> bool:
    """Is written anew for each request, on the event loop that all share: the page and its description."""
    return scope["method"] in ("GET", "HEAD") and path(scope) in ("/", "/config")


def is_login(scope: Scope) -> bool:
    return scope["method"] == "POST" and path(scope) == LOGIN


def is_of_login_page(scope: Scope) -> bool:
    """What somebody who has not logged in may read."""
    return is_page(scope) or (scope["method"] in ("GET", "HEAD") and path(scope).startswith(_LOGIN_PAGE))


def is_upload(scope: Scope) -> bool:
    return scope["method"] == "POST" and path(scope) == f"{API}upload"


def closed(scope: Scope) -> str:
    """Why a route is closed, in one line; "" if it is open."""
    route = path(scope).removeprefix(API) if path(scope).startswith(API) else ""
    for name in _CLOSED:
        if route.startswith(name):
            return f"{API}{name} is closed here"
    name = route.partition("/")[2]
    if route.startswith(_DIRECT) and name != _INDEXED:
        return f"{API}{route} is closed: it would run on when you leave; use {API}call/{name}"
    return ""


def read_by(scope: Scope) -> tuple[str, str]:
    """Of a stream of results: the session that reads it, or else the event; both "" for other requests."""
    route = path(scope).removeprefix(API)
    if scope["method"] != "GET" or not path(scope).startswith(API):
        return "", ""
    if route == "queue/data":
        sessions = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])
        return sessions[0], ""
    return "", route.rpartition("/")[2] if route.startswith("call/") and route.count("/") > 1 else ""
