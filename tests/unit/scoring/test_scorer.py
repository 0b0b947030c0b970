import math
import re
import time

import pytest

from gpg_vl.errors import ConfigurationError, RewardError, UnknownNameError
from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.scoring.scorer import Scorer, check_graded
from gpg_vl.types import Sample

REWARDS = """
def length(completion, sample, *, scale=1.0):
    return scale * len(completion.text)

def per_text(completion, sample):
    return {"none": None, "nan": float("nan"), "inf": float("inf"), "-inf": -float("inf")}.get(
        completion.text, 1.0)

def broken(completion, sample):
    raise ZeroDivisionError("by zero")

def words(completion, sample):
    return "many"

def integer(completion, sample):
    return len(completion.text)

def trl(completions, answer, choices, task, number, **columns):
    return [float(a in c) + n for c, a, n in zip(completions, answer, number, strict=True)]

def trl_short(completions, **columns):
    return [1.0]

def trl_none(completions, **columns):
    return [None for _ in completions]

def trl_option(completions, *, scale, **columns):
    return [scale for _ in completions]

def _parsed(text):
    import json
    return json.loads(text)

def within_a_library(completion, sample):
    return _parsed(completion.text)

def long(completion, sample):
    raise ValueError("x" * 500 + chr(10) + "more")
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "extra.py"
    path.write_text(REWARDS)
    return path


def completion(text):
    return parse_completion(text, think_opened=False, token_count=1, finish_reason="eos")


def sample(task="cv_bench/Count", answer="(A)", **meta):
    return Sample("sample-7", task, "Which?", answer, "choice", ("red", "blue"), meta=meta)


GROUP = [
    completion(text)
    for text in (
        "<think>x</think><answer>(A)</answer>",  # right, in form
        "<answer>(A)</answer>",  # right
        "<think>x</think><answer>(B)</answer>",  # in form
        "",
    )
]


def test_weighted_sum_and_scores_by_reward():
    scores = Scorer({"choice": 2.0, "format": {"weight": 0.5}}).score(sample(), GROUP)
    assert scores.by_reward == {"choice": (1.0, 1.0, 0.0, 0.0), "format": (1.0, 0.0, 1.0, 0.0)}
    assert scores.total == (2.5, 2.0, 0.5, 0.0)
    assert scores.correctness == (1.0, 1.0, 0.0, 0.0)
    assert scores.dropped == ()


def test_weight_and_options_of_an_entry(file):
    table = {f"{file}:length": {"scale": 0.1}, f"{file}:integer": -1}
    scores = Scorer(table).score(sample(), [completion("four")])
    assert scores.total == pytest.approx((0.4 - 4.0,))


def test_correctness_is_the_first_correctness_reward():
    assert Scorer({"format": 1.0}).score(sample(), GROUP).correctness is None
    scores = Scorer({"format": 1.0, "choice": 1.0, "number": 1.0}).score(sample(), GROUP)
    assert scores.correctness == scores.by_reward["choice"]


def test_routing_by_task():
    table = {"by_task": {"cv_bench": {"choice": 1}, "cv_bench/Depth": {"format": 1}, "math": {"number": 1}}}
    scorer = Scorer(table)
    assert [w.name for w in scorer.route("cv_bench/Count")] == ["choice"]
    assert [w.name for w in scorer.route("cv_bench/Count/far")] == ["choice"]
    assert [w.name for w in scorer.route("cv_bench/Depth")] == ["format"]
    assert [w.name for w in scorer.route("math")] == ["number"]
    assert scorer.score(sample("cv_bench/Depth"), GROUP).total == (1.0, 0.0, 1.0, 0.0)
    with pytest.raises(
        ConfigurationError, match=r"no entry for task 'cv_benchmark/Count'.*cv_bench, cv_bench/D"
    ):
        scorer.route("cv_benchmark/Count")


@pytest.mark.parametrize("hole", ["none", "nan", "inf", "-inf"])
def test_one_score_that_is_no_number_drops_the_reward_for_the_group(file, hole):
    scorer = Scorer({f"{file}:per_text": 10.0, "format": 1.0})
    whole = [completion("x"), completion("y")]
    scores = scorer.score(sample(), [completion("x"), completion(hole)])
    assert scores.dropped == (f"{file}:per_text",)
    assert scores.total == (0.0, 0.0)
    assert list(scores.by_reward) == ["format"]
    assert scores.correctness is None
    scorer.score(sample(), [completion(hole), completion("x")])
    assert scorer.score(sample(), whole).total == (10.0, 10.0)


def test_a_sample_that_cannot_be_graded_keeps_its_other_rewards():
    scores = Scorer({"choice": 1.0, "format": 0.5}).score(sample(answer="(F)"), GROUP)
    assert scores.dropped == ("choice",)
    assert scores.total == (0.5, 0.0, 0.5, 0.0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", r"extra\.py:10, in broken: ZeroDivisionError: by zero"),
        ("words", r"extra\.py:12, in words: ValueError: could not convert string to float: 'many'"),
        ("trl", r"extra\.py:18, in trl: TypeError: trl\(\) missing 1 required positional argument: 'number'"),
        ("within_a_library", r"extra\.py:32, in _parsed: JSONDecodeError: Expecting value.*"),
        ("long", r"extra\.py:38, in long: ValueError: x{188}…"),
    ],
)
def test_a_bug_in_a_reward_is_told_in_four_lines_the_last_with_the_users_line(file, name, message):
    with pytest.raises(RewardError) as raised:
        Scorer({f"{file}:{name}": 1.0}).score(sample(), GROUP)
    first, *_, last = lines = str(raised.value).splitlines()
    assert first == f"reward '{file}:{name}' failed on sample 'sample-7'"
    assert re.fullmatch(rf".*{message}", last) and len(lines) <= 4
    assert raised.value.trace.startswith("Traceback") and "calls.py" in raised.value.trace


def test_a_list_of_another_length_is_a_bug(file):
    message = r"trl_short' gave 1 scores for the 4 answers of sample 'sample-7'\n.*extra.py:21, in trl_short$"
    with pytest.raises(RewardError, match=message):
        Scorer({f"{file}:trl_short": 1.0}).score(sample(), GROUP)


def test_a_reward_written_for_trl_gets_columns(file):
    scores = Scorer({f"{file}:trl": 2.0}).score(sample(number=10), GROUP)
    assert scores.total == (22.0, 22.0, 20.0, 20.0)
    assert Scorer({f"{file}:trl_option": {"scale": 3}}).score(sample(), GROUP).total == (3.0,) * 4
    dropped = Scorer({f"{file}:trl_none": 1.0}).score(sample(), GROUP)
    assert dropped.dropped == (f"{file}:trl_none",)


def test_totals_are_plain_finite_floats(file):
    scores = Scorer({f"{file}:integer": 1}).score(sample(), GROUP)
    assert all(type(t) is float and math.isfinite(t) for t in scores.total)
    assert all(type(s) is float for s in scores.by_reward[f"{file}:integer"])


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ({}, ConfigurationError, "rewards is empty"),
        ({"by_task": {"math": {}}}, ConfigurationError, "rewards is empty"),
        ({"choise": 1.0}, UnknownNameError, "Did you mean 'choice'"),
        ({"choice": "much"}, ConfigurationError, "rewards.choice: the weight must be a number, got 'much'"),
        ({"choice": True}, ConfigurationError, "the weight must be a number, got True"),
        ({"choice": None}, ConfigurationError, "the weight must be a number, got None"),
        ({"choice": math.nan}, ConfigurationError, "the weight must be a number, got nan"),
        ({"choice": {"weight": math.inf}}, ConfigurationError, "the weight must be a number, got inf"),
        ({"number": {"tolerence": 1}}, ConfigurationError, "Did you mean 'tolerance'"),
        ({"by_task": {"math": {"number": 1}}, "format": 1}, ConfigurationError, "`by_task` stands alone"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(table, error, message):
    with pytest.raises(error, match=message):
        Scorer(table)


def test_4096_completions_take_less_than_half_a_second():
    choices = ("dark red", "red", "blue", "a green box")
    texts = ("(A)", "the dark red one", "I see no such box")
    answers = [
        completion(f"<think>{'Let me look at the image. ' * 40}</think><answer>{texts[k % 3]}</answer>")
        for k in range(8)
    ]
    groups = [(Sample(f"s{i}", "t", "Which?", "(A)", "choice", choices), answers) for i in range(512)]
    scorer = Scorer({"choice": 1.0, "format": 1.0})
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        scores = scorer.score_groups(groups)
        seconds.append(time.perf_counter() - start)
    assert [s.by_reward["choice"] for s in scores] == [(1, 1, 0) * 2 + (1, 1)] * 512
    assert min(seconds) < 0.5


def test_a_batch_function_gets_chat_messages_if_asked_for(tmp_path):
    path = tmp_path / "chat.py"
    path.write_text("""
def chat(prompts, completions, completion_ids):
    assert prompts[0] == [{"role": "user", "content": "Which?"}]
    assert [len(ids) for ids in completion_ids] == [0] * len(completions)
    return [float(len(messages[0]["content"])) for messages in completions]
""")
    name = f"{path}:chat"
    scores = Scorer({name: {"conversational": True}}).score(sample(), [completion("abc"), completion("")])
    assert scores.by_reward[name] == (3.0, 0.0)


def test_unused_routes_and_weights_below_0_are_noted():
    table = {
        "by_task": {"cv_bench": {"choice": 1}, "math": {"number": -2, "format": 1}, "geoqa": {"choice": 1}}
    }
    scorer = Scorer(table)
    assert scorer.notes(["cv_bench/Count", "geoqa", "geoqa"]) == [
        "rewards.by_task.math is used by no row of the data",
        "rewards.by_task.math.number has the weight -2: what it scores high is trained away",
    ]
    assert Scorer({"choice": 1.0, "format": 0.0}).notes(["any"]) == []
    with pytest.raises(ConfigurationError, match="no entry for task 'lisa'"):
        scorer.notes(["lisa"])


def test_a_reward_that_graded_no_answer_is_an_error_unless_it_may(file):
    name = f"{file}:per_text"
    table = {name: 1.0, "format": 1.0}

    def scored(*texts, table=table):
        return Scorer(table).score(sample(), [completion(text) for text in texts])

    for fine in (["none", "x"], ["x", "x"]):  # one hole in a group is no silence
        check_graded([scored("none", "nan"), scored(*fine)])
    check_graded([scored("none", "none", table={name: {"allow_ungraded": True}, "format": 1.0})])
    with pytest.raises(ConfigurationError, match=r"per_text' gave no answer .* set allow_ungraded: true"):
        check_graded([scored("none", "nan"), scored("inf", "none")])
