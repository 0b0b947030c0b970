import pytest

from gpg_vl.errors import DataError
from gpg_vl.evaluation.compare import compare, comparison_table


def evaluation(correct, *, task="t", gold="(A)", question="Which?", choices=(), cluster=None, **settings):
    """Items q-0, q-1, … with these scores."""
    items = [
        {
            **{"id": f"q-{n}", "task": task, "gold": gold, "question": question, "choices": list(choices)},
            **{"cluster": cluster, "correct": float(score)},
        }
        for n, score in enumerate(correct)
    ]
    return {"model": "m", "data": ["d"], "prompt": {}, "totals": {}, "items": items, **settings}


def test_difference_flips_and_mcnemar():
    # Eight fixed, two broken, ten as before.
    before = evaluation([0] * 8 + [1] * 2 + [1] * 5 + [0] * 5)
    after = evaluation([1] * 8 + [0] * 2 + [1] * 5 + [0] * 5)
    total = compare(before, after)["total"]
    assert total["count"] == 20 and total["before"] == 0.35 and total["after"] == 0.65
    assert total["difference"]["mean"] == pytest.approx(0.3)
    assert 0 <= total["difference"]["low"] < 0.3 < total["difference"]["high"] < 0.65
    assert total["mcnemar_p"] == pytest.approx(0.109375)
    assert total["fixed"] == [f"q-{n}" for n in range(8)] and total["broken"] == ["q-8", "q-9"]


def test_items_are_paired_by_id_and_told_apart_by_task():
    before, after = evaluation([0, 1, 1]), evaluation([1, 1, 0])
    before["items"][2]["task"] = after["items"][2]["task"] = "other"
    after["items"].reverse()
    comparison = compare(before, after)
    assert {task: (row["fixed"], row["broken"]) for task, row in comparison["tasks"].items()} == {
        "t": (["q-0"], []),
        "other": ([], ["q-2"]),
    }
    assert comparison["total"]["difference"]["mean"] == 0.0


def test_the_lenient_difference_is_told_beside_the_strict_one():
    before, after = evaluation([0, 0, 1, 1]), evaluation([1, 1, 1, 1])
    assert compare(before, after)["lenient"] is None
    for given, lenient in ((before, [1, 0, 1, 1]), (after, [1, 1, 1, None])):
        for item, score in zip(given["items"], lenient, strict=True):
            item["scores"] = {"lenient": score}
    comparison = compare(before, after)
    assert (comparison["lenient"]["before"], comparison["lenient"]["after"]) == (0.75, 0.75)
    assert "lenient accuracy, answers outside the tags included: 75.0% and 75.0%, +0.0" in comparison_table(
        comparison
    )


def test_graded_scores_have_no_mcnemar_but_flip_at_a_half():
    total = compare(evaluation([0.2, 0.9, 0.6]), evaluation([0.7, 0.4, 0.55]))["total"]
    assert total["mcnemar_p"] is None
    assert (total["fixed"], total["broken"]) == (["q-0"], ["q-1"])
    assert "| – |" in comparison_table(compare(evaluation([0.2]), evaluation([0.7])))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (evaluation([1, 1, 1]), evaluation([1]), r"B lacks 2 questions of the other \(q-1, q-2\)"),
        (evaluation([1]), evaluation([1] * 9), r"A lacks 8 .*\(q-1, q-2, q-3, q-4, q-5, …\)"),
        (evaluation([1, 0]), evaluation([1, 0], gold="(B)"), r"2 questions have another gold .*q-0, q-1"),
        (evaluation([1]), evaluation([0], question="Who?"), r"1 questions have another wording \(q-0\)"),
        (
            evaluation([1, 0], choices=("a", "b")),
            evaluation([1, 0], choices=("b", "a")),  # the same letter, another answer
            r"2 questions have other choices \(q-0, q-1\)",
        ),
        (evaluation([]), evaluation([]), "holds no questions"),
    ],
)
def test_other_questions_are_refused(before, after, message):
    with pytest.raises(DataError, match=message):
        compare(before, after)


def test_two_questions_of_one_id_are_refused():
    twice = evaluation([1, 0])
    twice["items"][1]["id"] = "q-0"
    with pytest.raises(DataError, match="several of one id"):
        compare(twice, twice)


def test_the_table_says_what_the_interval_means():
    lucky = comparison_table(compare(evaluation([0, 1, 0, 1]), evaluation([1, 1, 0, 0])))
    assert "| total | 4 | 50.0% | 50.0% | +0.0 |" in lucky
    assert "includes 0: the difference may be luck" in lucky
    assert "fixed: q-0" in lucky and "broken: q-3" in lucky
    clear = comparison_table(compare(evaluation([0] * 9), evaluation([1] * 9)))
    assert "leaves out 0" in clear and "broken:" not in clear
    assert "fixed: q-0, q-1, q-2, q-3, q-4, …" in clear


def test_the_table_says_what_to_beware_of():
    other = evaluation([1, 0], cluster="image", prompt={"template": "base"}, samples=1)
    text = comparison_table(compare(evaluation([1, 0], samples=1), other))
    assert "differ in prompt" in text and "McNemar's test does not" in text
    pixels = [evaluation([1, 0], pixels=[3136, most]) for most in (401_408, 802_816)]
    assert "differ in pixels" in comparison_table(compare(*pixels))
    same = comparison_table(compare(evaluation([1, 0]), evaluation([1, 0])))
    assert same.endswith("no question's accuracy differs")
