import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from gpg_vl.errors import ModelError
from gpg_vl.model.adapter_files import check_fetched
from gpg_vl.runtime import hub

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def free(monkeypatch):
    """No switch is set, and what a test sets is undone in the libraries too."""
    for name in (
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub._answers.cache_clear()
    return monkeypatch


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_hub_that_takes_connections_is_reached(free, listening):
    free.setenv("HF_ENDPOINT", listening)
    assert hub.hub_reached() and "HF_HUB_OFFLINE" not in os.environ


@pytest.mark.parametrize("endpoint", [NOBODY, "https://no-such-host.invalid"])
def test_without_a_network_it_is_said_within_two_seconds(free, endpoint):
    free.setenv("HF_ENDPOINT", endpoint)
    start = time.monotonic()
    assert not hub.hub_reached()
    assert time.monotonic() - start < 2
    assert constants.is_offline_mode()  # so that the libraries do not try for themselves


def test_a_look_up_that_hangs_is_not_waited_for(free):
    free.setattr(socket, "create_connection", lambda *_, **__: time.sleep(5) or socket.socket())
    start = time.monotonic()
    assert not hub.hub_reached()
    assert time.monotonic() - start < 2


def test_a_proxy_is_asked_in_the_hubs_place(free, listening):
    free.setenv("HF_ENDPOINT", "http://no-such-host.invalid")
    free.setenv("http_proxy", listening)
    assert hub.hub_reached()
    free.setenv("no_proxy", "no-such-host.invalid")
    assert not hub.hub_reached()


@pytest.mark.parametrize(
    ("name", "value", "reached"),
    [
        ("HF_HUB_OFFLINE", "1", False),
        ("TRANSFORMERS_OFFLINE", "yes", False),
        ("HF_HUB_OFFLINE", "0", True),
    ],
)
def test_the_users_switch_decides(free, listening, name, value, reached):
    free.setenv("HF_ENDPOINT", NOBODY if reached else listening)
    free.setenv(name, value)
    assert hub.hub_reached() == reached


def test_a_model_that_cannot_be_had_names_what_is_here(free, tmp_path):
    free.setenv("HF_HUB_OFFLINE", "1")
    free.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--me--small" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    with pytest.raises(ModelError, match=r"'me/small' is no folder .*hf download me/small.*models: none"):
        check_fetched("me/small")
    (snapshot / "config.json").touch()
    check_fetched("me/small")
    check_fetched(str(tmp_path))
    with pytest.raises(ModelError, match=r"Fetched models: me/small$"):
        check_fetched("me/large")


@pytest.mark.parametrize(
    "words",
    [
        ["eval", "--model", "me/none", "--benchmark", "DATA"],
        ["prepare", "cv_bench", "--source", "me/none", "--out", "OUT"],
    ],
)
def test_commands_end_soon_without_a_network(tmp_path, words):
    environment = {name: value for name, value in os.environ.items() if name not in hub._SWITCHES}
    environment |= {"HF_ENDPOINT": NOBODY, "HF_HOME": str(tmp_path)}
    command = [
        sys.executable,
        "-m",
        "gpg_vl",
        *(str(tmp_path / word) if word.isupper() else word for word in words),
    ]
    root = Path(hub.__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "hub cannot be reached" in done.stderr
    assert "Retrying" not in done.stderr
