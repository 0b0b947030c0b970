import json
import os

import pytest

from gpg_vl.demo.service.evaluations import ALL, headline, load, offered, rows, select
from gpg_vl.errors import DataError
from tests.support.evaluations import evaluation


def write(folder, name, content):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def comparison(tmp_path):
    return load(write(tmp_path, "a.json", evaluation(0)), write(tmp_path, "b.json", evaluation(1)))


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({}, "abcd"),
        ({"kind": "Fixed"}, "a"),
        ({"kind": "Broken"}, "b"),
        ({"kind": "Both right"}, "c"),
        ({"kind": "Still wrong"}, "d"),
        ({"task": "t/Odd"}, "ac"),
        ({"task": "t/Odd", "kind": "Broken"}, ""),
        ({"text": " question B"}, "b"),
        ({"text": "zwölf"}, "abcd"),
        ({"text": "nothing"}, "abd"),
        ({"text": "nothing", "kind": "Fixed"}, "a"),
        ({"text": "<answer>(a"}, "abc"),
        ({"text": "absent"}, ""),
    ],
)
def test_questions_are_filtered(comparison, wanted, ids):
    assert "".join(pair[1]["id"] for pair in select(comparison.pairs, **wanted)) == ids


def test_rows_of_the_table(comparison):
    [row] = rows(select(comparison.pairs, kind="Fixed", task=ALL))
    assert row == ["Fixed", "t/Odd", "Question A?", "(A)", "–", "(A)", "a"]


def test_headline(comparison):
    figures = [figure for figure, _ in headline(comparison.result)]
    assert figures == ["50.0% → 50.0%", "+0.0 points", "1 / 1", "1"]


def test_other_questions_are_refused_readably(tmp_path):
    changed = evaluation(1)
    changed["items"] = changed["items"][1:]
    with pytest.raises(DataError, match=r"not over the same questions: B lacks 1 questions"):
        load(write(tmp_path, "a.json", evaluation(0)), write(tmp_path, "b.json", changed))


def test_a_file_that_changed_is_read_again(tmp_path):
    first, second = (write(tmp_path, f"{place}.json", evaluation(place)) for place in (0, 1))
    assert load(first, second).result["total"]["after"] == 0.5
    second.write_text(json.dumps(evaluation(0)))
    os.utime(second, ns=(1, 1))
    assert load(first, second).result["total"]["fixed"] == []


def test_evaluations_of_a_run_are_offered_by_step(tmp_path):
    for name in ("step_000600.json", "step_000000.json"):
        write(tmp_path / "eval", name, evaluation(0))
    write(tmp_path, "beside.json", evaluation(0))
    assert list(offered(tmp_path)) == ["step_000000", "step_000600"]


def test_without_any_those_beside_are(tmp_path):
    write(tmp_path, "beside.json", evaluation(0))
    write(tmp_path, "environment.json", {"python": "3.11"})
    assert list(offered(tmp_path)) == ["beside"]
