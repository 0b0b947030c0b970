"""The vote by the grader's equality, verdicts, gold answers that cannot be right, and rewards by whom."""

import json

import pytest
from PIL import Image

from gpg_vl.demo.service.gold import gold_problem, read_gold
from gpg_vl.demo.service.rewards import Rewards, operator_rewards, read_rewards
from gpg_vl.demo.service.verdicts import Question, Verdict, steps, unjudged, vote
from gpg_vl.errors import ConfigurationError, UnknownNameError
from gpg_vl.evaluation.benchmarks import BENCHMARKS
from gpg_vl.types import Sample
from tests.support.judged import question

SIDES = ("left", "right")


def judged(asked: Question, rewards: Rewards = Rewards()) -> list[Verdict]:  # noqa: B008
    """All steps, here and now."""
    verdicts = unjudged(asked)
    for step in steps(asked, rewards):
        verdicts = step.work(asked, verdicts)
    return verdicts


@pytest.mark.parametrize(
    ("asked", "answer", "count"),
    [
        (question("choice", "right", "(A)", "A", "left", "(A) left", choices=SIDES), "(A) left", 4),
        (question("choice", "neither", "(A)", "neither", choices=SIDES), "neither", 2),
        (question("math", "3", "1/2", "0.5", r"\frac12"), "1/2", 3),
        (question("math", "x+1", "1+x", "x + 1", "x+1", "x-1"), "x+1", 4),
        (question("number", "6", "5.0", "five", "5"), "5", 3),
        (question("label", "the dog", "a Cat", "cat"), "cat", 2),
        (question("boxes", "[0, 0, 9, 9]", "[50, 50, 60, 60]", "[50, 50, 60, 59]"), "[50, 50, 60, 60]", 2),
        (question("label", None, "cat", None), None, 2),
        (question("label", "cat", None, meta={"alternatives": ["dog"]}), "cat", 1),
        (question("label", "cat", "dog", meta={"alternatives": ["cat", "dog"]}), "cat", 1),
        (
            question("choice", "(B)", None, choices=SIDES, benchmark=BENCHMARKS["cv_bench"]),
            "(B) right",
            1,
        ),
    ],
)
def test_spellings_of_one_answer_are_one_vote(asked, answer, count):
    found = vote(judged(asked))
    assert (found.answer, found.count, found.right) == (answer, count, None)


def test_the_vote_is_right_or_wrong():
    asked = question("choice", "(B)", "A", "left", gold="(A)", choices=SIDES)
    assert vote(judged(asked)).right is True
    assert vote(judged(question("math", "0.5", "1/2", "3", gold="3"))).right is False


def test_verdicts_without_words_are_counted_by_their_spelling():
    verdicts = [Verdict("(A)", False), Verdict("(B)", True), Verdict(None, False), Verdict("(B)", True)]
    assert vote(verdicts) == vote([verdicts[1], verdicts[3]])
    assert vote(verdicts[:2]).answer == "(A)"


@pytest.mark.parametrize(
    ("kind", "gold", "words"),
    [
        ("choice", "maybe", "the gold answer 'maybe' is none of the choices: left, right"),
        ("choice", "left or right", "is none of the choices"),
        ("choice", "(C)", "is none of the choices"),
        ("choice", "(B)", ""),
        ("number", "many", "gold answer not readable as a number: 'many'"),
        ("number", "7", ""),
        ("math", r"\frac{1", "gold answer is empty or its braces do not match"),
        ("math", "9^{9^{9^{9}}}", "gold answer comparable only as a text"),
        ("math", r"\frac12", ""),
        ("label", "!!", "gold answer is only punctuation: '!!'"),
        ("boxes", "the left one", "the gold answer is no list of boxes such as"),
        ("boxes", "[[90, 10, 101, 40]]", "a gold box lies outside the image of 100 × 50 pixels"),
        ("boxes", "[[40, 40, 10, 10]]", "gold answer is no boxes with an area"),
        ("boxes", "[[0, 0, 100, 50]]", ""),
        ("math", "", ""),
    ],
)
def test_a_gold_answer_that_cannot_be_right_is_told(kind, gold, words):
    choices = SIDES if kind == "choice" else ()
    sample = Sample("q", "task", "?", gold, kind, choices, (Image.new("RGB", (100, 50)),))
    found = gold_problem(sample)
    assert words in found and bool(words) == bool(found)


def test_the_answers_stay_beside_what_is_wrong_with_the_gold_answer():
    [verdict] = judged(question("choice", "(A)", gold="maybe", choices=SIDES))
    assert (verdict.answer, verdict.right) == ("(A)", None) and "none of the choices" in verdict.problem
    [lonely] = judged(question("choice", "(A)", gold="B"))
    assert "there are no choices" in lonely.problem


@pytest.mark.parametrize(
    ("gold", "choices", "expected"),
    [("b.", SIDES, "(B)"), ("B. right", SIDES, "(B)"), ("LEFT", SIDES, "(A)"), ("maybe", SIDES, "maybe")],
)
def test_gold_answers_of_choices_are_letters(gold, choices, expected):
    assert read_gold(gold, choices) == expected


def test_a_gold_answer_has_a_length():
    with pytest.raises(ConfigurationError, match=r"has 10,001 characters; at most 10,000"):
        read_gold("1" * 10_001, ())


def test_the_trained_rewards_take_the_place_of_the_benchmarks():
    asked = question("choice", "(A)", gold="(A)", choices=SIDES)
    assert judged(asked)[0].rewards == {"choice": 1.0, "format": 1.0}
    assert judged(asked, Rewards({"choice": 2.0}))[0].rewards == {"choice": 1.0}
    assert judged(question("choice", "(A)", choices=SIDES), Rewards({"choice": 2.0}))[0].rewards == {}


def test_steps_ask_for_pixels_where_a_reward_reads_them(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    path = f"{tmp_path}/mine.py"
    asked = question("choice", "(A)", gold="(A)", choices=SIDES, images=(Image.new("L", (3, 2)),))
    for trained, reads in (({"choice": 2.0}, False), ({"by_task": {"t": {f"{path}:wide": 1.0}}}, True)):
        found = steps(asked, Rewards(trained, own=operator_rewards([f"{path}:wide", f"{path}:brief"])))
        assert [step.images for step in found] == [False, False, reads, True, False]
        assert [step.needs(asked).sample.images == asked.sample.images for step in found[3:]] == [True, False]
    assert not steps(asked, Rewards({f"{tmp_path}/none.py:f": 1.0}))[
        -1
    ].images  # scoring says that it is not there


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (["choice"], "`rewards` in .*gpg_vl.json must be a table, got .'choice'."),
        ("choice", "must be a table"),
        ({"choice": "high"}, "rewards.choice: the weight must be a number, got 'high'"),
        ({"by_task": ["choice"]}, "rewards.by_task is a table of tasks, got .'choice'."),
        ({"by_task": {"task": "choice"}}, "rewards must be a table such as .'choice': 1.0., got 'choice'"),
        ({"choice": {"limit": 3}}, "unknown option of reward 'choice' 'limit'"),
        ({"no_such_reward": 1.0}, "these rewards are not installed: no_such_reward"),
        ({"own.py:f": 1.0}, "these rewards are not installed: own.py:f"),
        ({"by_task": {"task": {"own.py:f": 1.0}}}, "these rewards are not installed: own.py:f"),
    ],
)
def test_rewards_of_a_checkpoint_that_cannot_be_had_say_why(tmp_path, monkeypatch, table, words):
    (tmp_path / "own.py").write_text("raise SystemExit('this ran')")
    (tmp_path / "gpg_vl.json").write_text(json.dumps({"rewards": table}))
    monkeypatch.chdir(tmp_path)
    asked = question("choice", "(A)", gold="(A)", choices=SIDES)
    rewards = read_rewards(["."])
    if rewards.trained is None:
        assert judged(asked, rewards)[0].right is True
        with pytest.raises(ConfigurationError, match=words):
            raise ConfigurationError(judged(asked, rewards)[0].problem)
    else:
        with pytest.raises(ConfigurationError, match=words):
            judged(asked, rewards)


def test_a_broken_card_says_why_and_rewards_are_the_first_models_that_has_some(tmp_path):
    for name, text in (("broken", "{"), ("other", '{"rewards": {"format": 1}}'), ("empty", "{}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "gpg_vl.json").write_text(text)
    names = [str(tmp_path / name) for name in ("empty", "other", "broken")]
    assert read_rewards(names).trained == {"format": 1}
    assert "cannot be read" in read_rewards([names[2]]).problem
    assert read_rewards(["nobody/nothing"]) == Rewards()


OWN = """
from gpg_vl.registry import reward

@reward("brief", kind="shaping", images=False)
def brief(completion, sample):
    return float(len(completion.text) < 40)

def wide(completion, sample):
    return sample.images[0].width

def moody(completion, sample):
    return None
"""


def test_a_reward_of_the_command_line_stands_beside_the_others(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    own = operator_rewards(["mine.py:brief", "mine.py:wide", "mine.py:moody"])
    assert list(own) == ["mine.py:brief", "mine.py:wide", "mine.py:moody"]
    monkeypatch.chdir("/")
    images = (Image.new("RGB", (30, 20)),)
    [verdict] = judged(question("label", "cat", gold="cat", images=images), Rewards({"label": 1.0}, own=own))
    assert verdict.rewards == {"label": 1.0, "mine.py:brief": 1.0, "mine.py:wide": 30.0}
    assert verdict.problem == "reward mine.py:moody cannot grade every answer"
    [without_gold] = judged(question("label", "cat", images=images), Rewards(own=own))
    assert without_gold.rewards == {"mine.py:brief": 1.0}


@pytest.mark.parametrize(
    ("code", "name", "error", "words"),
    [
        ("import nothing_of_this_name", "f", ConfigurationError, "cannot be imported: ModuleNotFoundError"),
        ("raise SystemExit(3)", "f", ConfigurationError, "cannot be imported: SystemExit: 3"),
        ("def f(completion, sample, *, limit): ...", "f", ConfigurationError, "needs the option 'limit'"),
        ("def f(completion, sample): ...", "g", UnknownNameError, "unknown reward in"),
    ],
)
def test_a_reward_of_the_command_line_that_cannot_be_had(tmp_path, code, name, error, words):
    (tmp_path / "mine.py").write_text(code)
    with pytest.raises(error, match=words):
        operator_rewards([f"{tmp_path}/mine.py:{name}"])
