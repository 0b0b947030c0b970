"""Figures of updates: sums, and extremes that are none, over micro-batches and processes."""

from dataclasses import dataclass
from math import exp
from typing import Any

import pytest
import torch

from gpg_vl.runtime.parallel import World
from gpg_vl.training.metrics import UpdateFigures


@dataclass(frozen=True)
class Beside(World):
    """A process that gathers what others said before it."""

    others: tuple[dict[str, float], ...] = ()
    size: int = 2

    def gather(self, own: Any) -> list[Any]:
        return [*self.others, *own]


def figures(*micro_batches: list[float], cap: float | None = 2.0) -> UpdateFigures:
    """Of log-probabilities that are off by so much."""
    made = UpdateFigures()
    for differences in micro_batches:
        off = torch.tensor(differences)
        made.add(torch.tensor(1.0), {}, tokens=len(off))
        made.add_first(off - 3, torch.ones(len(off)), torch.full((len(off),), -3.0), cap)
    made.add_norm(1.0)
    return made


EXPECTED = {
    "logprob_gap": (0.5 + 1.0 + 0.25 + 0.0) / 4,
    "logprob_gap/max": 1.0,
    "importance/min": exp(-0.5),
    "importance/mean": (exp(-0.5) + exp(1.0) + exp(0.25) + 1) / 4,
    "importance/max": exp(1.0),
    "importance/capped": 0.25,
    "entropy": 1.0,
}


@pytest.mark.parametrize("cut", [[[-0.5, 1.0, 0.25, 0.0]], [[-0.5], [], [1.0, 0.25], [0.0]]])
def test_ratios_of_micro_batches(cut):
    found = figures(*cut).metrics(World())
    assert {name: found[name] for name in EXPECTED} == pytest.approx(EXPECTED)


def test_ratios_of_processes():
    """Of which one has nothing but a dummy, another no rows at all."""
    said: list[dict[str, float]] = []

    class Listening(World):
        def gather(self, own: Any) -> list[Any]:
            said.extend(own)
            return [*own, {"tokens": 1, "first_tokens": 1}]

    for one in (figures([-0.5, 1.0]), figures([]), UpdateFigures()):
        one.metrics(Listening())
    found = figures([0.25, 0.0]).metrics(Beside(others=tuple(said)))
    assert {name: found[name] for name in EXPECTED} == pytest.approx(EXPECTED)


def test_ratios_that_fp32_does_not_hold():
    found = figures([95.0, -200.0]).metrics(World())
    assert found["importance/max"] == pytest.approx(exp(95), rel=1e-4)
    assert found["importance/min"] == pytest.approx(exp(-200), rel=1e-4)


def test_the_trainers_own_answers_have_no_ratios():
    names = set(figures([0.1], cap=None).metrics(World()))
    assert names == {"loss", "entropy", "logprob_gap", "grad_norm", "nonfinite"}
    assert set(figures([0.1], cap=0.0).metrics(World())) == {*EXPECTED, *names} - {"importance/capped"}
