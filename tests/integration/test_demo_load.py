"""Under attack, well-behaved visitors are served within twice their usual time, in bounded memory."""

import re
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from gradio_client import Client

from tests.support.attacks import wide_images
from tests.support.crowd import under, usual_time, visitors
from tests.support.serving import served

ATTACKER = "10.0.0.99"
OWN = [f"10.0.0.{number}" for number in range(1, 21)]
SHARED = [ATTACKER] * 20
"""Colleagues behind one address; the attacker is one of them."""


@pytest.fixture(scope="module")
def server(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    models = ("--base", tiny_folder, "--trained", tiny_folder)
    with served(tmp_path_factory.mktemp("load"), *models) as address:
        yield address


def ratio(server: str, clients: list[Client], attack: str, rounds: int = 3) -> float:
    """Of the time that visitors wait under attack to the usual one, before and after it."""
    usual_time(clients, 1)  # the models are loaded
    before = usual_time(clients, rounds)
    with under(attack, server, ATTACKER):
        attacked = usual_time(clients, rounds)
    usual = max(before, usual_time(clients, rounds))
    print(f"{attack}: {usual:.2f} s usually, {attacked:.2f} s under attack, {attacked / usual:.2f} times")
    return attacked / usual


def peak_memory() -> int:
    """MiB that the app and its worker have had resident at most, added up."""
    demos = [one for one in psutil.Process().children() if "demo" in one.cmdline()]
    family = [process for demo in demos for process in (demo, *demo.children(recursive=True))]
    status = "".join(Path(f"/proc/{process.pid}/status").read_text() for process in family)
    return sum(map(int, re.findall(r"VmHWM:\s+(\d+) kB", status))) // 1024


ATTACKS = ("dropped_posts", "unread_calls", "endless_powers", "wide_images")


@pytest.mark.parametrize(
    ("attack", "addresses"), [("dropped_posts", SHARED), ("unread_calls", SHARED), ("wide_images", OWN)]
)
def test_eight_pages_are_not_held_up(server, attack, addresses):
    """The tests below in little."""
    assert ratio(server, visitors(server, addresses[:8]), attack, rounds=2) < 2


def test_wide_images_take_bounded_memory(tiny_folder, tmp_path):
    """All eight at once would take 2.8 GB; one is decoded at a time, and two are looked at."""
    with served(tmp_path, "--base", tiny_folder, "--trained", tiny_folder) as server:  # no peak before
        usual_time(visitors(server, OWN[:1]), 2)
        before = peak_memory()
        wide_images(server, ATTACKER)()
        taken = peak_memory() - before
    print(f"{taken} MiB for eight wide images")
    assert taken < 1200


@pytest.mark.slow
@pytest.mark.parametrize("attack", [*ATTACKS, "many_pages"])
def test_an_attack_holds_up_nobody_else(server, attack):
    assert ratio(server, visitors(server, OWN), attack) < 2


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_from_the_same_address_holds_up_no_other_page(server, attack):
    assert ratio(server, visitors(server, SHARED), attack) < 2
