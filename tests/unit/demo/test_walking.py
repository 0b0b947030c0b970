"""From question to question of two evaluations."""

import json
from pathlib import Path

import pytest

from gpg_vl.demo.service.evaluations import BROKEN, FIXED, Evaluations, Selection
from gpg_vl.demo.service.walking import following, opened
from gpg_vl.errors import DataError
from tests.support.evaluations import RIGHT, WRONG, evaluation, item

FIXED_IDS = ["q1", "q4", "q7"]
"""Of q0 to q8; q2 is broken, the others stay wrong."""


@pytest.fixture
def run(tmp_path: Path) -> Evaluations:
    (tmp_path / "eval").mkdir()
    for place, name in enumerate(("step_000000", "step_000005")):
        right = FIXED_IDS if place else ["q2"]
        items = [
            item(f"q{at}", RIGHT if f"q{at}" in right else WRONG, f"t/{at % 2}", f"Question {at}?")
            for at in range(9)
        ]
        told = {**evaluation(place), "items": items}
        told["tasks"] = {"t/0": told["totals"], "t/1": told["totals"]}
        (tmp_path / f"eval/{name}.json").write_text(json.dumps(told))
    return Evaluations.of(str(tmp_path))


def walk(run: Evaluations, selection: Selection, *outcomes: str) -> list[tuple[str, str]]:
    seen = []
    for outcome in outcomes:
        found = following(run, selection, outcome)
        selection = Selection.from_json(found.selection.to_json())  # as a page keeps it
        assert found.base["id"] == found.trained["id"] == selection.id
        seen.append((selection.id, found.where))
    return seen


def test_next_fixed_goes_round_in_the_order_of_the_questions(run):
    assert walk(run, Selection(), *[FIXED] * 4) == [
        ("q1", "1 of 3 fixed"),
        ("q4", "2 of 3 fixed"),
        ("q7", "3 of 3 fixed"),
        ("q1", "1 of 3 fixed"),
    ]


def test_another_outcome_goes_on_from_where_one_is(run):
    assert walk(run, Selection(id="q1"), BROKEN, FIXED, BROKEN) == [
        ("q2", "1 of 1 broken"),
        ("q4", "2 of 3 fixed"),
        ("q2", "1 of 1 broken"),
    ]


def test_the_filter_is_kept(run):
    assert walk(run, Selection(task="t/1"), FIXED, FIXED, FIXED) == [
        ("q1", "1 of 2 fixed · t/1"),
        ("q7", "2 of 2 fixed · t/1"),
        ("q1", "1 of 2 fixed · t/1"),
    ]
    assert walk(run, Selection(text=" question 4"), FIXED) == [("q4", "1 of 1 fixed · with 'question 4'")]
    with pytest.raises(DataError, match="no question is broken · t/1"):
        following(run, Selection(task="t/1"), BROKEN)


def test_a_question_is_opened_from_any_list(run):
    found = opened(run, Selection("step_000000", "step_000005", "Still wrong", id="q3"))
    assert (found.where, found.answers["trained"]) == ("2 of 5 still wrong", (found.trained, "step_000005"))
    assert opened(run, Selection(id="q8")).where == "9 of 9 questions"
    assert opened(run, Selection(outcome=FIXED, id="q0")).where == "3 fixed"  # it is none of them


def test_what_is_gone_is_told(run):
    with pytest.raises(DataError, match="this question is not in the two evaluations any more"):
        opened(run, Selection(id="q99"))
    with pytest.raises(DataError, match="the evaluation step 3 is gone"):
        following(run, Selection(trained="step_000003"), FIXED)
    (run.run / "eval/step_000005.json").unlink()
    with pytest.raises(DataError, match="one evaluation so far"):
        following(run, Selection(), FIXED)
    with pytest.raises(DataError, match="Start the app with --run"):
        following(Evaluations.of(None), Selection(), FIXED)


@pytest.mark.parametrize("sent", ["[]", "{", [1], 7, "", None, '{"outcome": 1, "other": "x"}'])
def test_a_page_sends_anything(sent):
    assert Selection.from_json(sent) == Selection()
