import json

import pytest

from gpg_vl.config import DataConfig, EvalConfig, ModelConfig, RunConfig, TrainConfig
from gpg_vl.errors import ConfigurationError, UnknownNameError
from gpg_vl.evaluation.benchmarks import PREPARED
from gpg_vl.evaluation.figures import evaluation_metrics, evaluation_table, in_words, summarize
from gpg_vl.evaluation.grading import grade
from gpg_vl.evaluation.own_rewards import given_rewards, own_rewards
from gpg_vl.scoring.scorer import Scorer
from tests.unit.evaluation.test_grading import CHOICE, WHOLE, answered

MINE = """
def letters(completion, sample, *, letter: str = "e"):
    return None if "?" in completion.text else 2.0 * completion.text.count(letter)
"""


@pytest.fixture
def table(tmp_path):
    """The letter l at half its weight, beside a built-in reward."""
    (tmp_path / "mine.py").write_text(MINE)
    return {f"{tmp_path / 'mine.py'}:letters": {"weight": 0.5, "letter": "l"}, "choice": 1.0}


def scores(item):
    return list(item["rewards"].values()), item["reward"]


def test_answers_have_their_rewards_and_the_weighted_sum(table):
    items = grade([answered(CHOICE, text) for text in (WHOLE, "llll?", "ll")], PREPARED, scorer=Scorer(table))
    # "It glows." holds one l. What cannot be graded is left out of the sum, as in training.
    assert [scores(item) for item in items] == [
        ([2.0, 1.0], 2.0),
        ([None, 0.0], 0.0),
        ([4.0, 0.0], 2.0),
    ]
    assert items[0]["scores"] == {"choice": 1.0, "format": 1.0}  # the benchmark's own, beside them


def test_several_answers_are_averaged_and_holes_cost_no_other_answer(table):
    (item,) = grade([answered(CHOICE, WHOLE, "?", "ll")], PREPARED, scorer=Scorer(table))
    assert scores(item) == ([3.0, 1 / 3], pytest.approx(4 / 3))
    by_answer = [([2.0, 1.0], 2.0), ([None, 0.0], 0.0), ([4.0, 0.0], 2.0)]
    assert [scores(one) for one in item["samples"]] == by_answer
    figure = summarize([item], PREPARED)["totals"][f"reward/{next(iter(table))}"]
    assert (figure["mean"], figure["count"], figure["ungraded"]) == (3.0, 1, 1)


def test_a_task_without_rewards_has_none(table):
    scorer = Scorer({"by_task": {"other": table}})
    (item,) = grade([answered(CHOICE, WHOLE)], PREPARED, scorer=scorer)
    assert item["rewards"] == {} and item["reward"] is None
    assert "reward" not in summarize([item], PREPARED)["totals"]


def test_figures_count_what_was_not_graded(table):
    items = grade([answered(CHOICE, text) for text in (WHOLE, "?", "ll")], PREPARED, scorer=Scorer(table))
    name = next(iter(table))
    summary = summarize(items, PREPARED)
    totals = summary["totals"]
    assert {key: totals[key]["mean"] for key in ("reward", f"reward/{name}", "reward/choice")} == {
        "reward": pytest.approx(4 / 3),
        f"reward/{name}": 3.0,
        "reward/choice": pytest.approx(1 / 3),
    }
    assert [totals[key]["ungraded"] for key in ("reward", f"reward/{name}", "reward/choice")] == [0, 1, 0]
    assert summary["tasks"]["t"]["reward"] == totals["reward"]
    evaluation = {"benchmark": "prepared", "samples": 1, "items": items, **summary}
    lines = evaluation_table(evaluation).split("\n\n")[1].splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in lines]
    assert [rows[0], *rows[2:]] == [
        ["reward", "questions", "mean"],
        ["weighted sum", "3", "1.333"],
        [name, "2", "3"],
        ["choice", "3", "0.3333"],
    ]
    assert in_words(evaluation).endswith(
        f"format 33.3%, reward 1.333 ({name} 3 with 1 not graded, choice 0.3333)"
    )
    assert evaluation_metrics(evaluation)[f"eval/reward/{name}"] == 3.0


def test_a_reward_that_grades_nothing_is_counted_and_has_no_mean(table):
    items = grade([answered(CHOICE, "?")], PREPARED, scorer=Scorer(table))
    name = next(iter(table))
    totals = summarize(items, PREPARED)["totals"]
    assert (totals[f"reward/{name}"]["mean"], totals[f"reward/{name}"]["ungraded"]) == (None, 1)
    evaluation = {"benchmark": "prepared", "samples": 1, **summarize(items, PREPARED)}
    assert f"{name} – with 1 not graded" in in_words(evaluation)
    assert f"eval/reward/{name}" not in evaluation_metrics(evaluation)


@pytest.mark.parametrize(
    ("text", "followed"),
    [
        (r"So \boxed{65}.", 1.0),
        (r"\boxed{1} and \boxed{2}", 1.0),
        (r"<think>\boxed{5}", 0.0),
        (r"\boxed{}", 0.0),
        ("The answer is 65.", 0.0),
        ("<think>x</think><answer>65</answer>", 0.0),
    ],
)
def test_a_boxed_prompt_has_a_format_of_its_own(text, followed):
    (item,) = grade([answered(CHOICE, text)], PREPARED, template="boxed")
    assert item["scores"]["format"] == followed


def test_a_home_folder_is_expanded(table, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert given_rewards({"by_task": {"t": {"~/mine.py:letters": 1.0}}}) == {
        "by_task": {"t": {f"{tmp_path}/mine.py:letters": 1.0}}
    }


def test_a_table_comes_from_the_checkpoint_a_file_or_the_command(table, tmp_path):
    card = {"rewards": table}
    assert own_rewards("on", card, "m") == (table, "")
    assert own_rewards("off", card, "m") == own_rewards("on", {}, "m") == (None, "")
    assert own_rewards({"format": 1.0}, card, "m") == ({"format": 1.0}, "")
    for number, content in enumerate(({"format": 2.0}, {"out": "x", "rewards": {"format": 2.0}})):
        file = tmp_path / f"{number}.yaml"
        file.write_text(json.dumps(content))
        assert own_rewards(str(file), {}, "m") == ({"format": 2.0}, "")


def test_rewards_of_a_checkpoint_that_cannot_be_had_are_told_in_a_line(table, tmp_path):
    (tmp_path / "mine.py").unlink()
    for card in ({"rewards": table}, {"rewards": {"choise": 1.0}}, {"rewards": [1]}):
        found, note = own_rewards("on", card, "m")
        assert found is None and note.count("\n") == 0
        assert note.startswith("warning: rewards of 'm/gpg_vl.json' cannot be had: ")
        assert "going on with the benchmark's grading" in note.lower()
    with pytest.raises(ConfigurationError, match=r"no file .*mine\.py"):
        own_rewards(table, {}, "m")
    with pytest.raises(UnknownNameError, match="choise"):
        own_rewards({"choise": 1.0}, {}, "m")


def test_what_is_no_table_says_so(tmp_path):
    (tmp_path / "list.yaml").write_text("rewards: [choice]")
    for given, message in [
        ("yes", "--rewards is on, off, a table such as"),
        (str(tmp_path / "gone.yaml"), "there is no file"),
        (str(tmp_path / "list.yaml"), r"must be a table such as .*got \['choice'\]"),
    ]:
        with pytest.raises(ConfigurationError, match=message):
            given_rewards(given)


def test_a_judge_that_costs_is_spared_in_validation():
    given = {
        "out": "r",
        "model": ModelConfig("org/m"),
        "data": DataConfig(["d"], ["v"]),
        "run": RunConfig(best_by="reward"),
    }
    assert TrainConfig(**given).eval.rewards
    with pytest.raises(ConfigurationError, match=r"unknown run\.best_by 'reward'; known: accuracy, format"):
        TrainConfig(**given, eval=EvalConfig(rewards=False))
