import pytest

from gpg_vl.evaluation.benchmarks import PREPARED
from gpg_vl.evaluation.compare import compare, comparison_table
from gpg_vl.evaluation.figures import summarize
from gpg_vl.stats import mcnemar

TABLE = {"right": 1.0, "length": {"weight": 0.5, "budget": 9}}


def evaluation(rewards, table=TABLE, clusters=None, answers=None):
    """Items with these scores of `right` and `length`; None as a table is a file of earlier versions."""
    items = [
        {
            **{"id": str(n), "task": "t", "gold": "(A)", "question": "?", "choices": [], "source": None},
            **{"cluster": clusters[n] if clusters else None, "correct": 0.0, "graded": True},
            "scores": {"format": 1.0},
        }
        for n in range(len(rewards))
    ]
    if table is None:
        return {"items": items, **summarize(items, PREPARED)}
    for item, (right, length) in zip(items, rewards, strict=True):
        total = right + 0.5 * (length or 0.0)
        item |= {"rewards": {"right": right, "length": length}, "reward": total}
    return {"items": items, "rewards": table, **summarize(items, PREPARED)}


BEFORE = [(0.0, -1.0), (0.0, -1.0), (1.0, -2.0), (0.0, None)]
AFTER = [(1.0, -3.0), (1.0, -1.0), (1.0, -2.0), (1.0, -1.0)]


def test_each_reward_and_the_weighted_sum_are_compared():
    found = compare(evaluation(BEFORE), evaluation(AFTER))["rewards"]
    assert list(found) == ["reward", "reward/right", "reward/length"]
    right, length, total = found["reward/right"], found["reward/length"], found["reward"]
    assert (right["count"], right["before"], right["after"]) == (4, 0.25, 1.0)
    assert right["difference"]["mean"] == 0.75 and right["p"] == mcnemar(3, 0)
    # The last question could not be graded before.
    assert (length["count"], length["before"], length["after"]) == (3, pytest.approx(-4 / 3), -2.0)
    assert (total["count"], total["difference"]["mean"]) == (3, pytest.approx((0.0 + 1.0 + 0.0) / 3))
    lines = comparison_table(compare(evaluation(BEFORE), evaluation(AFTER))).splitlines()
    [row] = [line.split("|") for line in lines if line.startswith("| length")]
    assert [cell.strip() for cell in row[1:6]] == ["length", "3", "-1.333", "-2", "-0.6667"]
    assert lines[-1].startswith("p in the table of rewards: how often chance alone would make so large")


def test_other_weights_leave_the_rewards_and_other_options_one_of_them():
    weights = {"right": 2.0, "length": {"weight": 0.1, "budget": 9}}
    found = compare(evaluation(BEFORE), evaluation(AFTER, weights))
    assert list(found["rewards"]) == ["reward/right", "reward/length"]
    assert found["other_rewards"] == ["reward"]
    options = {"right": 1.0, "length": {"weight": 0.5, "budget": 8}}
    found = compare(evaluation(BEFORE), evaluation(AFTER, options))
    assert list(found["rewards"]) == ["reward/right"]
    assert comparison_table(found).endswith("so these do not compare: weighted sum, length")


def test_how_a_reward_is_called_changes_no_score():
    called = {"deadline": 9, "workers": 2, "allow_ungraded": True}
    faster = {"right": 1.0, "length": {"weight": 0.5, "budget": 9, **called}}
    found = compare(evaluation(BEFORE), evaluation(AFTER, faster))
    assert not found["other_rewards"] and len(found["rewards"]) == 3
    chat = {"right": {"conversational": True}, "length": {"weight": 0.5, "budget": 9}}
    assert "reward/right" in compare(evaluation(BEFORE), evaluation(AFTER, chat))["other_rewards"]


def test_routes_by_task_are_compared_task_by_task():
    routed = {"by_task": {"t": TABLE}}
    assert not compare(evaluation(BEFORE, routed), evaluation(AFTER, routed))["other_rewards"]
    other = {"by_task": {"t": {**TABLE, "right": {"weight": 1.0, "strict": True}}}}
    found = compare(evaluation(BEFORE, routed), evaluation(AFTER, other))
    assert found["other_rewards"] == ["reward", "reward/right"]


def test_questions_of_one_image_are_one_piece_of_evidence():
    by_itself = compare(evaluation([(0, 0)] * 4), evaluation([(1, 0)] * 4))["rewards"]["reward/right"]
    one_image = compare(evaluation([(0, 0)] * 4), evaluation([(1, 0)] * 4, clusters=["i"] * 4))
    assert by_itself["p"] == 2 / 16 and one_image["rewards"]["reward/right"]["p"] == 1.0


def test_files_of_earlier_versions_compare_without_rewards():
    for pair in ((BEFORE, None, TABLE), (BEFORE, TABLE, None), (BEFORE, None, None)):
        scores, first, second = pair
        found = compare(evaluation(scores, first), evaluation(scores, second))
        assert found["rewards"] == {} and found["other_rewards"] == []
        assert "reward" not in comparison_table(found)


def test_a_reward_that_graded_nothing_has_no_row():
    found = compare(evaluation([(1.0, None)]), evaluation([(0.0, None)]))
    assert list(found["rewards"]) == ["reward", "reward/right"]
