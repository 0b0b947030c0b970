"""Functions as rewards: how a configuration names them, and who finds them under that name."""

import asyncio
import subprocess
import sys
from functools import partial

import pytest

import gpg_vl
from gpg_vl.errors import ConfigurationError, RewardError
from gpg_vl.interface.rewards import reference, reward_table
from gpg_vl.registry import rewards
from gpg_vl.rewards.choice import choice
from tests.support import letters


def short(completion, sample, *, limit: int = 10):
    return float(len(completion.text) < limit)


@gpg_vl.reward("named")
def registered(completion, sample):
    return 0.0


HERE = "tests/unit/interface/test_rewards.py"


def test_a_function_is_named_by_its_file(monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)
    assert reference(short) == f"{HERE}:short"
    assert reference(registered) == f"{HERE}:named"
    assert reference(letters.distinct) == "tests/support/letters.py:distinct"


def test_from_another_folder_the_name_is_a_whole_path(monkeypatch, pytestconfig, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert reference(short) == f"{pytestconfig.rootpath / HERE}:short"


def test_an_installed_reward_keeps_its_announced_name():
    assert reference(choice) == "choice"


def test_what_no_file_holds_is_of_this_session_alone():
    def local(completion, sample):
        return 1.0

    assert reference(local) == "python:local"
    assert reference(lambda completion, sample: 1.0) == "python:<lambda>"
    assert reference(partial(short, limit=3)) == "python:short"
    assert reward_table([local]) == {"python:local": 1.0}
    assert rewards.get("python:local").function is local


def test_another_process_is_told_why_it_cannot_find_it():
    code = "from gpg_vl.registry import rewards; rewards.get('python:local')"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = output.stderr.splitlines()[-1]
    assert "reward 'local' is a function of the Python session" in last and "file.py:local" in last


def test_tables_keep_weights_options_and_routes(monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)
    name = f"{HERE}:short"
    assert reward_table(short) == reward_table([short]) == {name: 1.0}
    assert reward_table(("choice", short)) == {"choice": 1.0, name: 1.0}
    assert reward_table({"choice": 2, short: {"weight": 0.5, "limit": 3}}) == {
        "choice": 2,
        name: {"weight": 0.5, "limit": 3},
    }
    routes = {"by_task": {"a": [short], "b": {"choice": 1.0}}}
    assert reward_table(routes) == {"by_task": {"a": {name: 1.0}, "b": {"choice": 1.0}}}


def test_what_is_no_reward_is_refused():
    with pytest.raises(ConfigurationError, match="a reward is a function or a name, got 3"):
        reward_table([3])
    with pytest.raises(ConfigurationError, match="a reward is a function or a name, got 3"):
        reward_table(3)
    with pytest.raises(ConfigurationError, match="two rewards are called 'python:<lambda>'"):
        reward_table([lambda c, s: 1.0, lambda c, s: 0.0])


def test_a_function_scores_with_its_options():
    answers = gpg_vl.Answers.read(["four", "longer than ten"], question="q", answer="x")
    assert gpg_vl.score(answers, {short: {"weight": 2.0, "limit": 5}}).total == (2.0, 0.0)


def test_a_function_of_trl_is_a_reward_too():
    def lengths(completions, answer, **columns):
        return [float(len(text) + len(gold)) for text, gold in zip(completions, answer, strict=True)]

    answers = gpg_vl.Answers.read(["four", "sixsix"], question="q", answer="x")
    assert gpg_vl.score(answers, lengths).total == (5.0, 7.0)


@pytest.mark.parametrize("setting", [{"deadline": 2.0}, {"workers": 1}])
def test_a_function_of_the_session_has_no_worker_processes(setting):
    """They would not find it; a function of a file they import, an async one needs none."""

    async def waiting(completion, sample):
        return 1.0

    answers = gpg_vl.Answers.read(["a"], question="Why?", answer="a")
    with pytest.raises(ConfigurationError, match="function of this Python session: put it into a file"):
        gpg_vl.score(answers, {(lambda completion, sample: 1.0): {"weight": 1.0, **setting}})
    assert gpg_vl.score(answers, {waiting: {"weight": 1.0, "deadline": 2.0}}).total == (1.0,)


def test_a_call_that_cancels_itself_is_a_reward_that_failed():
    async def impatient(completion, sample):
        raise asyncio.CancelledError

    with pytest.raises(RewardError, match="'python:impatient' failed on sample"):
        gpg_vl.score(gpg_vl.Answers.read(["a"], question="Why?", answer="a"), impatient)


def test_what_is_no_answer_and_no_reward_is_said():
    answers = gpg_vl.Answers.read(["a"], question="Why?", answer="a")
    for wrong in (None, ["a"], "a"):
        with pytest.raises(ConfigurationError, match="score takes the Answers"):
            gpg_vl.score(wrong, short)
    with pytest.raises(ConfigurationError, match="a reward is a function or a name, got 3"):
        gpg_vl.score(answers, 3)
    with pytest.raises(ConfigurationError, match="its parameters cannot be read; wrap it"):
        gpg_vl.score(answers, int)
