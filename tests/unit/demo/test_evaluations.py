import json
import os

import pytest

from gpg_vl.demo.parts.words import for_page
from gpg_vl.demo.service.evaluations import Evaluations, Selection, headline, load, select, stored_pair
from gpg_vl.errors import DataError
from gpg_vl.training.records import MetricsFile
from tests.support.evaluations import evaluation, sampled


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


def test_several_answers_a_question_are_searched(tmp_path):
    """`gpg-vl eval --samples` keeps what was answered under `samples` alone."""
    files = [write(tmp_path, f"{place}.json", sampled(place)) for place in (0, 1)]
    pairs = load(*files).pairs
    assert "".join(pair[1]["id"] for pair in select(pairs, text="Nothing", kind="Fixed")) == "a"
    assert select(pairs, text="absent") == []


def test_headline(comparison):
    figures = [figure for figure, _ in headline(comparison)]
    assert figures == ["50.0 → 50.0 %", "+0.0 points", "1 / 1", "1"]


def test_what_is_measured_is_named(tmp_path):
    first, last = (evaluation(place, data=["sets/held_out"], samples=4) for place in (0, 1))
    found = load(write(tmp_path, "a.json", first), write(tmp_path, "b.json", last))
    assert found.measured == "mean@4 on 4 questions of held_out"
    for one in (first, last):
        for item in one["items"]:
            item["boxes"] = []
    found = load(write(tmp_path, "a.json", first), write(tmp_path, "b.json", last))
    assert found.measured == "mean IoU on 4 questions of held_out, 4 answers each"
    last |= {"benchmark": "refcoco", "samples": 1}
    assert load(tmp_path / "a.json", write(tmp_path, "b.json", last)).score == "Acc@0.5"


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
    assert list(Evaluations.of(str(tmp_path)).files()) == ["step_000000", "step_000600"]


def test_without_any_those_beside_are(tmp_path):
    write(tmp_path, "beside.json", evaluation(0))
    write(tmp_path, "environment.json", {"python": "3.11"})
    assert list(Evaluations.of(str(tmp_path)).files()) == ["beside"]


def test_the_runs_own_evaluations_are_compared_first(tmp_path):
    """Those that were made beside, of other questions perhaps, are chosen by hand."""
    for name in ("base.json", "step_000000.json", "step_000600.json", "twice.json"):
        write(tmp_path / "eval", name, evaluation(0))
    found = Evaluations.of(str(tmp_path))
    assert found.first_and_last() == ("step_000000", "step_000600")
    assert found.pair(None, "twice") == ("step_000000", "twice")
    (tmp_path / "eval" / "step_000000.json").unlink()
    assert found.first_and_last() == ("base", "twice")


def test_half_an_evaluation_waits(tmp_path):
    found = Evaluations.of(str(tmp_path))
    whole = write(tmp_path / "eval", "step_000000.json", evaluation(0)).read_text()
    assert "one evaluation so far" in found.missing()
    path = tmp_path / "eval" / "step_000600.json"
    path.write_text(whole[: len(whole) // 2])
    before = found.stamp()
    assert list(found.files()) == ["step_000000"]
    path.write_text(whole)
    assert (found.missing(), found.first_and_last()) == ("", ("step_000000", "step_000600"))
    assert found.stamp() != before


def test_a_deleted_evaluation_is_gone_by_name(tmp_path):
    for place in (0, 1):
        write(tmp_path / "eval", f"step_00000{place}.json", evaluation(place))
    found = Evaluations.of(str(tmp_path))
    assert found.compare("step_000000", "step_000001").tasks == ["t/Even", "t/Odd"]
    (tmp_path / "eval" / "step_000001.json").unlink()
    with pytest.raises(
        DataError, match="the evaluation step 1 is gone, or is being written; choose among: step 0"
    ):
        found.compare("step_000000", "step_000001")
    with pytest.raises(DataError, match="is gone"):
        found.compare("step_000000", ["../../secret"])


def test_a_run_is_found_wherever_the_process_goes(tmp_path, monkeypatch):
    write(tmp_path / "own" / "eval", "step_000000.json", evaluation(0))
    monkeypatch.chdir(tmp_path)
    found = Evaluations.of("own")
    monkeypatch.chdir("/")
    assert list(found.files()) == ["step_000000"]


def test_messages_hold_no_path_of_the_server(tmp_path):
    write(tmp_path / "own" / "eval", "a.json", {"step": 0})
    write(tmp_path / "own" / "eval", "b.json", evaluation(0))
    with pytest.raises(DataError) as raised:
        Evaluations.of(str(tmp_path / "own")).compare("a", "b")
    assert for_page(str(raised.value)).startswith("eval/a.json is not an evaluation: it lacks totals")


def test_training_that_went_on_is_told(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl", 0)
    found = Evaluations.of(str(tmp_path))
    assert found.so_far(evaluation(1)) == ""
    for step in (5, 1200):
        metrics.write(step, {"accuracy": 0.5})
    assert found.so_far(evaluation(1)) == "The last evaluation so far: training is at step 1,200."
    assert found.so_far({**evaluation(1), "step": 1200}) == ""


@pytest.mark.parametrize("sent", ["", "[", "[]", "null", '{"outcome": 3, "id": ["x"], "else": "y"}', None, 7])
def test_what_no_page_of_ours_sends_selects_nothing(sent):
    assert Selection.from_json(sent) == Selection()


def test_a_selection_survives_the_page(comparison):
    chosen = Selection("a", "b", "Fixed", "t/Odd", 'text "quoted"', "id")
    assert Selection.from_json(chosen.to_json()) == chosen
    assert [pair[1]["id"] for pair in Selection(outcome="Fixed").listed(comparison)] == ["a"]


def test_a_question_is_found_by_its_id(comparison):
    base, trained = stored_pair(comparison.pairs, "a")
    assert (trained["id"], base["correct"], trained["correct"]) == ("a", 0.0, 1.0)
    with pytest.raises(DataError, match="reload the page"):
        stored_pair(comparison.pairs, "nowhere")
