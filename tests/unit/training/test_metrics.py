"""Figures of updates, over micro-batches and processes, and of tasks."""

from dataclasses import dataclass
from math import exp
from typing import Any

import pytest
import torch

from gpg_vl.algorithm.collect import Collection
from gpg_vl.runtime.parallel import World
from gpg_vl.training.metrics import (
    UpdateFigures,
    collection_metrics,
    followed_tasks,
    metric_name,
    tracked_evaluation,
)
from gpg_vl.types import Sample
from tests.support.runs import BAD, RIGHT, WRONG, sampled_group


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
        made.add_sampled(off - 3, torch.ones(len(off)), torch.full((len(off),), -3.0), len(off), cap)
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
            return [*own, {"tokens": 1, "sampled_tokens": 1}]

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


def step(*groups: tuple[str, list[str]]) -> Collection:
    samples = [Sample(str(n), task, "?", "(A)", "choice", ("x", "y")) for n, (task, _) in enumerate(groups)]
    pairs = zip(samples, groups, strict=True)
    return Collection(tuple(sampled_group(sample, texts) for sample, (_, texts) in pairs), rounds=1)


def test_each_task_has_its_accuracy_and_reward():
    count, depth = "cv_bench/Count", "how deep?"
    collection = step((count, [RIGHT, WRONG]), (depth, [BAD, WRONG]), (count, [RIGHT, RIGHT]))
    metrics = collection_metrics(collection, 1.0, (count, depth, "absent"))
    assert {name: value for name, value in metrics.items() if name.startswith(("accuracy", "task_"))} == {
        **{"accuracy": 0.5, "accuracy/cv_bench/Count": 0.75, "accuracy/how_deep_": 0.0},
        **{"task_reward/cv_bench/Count": 3 * 1.5 / 4, "task_reward/how_deep_": 0.0},
    }
    assert not [name for name in collection_metrics(collection, 1.0) if name.startswith("accuracy/")]


def test_tasks_that_share_a_name_share_their_figures():
    metrics = collection_metrics(step(("a b", [RIGHT]), ("a_b", [WRONG])), 1.0, ("a b", "a_b"))
    assert metrics["accuracy/a_b"] == 0.5


def test_the_largest_tasks_are_followed_and_not_a_single_one():
    assert followed_tasks({"b": 1, "a": 2}) == ("a", "b")
    assert followed_tasks({"a": 3}) == ()
    many = {f"t{n:02d}": n for n in range(30)}
    assert followed_tasks(many) == tuple(f"t{n:02d}" for n in range(10, 30))


@pytest.mark.parametrize(
    ("task", "name"),
    [("cv_bench/Count", "cv_bench/Count"), ("a (b): c", "a_b_c"), ("计数", "计数"), ("?", "_"), ("/", "_")],
)
def test_names_of_tasks_suit_trackers(task, name):
    assert metric_name(task) == name


def test_an_evaluation_is_tracked_by_task():
    def figures(accuracy: float, count: int) -> dict[str, dict]:
        interval = {"mean": accuracy, "low": 0.0, "high": 1.0, "count": count}
        return dict.fromkeys(("accuracy", "format"), interval)

    evaluation = {"totals": figures(0.5, 6), "tasks": {"a": figures(0.25, 4), "b c": figures(1.0, 2)}}
    expected = {"eval/accuracy": 0.5, "eval/format": 0.5}
    assert tracked_evaluation(evaluation) == {**expected, "eval/accuracy/a": 0.25, "eval/accuracy/b_c": 1.0}
    assert tracked_evaluation({**evaluation, "tasks": {"a": figures(0.5, 6)}}) == expected
