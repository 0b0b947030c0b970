"""Rewards that wait: many calls in flight, late ones given up, and nothing that keeps the trainer."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gpg_vl.errors import ConfigurationError, RewardError
from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.scoring.scorer import Scorer
from gpg_vl.types import Sample
from tests.support.judging import judging
from tests.support.processes import ending

ROOT = Path(__file__).parents[3]
JUDGE = f"{ROOT / 'docs' / 'examples' / 'judge.py'}:judge"
REWARDS = """
import asyncio, threading, time
from functools import partial
from gpg_vl.errors import ConfigurationError
from gpg_vl.registry import reward

async def waits(completion, sample, *, seconds=0.0):
    if completion.text == "hang":
        await asyncio.sleep(600)
    if completion.text == "stubborn":  # and does not let itself be cancelled
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                pass
    if completion.text == "raise":
        raise ZeroDivisionError("by zero")
    if completion.text == "exit":
        raise SystemExit(3)
    if completion.text == "mistake":
        raise ConfigurationError("the judge's url is no url")
    if completion.text == "own":
        raise TimeoutError("of the function's own")
    await asyncio.sleep(seconds)
    return {"none": None, "nan": float("nan")}.get(completion.text, len(completion.text))

@reward(timeout_score=-1.0, deadline=0.2)
async def harsh(completion, sample):
    await asyncio.sleep(600 if completion.text == "hang" else 0)
    return 0.0

async def group(completions, answer, **columns):
    await asyncio.sleep(600 if "hang" in completions else 0.2)
    return [float(a in c) for c, a in zip(completions, answer)]

def blocks(completions, images, **columns):
    time.sleep(0.3)
    return [float(threading.get_ident()) if not sum(map(len, images)) else 1.0 for _ in completions]

def raises(completion, sample):
    raise ZeroDivisionError("by zero")

class Called:
    async def __call__(self, completion, sample):
        return 3.0

called, part = Called(), partial(waits, seconds=0.1)

async def loop(completion, sample):
    return float(id(asyncio.get_running_loop()))
"""
SAMPLE = Sample("sample-7", "t", "Which?", "(A)", "choice", ("red", "blue"))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("rewards") / "slow.py"
    path.write_text(REWARDS)
    return path


def group(*texts):
    return [parse_completion(t, think_opened=False, token_count=1, finish_reason="eos") for t in texts]


def answers(*texts):
    return group(*(f"<answer>{text}</answer>" for text in texts))


def test_a_judge_behind_http_has_many_answers_at_once():
    groups = [(SAMPLE, answers("(A)", "(B)", "(C)", "(A)"))] * 6
    with judging() as judge:
        judge.seconds = 0.3
        start = time.perf_counter()
        scores = Scorer({JUDGE: {"url": judge.url}}).score_groups(groups)
        seconds = time.perf_counter() - start
    assert [one.total for one in scores] == [(1.0, 0.0, 0.0, 1.0)] * 6
    assert judge.requests == 24 and judge.most > 12 and seconds < 24 * 0.3 / 2


def test_concurrency_bounds_the_requests():
    with judging() as judge:
        judge.seconds = 0.05
        Scorer({JUDGE: {"url": judge.url, "concurrency": 3}}).score_groups([(SAMPLE, answers(*"abcdef"))] * 3)
    assert judge.requests == 18 and judge.most == 3


def test_a_judge_that_is_down_costs_its_group_and_one_that_hangs_its_deadline():
    with judging() as judge:
        table = {JUDGE: {"url": judge.url, "deadline": 0.5}}
        bad, good = Scorer(table).score_groups([(SAMPLE, answers("(A)", "down")), (SAMPLE, answers("(A)"))])
        assert bad.dropped == (JUDGE,) and bad.ungraded == () and good.total == (1.0,)
        judge.answering.clear()
        late = Scorer(table).score(SAMPLE, answers("(A)", "(B)"))
    assert late.timeouts == {JUDGE: 2} and late.total == (0.0, 0.0)


def test_batches_of_several_groups_are_in_flight_together(file):
    groups = [(SAMPLE, group("(A)", "x"))] * 8
    start = time.perf_counter()
    scores = Scorer({f"{file}:group": 1.0}).score_groups(groups)
    assert [one.total for one in scores] == [(1.0, 0.0)] * 8
    assert time.perf_counter() - start < 8 * 0.2 / 2


def test_functions_that_block_run_in_threads_with_images(file, scene_samples):
    groups = [(SAMPLE, group("x", "y"))] * 4 + [(scene_samples[0], group("x"))]
    start = time.perf_counter()
    *plain, with_image = Scorer({f"{file}:blocks": {"concurrency": 5}}).score_groups(groups)
    assert time.perf_counter() - start < 5 * 0.3 / 1.5
    idents = {one.total[0] for one in plain}
    assert len(idents) == 4 and float(threading.get_ident()) not in idents
    assert with_image.total == (1.0,)


@pytest.mark.parametrize("text", ["hang", "stubborn"])
def test_a_late_answer_scores_0_and_the_others_keep_theirs(file, text):
    name = f"{file}:waits"
    scores = Scorer({name: {"deadline": 0.3}, "format": 1.0}).score(SAMPLE, group("four", text, "x"))
    assert scores.by_reward[name] == (4.0, 0.0, 1.0) and scores.by_reward["format"] == (0.0,) * 3
    assert scores.timeouts == {name: 1} and scores.dropped == ()
    assert Scorer({f"{file}:harsh": 1.0}).score(SAMPLE, group("hang", "x")).total == (-1.0, 0.0)


def test_the_wait_for_a_place_is_no_part_of_the_deadline(file):
    table = {f"{file}:waits": {"deadline": 0.5, "concurrency": 1, "seconds": 0.15}}
    scores = Scorer(table).score(SAMPLE, group(*"abcdefgh"))
    assert scores.total == (1.0,) * 8 and scores.timeouts == {}


def test_a_late_group_is_dropped_for_nobody_knows_whose_fault_it_is(file):
    name = f"{file}:group"
    table = {name: {"deadline": 1.0}}
    late, good = Scorer(table).score_groups([(SAMPLE, group("hang", "x")), (SAMPLE, group("(A)", "x"))])
    assert late.dropped == (name,) and late.timeouts == {name: 2} and late.ungraded == (name,)
    assert good.total == (1.0, 0.0) and good.timeouts == {}


@pytest.mark.parametrize("text", ["none", "nan"])
def test_an_answer_without_a_score_drops_the_reward_for_its_group_alone(file, text):
    name = f"{file}:waits"
    bad, good = Scorer({name: 1.0}).score_groups([(SAMPLE, group("four", text)), (SAMPLE, group("x", "yz"))])
    assert bad.dropped == (name,) and good.total == (1.0, 2.0)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("waits", "raise", r"slow\.py:17, in waits: ZeroDivisionError: by zero"),
        ("waits", "exit", r"slow\.py:19, in waits: SystemExit: 3"),
        ("waits", "own", r"slow\.py:23, in waits: TimeoutError: of the function's own"),
        ("raises", "x", r"slow\.py:41, in raises: ZeroDivisionError: by zero"),
    ],
)
def test_a_bug_is_told_as_one_of_any_reward_and_ends_no_loop(file, name, text, told):
    table = {f"{file}:{name}": {"concurrency": 2}}
    with pytest.raises(RewardError, match=rf"{name}' failed on sample 'sample-7'\n") as raised:
        Scorer(table).score(SAMPLE, group("x", text))
    assert re.fullmatch(rf".*{told}", str(raised.value).splitlines()[-1])
    assert Scorer({f"{file}:waits": 1.0}).score(SAMPLE, group("four")).total == (4.0,)


def test_what_a_reward_calls_a_mistake_of_the_user_stays_one(file):
    with pytest.raises(ConfigurationError, match="waits': the judge's url is no url"):
        Scorer({f"{file}:waits": 1.0}).score(SAMPLE, group("mistake"))


def test_objects_and_partials_are_awaited_and_all_share_one_loop(file):
    assert Scorer({f"{file}:called": 1.0}).score(SAMPLE, group("x")).total == (3.0,)
    assert Scorer({f"{file}:part": 1.0}).score(SAMPLE, group("four")).total == (4.0,)
    first, second = (Scorer({f"{file}:loop": 1.0}).score(SAMPLE, group("x")).total for _ in range(2))
    assert first == second


ENDS = """
import sys
from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.rollout.answering import Answered
from gpg_vl.scoring.scorer import Scorer
from gpg_vl.training.ahead import ScoringAhead
from gpg_vl.types import Sample

completion = parse_completion("x", think_opened=False, token_count=1, finish_reason="eos")
answered = Answered(Sample("s", "t", "q", "3", "math"), None, (), (completion,) * 3)
try:
    with ScoringAhead(Scorer({sys.argv[1]: {"weight": 1.0, **eval(sys.argv[2])}})) as scoring:
        scoring.submit(0, answered)
        scoring.submit(1, answered)
        if sys.argv[3] == "bug":
            sys.stdin.readline()
            raise ValueError("of the trainer")
        scoring.results()
except (KeyboardInterrupt, ValueError):
    print("ended")
"""
HANGS = """
import asyncio, time
async def hangs(completion, sample):
    print("at work", flush=True)
    try:
        await asyncio.sleep(600)
    finally:
        print("closed", flush=True)
async def blocks(completion, sample):
    print("at work", flush=True)
    time.sleep(600)
def blocks_too(completion, sample):
    print("at work", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("name", "entry", "how"),
    [
        ("hangs", {}, "SIGINT"),
        ("hangs", {"concurrency": 1}, "bug"),
        ("blocks", {}, "SIGINT"),
        ("blocks_too", {}, "SIGINT"),
        ("blocks_too", {"concurrency": 1}, "bug"),
    ],
)
def test_what_hangs_does_not_keep_the_trainer_from_ending(tmp_path, name, entry, how):
    (tmp_path / "hangs.py").write_text(HANGS)
    (tmp_path / "script.py").write_text(ENDS)
    words = [sys.executable, tmp_path / "script.py", f"{tmp_path / 'hangs.py'}:{name}", repr(entry), how]
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    trainer = subprocess.Popen(words, env=here, **pipes)
    with ending(trainer):
        assert trainer.stdout.readline() == "at work\n", trainer.stderr.read()
        if how == "SIGINT":
            os.kill(trainer.pid, signal.SIGINT)
        out, err = trainer.communicate("\n", timeout=120)  # what hangs takes 600
    assert trainer.returncode == 0 and err == ""
    assert "ended" in out and ("closed" in out) == (name == "hangs")
