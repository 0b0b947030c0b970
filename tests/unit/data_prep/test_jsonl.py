import json

import pytest
from datasets import Dataset

from gpg_vl.data.ingest import write_prepared
from gpg_vl.data.prepared import SKIPPED, PreparedDataset
from gpg_vl.data_prep.jsonl import jsonl
from gpg_vl.errors import ConfigurationError, DataError, RowError
from gpg_vl.registry import converters
from tests.support.inputs import noise

QUESTION = {"question": "Which?", "answer": "(B)", "choices": ["x", "y"]}


def source(folder, *rows):
    file = folder / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def sample(folder, row, **options):
    (draft,) = jsonl(source(folder, row), **options)
    return draft()


def test_a_short_row_gets_defaults(tmp_path):
    made = sample(tmp_path, {"question": "How many?", "answer": 4}, answer_type="number")
    assert (made.id, made.task, made.answer_type) == ("mine.jsonl:1", "jsonl", "number")
    assert (made.question, made.answer, made.choices, made.images) == ("How many?", "4", (), ())
    assert made.meta == {}


def test_a_full_row_says_everything_itself(tmp_path):
    noise(9, 7).save(tmp_path / "a.png")
    noise(5, 5).save(tmp_path / "b.png")
    row = {
        **{"id": 7, "task": "zoo", "images": ["a.png", "b.png"], "question": "Which?", "answer": "two"},
        **{"choices": ["one", "two", 3], "answer_type": "choice", "meta": {"m": 1}, "source": "book"},
    }
    made = sample(tmp_path, row, task="other")
    assert (made.id, made.task, made.answer_type, made.answer) == ("7", "zoo", "choice", "(B)")
    assert made.choices == ("one", "two", "3")
    assert [image.size for image in made.images] == [(9, 7), (5, 5)]
    assert made.meta == {"m": 1, "source": "book", "cluster": made.meta["cluster"]}


@pytest.mark.parametrize(
    ("more", "reasoning"),
    [
        ({"reasoning": " The ball is red. "}, "The ball is red."),
        ({"reasoning": ["The ball is red.", "So y."]}, "The ball is red.\nSo y."),
        ({"answer": "<think>Red,\nso y.</think> <answer>(B)</answer>"}, "Red,\nso y."),
        ({"answer": "<think>Red.</think>\ny"}, "Red."),
        ({"answer": "<think>Red.</think><answer>y</answer>", "reasoning": "Own."}, "Own."),
        ({"answer": "<think></think><answer>y</answer>"}, ""),
        ({"reasoning": None}, ""),
        ({"rationale": "Red."}, "Red."),
    ],
)
def test_the_way_to_the_answer_comes_along(tmp_path, more, reasoning):
    fields = "reasoning=rationale" if "rationale" in more else ""
    made = sample(tmp_path, QUESTION | more, fields=fields)
    assert (made.answer, made.reasoning, made.meta) == ("(B)", reasoning, {})


@pytest.mark.parametrize("mark", ["<think>", "</think>", "<answer>", "</answer>"])
def test_reasoning_that_would_end_early_is_refused(tmp_path, mark):
    rows = source(tmp_path, QUESTION, QUESTION | {"reasoning": f"a {mark} b"})
    write_prepared(jsonl(rows), tmp_path / "d", source="", converter="jsonl", version="3")
    (skipped,) = (tmp_path / "d" / SKIPPED).read_text().splitlines()
    assert json.loads(skipped)["reason"] == "unusable reasoning" and mark in json.loads(skipped)["message"]


def test_rows_that_share_an_image_are_clustered(tmp_path):
    noise(9, 7).save(tmp_path / "a.png")
    noise(5, 5).save(tmp_path / "b.png")
    rows = [QUESTION | {"image": path} for path in ("a.png", "./a.png", "b.png")]
    own = QUESTION | {"image": "a.png", "cluster": "mine"}
    first, second, third, last = (draft().meta["cluster"] for draft in jsonl(source(tmp_path, *rows, own)))
    assert first == second != third and last == "mine"


def test_null_is_as_good_as_absent(tmp_path):
    row = {**QUESTION, "id": None, "image": None, "images": None, "task": None, "answer_type": None}
    made = sample(tmp_path, {**row, "meta": None, "more": None}, task="zoo")
    assert (made.id, made.task, made.answer_type, made.images) == ("mine.jsonl:1", "zoo", "choice", ())
    assert made.meta == {}


@pytest.mark.parametrize(
    ("choices", "answer", "letter"),
    [
        (["cat", "dog"], "(B)", "(B)"),
        (["cat", "dog"], "B", "(B)"),
        (["cat", "dog"], " b ", "(B)"),
        (["cat", "dog"], "dog", "(B)"),
        (["cat", "dog"], "  DOG ", "(B)"),
        (["two  cats", "a dog"], "Two cats", "(A)"),
        ([3, 4], 4, "(B)"),
        ([True, False], False, "(B)"),
        (["cat", "dog"], "B.", "(B)"),
        (["cat", "dog"], "b)", "(B)"),
        (["cat", "dog"], "B. dog", "(B)"),
        (["cat", "dog"], "(B) Dog", "(B)"),
        (["cat", "dog"], ["B"], "(B)"),
        (["cat", "dog"], "<think>a</think><answer> B </answer>", "(B)"),
        (["A. cat", "B. dog"], "dog", "(B)"),
        (["A. cat", "B. dog"], "B. dog", "(B)"),
        (["10", "20", "30"], 20, "(B)"),
        ({"B": "dog", "A": "cat"}, "dog", "(B)"),
        ({"a": "cat", "b": "dog", "c": None}, "dog", "(B)"),
        (["cat", "dog", None], "dog", "(B)"),
        (["true", "false"], True, "(A)"),
        (["A", "B"], "B", "(B)"),
        (["B", "A"], "(B)", "(B)"),  # brackets are a letter's
    ],
)
def test_a_choice_is_answered_by_letter_or_text(tmp_path, choices, answer, letter):
    assert sample(tmp_path, {"question": "Q?", "choices": choices, "answer": answer}).answer == letter


@pytest.mark.parametrize(
    ("answer", "boxes"),
    [
        ([[1, 2, 3, 4], [5, 6, 7.5, 8]], [[1, 2, 3, 4], [5, 6, 7.5, 8]]),
        ([1, 2, 3, 4], [[1, 2, 3, 4]]),
        ("(1,2),(3,4)", [[1, 2, 3, 4]]),
        ([{"bbox_2d": [1, 2, 3, 4]}], [[1, 2, 3, 4]]),
    ],
)
def test_boxes_are_taken_in_every_usual_form(tmp_path, answer, boxes):
    made = sample(tmp_path, {"question": "Where?", "answer": answer}, answer_type="boxes")
    assert json.loads(made.answer) == boxes


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        ({"question": None}, "missing field", "line 1 has no 'question'; it has: answer, choices"),
        ({"answer": None}, "missing field", "line 1 has no 'answer'; it has: question, choices"),
        ({"answer": "z"}, "answer not among the choices", "line 1: the answer 'z' is none .*: x, y"),
        ({"answer": "C"}, "answer not among the choices", "line 1: the answer 'C' is none .*: x, y"),
        ({"answer": ""}, "empty answer", "line 1: the answer ''"),
        ({"answer": "B", "choices": ["B", "A"]}, "ambiguous answer", r"'B' may be \(A\) or \(B\)"),
        ({"answer": "B. x"}, "answer not among the choices", "line 1: the answer 'B. x' is none"),
        ({"answer": "A or B"}, "answer not among the choices", "line 1: the answer 'A or B' is none"),
        ({"answer": ["A", "B"]}, "several answers", "line 1: a choice has one answer"),
        ({"answer": []}, "several answers", "line 1: a choice has one answer"),
        ({"answer": 1}, "a number for a choice", "line 1: 1 may be .* say with --numbers text, from_0 or"),
        ({"answer": 1, "choices": [1, 2, 3]}, "a number for a choice", "line 1: 1 may be a choice's text"),
        ({"choices": {"A": "x", "C": "y"}}, "unusable choices", "line 1: choices by letter are A, B"),
        ({"question": "<image> Which?"}, "missing image", "line 1: 1 <image> in the question, and 0 images"),
        ({"answer": "x", "choices": ["x", "X"]}, "ambiguous answer", r"'x' may be \(A\) or \(B\)"),
        ({"choices": "x, y"}, "unusable choices", "line 1: 'choices' is a list of texts"),
        ({"choices": [["x"], "y"]}, "unusable choices", "line 1: 'choices' is a list of texts"),
        ({"meta": 3}, "unusable meta", "line 1: 'meta' is an object, got 3"),
        ({"meta": "{"}, "unusable meta", "line 1: 'meta' is an object"),
        ({"image": "a.png", "images": ["a.png"]}, "unusable path", "both 'image' and 'images'"),
        ({"image": [3]}, "unusable path", "line 1: expected the path of an image"),
        ({"answer": {"a": 1}}, "unusable answer", "line 1: the answer is an object"),
        ({"image": "none.png"}, "missing image", "line 1: no file 'none.png'"),
        ({"image": "../secret.png"}, "path outside the folder", "line 1: .* leads out of"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path, change, reason, message):
    folder = tmp_path / "data"
    folder.mkdir()
    noise(4, 4).save(tmp_path / "secret.png")
    with pytest.raises(RowError, match=f"mine.jsonl {message}|{message}") as caught:
        sample(folder, {**QUESTION, **change})
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("choices", "answer", "numbers", "letter"),
    [
        ([1, 2, 3], 2, "text", "(B)"),
        ([1, 2, 3], 2, "from_0", "(C)"),
        ([1, 2, 3], 2, "from_1", "(B)"),
        (["cat", "dog"], 0, "from_0", "(A)"),
        (["cat", "dog"], 2, "from_1", "(B)"),
        (["cat", "dog"], "B", "from_1", "(B)"),  # a text is no number
        (["cat", "dog"], "1", "from_0", "(B)"),
        (["0", "1", "2"], "1", "from_1", "(A)"),
        (["0", "1", "2"], "1", "unclear", "(B)"),
    ],
)
def test_what_a_number_means_can_be_said(tmp_path, choices, answer, numbers, letter):
    row = {"question": "Q?", "choices": choices, "answer": answer}
    assert sample(tmp_path, row, numbers=numbers).answer == letter


def test_a_place_beyond_the_choices_is_refused(tmp_path):
    with pytest.raises(RowError, match="the answer '2' is none of the choices"):
        sample(tmp_path, {"question": "Q?", "choices": ["x", "y"], "answer": 2}, numbers="from_0")


@pytest.mark.parametrize(
    ("question", "images", "text"),
    [
        ("<image>\nWhich?", ["a.png"], "Which?"),
        ("Which?\n<image>", ["a.png"], "Which?"),
        ("<image><image>Which?", ["a.png", "a.png"], "Which?"),
        ("Of <image> and <image>, which?", ["a.png", "a.png"], "Of\nand\n, which?"),
        ("  Which? ", ["a.png"], "  Which? "),  # nothing to drop, so nothing is changed
        ("Is a < b?", [], "Is a < b?"),
    ],
)
def test_placeholders_of_other_tools_are_dropped(tmp_path, question, images, text):
    noise(4, 4).save(tmp_path / "a.png")
    assert sample(tmp_path, {**QUESTION, "question": question, "images": images}).question == text


@pytest.mark.parametrize("name", ["conversations", "messages"])
def test_one_turn_of_conversation_is_a_row(tmp_path, name):
    noise(4, 4).save(tmp_path / "a.png")
    human, gpt, text = (
        ("human", "gpt", "value") if name == "conversations" else ("user", "assistant", "content")
    )
    role = "from" if name == "conversations" else "role"
    turns = [{role: human, text: "<image>\nHow many?"}, {role: gpt, text: "<answer>3</answer>"}]
    made = sample(tmp_path, {"image": "a.png", name: turns}, answer_type="number")
    assert (made.question, made.answer, dict(made.meta).keys()) == ("How many?", "3", {"cluster"})
    parts = [{role: human, text: [{"type": "image"}, {"type": "text", "text": "How many?"}]}, turns[1]]
    assert sample(tmp_path, {"image": "a.png", name: parts}, answer_type="number").question == "How many?"
    with pytest.raises(RowError, match="a turn's parts are texts and images"):
        sample(tmp_path, {name: [{role: human, text: [{"type": "video"}]}]}, answer_type="number")
    with pytest.raises(RowError, match="one question and its answer make a row"):
        sample(tmp_path, {name: turns * 2}, answer_type="number")
    with pytest.raises(RowError, match="has no 'answer'"):
        sample(tmp_path, {"image": "a.png", name: turns[:1]}, answer_type="number")
    with pytest.raises(RowError, match="is a list of human and gpt turns"):
        sample(tmp_path, {name: ["How many?"]}, answer_type="number")


def test_names_of_another_file_are_given(tmp_path):
    row = {"problem": "Q?", "solution": "<answer> 3 </answer>", "more": 1}
    made = sample(tmp_path, row, answer_type="number", fields="question=problem, answer=solution")
    assert (made.question, made.answer, made.meta) == ("Q?", "3", {"more": 1})
    with pytest.raises(RowError, match=r"has no 'question'.* --fields question=NAME"):
        sample(tmp_path, row, answer_type="number")
    both = sample(
        tmp_path,
        {**row, "question": "Another?"},
        answer_type="number",
        fields="question=problem,answer=solution",
    )
    assert both.question == "Q?"
    nested = {"question": "Q?", "reward_model": {"ground_truth": "3"}}
    for field, found in (
        ("reward_model.ground_truth", "3"),
        ("reward_model.other", None),
        ("question.x", None),
    ):
        given = {"answer_type": "number", "fields": f"answer={field}"}
        if found:
            made = sample(tmp_path, nested, **given)
            assert (made.answer, made.meta) == (found, {"reward_model": nested["reward_model"]})
        else:
            with pytest.raises(RowError, match="has no 'answer'"):
                sample(tmp_path, nested, **given)
    for fields in ("problem=question", "question", "question="):
        with pytest.raises(ConfigurationError, match="--fields is such as"):
            sample(tmp_path, row, answer_type="number", fields=fields)


@pytest.mark.parametrize(
    ("row", "answer_type", "alternatives"),
    [
        ({"answer": ["0.5", "1/2"]}, "math", ["1/2"]),
        ({"answer": ["color", "colour"]}, "label", ["colour"]),
        ({"answer": ["5"]}, "number", []),
    ],
)
def test_several_answers_are_alternatives(tmp_path, row, answer_type, alternatives):
    made = sample(tmp_path, {"question": "Q?", **row}, answer_type=answer_type)
    assert (made.answer, made.meta.get("alternatives", [])) == (row["answer"][0], alternatives)


def test_the_option_says_how_all_answers_are_compared(tmp_path):
    row = {"question": "Q?", "answer": "1.2", "answer_type": "float"}
    assert sample(tmp_path, row, answer_type="number").answer_type == "number"


@pytest.mark.parametrize("boxes", [[[0.1, 0.2, 0.5, 0.9]], [0.05, 0.1, 0.95, 1.0], [[0.0, 0.0, 1.0, 1.0]]])
def test_boxes_from_0_to_1_are_no_pixels(tmp_path, boxes):
    with pytest.raises(RowError, match="no box in pixels; multiply by the image's size") as caught:
        sample(tmp_path, {"question": "Where?", "answer": boxes}, answer_type="boxes")
    assert caught.value.reason == "boxes from 0 to 1"


@pytest.mark.parametrize("images", [{"image": ""}, {"image": None}, {"images": []}, {"images": [""]}, {}])
def test_no_image_is_said_in_several_ways(tmp_path, images):
    assert sample(tmp_path, {**QUESTION, **images}).images == ()


def test_a_json_list_and_a_parquet_file_are_read_too(tmp_path):
    noise(9, 7).save(tmp_path / "a.png")
    listed = tmp_path / "mine.json"
    listed.write_text(json.dumps([{**QUESTION, "image": "a.png"}, QUESTION]))
    first, second = (draft() for draft in jsonl(str(listed)))
    assert (first.id, first.images[0].size, second.id) == ("mine.json:1", (9, 7), "mine.json:2")
    for text, message in (("{}", "no list of JSON objects"), ("[1]", "no list of JSON"), ("[", "no JSON")):
        listed.write_text(text)
        with pytest.raises(DataError, match=message):
            list(jsonl(str(listed)))
    data = {**QUESTION, "image": {"bytes": (tmp_path / "a.png").read_bytes(), "path": "a.png"}}
    Dataset.from_list([data]).to_parquet(tmp_path / "mine.parquet")
    (draft,) = jsonl(str(tmp_path / "mine.parquet"))
    made = draft()
    assert (made.id, made.answer, made.images[0].size) == ("mine.parquet:1", "(B)", (9, 7))


def test_images_are_searched_in_a_folder_of_their_own(tmp_path):
    (tmp_path / "images").mkdir()
    noise(4, 4).save(tmp_path / "images" / "a.png")
    made = sample(tmp_path, {**QUESTION, "image": "a.png"}, images=str(tmp_path / "images"))
    assert made.images[0].size == (4, 4)


def test_an_answer_type_is_not_guessed(tmp_path):
    message = "line 1 has neither 'answer_type' nor 'choices': .* number, math, boxes, label"
    with pytest.raises(RowError, match=message) as e:
        sample(tmp_path, {"question": "How many?", "answer": "4"})
    assert e.value.reason == "missing answer_type"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"source": ""}, ConfigurationError, "jsonl needs --source: a file with one JSON object a line"),
        ({"source": "nowhere/none.jsonl"}, DataError, "no file 'nowhere/none.jsonl'"),
        ({"source": "none.jsonl"}, DataError, "no file 'none.jsonl': --source is a local file"),
        ({"images": "nowhere"}, ConfigurationError, "there is no folder 'nowhere'"),
    ],
)
def test_mistakes_of_the_whole_command(tmp_path, options, error, message):
    given = {"source": source(tmp_path, QUESTION), **options}
    with pytest.raises(error, match=message):
        list(jsonl(**given))


def test_a_file_becomes_a_prepared_set(tmp_path):
    noise(30, 40).save(tmp_path / "a.png")
    good = {"question": "Where?", "answer": [[1, 2, 3, 4]], "answer_type": "boxes", "image": "a.png"}
    file = source(
        tmp_path, good, {**good, "answer": [[1, 2, 3, 400]]}, {**good, "answer": "nowhere"}, QUESTION
    )
    drafts = converters.get("jsonl").function(file)
    manifest = write_prepared(drafts, tmp_path / "d", source=file, converter="jsonl", version="1")
    assert manifest["skipped"] == {"box outside the image": 1, "unreadable boxes": 1}
    assert "mine.jsonl:2" in (tmp_path / "d" / SKIPPED).read_text()
    data = PreparedDataset.open([str(tmp_path / "d")])
    assert [data[i].id for i in range(len(data))] == ["mine.jsonl:1", "mine.jsonl:4"]
