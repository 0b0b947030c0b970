"""How the app ends: one Ctrl-C is enough, also while models write, and further ones say nothing more."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.families import save_endless
from tests.support.serving import App, running

SOON = 20.0
"""Seconds, on a busy machine: open streams have two, and everything has ten."""


@pytest.fixture
def app(tiny_folder: Path, tmp_path: Path) -> Iterator[App]:
    """An app whose model writes until it is cut off."""
    base = save_endless(tmp_path / "endless", tiny_folder)
    with running(tmp_path, "--base", base, "--max_new_tokens", "4000") as app:
        yield app


def ask(app: App) -> threading.Thread:
    """Ask the model; returns once it writes, while somebody reads the answer's stream."""
    arguments = ["Why?", None, "", "choice", "", 1, 0, 4000, 0]
    asked = httpx.post(f"{app.address}/gradio_api/call/compare", json={"data": arguments}, timeout=60)
    event, begun = asked.json()["event_id"], threading.Event()

    def read() -> None:
        try:
            with httpx.stream("GET", f"{app.address}/gradio_api/call/compare/{event}", timeout=60) as stream:
                begun.set()
                for _ in stream.iter_lines():
                    pass
        except httpx.HTTPError:  # the server has ended
            pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert begun.wait(60)
    time.sleep(5)
    return reader


@pytest.mark.parametrize("pauses", [[], [0.2], [0.0, 0.5, 1.0]], ids=["once", "twice", "impatiently"])
@pytest.mark.parametrize("busy", [True, False], ids=["writing", "idle"])
def test_ctrl_c_ends_it_quietly(app, pauses, busy):
    reader = ask(app) if busy else None
    for pause in (0.0, *pauses):
        time.sleep(pause)
        if app.process.poll() is None:
            os.killpg(app.process.pid, signal.SIGINT)
    assert app.process.wait(SOON) in (0, 130)
    if reader is not None:
        reader.join(SOON)
        assert not reader.is_alive()
    said = app.log.read_text()
    assert "Traceback" not in said and "Error" not in said, said
