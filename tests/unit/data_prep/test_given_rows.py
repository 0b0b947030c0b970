import datetime
import io
import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset, DatasetDict
from datasets import Image as ImageFeature
from PIL import Image

from gpg_vl.data.ingest import write_prepared
from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.data_prep.jsonl import jsonl
from gpg_vl.errors import DataError, RowError
from tests.support.inputs import noise

QUESTION = {"question": "Which?", "answer": "(B)", "choices": ["x", "y"]}


def jpeg(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


def made(rows, **options):
    return [draft() for draft in jsonl(rows, **options)]


def written(rows, out, **options):
    write_prepared(jsonl(rows, **options), out, source="rows", converter="jsonl", version="3")
    return PreparedDataset.open([str(out)])


def test_rows_are_read_as_those_of_a_file(tmp_path):
    rows = [QUESTION | {"more": 1}, {"question": "How many?", "answer": 4, "answer_type": "number"}]
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for of_file, given in zip(made(file), made(iter(rows)), strict=True):
        assert {**vars(of_file), "id": ""} == {**vars(given), "id": ""}
    assert [sample.id for sample in made(rows)] == ["row:1", "row:2"]


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        ({"question": None}, "missing field", "^row 2 has no 'question'; it has: answer, choices"),
        ({"answer": 1}, "a number for a choice", "^row 2: 1 may be a choice's text"),
        ({"image": "nowhere.png"}, "missing image", "^row 2: no file 'nowhere.png'"),
        ({"image": 3}, "unusable path", "^row 2: expected the path of an image, got 3"),
        ({"image": b"no image"}, "unreadable image", "^row 2: no image"),
        ({"choices": None}, "missing answer_type", "^row 2 has neither 'answer_type' nor 'choices'"),
        ({"mask": b"raw"}, "unusable meta", "^row 2: 'mask' cannot be kept as JSON .*bytes"),
    ],
)
def test_a_bad_row_is_refused_with_its_number(change, reason, message):
    _, bad = jsonl([QUESTION, QUESTION | change])
    with pytest.raises(RowError, match=message) as caught:
        bad()
    assert caught.value.reason == reason


def test_images_come_in_every_form(tmp_path):
    picture = noise(9, 7)
    path = tmp_path / "a.png"
    picture.save(path)
    decoded = Image.open(path)
    decoded.load()
    opened = Image.open(io.BytesIO(path.read_bytes()))
    forms = [str(path), path, path.read_bytes(), picture, opened, decoded]
    forms += [{"bytes": path.read_bytes(), "path": None}, {"bytes": None, "path": str(path)}]
    samples = made([QUESTION | {"image": form} for form in forms] + [QUESTION | {"images": (picture, path)}])
    assert [len(sample.images) for sample in samples] == [1] * len(forms) + [2]
    for sample in samples:
        assert np.array_equal(np.asarray(sample.images[0]), np.asarray(picture))


def test_a_photo_keeps_its_file(tmp_path):
    data = jpeg(noise(40, 30))
    rows = [QUESTION | {"image": Image.open(io.BytesIO(data))}, QUESTION | {"image": data}]
    stored = written(rows, tmp_path / "d")
    assert [stored.rows[number]["images"][0]["bytes"] for number in range(2)] == [data, data]


def test_an_image_that_rows_share_is_read_once(tmp_path):
    """Threads that seek in one open file would read each other's bytes."""
    noise(200, 200).save(tmp_path / "a.png")
    shared = Image.open(io.BytesIO((tmp_path / "a.png").read_bytes()))
    samples = made([QUESTION | {"image": shared} for _ in range(30)])
    assert len({id(sample.images[0]) for sample in samples}) == 30
    assert len(written([QUESTION | {"image": shared} for _ in range(30)], tmp_path / "d")) == 30


def test_a_copy_is_kept_of_an_image_that_changes_later():
    picture = noise(4, 4)
    drafts = list(jsonl([QUESTION | {"image": picture}]))
    before = picture.copy()
    picture.paste("black", (0, 0, 4, 4))
    assert np.array_equal(np.asarray(drafts[0]().images[0]), np.asarray(before))


@pytest.mark.parametrize("lazy", [False, True])
def test_a_table_of_datasets_keeps_its_files(tmp_path, lazy):
    data = jpeg(noise(40, 30))
    table = Dataset.from_list([QUESTION | {"image": {"bytes": data, "path": "a.jpg"}}] * 2)
    table = table.cast_column("image", ImageFeature())
    stored = written(table.to_iterable_dataset() if lazy else table, tmp_path / "d")
    assert [stored.rows[number]["images"][0]["bytes"] for number in range(2)] == [data, data]
    formed = written(table.with_transform(lambda batch: batch), tmp_path / "e")  # what it makes, it means
    assert formed[0].images[0].size == (40, 30)


def test_values_of_arrays_and_tables_are_plain():
    table = pd.DataFrame([{"question": "Q?", "answer": np.int64(3), "choices": np.nan, "size": [2, 3]}])
    (sample,) = made(table.to_dict("records"), answer_type="number")
    assert (sample.answer, sample.choices, dict(sample.meta)) == ("3", (), {"size": [2, 3]})
    row = {"question": "Where?", "answer": np.array([[1, 2, 3, 4]]), "answer_type": "boxes"}
    (sample,) = made([row | {"day": datetime.date(2025, 1, 2), "price": Decimal("1.5"), "none": pd.NaT}])
    assert json.loads(sample.answer) == [[1, 2, 3, 4]]
    assert sample.meta == {"day": "2025-01-02", "price": "1.5"}


def test_paths_start_from_the_folder_if_there_is_one_and_cannot_leave_it(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    noise(4, 4).save(tmp_path / "images" / "a.png")
    noise(5, 5).save(tmp_path / "b.png")
    monkeypatch.chdir(tmp_path)
    assert made([QUESTION | {"image": "b.png"}])[0].images[0].size == (5, 5)
    assert made([QUESTION | {"image": "a.png"}], images="images")[0].images[0].size == (4, 4)
    with pytest.raises(RowError, match=r"row 1: '\.\./b\.png' leads out of 'images'"):
        made([QUESTION | {"image": "../b.png"}], images="images")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (QUESTION, "rows are a list of mappings, got one mapping with the keys question, answer, choices"),
        (DatasetDict(train=Dataset.from_list([QUESTION])), "of several splits give one, such as data"),
        (pd.DataFrame([QUESTION]), r"row 1 is no mapping .* but 'question'; .* \.to_dict\('records'\)"),
        ([QUESTION, ("Which?", "x")], "row 2 is no mapping"),
    ],
)
def test_what_is_no_list_of_rows_is_refused(rows, message):
    with pytest.raises(DataError, match=message):
        made(rows)


def test_fields_and_options_hold_for_given_rows_too():
    (sample,) = made(
        [{"problem": "Q?", "solution": 3}],
        fields="question=problem,answer=solution",
        task="zoo",
        answer_type="math",
    )
    assert (sample.question, sample.answer, sample.task) == ("Q?", "3", "zoo")
