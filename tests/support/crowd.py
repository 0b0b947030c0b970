"""Visitors of the app who ask short questions and read the answers: how long they wait."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from gradio_client import Client

QUESTION = ["How many?", None, "1\n2", "choice", "2", 1, 0, 4, 0]
"""Arguments of `/compare`: a short question with a gold answer."""


def visitors(server: str, addresses: Sequence[str]) -> list[Client]:
    """One client with a session of its own for each address that it seems to come from."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda address: visitor(server, address), addresses))


def visitor(server: str, address: str) -> Client:
    return Client(server, headers={"X-Forwarded-For": address}, verbose=False)


def usual_time(clients: Sequence[Client], rounds: int) -> float:
    """Seconds: the median over clients of the median over their questions, all clients asking at once."""
    with ThreadPoolExecutor(len(clients)) as pool:
        return statistics.median(pool.map(lambda client: _median_time(client, rounds), clients))


@contextmanager
def under(attack: str, server: str, address: str) -> Iterator[None]:
    """While an attack of tests/support/attacks.py goes on, in a process of its own."""
    words = [sys.executable, "-m", "tests.support.attacks", attack, server, address]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "begins\n"
            time.sleep(0.5)
            yield
            assert process.poll() is None, "the attack failed"
        finally:
            process.terminate()


def _median_time(client: Client, rounds: int) -> float:
    return statistics.median(_time(client) for _ in range(rounds))


def _time(client: Client) -> float:
    start = time.monotonic()
    answer = client.predict(*QUESTION, api_name="/compare")
    assert {pane["state"] for pane in answer.values()} == {"done"}
    return time.monotonic() - start
