"""Generations: whose turn it is, limits, and a crash that reaches whoever follows. Nothing sleeps."""

import threading

import pytest

from gpg_vl.demo.service.clients import Client
from gpg_vl.demo.service.generate import Ask, Generations
from gpg_vl.errors import BusyError, ModelError
from gpg_vl.evaluation.benchmarks import PREPARED
from gpg_vl.types import Sample

ASK = Ask(Sample("q", "task", "?", "", "label"), PREPARED)


class Gate:
    """Models that cannot be had, and say so once the gate opens; remembers who came."""

    def __init__(self) -> None:
        self.open, self.arrived = threading.Event(), threading.Event()
        self.came: list[str] = []

    def loaded(self, path: str) -> bool:
        return True

    def get(self, path: str) -> None:
        self.came.append(path)
        self.arrived.set()
        assert self.open.wait(30)
        raise ModelError("no model")


@pytest.fixture
def gate() -> Gate:
    return Gate()


def follow(generations: Generations, client: Client, *paths: str):
    """A question that has been asked."""
    moments = generations.follow(client, paths, ASK)
    assert [progress.state for progress in next(moments)] != []
    return moments


def test_questions_are_answered_in_turns(gate):
    generations = Generations(gate, 1, max_questions=9)
    greedy, other = Client("a", "greedy"), Client("b", "other")
    open_ = [follow(generations, greedy, "first")]
    assert gate.arrived.wait(30)
    open_ += [follow(generations, greedy, name) for name in ("second", "third")]
    last = generations.follow(other, ["base", "trained"], ASK)
    assert [progress.ahead for progress in next(last)] == [1, 2]
    gate.open.set()
    for moments in [*open_, last]:
        assert {progress.state for progress in list(moments)[-1]} == {"failed"}
    assert gate.came == ["first", "second", "base", "trained", "third"]
    generations.close()


def test_too_many_questions_are_refused_until_one_is_over(gate):
    generations = Generations(gate, 1, max_questions=1)
    client = Client("a", "page")
    first = follow(generations, client, "one")
    with pytest.raises(BusyError, match="you have 1 question open"):
        next(generations.follow(client, ["two"], ASK))
    first.close()
    follow(generations, client, "three").close()
    gate.open.set()
    generations.close()


def test_who_left_while_waiting_costs_nothing(gate):
    generations = Generations(gate, 1)
    running = follow(generations, Client("a", "one"), "running")
    assert gate.arrived.wait(30)
    follow(generations, Client("b", "two"), "left").close()
    gate.open.set()
    list(running)
    list(follow(generations, Client("c", "three"), "last"))
    assert gate.came == ["running", "last"]
    generations.close()


class Broken:
    """Models that have a bug."""

    def loaded(self, path: str) -> bool:
        raise ZeroDivisionError("a bug")


def test_a_bug_reaches_whoever_follows():
    generations = Generations(Broken(), 1)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        list(generations.follow(Client("a", "b"), ["base"], ASK))
    generations.close()
