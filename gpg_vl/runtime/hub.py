"""Whether the Hugging Face hub can be reached, asked once and without retries, and what is here of it.

Its libraries try five times over 23 seconds for each file, also for those that were fetched before.
"""

import os
import socket
import sys
import threading
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_PATIENCE = 1.5
"""Seconds for a name's look-up and a connection, from anywhere."""
_TRUE = ("1", "ON", "YES", "TRUE")
_SWITCHES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_HELD = {"huggingface_hub.constants": "HF_HUB_OFFLINE", "datasets.config": "HF_HUB_OFFLINE"}
"""Where libraries hold the switch once they are imported."""


def hub_reached() -> bool:
    """Whether the hub may be asked; if not, its libraries are told, so that they look on this machine alone.

    HF_HUB_OFFLINE decides where it is set: 0 asks, however long it takes.
    """
    said = next((value for name in _SWITCHES if (value := os.environ.get(name))), None)
    if said is not None and said.upper() not in _TRUE:
        return True
    if said is None and _answers(_address(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")):
        return True
    _stay_offline()
    return False


def fetched_models() -> list[str]:
    """Ids of the models that are in the hub's cache on this machine."""
    from huggingface_hub import constants  # not before it is needed: it takes a while

    folders = Path(constants.HF_HUB_CACHE).glob("models--*--*")
    held = (folder for folder in folders if any(folder.glob("snapshots/*/*config.json")))
    return sorted(folder.name.removeprefix("models--").replace("--", "/") for folder in held)


def _stay_offline() -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    for module, name in _HELD.items():
        if module in sys.modules:
            setattr(sys.modules[module], name, True)


def _address(endpoint: str) -> tuple[str, int]:
    """Host and port to connect to: the hub's, or its proxy's."""
    url = urlsplit(endpoint)
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if proxy and not proxy_bypass(url.hostname or ""):
        url = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return url.hostname or "", url.port or (80 if url.scheme == "http" else 443)


@cache
def _answers(address: tuple[str, int]) -> bool:
    """Whether somebody takes a connection. In a thread: a name's look-up knows no time limit."""
    taken = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection(address, timeout=_PATIENCE).close()
        except (OSError, UnicodeError):
            done.set()
        else:
            taken.set()
            done.set()

    done = threading.Event()
    threading.Thread(target=connect, daemon=True).start()
    done.wait(_PATIENCE)
    return taken.is_set()
