"""The app's tabs in a browser."""

import time

from playwright.sync_api import Page, Request

_QUIET = 500
"""Milliseconds without a request after which nothing follows of itself."""
_LOOK = 50
_PATIENCE = 120.0
"""Seconds."""


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


class Traffic:
    """A page's events of Gradio's queue: one is open from its request until its stream has ended."""

    def __init__(self, page: Page) -> None:
        """Before the page is opened."""
        self._page = page
        self._open: set[Request] = set()
        page.on("request", self._begun)
        for end in ("requestfinished", "requestfailed"):  # the second where the page closed a stream
            page.on(end, self._ended)

    def settle(self) -> None:
        """Return once all that the page asked for is there: fields are drawn anew meanwhile."""
        quiet, give_up = 0, time.monotonic() + _PATIENCE
        while quiet < _QUIET:
            self._page.wait_for_timeout(_LOOK)
            quiet = 0 if self._open else quiet + _LOOK
            assert time.monotonic() < give_up, [request.url for request in self._open]

    def _begun(self, request: Request) -> None:
        if "/queue/" in request.url:
            self._open.add(request)

    def _ended(self, request: Request) -> None:
        self._open.discard(request)
