"""The layers between the network and the app, from the outside in."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import gradio as gr
from fastapi import FastAPI
from gradio.routes import App
from starlette.types import ASGIApp, Receive, Scope, Send

from ..reading import PATIENCE
from ..service.settings import DemoSettings
from .bodies import BoundedBodies
from .events import FairQueue, Reading, Unread
from .headers import SafeHeaders
from .hosts import AllowedHosts, HostNames
from .limits import ClientLimits
from .login import LoginGuard, checker
from .origins import Origins
from .proxies import TrustedProxies
from .sessions import Sessions


class Gate:
    """A page that has its queue from `take_turns`, as an ASGI app behind its layers.

    left: called with visitor and session when nobody has read their events for `patience` seconds.
    options: further ones of `mount_gradio_app`.
    """

    def __init__(
        self,
        blocks: gr.Blocks,
        settings: DemoSettings,
        left: Callable[[str, str], None],
        *,
        patience: float = PATIENCE,
        **options: Any,
    ) -> None:
        assert isinstance(blocks._queue, FairQueue), "take_turns gives the page its queue"
        self._queue = blocks._queue
        unread, auth = Unread(self._queue, left, patience), settings.auth()
        parent = FastAPI(lifespan=_watching(unread), docs_url=None, redoc_url=None, openapi_url=None)
        app = gr.mount_gradio_app(
            parent,
            blocks,
            path="/",
            root_path=settings.root_path,
            auth=checker(*auth) if auth else None,
            max_file_size=settings.upload_bytes,
            **options,
        )
        blocks.has_launched = True  # else Gradio lets a client name any file of the machine as an upload
        mounted = (getattr(route, "app", None) for route in parent.routes)
        self._pages = [page for page in mounted if isinstance(page, App)]
        for page in self._pages:
            page.state_holder = Sessions(blocks)
        self._app = _layers(Reading(app, unread), settings, self._queue.unfinished)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def end(self) -> None:
        """Let the streams that pages hold open end, which would hold up the server's end."""
        self._queue.stopped = True
        for page in self._pages:
            page.stop_event.set()


def _layers(app: ASGIApp, settings: DemoSettings, unfinished: Callable[[str], int]) -> ASGIApp:
    """The last one is the first that a request meets."""
    names = HostNames(settings.host, settings.host_name)
    app = LoginGuard(app)
    app = BoundedBodies(app, settings.upload_bytes)
    app = ClientLimits(app, settings.upload_bytes, unfinished)
    app = Origins(app, settings.allow_origin)
    app = AllowedHosts(app, names)  # the name that the visitor used, if a proxy says it
    app = SafeHeaders(app, settings.allow_origin)
    app = TrustedProxies(app, settings.trusted_proxy)
    return AllowedHosts(app, names)  # the name that was sent here: a rebound page can write X-Forwarded-Host


def _watching(unread: Unread) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watch = asyncio.create_task(unread.watch())
        try:
            yield
        finally:
            watch.cancel()

    return lifespan
