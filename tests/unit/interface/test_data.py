"""Rows as data: written once as a prepared set, whatever form they come in."""

from pathlib import Path

import datasets
import pandas as pd
import pytest

import gpg_vl
from gpg_vl.config import TrainConfig
from gpg_vl.errors import ConfigurationError, DataError
from gpg_vl.interface.data import folders, parts
from gpg_vl.interface.settings import configure
from tests.support.inputs import noise

ROWS = [
    {"question": "Left?", "image": noise(56, 56, n), "choices": ["yes", "no"], "answer": "(A)"}
    for n in range(3)
]


def test_rows_become_a_prepared_set(tmp_path):
    folder = gpg_vl.prepare(ROWS, tmp_path / "mine")
    samples = list(gpg_vl.read(folder))
    assert [sample.choices for sample in samples] == [("yes", "no")] * 3
    assert [sample.images[0].tobytes() for sample in samples] == [row["image"].tobytes() for row in ROWS]
    with pytest.raises(DataError, match="exists already"):
        gpg_vl.prepare(ROWS, folder)


def test_options_are_those_of_prepare(tmp_path):
    rows = [{"q": "How many?", "a": 3}]
    folder = gpg_vl.prepare(rows, tmp_path / "mine", answer_type="number", fields="question=q,answer=a")
    (sample,) = gpg_vl.read(folder)
    assert (sample.question, sample.answer, sample.answer_type) == ("How many?", "3", "number")


def test_rows_in_any_form_are_written_once(tmp_path):
    store = tmp_path / "data"
    (first,) = folders(ROWS, store)
    assert folders(iter(ROWS), store) == folders(datasets.Dataset.from_list(ROWS), store) == [first]
    assert [path.name for path in store.iterdir()] == [Path(first).name]
    (other,) = folders(ROWS[:2], store)
    assert other != first and len(gpg_vl.read(other)) == 2


def test_prepared_folders_and_files_are_taken_as_they_are(tmp_path, scenes_folder):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "Why?", "answer": "x", "answer_type": "label"}\n')
    store = tmp_path / "data"
    assert folders(scenes_folder, store) == [str(scenes_folder)]
    one, two = folders([str(scenes_folder), file], store)
    assert one == str(scenes_folder) and Path(two).name.startswith("rows-") and len(gpg_vl.read(two)) == 1
    assert folders("nowhere", store) == ["nowhere"]  # training says what is wrong with it


def test_rows_that_cannot_be_used_are_said(tmp_path):
    with pytest.raises(DataError, match="row"):
        folders([{"question": "Why?"}], tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())


def test_a_share_of_the_rows_is_for_validation(tiny_folder, tmp_path):
    rows = [{**ROWS[0], "image": noise(56, 56, n), "question": f"Left of {n}?"} for n in range(20)]
    (train,), (held_out,) = parts(rows, 0.25, tmp_path / "data")
    questions = [{sample.question for sample in gpg_vl.read(folder)} for folder in (train, held_out)]
    assert questions[0] | questions[1] == {row["question"] for row in rows}
    assert not questions[0] & questions[1] and len(questions[1]) >= 2
    assert held_out == f"{train}_validation" and parts(rows, 0.25, tmp_path / "data") == ([train], [held_out])
    config = configure(
        TrainConfig, None, {"model": "org/m", "data": rows, "validation": 0.25, "out": tmp_path / "x"}
    )
    assert config.data.validation == [held_out]
    with pytest.raises(ConfigurationError, match="a prepared folder has its own"):
        parts(train, 0.25, tmp_path / "data")


@pytest.mark.parametrize("share", [0, 1, True, 1.5, -0.2])
def test_what_is_no_share_is_refused(share, tmp_path):
    given = {"model": "org/m", "data": ROWS, "out": tmp_path / "x"}
    with pytest.raises(ConfigurationError, match="validation is a share between 0 and 1"):
        configure(TrainConfig, None, {**given, "validation": share})
    with pytest.raises(ConfigurationError, match="validation is a share between 0 and 1"):
        gpg_vl.prepare(ROWS, tmp_path / "mine", validation=share)


@pytest.mark.parametrize("data", [3, None])
def test_what_is_no_data_is_refused(data, tmp_path):
    with pytest.raises(ConfigurationError, match="data is rows, such as a list of dicts"):
        folders(data, tmp_path)


def test_a_misspelt_option_names_the_nearest(tmp_path):
    with pytest.raises(ConfigurationError, match="Did you mean 'answer_type'"):
        gpg_vl.prepare(ROWS, tmp_path / "mine", answr_type="number")
    assert not (tmp_path / "mine").exists()


def test_rows_train(tiny_folder, tmp_path):
    from tests.support.letters import distinct
    from tests.unit.interface.conftest import SMALL

    given = {"data": ROWS, "validation": ROWS[:1], "rewards": distinct, "out": tmp_path / "runs" / "one"}
    run = gpg_vl.train(model=tiny_folder, steps=1, **given, **SMALL)
    assert Path(run.config.data.train[0]).parent == tmp_path / "runs" / "data"
    assert run.evaluations[1].accuracy.count == 1 and run.best in (0, 1)
    again = gpg_vl.train(model=tiny_folder, steps=2, resume="auto", **given, **SMALL)
    assert list(again.metrics.index) == [1, 2]
    anew = gpg_vl.train(model=tiny_folder, steps=1, overwrite=True, **given, **SMALL)
    assert list(anew.metrics.index) == [1]
    assert anew.model(0).path == str(tiny_folder)


def test_a_table_of_pandas_is_rows(tmp_path):
    table = pd.DataFrame([{"question": "1+1?", "answer": n, "answer_type": "number"} for n in range(3)])
    (folder,) = folders(table, tmp_path)
    assert [sample.answer for sample in gpg_vl.read(folder)] == ["0", "1", "2"]
