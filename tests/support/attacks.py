"""Visitors of the app who mean ill: `python -m tests.support.attacks NAME SERVER ADDRESS`."""

import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from tests.support.crowd import QUESTION, visitors

Attack = Callable[[], None]
"""Once; it ends when its answers have come."""
_PAUSE = 2.0
"""Seconds before an attack is repeated."""


def dropped_posts(server: str, address: str) -> Attack:
    """A hundred direct calls that are given up after two seconds."""
    return _posts(server, address, "run/compare", 100)


def unread_calls(server: str, address: str) -> Attack:
    """128 questions whose answers nobody fetches."""
    return _posts(server, address, "call/compare", 128)


def endless_powers(server: str, address: str) -> Attack:
    """Four gold answers that no computer evaluates."""
    return _questions(server, address, 4, gold="9^{9^{9^{9}}}", answer_type="math")


def wide_images(server: str, address: str) -> Attack:
    """Eight images of 30 KB and 40 million pixels."""
    file = Path(tempfile.mkdtemp()) / "wide.gif"
    Image.new("P", (6300, 6300)).save(file)
    return _questions(server, address, 8, image=handle_file(file))


def many_pages(server: str, address: str) -> Attack:
    """Thirty pages that ask, and read the answers."""
    return _questions(server, address, 30)


def _posts(server: str, address: str, path: str, count: int) -> Attack:
    client = httpx.Client(headers={"X-Forwarded-For": address}, timeout=2)

    def post(_: int) -> None:
        with suppress(httpx.HTTPError):
            client.post(f"{server}/gradio_api/{path}", json={"data": QUESTION})

    def attack() -> None:
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(post, range(count)))

    return attack


def _questions(server: str, address: str, count: int, **changes: object) -> Attack:
    clients = visitors(server, [address] * count)
    given = {"question": "Why?", "image": None, "max_new_tokens": 4, **changes}

    def ask(client: Client) -> None:
        with suppress(AppError):
            client.predict(**given, api_name="/compare")

    def attack() -> None:
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(ask, clients))

    return attack


def main(name: str, server: str, address: str) -> None:
    """Attack again and again."""
    attack = globals()[name](server, address)
    print("begins", flush=True)
    while True:
        attack()
        time.sleep(_PAUSE)


if __name__ == "__main__":
    main(*sys.argv[1:])
