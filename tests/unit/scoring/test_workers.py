"""Rewards in worker processes: what hangs, dies, raises or returns nonsense is handled as documented."""

import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from pebble.pool.process import PoolManager

from gpg_vl.algorithm.collect import Collection
from gpg_vl.errors import ConfigurationError, RewardError
from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.scoring.scorer import Scorer
from gpg_vl.training.metrics import collection_metrics
from gpg_vl.types import Sample
from tests.support.groups import group as sampled_group
from tests.support.waiting import until

REWARDS = """
import os, signal, time
from pathlib import Path
from gpg_vl.errors import ConfigurationError
from gpg_vl.registry import reward

@reward("harsh", deadline=0.5, timeout_score=-1.0)
def harsh(completion, sample):
    if completion.text == "hang":
        time.sleep(60)
    return 0.0

@reward("works", deadline=0.5)
def works(completion, sample, *, folder=""):
    if completion.text == "hang":
        while True:
            pass
    if completion.text == "sleep":
        time.sleep(60)
    if completion.text == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if completion.text == "once":  # dies the first time only
        flag = Path(folder, "died")
        if not flag.exists():
            flag.touch()
            os._exit(3)
    if completion.text == "raise":
        raise ZeroDivisionError("by zero")
    if completion.text == "exit":
        raise SystemExit(3)
    if completion.text == "mistake":
        raise ConfigurationError("folder must exist")
    return {"none": None, "nan": float("nan"), "inf": float("inf")}.get(completion.text, len(completion.text))

def here(completion, sample):
    raise ConfigurationError("folder must exist")

@reward("group", deadline=5)
def group(completion, sample):
    return os.getpgrp()

@reward("pid")
def pid(completion, sample):
    return os.getpid()

def batch(completions, **columns):
    if "hang" in completions:
        time.sleep(60)
    if "raise" in completions:
        raise ZeroDivisionError("by zero")
    return [float(os.getpid()) for _ in completions]

async def awaited(completion, sample):
    return 1.0

def weighs(completion, sample, *, weight=1.0):
    return weight
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("rewards") / "worked.py"
    path.write_text(REWARDS)
    return path


def group(*texts):
    return [parse_completion(t, think_opened=False, token_count=1, finish_reason="eos") for t in texts]


SAMPLE = Sample("sample-7", "t", "Which?", "(A)", "choice", ("red", "blue"))


def test_scores_come_back_in_order(file):
    texts = ["x" * (n % 7) for n in range(60)]
    scores = Scorer({f"{file}:works": 2.0}).score(SAMPLE, group(*texts))
    assert scores.by_reward[f"{file}:works"] == tuple(float(len(text)) for text in texts)
    assert scores.total == tuple(2.0 * len(text) for text in texts)


@pytest.mark.parametrize("text", ["hang", "sleep"])
def test_an_answer_that_exceeds_the_deadline_scores_0_and_the_others_keep_theirs(file, text):
    name = f"{file}:works"
    scores = Scorer({name: 1.0}).score(SAMPLE, group("four", text, "x", "yz"))
    assert scores.by_reward[name] == (4.0, 0.0, 1.0, 2.0)
    assert scores.timeouts == {name: 1}
    assert scores.dropped == ()


def test_many_hanging_answers_cost_their_deadlines_only_and_nothing_is_lost(file):
    name = f"{file}:works"
    texts = ["hang", "a", "hang", "bc", "kill", "def"] * 2
    start = time.perf_counter()
    first, second = Scorer({name: 1.0, "format": 1.0}).score_groups(
        [(SAMPLE, group(*texts[:4])), (SAMPLE, group(*texts[4:]))]
    )
    assert time.perf_counter() - start < 90  # 7 on an idle machine, 33 beside other suites; a hang has no end
    assert first.by_reward[name] == (0.0, 1.0, 0.0, 2.0)
    assert first.timeouts == {name: 2}
    assert second.dropped == (name,)  # it has the kills
    assert second.by_reward == {"format": (0.0,) * 8}


def test_a_death_that_breaks_the_pool_costs_its_own_answer_only(file, monkeypatch):
    """As one does that comes before the pool was told of its task: whatever else is there is lost with it."""

    def break_it(self, worker):
        raise BrokenProcessPool("All workers expired")

    monkeypatch.setattr(PoolManager, "find_expired_task", break_it)
    name = f"{file}:works"
    first, second, third = Scorer({name: 1.0, "format": 1.0}).score_groups(
        [(SAMPLE, group("four", "hang")), (SAMPLE, group("x", "kill")), (SAMPLE, group("yz", "a"))]
    )
    assert first.by_reward[name] == (4.0, 0.0) and first.timeouts == {name: 1}
    assert second.dropped == (name,)
    assert third.by_reward[name] == (2.0, 1.0)


@pytest.mark.parametrize("text", ["kill", "none", "nan", "inf"])
def test_an_answer_without_a_score_drops_the_reward_for_its_group_alone(file, text):
    name = f"{file}:works"
    bad, good = Scorer({name: 1.0, "choice": 1.0}).score_groups(
        [(SAMPLE, group("four", text)), (SAMPLE, group("x", "yz"))]
    )
    assert bad.dropped == (name,)
    assert bad.total == (0.0, 0.0)
    assert good.by_reward[name] == (1.0, 2.0)
    assert good.dropped == ()


def test_a_worker_that_dies_once_costs_nothing(file, tmp_path):
    name = f"{file}:works"
    scores = Scorer({name: {"folder": str(tmp_path)}}).score(SAMPLE, group("once", "x"))
    assert (tmp_path / "died").exists()
    assert scores.by_reward[name] == (4.0, 1.0)


def test_a_bug_raises_with_the_rewards_name_the_sample_and_the_place(file):
    with pytest.raises(RewardError, match=r"works' failed on sample 'sample-7'[^$]*worked\.py[^$]*by zero"):
        Scorer({f"{file}:works": 1.0}).score(SAMPLE, group("x", "raise"))


def test_the_configuration_moves_a_reward_into_the_workers(file):
    name = f"{file}:pid"
    here = Scorer({name: 1.0}).score(SAMPLE, group("x"))
    there = Scorer({name: {"weight": 1.0, "deadline": 10}}).score(SAMPLE, group("x"))
    assert here.by_reward[name] == (os.getpid(),)
    assert there.by_reward[name] != (os.getpid(),)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"works": {"deadline": 0}}, "the deadline is seconds above 0, got 0"),
        ({"works": {"deadline": "soon"}}, "the deadline is seconds above 0, got 'soon'"),
        ({"works": {"workers": 0}}, "workers is a whole number from 1, got 0"),
        ({"works": {"workers": True}}, "workers is a whole number from 1, got True"),
        ({"pid": {"concurrency": 1.5}}, "concurrency is a whole number from 1, got 1.5"),
        ({"works": {"concurrency": 2}}, "concurrency calls the function in threads, which nothing can end"),
        ({"pid": {"concurrency": 2, "workers": 2}}, "concurrency calls the function in threads"),
        ({"awaited": {"workers": 2}}, "workers are for functions that compute; this one is `async`"),
        ({"pid": {"allow_ungraded": "yes"}}, "allow_ungraded is true or false, got 'yes'"),
        ({"weighs": {}}, "an option of the function cannot be called weight"),
        ({"works": {"conversational": True}}, "is for batch functions"),
        ({"batch": {"conversational": 1}}, "is for batch functions"),
    ],
)
def test_settings_that_make_no_sense_are_refused(file, entry, message):
    with pytest.raises(ConfigurationError, match=message):
        Scorer({f"{file}:{name}": values for name, values in entry.items()})


def test_a_batch_function_in_workers_gets_a_group_a_call(file):
    name = f"{file}:batch"
    groups = [(SAMPLE, group("x", "yz"))] * 2
    first, second = Scorer({name: {"workers": 2}}).score_groups(groups)
    assert {len({*one.total, float(os.getpid())}) for one in (first, second)} == {2}
    late, good = Scorer({name: {"deadline": 1}}).score_groups([(SAMPLE, group("hang", "x")), groups[0]])
    assert late.dropped == (name,) and late.timeouts == {name: 2} and late.ungraded == (name,)
    assert good.dropped == () and good.timeouts == {}
    with pytest.raises(RewardError, match=r"batch' failed on sample .*\n.*\n.*worked\.py:\d+, in batch: Z"):
        Scorer({name: {"workers": 2}}).score(SAMPLE, group("x", "raise"))


def test_a_reward_has_as_many_workers_as_it_asks_for(tmp_path):
    """Also where there are fewer CPUs: each answer waits until all four are there."""
    path = tmp_path / "meets.py"
    path.write_text(
        "import os, time\nfrom pathlib import Path\n"
        "def meets(completion, sample):\n"
        "    Path(sample.question, completion.text).touch()\n"
        "    while len(list(Path(sample.question).iterdir())) < 4:\n        time.sleep(0.01)\n"
        "    return os.getpid()\n"
    )
    (tmp_path / "here").mkdir()
    sample = replace(SAMPLE, question=str(tmp_path / "here"))
    scores = Scorer({f"{path}:meets": {"workers": 4}}).score(sample, group("a", "b", "c", "d"))
    assert len(set(scores.total)) == 4 and float(os.getpid()) not in scores.total


def test_workers_end_with_a_trainer_that_is_killed(tmp_path, file):
    """Also where one is busy for ever, and has no deadline."""
    (tmp_path / "stuck.py").write_text(
        "import os, time\nfrom pathlib import Path\n"
        "def stuck(completion, sample):\n"
        f"    Path({str(tmp_path)!r}, 'pid.part').write_text(str(os.getpid()))\n"
        f"    os.rename({str(tmp_path / 'pid.part')!r}, {str(tmp_path / 'pid')!r})\n    time.sleep(600)\n"
    )
    (tmp_path / "script.py").write_text(
        "from gpg_vl.scoring.scorer import Scorer\n"
        "from tests.unit.scoring.test_workers import SAMPLE, group\n"
        "if __name__ == '__main__':\n"
        f"    Scorer({{{str(tmp_path / 'stuck.py:stuck')!r}: {{'workers': 1}}}}).score(SAMPLE, group('x'))\n"
    )
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen([sys.executable, tmp_path / "script.py"], env=here) as trainer:
        until(lambda: (tmp_path / "pid").exists(), seconds=60)
        worker = psutil.Process(int((tmp_path / "pid").read_text()))
        trainer.kill()
    worker.wait(timeout=60)


def test_timeouts_are_a_metric(file):
    name = f"{file}:works"
    scores = Scorer({name: 1.0}).score(SAMPLE, group("hang", "x"))
    sampled = replace(sampled_group("q", 0, (1.0, 0.0)), scores=scores)
    metrics = collection_metrics(Collection((sampled,), 1), alpha=1.0)
    assert metrics[f"timeouts/{name}"] == 1
    assert f"dropped/{name}" not in metrics


def test_hanging_does_not_pay_where_wrong_answers_score_below_0(file):
    name = f"{file}:harsh"
    assert Scorer({name: 1.0}).score(SAMPLE, group("hang", "x")).by_reward[name] == (-1.0, 0.0)


@pytest.mark.parametrize("name", ["works", "here"])
def test_what_a_reward_calls_a_mistake_of_the_user_stays_one(file, name):
    with pytest.raises(ConfigurationError, match=rf"{name}': folder must exist"):
        Scorer({f"{file}:{name}": 1.0}).score(SAMPLE, group("mistake"))


def test_a_script_without_a_main_guard_is_told_so(tmp_path, file):
    script = tmp_path / "script.py"
    script.write_text(f"""
from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.scoring.scorer import Scorer
from gpg_vl.types import Sample

completion = parse_completion("x", think_opened=False, token_count=1, finish_reason="eos")
Scorer({{"{file}:works": 1.0}}).score(Sample("s", "t", "q", "3", "math"), [completion])
""")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("__main__") == 1  # once, and not by the workers
    assert "ConfigurationError: no worker process for rewards can start" in done.stderr


def worker_ids() -> list[int]:
    alive = [c for c in psutil.Process().children() if c.status() != psutil.STATUS_ZOMBIE]
    return sorted(child.pid for child in alive if "spawn_main" in " ".join(child.cmdline()))


def prepared_workers() -> list[int]:
    """Those that have begun to keep out of signals; one that still starts has not."""
    status = {worker: Path(f"/proc/{worker}/status").read_text() for worker in worker_ids()}
    ignored = {worker: int(re.findall(r"SigIgn:\t(\w+)", text)[0], 16) for worker, text in status.items()}
    mask = 1 << signal.SIGUSR1 - 1 | 1 << signal.SIGINT - 1
    return [worker for worker in ignored if ignored[worker] & mask == mask]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_that_die_with_nothing_to_do_are_replaced(file, number):
    name = f"{file}:works"
    scorer = Scorer({name: 1.0})
    scorer.score(SAMPLE, group("x"))
    before = worker_ids()
    for worker in before:
        os.kill(worker, number)
    for _ in range(3):
        assert scorer.score(SAMPLE, group("four", "x")).by_reward[name] == (4.0, 1.0)
    assert not set(before) & set(worker_ids())


def test_as_many_workers_as_each_entry_says_and_no_more(file):
    """One reward, with other processes for another task."""
    name, other = f"{file}:group", replace(SAMPLE, task="other")
    before = set(worker_ids())
    scorer = Scorer({"by_task": {SAMPLE.task: {name: {"workers": 2}}, "other": {name: {"workers": 3}}}})
    for _ in range(3):
        scorer.score_groups([(SAMPLE, group("x")), (other, group("x"))])
        assert len(set(worker_ids()) - before) <= 5


def test_signals_for_the_trainer_do_not_reach_its_workers(file):
    name = f"{file}:works"
    scorer = Scorer({name: 1.0})
    scorer.score(SAMPLE, group("x"))
    before = prepared_workers()
    for worker in before:
        os.kill(worker, signal.SIGUSR1)
        os.kill(worker, signal.SIGINT)
    assert scorer.score(SAMPLE, group("x")).by_reward[name] == (1.0,)
    assert before and set(before) <= set(worker_ids())
    own_group = Scorer({f"{file}:group": 1.0}).score(SAMPLE, group("x")).total[0]
    assert own_group != os.getpgrp()


def test_imports_are_no_part_of_the_deadline(tmp_path):
    path = tmp_path / "heavy.py"
    path.write_text("import time\ntime.sleep(1)\ndef heavy(completion, sample):\n    return 1.0\n")
    scores = Scorer({f"{path}:heavy": {"deadline": 0.3}}).score(SAMPLE, group("x", "y"))
    assert scores.total == (1.0, 1.0)
    assert scores.timeouts == {}


def test_an_exit_in_a_reward_is_a_bug_that_is_named(file):
    with pytest.raises(RewardError, match=r"works' failed on sample 'sample-7'"):
        Scorer({f"{file}:works": 1.0}).score(SAMPLE, group("exit"))
