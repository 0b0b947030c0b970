"""Under attack: well-behaved visitors are served within twice their usual time, in bounded memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client

from tests.support.crowd import under, usual_time, visitors
from tests.support.serving import served

ATTACKER = "10.0.0.99"
OWN = [f"10.0.0.{number}" for number in range(1, 21)]
SHARED = [ATTACKER] * 20
"""Colleagues behind one address; the attacker is one of them."""
ROUNDS = 3


@pytest.fixture(scope="module")
def server(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    models = ("--base", tiny_folder, "--trained", tiny_folder)
    with served(tmp_path_factory.mktemp("load"), *models) as address:
        yield address


def ratio(server: str, clients: list[Client], attack: str) -> float:
    """Of the time that visitors wait under attack to the usual one, before and after it."""
    usual_time(clients, 1)  # the models are loaded
    before = usual_time(clients, ROUNDS)
    with under(attack, server, ATTACKER):
        attacked = usual_time(clients, ROUNDS)
    usual = max(before, usual_time(clients, ROUNDS))
    print(f"{attack}: {usual:.2f} s usually, {attacked:.2f} s under attack, {attacked / usual:.2f} times")
    return attacked / usual


ATTACKS = ("dropped_posts", "unread_calls", "endless_powers", "wide_images")


@pytest.mark.slow
@pytest.mark.parametrize("attack", [*ATTACKS, "many_pages"])
def test_an_attack_holds_up_nobody_else(server, attack):
    assert ratio(server, visitors(server, OWN), attack) < 2


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_from_the_same_address_holds_up_no_other_page(server, attack):
    assert ratio(server, visitors(server, SHARED), attack) < 2
