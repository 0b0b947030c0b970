"""Whose question is next, its place in the queue, and how many one client may have open."""

import pytest

from gpg_vl.demo.service.clients import Client, network
from gpg_vl.demo.service.turns import Limits, Turns
from gpg_vl.errors import BusyError


def client(name: str) -> Client:
    """`a1` is session 1 of address a."""
    return Client(name[0], name)


def waiting(*questions: tuple[str, str]) -> Turns[str]:
    """From pairs of client and parts, a letter each."""
    turns: Turns[str] = Turns()
    for name, parts in questions:
        turns.add(client(name), list(parts))
    return turns


def order(turns: Turns[str]) -> str:
    taken = []
    while part := turns.take():
        taken.append(part)
    return "".join(taken)


@pytest.mark.parametrize(
    ("questions", "expected"),
    [
        ([("a1", "AB"), ("a1", "CD")], "ABCD"),  # as they came, each whole
        ([("a1", "AB"), ("a1", "CD"), ("a1", "EF"), ("b1", "xy")], "ABxyCDEF"),  # addresses take turns
        ([("a1", "A"), ("a1", "B"), ("a2", "C"), ("a3", "D"), ("b1", "x")], "AxCDB"),  # then their sessions
        (
            [("a1", "A"), ("a2", "B"), ("a3", "C"), ("b1", "x"), ("b1", "y")],
            "AxByC",
        ),  # many sessions, one turn
        ([], ""),
    ],
)
def test_who_asks_much_holds_up_nobody_else(questions, expected):
    turns = waiting(*questions)
    assert [turns.before(part) for part in expected] == list(range(len(expected)))
    assert order(turns) == expected
    assert turns.take() is None


def test_newcomers_stand_at_the_end():
    """Else a client that calls itself new each time would come first each time."""
    turns = waiting(("a1", "A"), ("a1", "B"), ("a2", "C"))
    assert turns.take() == "A"
    turns.add(client("a3"), "D")
    assert order(turns) == "CBD"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.5, "AxByCz"),  # what a turn is meant to cost
        (0.6, "xAyBzC"),  # a turn's worth behind
        (1.6, "xyzABC"),
    ],
)
def test_who_asks_for_much_work_is_passed_over(seconds, expected):
    turns = waiting(*(("a1", part) for part in "ABC"), *(("b1", part) for part in "xyz"))
    turns.charge(client("a1"), seconds)
    assert [turns.before(part) for part in expected] == list(range(6))
    assert order(turns) == expected


def test_debts_hold_within_an_address_too_and_nobody_waits_for_ever():
    turns = waiting(("a1", "A"), ("a2", "B"), ("a2", "C"))
    turns.charge(client("a1"), 1e9)
    assert order(turns) == "BCA"
    turns.add(client("a1"), "D")
    turns.add(client("a2"), "E")
    assert order(turns) == "DE"  # nobody waited: forgiven


def test_who_stops_waiting_leaves_the_others_in_their_places():
    turns = waiting(("a1", "AB"), ("a1", "CD"), ("b1", "xy"), ("b2", "z"))
    assert turns.take() == "A"
    assert turns.remove("B") and not turns.remove("B") and not turns.remove("A")
    assert turns.remove("x") and turns.remove("y")
    assert (turns.before("z"), turns.before("B")) == (2, 0)
    assert order(turns) == "CDz"


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (["a1", "a1"], "you have 2 questions open, and 2 is the limit"),
        (["a2", "a3", "a4"], "your address has 3 questions open, and 3 is the limit"),
        (["b1", "b2", "b3", "c1", "c2", "a1"], "6 questions are open, and 6 is the limit"),
    ],
)
def test_too_much_is_refused_in_words(others, message):
    limits = Limits.sharing(total=6, session=2)
    limits.admit(client("a1"), [client(name) for name in others[:-1]])
    with pytest.raises(BusyError, match=message):
        limits.admit(client("a1"), [client(name) for name in others])


def test_an_address_is_never_below_a_session():
    assert Limits.sharing(total=1, session=2) == Limits(2, 2, 1)


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),  # one customer's, who chooses the rest
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("testclient", "testclient"),
    ],
)
def test_addresses_are_counted_by_whom_they_belong_to(host, counted):
    assert network(host) == counted
