"""Counts of rewards: from threads, event loop and worker processes to the step that caused them."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.runtime.parallel import World
from gpg_vl.scoring.counters import count, counts_text, summed, taken
from gpg_vl.scoring.scorer import Scorer
from gpg_vl.training.metrics import count_metrics
from gpg_vl.types import Sample

REWARDS = """
from gpg_vl.registry import reward
from gpg_vl.scoring.counters import count

def counts(completion, sample, *, fails=False):
    count("own/calls")
    count("own/letters", len(completion.text))
    if fails:
        raise ValueError("after it has counted")
    return 1.0

async def waits(completion, sample):
    return counts(completion, sample)

@reward(deadline=30)
def works(completion, sample):
    return counts(completion, sample)

def batch(completions, **columns):
    count("own/calls", len(completions))
    return [1.0] * len(completions)
"""
SAMPLE = Sample("s", "t", "q", "3", "number")
GROUP = [
    parse_completion(text, think_opened=False, token_count=1, finish_reason="eos") for text in ("a", "bc", "")
]


@pytest.fixture(autouse=True)
def file(tmp_path):
    taken()
    path = tmp_path / "counting.py"
    path.write_text(REWARDS)
    return path


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("counts", {}),
        ("waits", {}),
        ("counts", {"concurrency": 3}),
        ("works", {}),
        ("counts", {"workers": 2}),
    ],
)
def test_counts_come_from_wherever_the_reward_runs(file, name, entry):
    groups = [(SAMPLE, GROUP)] * 2
    Scorer({f"{file}:{name}": {"weight": 1.0, **entry}}).score_groups(groups)
    assert taken() == {"own/calls": 6, "own/letters": 6} and taken() == {}


@pytest.mark.parametrize("entry", [{}, {"workers": 1}])
def test_batch_functions_count_too(file, entry):
    Scorer({f"{file}:batch": {"weight": 1.0, **entry}}).score(SAMPLE, GROUP)
    assert taken() == {"own/calls": 3}


def test_threads_lose_no_count():
    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(lambda: [count("x") for _ in range(2000)])
    assert taken() == {"x": 16000}


def test_counts_of_processes_are_added_up_by_name():
    assert summed([{"b": 1}, {}, {"a": 2, "b": 3}]) == {"a": 2, "b": 4}
    assert list(summed([{"b": 1}, {"a": 1}])) == ["a", "b"] and summed([]) == {}


def test_metrics_have_them_once():
    count("judge/requests", 3)
    count("an odd name")
    assert count_metrics(World(0, 1)) == {"counts/an_odd_name": 1, "counts/judge/requests": 3}
    assert count_metrics(World(0, 1)) == {}


def test_a_line_for_people():
    assert counts_text({"b": 1234567, "a": 2}) == "counted: a 2, b 1,234,567"
