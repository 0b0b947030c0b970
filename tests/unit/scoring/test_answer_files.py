import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpg_vl.data.ingest import write_prepared
from gpg_vl.data_prep.jsonl import jsonl
from gpg_vl.errors import DataError
from gpg_vl.scoring.answer_files import count_answers, read_answers
from gpg_vl.scoring.score_rows import score_file
from gpg_vl.scoring.scorer import Scorer
from gpg_vl.training.records import _ROLLOUTS
from tests.support.inputs import noise

BOXES = {"id": "b", "question": "Where?", "answer": [[1, 2, 3, 4]], "answer_type": "boxes"}
ROWS = [
    {"id": "a", "question": "Which?", "answer": "(B)", "choices": ["x", "y"]},
    {"id": "c", "question": "How many?", "answer": 3, "answer_type": "number"},
]


@pytest.fixture
def data(tmp_path):
    """A prepared data set."""
    rows = [*ROWS, BOXES | {"image": noise(40, 30)}]
    write_prepared(jsonl(rows), tmp_path / "data", source="rows", converter="jsonl", version="3")
    return str(tmp_path / "data")


def lines(folder, *rows):
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def answer(text="so</think><answer>(B)</answer>", **more):
    return {"output": text, "finish_reason": "eos", "token_count": 4, **more}


def evaluation(folder, data, *items, **more):
    file = folder / "answers.txt"  # by content, not by name
    values = {"items": items, "totals": {}, "data": [str(data)], "prompt": {"template": "base"}, **more}
    file.write_text(json.dumps(values, indent=1))
    return file


def item(row, **more):
    question = {"id": row["id"], "task": "t", "question": row["question"], "choices": row.get("choices", [])}
    return {**question, "gold": str(row["answer"]), **more}


def rollouts(folder, data, *groups):
    file = folder / "run" / "rollouts" / "step_000001.parquet"
    file.parent.mkdir(parents=True)
    (folder / "run" / "config.yaml").write_text(json.dumps({"data": {"train": [data]}, "prompt": {}}))
    rows = [
        {"group": number, "answer_index": place, "prompt_id": id, "text": text, "finish_reason": "length"}
        | {"token_count": 7}
        for number, (id, texts) in enumerate(groups)
        for place, text in reversed(list(enumerate(texts)))
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=_ROLLOUTS), file)
    return file


@pytest.mark.parametrize(
    ("given", "gold"),
    [
        ({"answer": 3, "answer_type": "number"}, "3"),
        ({"answer": "3", "answer_type": "number"}, "3"),
        ({"answer": ["3"], "answer_type": "number"}, "3"),
        ({"answer": ["a", "b"], "answer_type": "label"}, "a"),
        ({"answer": [[1, 2, 3, 4]], "answer_type": "boxes"}, "[[1.0, 2.0, 3.0, 4.0]]"),
        ({"answer": "y", "choices": ["x", "y"]}, "(B)"),
        ({"answer": "B", "options": {"A": "x", "B": "y"}}, "(B)"),
    ],
)
@pytest.mark.parametrize("flat", [True, False])
def test_answers_are_read_as_prepare_reads_them(tmp_path, given, gold, flat):
    row = {**given, "completion": "x"} if flat else {"sample": given, "completion": "x"}
    (prepared,) = jsonl([{"question": "Q?", **given}])
    (one,) = read_answers(lines(tmp_path, row), "image")
    assert one.sample.answer == prepared().answer == gold
    assert one.sample.choices == prepared().choices


def test_a_line_that_was_scored_is_scored_again(tmp_path):
    row = {"question": "Q?", "answer": 3, "answer_type": "number", "completion": "<answer>3</answer>"}
    out = tmp_path / "out.jsonl"
    scorer = Scorer({"number": 1.0})
    score_file(scorer, lines(tmp_path, row | {"note": 1}), "image", out, lambda done: None)
    (again,) = read_answers(out, "image")
    assert again.sample.meta == {"note": 1} and again.raws[0]["scores"] == {"number": 1.0}


def test_a_line_without_an_answer_type_names_itself_and_the_key(tmp_path):
    file = lines(
        tmp_path, {"answer": 3, "answer_type": "number", "completion": ""}, {"answer": 3, "completion": ""}
    )
    rows = read_answers(file, "image")
    next(rows)
    with pytest.raises(DataError, match=r"rows\.jsonl, line 2 has neither 'answer_type' nor 'choices'"):
        next(rows)


@pytest.mark.parametrize("samples", [1, 2])
def test_an_evaluation_has_its_samples_from_its_data(tmp_path, data, samples):
    answers = [answer(), answer("no</think><answer>(A)</answer>")][:samples]
    file = evaluation(tmp_path, data, item(ROWS[0], **(answers[0] if samples == 1 else {"samples": answers})))
    assert count_answers(file) == samples
    (one,) = read_answers(file, "image")
    assert one.sample.choices == ("x", "y")
    assert [completion.answer for completion in one.completions] == ["(B)", "(A)"][:samples]
    assert [completion.think_opened for completion in one.completions] == [True] * samples
    assert one.completions[0].token_count == 4


def test_boxes_of_an_evaluation_are_in_pixels_already(tmp_path, data):
    text = "<answer>[[100, 200, 300, 400]]</answer>"
    file = evaluation(tmp_path, data, item(BOXES, **answer(text, boxes=[[4.0, 6.0, 12.0, 12.0]])))
    (one,) = read_answers(file, "grid")
    assert one.completions[0].boxes == ((4.0, 6.0, 12.0, 12.0),) and one.sample.images[0].size == (40, 30)


def test_an_evaluation_whose_data_is_gone_says_what_it_knows(tmp_path, data):
    file = evaluation(tmp_path, "nowhere", item(ROWS[0], **answer()), item(ROWS[1], **answer()))
    rows = read_answers(file, "image")
    assert next(rows).sample.answer == "(B)"
    with pytest.raises(DataError, match=r"item 2 has neither 'answer_type' .*--data names the prepared data"):
        next(rows)
    assert [one.sample.answer for one in read_answers(file, "image", [data])] == ["(B)", "3"]


def test_rollouts_are_groups_in_the_order_of_sampling(tmp_path, data):
    file = rollouts(
        tmp_path, data, ("a", ["first", "<answer>(B)</answer>"]), ("c", ["1", "2"]), ("a", ["x", "y"])
    )
    rows = list(read_answers(file, "image"))
    assert [[completion.text for completion in one.completions] for one in rows] == [
        ["first", "<answer>(B)</answer>"],
        ["1", "2"],
        ["x", "y"],
    ]
    assert [one.sample.id for one in rows] == ["a", "c", "a"]
    assert (rows[0].completions[0].finish_reason, rows[0].completions[0].token_count) == ("length", 7)
    assert count_answers(file) == 6


def test_a_batch_reward_sees_a_rollouts_whole_group(tmp_path, data):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "def size(completions, **columns):\n    return [float(len(completions))] * len(completions)\n"
    )
    name, out = f"{plugin}:size", tmp_path / "out.jsonl"
    done = []
    file = rollouts(tmp_path, data, ("a", ["1", "2", "3"]), ("c", ["1"]))
    tallies = score_file(Scorer({name: 1.0}), file, "image", out, done.append)
    assert tallies[name].scores == [3.0, 3.0, 3.0, 1.0] and done == [3, 4]
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["scores"][name] for row in written] == [3.0, 3.0, 3.0, 1.0]
    assert (written[0]["id"], written[0]["completion"]) == ("a", "1")


def test_rollouts_without_their_data_say_how_to_name_it(tmp_path, data):
    file = rollouts(tmp_path, "nowhere", ("a", ["x"]))
    with pytest.raises(
        DataError, match=r"group 0: no sample 'a' in no folder.*--data names the prepared data"
    ):
        list(read_answers(file, "image"))
    assert next(read_answers(file, "image", [data])).sample.id == "a"


def test_another_parquet_file_is_no_rollouts(tmp_path):
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": [1]}), file)
    with pytest.raises(DataError, match="holds no rollouts: it has no column 'group'; there are: a"):
        list(read_answers(file, "image"))
    file.write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="cannot be read"):
        list(read_answers(file, "image"))
