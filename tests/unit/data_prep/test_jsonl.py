import json

import pytest

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
    made = sample(tmp_path, row, answer_type="label", task="other")
    assert (made.id, made.task, made.answer_type, made.answer) == ("7", "zoo", "choice", "(B)")
    assert made.choices == ("one", "two", "3")
    assert [image.size for image in made.images] == [(9, 7), (5, 5)]
    assert made.meta == {"m": 1, "source": "book", "cluster": made.meta["cluster"]}


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
        ({"answer": "x", "choices": ["x", "X"]}, "ambiguous answer", r"'x' may be \(A\) or \(B\)"),
        ({"choices": "x, y"}, "unusable choices", "line 1: 'choices' is a list of texts"),
        ({"choices": [["x"], "y"]}, "unusable choices", "line 1: 'choices' is a list of texts"),
        ({"meta": 3}, "unusable meta", "line 1: 'meta' is an object, got 3"),
        ({"image": "a.png", "images": ["a.png"]}, "unusable path", "both 'image' and 'images'"),
        ({"images": "a.png"}, "unusable path", "line 1: 'images' is a list of paths, got 'a.png'"),
        ({"image": ["a.png"]}, "unusable path", "line 1: expected the path of an image"),
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


def test_images_are_searched_in_a_folder_of_their_own(tmp_path):
    (tmp_path / "images").mkdir()
    noise(4, 4).save(tmp_path / "images" / "a.png")
    made = sample(tmp_path, {**QUESTION, "image": "a.png"}, images=str(tmp_path / "images"))
    assert made.images[0].size == (4, 4)


def test_an_answer_type_is_not_guessed(tmp_path):
    with pytest.raises(
        DataError, match="line 1 has neither 'answer_type' nor 'choices': say with --ans"
    ) as e:
        sample(tmp_path, {"question": "How many?", "answer": "4"})
    assert not isinstance(e.value, RowError)  # the whole file is meant, not a row to skip


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
